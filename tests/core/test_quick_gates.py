"""Gates that divide instead of multiplying, and their derivatives, against the float64 oracle.

Shape letters: N batch, L length, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np
import pytest

from lstm_bridge.core import lstm, native
from lstm_bridge.core import unroll as module
from lstm_bridge.core.activations import power_is_quicker, tanh_of_many
from lstm_bridge.core.paths import portable
from lstm_bridge.core.weights import LSTMWeights
from lstm_bridge.equivalence.judge import Verdict, judge
from lstm_bridge.equivalence.oracle.gradients import backward
from lstm_bridge.equivalence.oracle.lstm import direction
from lstm_bridge.equivalence.oracle.lstm import run as run_oracle

L = 5
SIZES = [(8, 40), (40, 32), (64, 64)]
"""N and H: all gates at once, gate by gate, and another tanh, too."""


@pytest.fixture(autouse=True)
def _composed() -> Iterator[None]:
    with native.disabled(), mx.stream(mx.cpu):
        yield


class Problem(NamedTuple):
    """What a loop is given, and what its hidden states' cotangents and zx's tangents are."""

    zx: mx.array  # [L, N, 4H]
    Wh: mx.array  # [4H, H]
    h: mx.array  # [N, H]
    c: mx.array  # [N, H]
    weigh: mx.array  # [L, N, H]
    along: mx.array  # [L, N, 4H]


def problem(N: int, H: int) -> Problem:
    """Gates' sums of the usual size, and at every fifth place far beyond where exp overflows."""
    rng = np.random.default_rng(N)
    zx = rng.normal(0, 1, (L, N, 4 * H))
    far = rng.uniform(80, 220, zx.shape) * rng.choice([-1, 1], zx.shape)
    zx = np.where(rng.random(zx.shape) < 0.2, far, zx)
    zx[1, :, :7], zx[2, :, 2:9] = 200, -200
    others = ((4 * H, H), (N, H), (N, H), (L, N, H), (L, N, 4 * H))
    arrays = (zx, *(rng.normal(0, 0.5, shape) for shape in others))
    return Problem(*(mx.array(a.astype("f4")) for a in arrays))


Found = list[np.ndarray[Any, Any]]
Loop = Callable[[mx.array, mx.array, mx.array, mx.array], mx.array]


def ours(zx: mx.array, Wh: mx.array, h: mx.array, c: mx.array) -> mx.array:
    return module.unroll(zx, h, c, Wh).hs


def rearranged(zx: mx.array, Wh: mx.array, h: mx.array, c: mx.array) -> mx.array:
    """Ours as ``sequence.run`` calls it where that is quicker."""
    order, parts = lstm.SIGMOIDS_FIRST, mx.split(zx, 4, axis=-1)
    zx = mx.concatenate(order.of_gates(*parts), axis=-1)
    weights = lstm.sigmoids_first(LSTMWeights(Wh, Wh))
    return module.unroll(zx, h, c, weights.Wh, order).hs


def of_mlx(zx: mx.array, Wh: mx.array, h: mx.array, c: mx.array) -> mx.array:
    """The source: the equations with MLX's own sigmoid, differentiated by MLX."""
    hs = []
    for zx_t in zx:
        h, c = lstm.gates(zx_t + h @ Wh.T, c)
        hs.append(h)
    return mx.stack(hs)


def undefended(zx: mx.array, Wh: mx.array, h: mx.array, c: mx.array) -> mx.array:
    """Negative control: the quick loop, left to autodiff."""
    return module._quickest_loop(lstm.CANONICAL, zx, Wh, h, c)[0]


def by_vjp(loop: Loop, p: Problem) -> Found:
    y, slopes = mx.vjp(loop, list(p[:4]), [p.weigh])
    return [np.array(a, "f8") for a in (*y, *slopes)]


def by_jvp(loop: Loop, p: Problem) -> Found:
    """One number per row of the batch: how the weighed outputs move along."""
    y, tangents = mx.jvp(lambda zx: loop(zx, *p[1:4]), [p.zx], [p.along])
    return [np.array(y[0], "f8"), np.array((tangents[0] * p.weigh).sum((0, 2)), "f8")]


