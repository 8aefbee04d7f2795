"""The kernel's mLSTM and sLSTM, every variant, against MLX's own operations and float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from native_ways import apart, graph, transformations

from lstm_bridge.core import mlstm, native, slstm
from lstm_bridge.core.maps import Map, identity, linear_of, norm_of
from lstm_bridge.core.paths import portable
from lstm_bridge.equivalence.judge import judge

SIZES = [
    (7, 3, 3, 21),
    (1, 3, 1, 16),
    (13, 3, 33, 17),
    (24, 3, 20, 48),
    (5, 3, 3, 130),
    (2, 1, 5, 31),
    (37, 7, 2, 130),  # more rows and steps than the kernel takes at once
]
KINDS = {"mlstm": (mlstm._FUSED, 1), "slstm": (slstm._FUSED, 5)}

Arrays = list[mx.array | None]


def draw(
    kind: str,
    sizes: tuple[int, int, int, int],
    *,
    norms: bool = True,
    residual: bool = True,
    biases: bool = True,
    turned: bool = False,
    dropout: bool = False,
    seed: int = 0,
) -> Arrays:
    """The operation's inputs for N, L, D, H."""
    N, L, D, H = sizes
    rng = np.random.default_rng(seed)

    def of(shape: tuple[int, ...], scale: float = 1.0, there: bool = True) -> mx.array | None:
        if not there:
            return None
        a = mx.array(rng.normal(0, scale, shape).astype(np.float32))
        return mx.contiguous(a.T).T if turned and len(shape) == 2 else a

    def norm(width: int) -> list[mx.array | None]:
        gamma = of((width,), 0.3, norms)
        return [None if gamma is None else 1 + gamma, of((width,), 1, norms)]

    states = [of((L, N, D)), of((N, H)), of((N, H)), of((L, N, H), there=residual)]
    if kind == "mlstm":
        branches = [(of((H, D), D**-0.5), of((H,), there=biases), *norm(H)) for _ in range(5)]
        return [*states, *(a for branch in branches for a in branch)]
    maps = [of((4 * H, D), D**-0.5), of((4 * H,), 1, biases), of((4 * H, H), H**-0.5)]
    widths = (4 * H, 4 * H, H, H, H)
    weights = [a for width in widths for a in norm(width)]
    mask = mx.array(2.0 * (rng.random((L, N, H)) < 0.5)).astype(mx.float32) if dropout else None
    return [*states, *maps, of((4 * H,), 1, biases), mask, *weights]


def results(kind: str, inputs: Arrays, dtype: mx.Dtype = mx.float32) -> dict[str, mx.array]:
    """Outputs, and gradients of all inputs, by whichever path is in force."""
    operation, count = KINDS[kind]
    there = [k for k, a in enumerate(inputs) if a is not None]
    given = [a.astype(dtype) for a in inputs if a is not None]

    def run(*arrays: mx.array) -> list[mx.array]:
        whole: Arrays = [None] * len(inputs)
        for k, a in zip(there, arrays, strict=True):
            whole[k] = a
        return operation(whole, (1e-5,) * count)

    rng = np.random.default_rng(1)
    with mx.stream(mx.cpu):
        shapes = [a.shape for a in run(*given)]
        down = [mx.array(rng.normal(size=s).astype(np.float32)).astype(dtype) for s in shapes]
        values, slopes = mx.vjp(run, given, down)
        mx.eval(values, slopes)
    found = {f"output {k}": a for k, a in enumerate(values)}
    return found | {f"d input {k}": a for k, a in zip(there, slopes, strict=True)}


def failures(
    kind: str, draws: Sequence[Arrays], mistake: Callable[[Arrays], Arrays] = lambda a: a
) -> list[str]:
    """What the numeric policy does not pass, judged over all draws together."""
    ours = [results(kind, mistake(inputs)) for inputs in draws]
    with native.disabled():
        source = [results(kind, inputs) for inputs in draws]
        truth = [results(kind, inputs, mx.float64) for inputs in draws]
    with mx.stream(mx.cpu):
        verdicts = {
            name: judge(
                *(np.stack([np.array(one[name]) for one in s]) for s in (ours, source, truth))
            )
            for name in ours[0]
        }
    return [f"{name}: {v.reason}" for name, v in verdicts.items() if not v.passed]


def swapped(kind: str, honest: Arrays) -> Arrays:
    """Two gates change places."""
    wrong = list(honest)
    if kind == "mlstm":
        wrong[12:16], wrong[16:20] = honest[16:20], honest[12:16]
    else:
        Wx = honest[4]
        assert Wx is not None
        H = len(Wx) // 4
        wrong[4] = mx.concatenate([Wx[H : 2 * H], Wx[:H], Wx[2 * H :]])
    return wrong


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_every_variant_follows_float64(
    variant: str, kind: str, sizes: tuple[int, int, int, int]
) -> None:
    options = (
        {"norms": False, "residual": False, "turned": True},
        {"biases": False, "norms": sizes[3] > 2, "dropout": True},
    )
    for chosen in (*options, {"norms": sizes[3] > 2}):
        draws = [draw(kind, sizes, seed=seed, **chosen) for seed in range(4)]
        assert not failures(kind, draws), (variant, chosen)


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_number_is_normalised_to_nothing(variant: str, kind: str) -> None:
    ours = results(kind, draw(kind, (3, 4, 2, 1)))
    with native.disabled():
        theirs = results(kind, draw(kind, (3, 4, 2, 1)))
    for name, a in ours.items():
        assert mx.allclose(a, theirs[name], rtol=1e-4, atol=1e-5), (variant, name)


