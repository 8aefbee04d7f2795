"""The fused kernel's values and gradients against MLX's own operations and the float64 oracle."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from native_problems import composed, failures, outputs, problem, results, truth
from native_ways import at_once

from lstm_bridge.core import native
from lstm_bridge.equivalence.judge import judge

SIZES = [
    (7, 3, 1, 1),
    (13, 50, 33, 17),
    (1, 9, 5, 64),
    (24, 6, 20, 48),
    (3, 1, 4, 130),
    (1, 1, 99, 200),
    (1, 3, 9, 420),
    (14, 3, 210, 96),
]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("mask", ["none", "lengths", "gaps"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_every_variant_follows_the_oracle(
    variant: str, sizes: tuple[int, int, int, int], mask: str, reverse: bool
) -> None:
    p = problem(sizes, mask=mask, reverse=reverse, zero_masked=sizes[0] % 2 == 1)
    assert not failures(results(p), composed(p), truth(p)), variant


@pytest.mark.parametrize("mask", ["none", "gaps"])
@pytest.mark.parametrize("P", [1, 20])
def test_projection(variant: str, P: int, mask: str) -> None:
    for N, zero_masked in ((4, False), (24, True)):
        p = problem((N, 7, 20, 40), P=P, mask=mask, zero_masked=zero_masked)
        assert not failures(results(p), composed(p), truth(p)), variant


def test_large_arrays_that_live_share_no_memory() -> None:
    """Cells and saved gates above 4 MB lie in memory that the next such array is given again."""
    p = problem((40, 130, 8, 210))
    arrays = {name: mx.array(a) for name, a in p.arrays.items()}
    other = {**arrays, "x": -arrays["x"]}
    mx.eval(outputs(arrays, p))  # leaves its memory to those that follow
    first, second = outputs(arrays, p)[1], outputs(other, p)[1]
    mx.eval(first, second)
    kept = np.array(first)
    del second
    third = outputs(other, p)[1]
    mx.eval(third)
    assert np.array_equal(np.array(first), kept)
    assert not np.array_equal(np.array(third), kept)

    def loss(x: mx.array) -> mx.array:
        return outputs({**arrays, "x": x}, p)[0].square().sum()

    of_both = mx.grad(lambda x: loss(x) + 2 * loss(-x))(arrays["x"])  # two sets of gates at once
    apart = mx.grad(loss)(arrays["x"]) - 2 * mx.grad(loss)(-arrays["x"])
    assert mx.array_equal(of_both, apart)


def test_swapped_gates_are_noticed(variant: str) -> None:
    """Negative control."""
    p = problem((3, 5, 4, 6))
    honest = composed(p), truth(p)
    Wx = p.arrays["Wx"]
    p.arrays["Wx"] = np.concatenate([Wx[6:12], Wx[:6], Wx[12:]])
    assert {"y", "dWx"} <= {f.partition(":")[0] for f in failures(results(p), *honest)}, variant


def test_transposed_and_batch_first_views_need_no_copy(variant: str) -> None:
    p = problem((5, 6, 7, 33))
    arrays = {name: mx.array(a) for name, a in p.arrays.items()}
    expected = outputs(arrays, p)
    turned = dict(arrays)
    for name in ("Wx", "Wh", "h", "c"):
        turned[name] = mx.contiguous(arrays[name].T).T
    turned["x"] = mx.contiguous(arrays["x"].swapaxes(0, 1)).swapaxes(0, 1)
    for ours, theirs in zip(outputs(turned, p), expected, strict=True):
        assert mx.array_equal(ours, theirs), variant
    turned["x"] = mx.contiguous(arrays["x"].swapaxes(0, 2)).swapaxes(0, 2)
    assert mx.array_equal(outputs(turned, p)[0], expected[0])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30, 1e-40])
@pytest.mark.parametrize("N", [3, 13])
def test_extremes_poison_what_they_poison_in_mlx(variant: str, N: int, value: float) -> None:
    p = problem((N, 5, 4, 18))
    p.arrays["x"][2, 1, 3] = value
    p.arrays["c"][2, 7] = value
    ours = outputs({k: mx.array(a) for k, a in p.arrays.items()}, p)
    with native.disabled():
        theirs = outputs({k: mx.array(a) for k, a in p.arrays.items()}, p)
    with np.errstate(all="ignore"):
        oracle = truth(p)
    for a, b, name in zip(ours, theirs, ("y", "cs", "h_n", "c_n"), strict=True):
        first, second = np.array(a), np.array(b)
        assert np.array_equal(np.isnan(first), np.isnan(second)), variant
        assert np.array_equal(np.isinf(first), np.isinf(second)), variant
        finite = np.isfinite(second)
        # A cell of 1e30 shows the rounding of its forget gates, not of itself: it stands alone.
        huge = finite & (np.abs(second) > 1e6)
        assert np.allclose(first[huge], second[huge], rtol=1e-5, atol=0), variant
        plain = finite & ~huge
        verdict = judge(first[plain], second[plain], oracle[name][plain])
        assert verdict.passed, (variant, name, verdict.reason)


def test_two_python_threads_at_once(variant: str) -> None:
    problems = [problem((24, 12, 30, 64), seed=seed) for seed in range(2)]
    expected = [composed(p) for p in problems]
    oracles = [truth(p) for p in problems]
    wrong: list[str] = []

    def work(k: int) -> None:
        for _ in range(5):
            wrong.extend(failures(results(problems[k]), expected[k], oracles[k]))

    at_once(work)
    assert not wrong, variant


@pytest.mark.parametrize("H", [1, 17, 20, 40])
def test_nothing_of_a_poisoned_call_is_left_in_the_next(variant: str, H: int) -> None:
    """The kernel's memory is kept between calls: what it does not write, it must not read."""
    for P, mask in ((None, "none"), (3, "gaps")):
        p = problem((13, 20, 33, H), P=P, mask=mask)
        honest = results(p)
        bad = problem((13, 50, 33, 64), mask=mask)
        bad.arrays["x"][:] = np.nan
        results(bad)
        for name, ours in results(p).items():
            assert mx.array_equal(ours, honest[name]), (variant, name)


@pytest.mark.parametrize("P", [None, 5])
@pytest.mark.parametrize("N", [1, 3, 13, 24])
def test_what_stands_in_padded_steps_does_not_matter(variant: str, N: int, P: int | None) -> None:
    """They are not computed: of NaN there, nothing comes through, also into no gradient."""
    for zero_masked in (False, True):
        p = problem((N, 9, 20, 18), P=P, mask="gaps", zero_masked=zero_masked)
        assert p.mask is not None
        honest = results(p)
        p.arrays["x"][~p.mask] = np.nan
        for name, ours in results(p).items():
            assert mx.array_equal(ours, honest[name]), (variant, name)