def halves(p: Problem) -> list[mx.array]:
    return [a.reshape(*a.shape[:-2], 2, -1, a.shape[-1]) for a in (p.zx, p.h, p.c, p.weigh)]


def by_grad_of_vmap(loop: Loop, p: Problem) -> Found:
    zx, h, c, weigh = halves(p)

    def weighed(zx: mx.array) -> mx.array:
        y = mx.vmap(lambda *a: loop(a[0], p.Wh, a[1], a[2]), in_axes=(1, 0, 0))(zx, h, c)
        return (y * mx.moveaxis(weigh, 1, 0)).sum()

    return [np.array(mx.grad(weighed)(zx).reshape(p.zx.shape), "f8")]


def by_vmap_of_grad(loop: Loop, p: Problem) -> Found:
    zx, h, c, weigh = halves(p)

    def slope(zx: mx.array, h: mx.array, c: mx.array, weigh: mx.array) -> mx.array:
        return mx.grad(lambda z: (loop(z, p.Wh, h, c) * weigh).sum())(zx)

    found = mx.vmap(slope, in_axes=(1, 0, 0, 1), out_axes=1)(zx, h, c, weigh)
    return [np.array(found.reshape(p.zx.shape), "f8")]


def truth(p: Problem, way: Callable[[Loop, Problem], Found]) -> Found:
    zx, Wh, h, c, weigh, along = (np.array(a, "f8") for a in p)
    run = run_oracle(direction(np.eye(zx.shape[-1]), Wh, None), zx.swapaxes(0, 1), h, c)
    pulled = backward(run, weigh.swapaxes(0, 1))
    y, dzx = run.y.swapaxes(0, 1), pulled.x.swapaxes(0, 1)
    if way is by_vjp:
        return [y, dzx, pulled.rows()[1], pulled.h0, pulled.c0]
    return [y, (dzx * along).sum((0, 2))] if way is by_jvp else [dzx]


def judged(loop: Loop, p: Problem, way: Callable[[Loop, Problem], Found]) -> list[Verdict]:
    parties = way(loop, p), way(of_mlx, p), truth(p, way)
    return [judge(*three) for three in zip(*parties, strict=True)]


WAYS = [by_vjp, by_jvp, by_grad_of_vmap, by_vmap_of_grad]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("loop", [ours, rearranged])
@pytest.mark.parametrize(("N", "H"), SIZES)
def test_derivatives_are_those_of_the_oracle_however_far_gates_are_shut(
    N: int, H: int, loop: Loop, way: Callable[[Loop, Problem], Found]
) -> None:
    for verdict in judged(loop, problem(N, H), way):
        assert verdict.passed, verdict.reason


def test_gates_mistaken_for_each_other_would_be_caught() -> None:
    """Negative control: sums in one order, read in the other."""

    def mistaken(zx: mx.array, Wh: mx.array, h: mx.array, c: mx.array) -> mx.array:
        return module.unroll(zx, h, c, Wh, lstm.SIGMOIDS_FIRST).hs

    assert not any(verdict.passed for verdict in judged(mistaken, problem(40, 32), by_vjp))


def test_weights_are_rearranged_where_that_pays() -> None:
    def pays(N: int, L: int, dtype: mx.Dtype = mx.float32) -> bool:
        weights = LSTMWeights(mx.zeros((128, 3)), mx.zeros((128, 32)))
        return module.rearranges(N, L, weights, dtype)

    assert pays(32, 5) == power_is_quicker(1024, mx.float32)
    assert not pays(31, 5)
    assert not pays(32, 0)
    assert not pays(32, 5, mx.float16)
    with portable():
        assert not pays(32, 5)


@pytest.mark.parametrize("way", [by_vjp, by_jvp])
@pytest.mark.parametrize(("N", "H"), SIZES)
def test_left_to_autodiff_the_quick_loop_would_be_caught(
    N: int, H: int, way: Callable[[Loop, Problem], Found]
) -> None:
    """Negative control: such numbers make an undefended derivative NaN."""
    if not power_is_quicker(4 * N * H, mx.float32):
        pytest.skip("this processor's exp is quick: there is no other loop")
    assert not all(verdict.passed for verdict in judged(undefended, problem(N, H), way))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("gate", range(4))