@pytest.mark.parametrize("kind", KINDS)
def test_swapped_weights_are_noticed(variant: str, kind: str) -> None:
    """Negative control."""
    found = failures(kind, [draw(kind, (3, 5, 4, 8))], lambda inputs: swapped(kind, inputs))
    assert {"output 0", "output 2", "d input 0"} <= {f.partition(":")[0] for f in found}, variant


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, 1e-40])
@pytest.mark.parametrize("kind", KINDS)
def test_extremes_poison_what_they_poison_in_mlx(variant: str, kind: str, value: float) -> None:
    operation, count = KINDS[kind]
    for norms in (False, True):
        inputs = draw(kind, (3, 5, 4, 18), norms=norms)
        x = np.array(inputs[0])
        x[2, 1, 3] = value
        inputs[0] = mx.array(x)
        ours = operation(inputs, (1e-5,) * count)
        with native.disabled():
            theirs = operation(inputs, (1e-5,) * count)
        for a, b in zip(ours, theirs, strict=True):
            first, second = np.array(a), np.array(b)
            assert np.allclose(first, second, rtol=1e-3, atol=1e-5, equal_nan=True), variant
            assert np.isfinite(first.reshape(-1, 3, 18)[:, [0, 2]]).all(), "a neighbour is poisoned"


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_goes_through_float32(variant: str, kind: str, dtype: mx.Dtype) -> None:
    inputs = [None if a is None else a.astype(dtype) for a in draw(kind, (3, 4, 5, 20))]
    ours, wide = results(kind, inputs, dtype), results(kind, inputs)
    for name, a in ours.items():
        if name.startswith("output"):
            assert a.dtype == dtype
            assert mx.array_equal(a, wide[name].astype(dtype)), variant


@pytest.mark.parametrize("kind", KINDS)
def test_transformations_give_what_they_give_without_it(kind: str) -> None:
    operation, count = KINDS[kind]
    inputs = draw(kind, (3, 4, 2, 5))

    def y(x: mx.array, W: mx.array) -> mx.array:
        return operation([x, *inputs[1:4], W, *inputs[5:]], (1e-5,) * count)[0]

    x, W = inputs[0], inputs[4]
    assert x is not None
    assert W is not None
    assert not apart(transformations(y, x, W), 1e-5)


@pytest.mark.skipif(not native.status().serves, reason=native.status().reason or "it serves")
def test_dropout_of_the_hidden_state_is_the_kernels_too() -> None:
    x, h, c, _, Wx, bias_x, Wh, bias_h, _, *_ = draw("slstm", (4, 6, 3, 20))
    maps = slstm.Maps(nn.Linear(3, 80), nn.Linear(20, 80))
    maps.x.update({"weight": Wx, "bias": bias_x})  # type: ignore[attr-defined]
    maps.h.update({"weight": Wh, "bias": bias_h})  # type: ignore[attr-defined]

    def y(seed: int, drop: Map) -> mx.array:
        mx.random.seed(seed)
        return slstm.run(x + 0, h, c, maps, drop=drop)[0]  # type: ignore[arg-type, operator]

    with mx.stream(mx.cpu):
        ours, other, none = y(0, nn.Dropout(0.5)), y(1, nn.Dropout(0.5)), y(0, identity)
        primitives = graph(lambda: ours)
        with native.disabled():
            theirs = y(0, nn.Dropout(0.5))
        assert slstm._FUSED.name in primitives
        assert float(mx.abs(ours - theirs).max()) < 1e-5 < 0.01 < float(mx.abs(ours - other).max())
        assert float(mx.abs(ours - none).max()) > 0.01


@pytest.mark.skipif(not native.status().serves, reason=native.status().reason or "it serves")
@pytest.mark.parametrize("kind", KINDS)
def test_who_serves(kind: str) -> None:
    operation, count = KINDS[kind]

    def primitives(inputs: Arrays) -> str:
        return graph(lambda: operation(inputs, (1e-5,) * count)[0])

    inputs = draw(kind, (3, 4, 2, 5))
    at_once = operation(inputs, (1e-5,) * count)
    inputs = [None if a is None else a + 0 for a in inputs]  # still to be computed
    assert operation.name in primitives(inputs)
    for a, b in zip(operation(inputs, (1e-5,) * count), at_once, strict=True):
        assert mx.array_equal(a, b)
    with portable():
        assert operation.name not in primitives(inputs)
    with native.disabled():
        assert operation.name not in primitives(inputs)
    x, h = inputs[:2]
    assert x is not None
    assert h is not None
    with mx.stream(mx.cpu):
        assert operation.fused([x.astype(mx.float16), *inputs[1:]], (1e-5,) * count) is None
        assert operation.fused([x, h[:1], *inputs[2:]], (1e-5,) * count) is None


def test_a_map_that_is_no_plain_one_is_not_run_by_the_kernel() -> None:
    x, c, n = mx.ones((4, 2, 3)), mx.zeros((2, 5)), mx.zeros((2, 5))
    W, b, g = mx.ones((5, 3)), mx.ones((5,)), mx.ones((5,))
    one = mlstm.Branch(linear_of(W, b), norm_of(g, b, 1e-5))
    y = graph(lambda: mlstm.run(x, c, n, mlstm.Branches(*[one] * 5))[0])
    assert mlstm._FUSED.name not in y
