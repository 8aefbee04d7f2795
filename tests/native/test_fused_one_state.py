"""The kernel's GRU and simple RNN, every variant, against MLX's own operations and float64."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from native_one_state import (
    KINDS,
    Arrays,
    composed,
    draw,
    drawn_mask,
    failures,
    gates,
    judged,
    results,
    runner,
    stepper,
    swapped,
)
from native_ways import apart, at_once, compilations, graph, second_derivatives, transformations

from lstm_bridge.core import gru, native, simple_rnn
from lstm_bridge.core.activations import hard_sigmoid
from lstm_bridge.core.paths import portable

SIZES = [(7, 3, 1, 1), (13, 50, 33, 17), (1, 9, 5, 64), (24, 6, 20, 48), (3, 1, 4, 130),
         (1, 3, 9, 420), (1, 6, 9, 520), (14, 3, 210, 96)]  # fmt: skip
NAMES = {kind: "LSTMBridgeGRU" if kind.startswith("gru") else "LSTMBridgeRNN" for kind in KINDS}

needs_kernel = pytest.mark.skipif(
    not native.status().serves, reason=f"the fused kernel does not serve: {native.status().reason}"
)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_every_variant_follows_float64(
    variant: str, kind: str, sizes: tuple[int, int, int, int]
) -> None:
    large = sizes[0] * sizes[1] * sizes[3] ** 2 > 300_000
    draws = 2 if large else 4 if sizes[3] > 1 else 16  # a single unit's gradients are few numbers
    for mask, reverse, zero_masked in (
        (None, False, False), ("gaps", True, False), ("lengths", False, True), (None, True, False),
    )[: 2 if large else 4]:  # fmt: skip
        run = runner(kind, mask=drawn_mask(mask, sizes), reverse=reverse, zero_masked=zero_masked)
        problems = [draw(kind, sizes, seed) for seed in range(draws)]
        assert not failures(run, problems), (variant, mask, reverse)


@pytest.mark.parametrize("kind", KINDS)
def test_swapped_weights_are_noticed(variant: str, kind: str) -> None:
    """Negative control."""
    run, draws = runner(kind), [draw(kind, (3, 5, 4, 8), seed) for seed in range(2)]
    assert not failures(run, draws)
    found = failures(run, draws, swapped(run, kind))
    assert {"y", "h_n", "dWx"} <= {f.partition(":")[0] for f in found}, variant


@pytest.mark.parametrize("kind", KINDS)
def test_absent_biases_and_states(variant: str, kind: str) -> None:
    x, Wx, Wh, bias, bias_h, h, *_ = draw(kind, (7, 4, 5, 20))
    none, zero = mx.zeros_like(bias), mx.zeros_like(h)
    run = runner(kind)
    for absent, zeros in (
        ((None, None, None), (none, none, zero)),
        ((bias, None, h), (bias, none, h)),
        ((None, bias_h, None), (none, bias_h, zero)),
    ):
        for ours, theirs in zip(run(x, Wx, Wh, *absent), run(x, Wx, Wh, *zeros), strict=True):
            assert mx.array_equal(ours, theirs), variant


@pytest.mark.parametrize("kind", KINDS)
def test_transposed_and_batch_first_views_are_read(variant: str, kind: str) -> None:
    for sizes in ((5, 6, 7, 33), (1, 2, 7, 64)):
        arrays = draw(kind, sizes)[:-2]
        expected = runner(kind)(*arrays)
        turned = [mx.contiguous(a.T).T if a.ndim == 2 else a for a in arrays]
        for first in (1, 2):
            x = mx.contiguous(arrays[0].swapaxes(0, first)).swapaxes(0, first)
            for ours, theirs in zip(runner(kind)(x, *turned[1:]), expected, strict=True):
                assert mx.allclose(ours, theirs, rtol=1e-5, atol=2e-6), variant
        slopes = results(runner(kind), [*turned, *draw(kind, sizes)[-2:]])
        for name, a in results(runner(kind), draw(kind, sizes)).items():
            assert mx.allclose(slopes[name], a, rtol=1e-4, atol=1e-5), (variant, name)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30, 1e-40])
@pytest.mark.parametrize("kind", KINDS)
def test_extremes_poison_what_they_poison_in_mlx(variant: str, kind: str, value: float) -> None:
    for sizes in ((3, 5, 4, 18), (13, 5, 4, 18), (1, 3, 4, 18)):
        arrays = draw(kind, sizes)[:-2]
        x, h = np.array(arrays[0]), np.array(arrays[-1])
        x[2, -1, 3], h[0, 7] = value, value
        arrays[0], arrays[-1] = mx.array(x), mx.array(h)
        ours = runner(kind)(*arrays)
        with native.disabled():
            theirs = runner(kind)(*arrays)
        for a, b in zip(ours, theirs, strict=True):
            first, second = np.array(a), np.array(b)
            assert np.array_equal(np.isnan(first), np.isnan(second)), variant
            assert np.array_equal(np.isinf(first), np.isinf(second)), variant
            finite = np.isfinite(second)
            assert np.allclose(first[finite], second[finite], rtol=1e-4, atol=1e-5), variant
            assert np.isfinite(first.reshape(-1, sizes[0], 18)[:, 1:-1]).all(), "a neighbour"


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_goes_through_float32(variant: str, kind: str, dtype: mx.Dtype) -> None:
    arrays = [a.astype(dtype) for a in draw(kind, (6, 4, 5, 20))]
    run = runner(kind, mask=drawn_mask("gaps", (6, 4, 5, 20)))
    ours, wide = results(run, arrays, dtype), results(run, arrays)
    for name, a in ours.items():
        assert a.dtype == dtype
        assert name == "dx" or mx.array_equal(a, wide[name].astype(dtype)), (variant, name)


@pytest.mark.parametrize("kind", KINDS)
def test_two_python_threads_at_once(variant: str, kind: str) -> None:
    problems = [[draw(kind, (24, 12, 30, 80), seed)] for seed in range(2)]
    run = runner(kind)
    source = [[composed(run, p[0])] for p in problems]
    truth = [[composed(run, p[0], mx.float64)] for p in problems]
    wrong: list[str] = []

    def work(k: int) -> None:
        for _ in range(4):
            wrong.extend(judged([results(run, problems[k][0])], source[k], truth[k]))

    at_once(work)
    assert not wrong, variant


@pytest.mark.parametrize("kind", ["gru", "gru, reset first", "tanh"])
def test_transformations_give_what_they_give_without_it(kind: str) -> None:
    sizes = (2, 4, 3, 5)
    arrays = draw(kind, sizes)[:-2]
    run = runner(kind, mask=drawn_mask("gaps", sizes))

    def y(x: mx.array, Wh: mx.array) -> mx.array:
        return run(x, arrays[1], Wh, *arrays[3:])[0]

    both = (arrays[0], arrays[2])
    assert not apart(transformations(y, *both) | compilations(y, *both), 2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives_by_every_input(kind: str) -> None:
    run = runner(kind)
    assert not apart(second_derivatives(lambda *a: run(*a)[0], draw(kind, (2, 4, 3, 5))[:-2]), 2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_exported_function_is_of_mlx_s_own_operations(kind: str, tmp_path: Path) -> None:
    arrays = draw(kind, (2, 3, 4, 5))[:-2]
    file = str(tmp_path / "f.mlxfn")
    with mx.stream(mx.cpu):
        with portable():
            mx.export_function(file, runner(kind), *arrays)
        again = mx.import_function(file)(*arrays)
        for ours, theirs in zip(again, runner(kind)(*arrays), strict=True):
            assert mx.allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@needs_kernel
@pytest.mark.parametrize("kind", KINDS)
def test_who_serves(kind: str) -> None:
    arrays = draw(kind, (2, 3, 4, 5))[:-2]
    later = [a + 0 for a in arrays]  # still to be computed
    assert NAMES[kind] in graph(lambda: runner(kind)(*later))
    assert NAMES[kind] not in graph(lambda: runner(kind)(*arrays)), "computed at once"
    for off in (portable, native.disabled):
        with off():
            assert NAMES[kind] not in graph(lambda: runner(kind)(*later))
    odd: dict[str, tuple[dict[str, Any], Arrays]] = {
        "recurrent dropout": ({"h_mask": mx.ones((gates(kind), 2, 5))}, later),
        "a broadcast state": ({}, [*later[:-1], later[-1][:1]]),
        "float64": ({}, [a.astype(mx.float64) for a in arrays]),
        "mixed": ({}, [later[0].astype(mx.float16), *later[1:]]),
    }
    for what, (options, given) in odd.items():
        if what == "recurrent dropout" and gates(kind) == 1:
            options = {"h_mask": options["h_mask"][0]}
        assert NAMES[kind] not in graph(partial(runner(kind, **options), *given)), what


@needs_kernel
def test_other_activations_run_without_it() -> None:
    x, Wx, Wh, bias, bias_h, h, *_ = draw("gru", (2, 3, 4, 5))
    weights = gru.GRUWeights(Wx, Wh, bias, bias_h)
    for name in ("activation", "recurrent_activation"):
        other = {name: hard_sigmoid}
        assert "LSTMBridgeGRU" not in graph(partial(gru.run, weights, x, h, **other))
    small = simple_rnn.SimpleRNNWeights(Wx[:5], Wh[:5])
    assert "LSTMBridgeRNN" not in graph(
        lambda: simple_rnn.run(small, x, h, activation=hard_sigmoid)
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", ["sequences", "steps", "one step"])
def test_at_once_and_later_are_the_same_numbers(kind: str, size: str) -> None:
    x, Wx, Wh, bias, bias_h, h, *_ = draw(kind, (3, 4, 5, 18))
    run = runner(kind) if size == "sequences" else stepper(kind)
    x, h = {"sequences": (x, h), "steps": (x[0], h), "one step": (x[0, 0], h[0])}[size]
    for given in ((x, Wx, Wh, bias, bias_h, h), (x, Wx, Wh)):
        mx.eval(given)
        with mx.stream(mx.cpu):
            now, later = run(*given), run(*(a + 0 for a in given))
            traced, slopes = mx.vjp(run, list(given), [mx.ones_like(a) for a in now])
            with portable():
                plain, same = mx.vjp(run, list(given), [mx.ones_like(a) for a in now])
        for a, b, c, d in zip(now, later, traced, plain, strict=True):
            assert a.shape == b.shape == c.shape == d.shape
            assert mx.array_equal(a, b)
            assert mx.array_equal(a, c)
            assert mx.allclose(a, d, rtol=1e-5, atol=2e-6)
        for a, b in zip(slopes, same, strict=True):
            assert mx.allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_that_follows_from_the_inputs(kind: str) -> None:
    """As Masking makes it: the trace asks for the mask's gradient too, which there is none of."""
    x, *rest = draw(kind, (3, 4, 5, 18))[:-2]
    x = mx.where(mx.abs(x).max(-1, keepdims=True) > 1.2, x, mx.zeros_like(x))

    def loss(x: mx.array) -> mx.array:
        y, h = runner(kind, mask=mx.any(x != 0, axis=-1))(x, *rest)
        return y.sum() + h.square().sum()

    with mx.stream(mx.cpu):
        ours = mx.grad(loss)(x)
        with native.disabled():
            theirs = mx.grad(loss)(x)
        assert mx.allclose(ours, theirs, rtol=1e-4, atol=1e-5)
        assert float(mx.abs(theirs).max()) > 0.1