@pytest.mark.parametrize(("N", "H"), SIZES)
def test_one_odd_number_poisons_what_it_poisons_in_mlx(
    N: int, H: int, gate: int, bad: float
) -> None:
    p = problem(N, H)
    zx = np.array(p.zx)
    zx[1, 3, gate * H + 2] = bad
    p = p._replace(zx=mx.array(zx))
    for mine, source in zip(by_vjp(rearranged, p), by_vjp(of_mlx, p), strict=True):
        clean = np.isfinite(source)
        if not np.isnan(bad):
            assert np.isfinite(mine).all()
        np.testing.assert_array_equal(np.isfinite(mine)[clean], True)
    hs, expected = np.array(ours(*p[:4])), np.array(of_mlx(*p[:4]))
    np.testing.assert_array_equal(np.isnan(hs), np.isnan(expected))
    assert np.isnan(hs).any() == np.isnan(bad)
    assert not np.isnan(np.delete(hs, 3, axis=1)).any()


def digits(size: float) -> Verdict:
    """Judge the gradients of i, f and g number by number, where g has that size."""
    N, H = 40, 32
    rng = np.random.default_rng(3)
    zx = rng.normal(0, 1, (L, N, 4 * H))
    zx[..., 2 * H : 3 * H] = size * rng.uniform(0.5, 1, (L, N, H))
    still = mx.zeros((4 * H, H)), mx.zeros((N, H)), mx.zeros((N, H))
    p = Problem(mx.array(zx.astype("f4")), *still, mx.ones((L, N, H)), mx.zeros((L, N, 4 * H)))
    # Before the first step the cell is zero, and f has no gradient.
    mine, source, exact = (
        found[1][1:, :, : 3 * H]
        for found in (by_vjp(rearranged, p), by_vjp(of_mlx, p), truth(p, by_vjp))
    )
    return judge(mine / exact, source / exact, np.ones_like(exact))


@pytest.mark.parametrize("size", [1e-7, 1e-5, 1e-3, 1e-2])
def test_gradients_of_small_candidates_keep_their_digits(size: float) -> None:
    """The input gate's gradient has the candidate as a factor."""
    verdict = digits(size)
    assert verdict.passed, verdict.reason


def test_lost_digits_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: a tanh that is exact to a rounding step at 1 alone."""
    monkeypatch.setattr(module, "tanh_of_many", lambda x: 1 - 2 / (1 + mx.exp(2 * x)))
    assert not digits(1e-5).passed


def test_tanh_of_many_is_as_good_as_that_of_mlx_at_every_number() -> None:
    x = np.logspace(-37, 1.5, 20000).astype("f4")
    x = np.concatenate([x, -x])
    exact = np.tanh(x.astype("f8"))
    parties = (np.array(f(mx.array(x)), "f8") / exact for f in (tanh_of_many, mx.tanh))
    assert judge(*parties, np.ones_like(exact)).passed


def test_tanh_of_many_at_the_extremes() -> None:
    values = [0.0, -0.0, 20.0, 44.0, 89.0, -89.0, 1e30, -1e30, np.inf, -np.inf, np.nan]
    x = mx.array(np.tile(np.array(values, "f4"), 400))
    y, expected = np.array(tanh_of_many(x)), np.array(mx.tanh(x))
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(np.signbit(y[:2]), [False, True])

    def slope(x: mx.array) -> mx.array:
        return mx.grad(lambda v: tanh_of_many(v).sum())(x)

    finite = mx.array(np.tile(np.array(values[:8], "f4"), 600))
    flat = np.tile([1.0, 1.0, *[0.0] * 6], 600)
    assert judge(np.array(slope(finite)), flat, flat).passed
    assert mx.isfinite(mx.grad(lambda v: slope(v).sum())(finite)).all()
