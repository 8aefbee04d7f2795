"""The hand-written gradient against the float64 oracle, and what it must not get in the way of."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import mlx.nn
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import lstm_bridge
from lstm_bridge.core import fuse, native
from lstm_bridge.core import unroll as module
from lstm_bridge.core.activations import sigmoid_of_many
from lstm_bridge.core.paths import is_portable
from lstm_bridge.core.sequence import only_step, run
from lstm_bridge.core.weights import LSTMWeights
from lstm_bridge.equivalence.judge import Verdict, judge
from lstm_bridge.mlx import nn as mlx_front_end

NAMES = ("Wx", "Wh", "bias", "x", "h", "c")


@pytest.fixture(autouse=True)
def _composed() -> Iterator[None]:
    with native.disabled():
        yield


def problem(N: int, L: int, D: int, H: int, seed: int = 0) -> dict[str, mx.array]:
    rng = np.random.default_rng(seed)
    shapes = ((4 * H, D), (4 * H, H), (4 * H,), (L, N, D), (N, H), (N, H))
    values = (rng.normal(0, 0.5, shape).astype("f4") for shape in shapes)
    return {name: mx.array(value) for name, value in zip(NAMES, values, strict=True)}


def loss(p: dict[str, mx.array], reverse: bool, weigh: mx.array) -> mx.array:
    """A loss that every output of every step, and both last states, bear on differently."""
    done = run(
        LSTMWeights(p["Wx"], p["Wh"], p["bias"]),
        p["x"],
        p["h"],
        p["c"],
        reverse=reverse,
        cells=True,
    )
    assert done.cs is not None
    return (
        (done.y * weigh).sum()
        + (done.cs * weigh * 0.3).square().sum()
        + (done.h * 0.7).sum()
        + (done.c.square() * 0.2).sum()
    )


def gradients(
    p: dict[str, mx.array], reverse: bool, dtype: mx.Dtype, portable: bool
) -> dict[str, mx.array]:
    with mx.stream(mx.cpu):
        cast = {name: value.astype(dtype) for name, value in p.items()}
        shape = (*p["x"].shape[:2], p["h"].shape[1])
        weigh = mx.array(np.random.default_rng(9).normal(0, 1, shape)).astype(dtype)
        if portable:
            with lstm_bridge.portable():
                found = mx.grad(loss)(cast, reverse, weigh)
        else:
            found = mx.grad(loss)(cast, reverse, weigh)
        mx.eval(found)
    return found  # type: ignore[no-any-return]


@example(N=2, L=70, D=3, H=4, reverse=True)  # more steps than are computed again together
@example(N=20, L=34, D=3, H=16, reverse=False)  # more gates than sigmoid itself is called for
@example(N=40, L=4, D=3, H=32, reverse=True)  # so many that weights are rearranged
@example(N=64, L=1, D=1, H=1, reverse=False)
@example(N=64, L=2, D=1, H=1, reverse=True)
@given(
    N=st.integers(3, 6),
    L=st.integers(1, 6),
    D=st.integers(1, 4),
    H=st.integers(2, 6),
    reverse=st.booleans(),
)
def test_the_gradient_is_that_of_autodiff(N: int, L: int, D: int, H: int, reverse: bool) -> None:
    p = problem(N, L, D, H)
    ours = gradients(p, reverse, mx.float32, portable=False)
    autodiff = gradients(p, reverse, mx.float32, portable=True)
    truth = gradients(p, reverse, mx.float64, portable=True)
    verdict = judge_all(ours, autodiff, truth)
    assert verdict.passed, verdict.reason


def judge_all(*parties: dict[str, mx.array]) -> Verdict:
    """Judge all gradients as one vector, each in units of its own largest true value.

    A verdict on three numbers would turn on the luck of their last bits.
    """
    units = {name: np.abs(np.array(g, dtype="f8")).max() or 1.0 for name, g in parties[-1].items()}
    flat = (
        np.concatenate([np.array(g[n], dtype="f8").reshape(-1) / units[n] for n in NAMES])
        for g in parties
    )
    return judge(*flat)


def test_a_forgotten_term_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: without the forget gate's path the gradient must be found wrong."""
    p = problem(2, 5, 3, 4)
    truth = gradients(p, False, mx.float64, portable=True)
    autodiff = gradients(p, False, mx.float32, portable=True)
    honest = module._pull_step
    monkeypatch.setattr(module, "_pull_step", lambda *a: (honest(*a)[0], mx.zeros_like(a[2])))
    ours = gradients(p, False, mx.float32, portable=False)
    assert not judge_all(ours, autodiff, truth).passed


def test_a_training_step_takes_at_most_half_of_the_memory_of_mlx() -> None:
    """Both on MLX's own operations."""
    N, L, D, H = 32, 100, 64, 128
    x = mx.random.normal((N, L, D))

    def peak(model: mlx.nn.Module) -> int:
        both = mlx.nn.value_and_grad(model, lambda model, x: model(x)[0].square().sum())
        mx.eval(x, model.parameters())
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        mx.eval(both(model, x))
        return mx.get_peak_memory() - before

    assert 2 * peak(mlx_front_end.LSTM(D, H)) <= peak(mlx.nn.LSTM(D, H))


def test_transformations_compose() -> None:
    p = problem(3, 4, 3, 5)
    weights = LSTMWeights(p["Wx"], p["Wh"], p["bias"])

    def y(x: mx.array) -> mx.array:
        return run(weights, x[:, None]).y.sum(axis=1)

    rows = mx.moveaxis(p["x"], 1, 0)
    batched = mx.stack([y(row) for row in rows])
    assert mx.allclose(mx.vmap(y)(rows), batched, atol=1e-6)

    def slope(x: mx.array) -> mx.array:
        return mx.grad(lambda v: y(v).square().sum())(x)

    second = mx.grad(lambda v: slope(v).sum())(rows[0])
    with lstm_bridge.portable():
        expected = mx.grad(lambda v: slope(v).sum())(rows[0])
    assert mx.allclose(second, expected, rtol=1e-4, atol=1e-5)
    again = mx.grad(lambda v: mx.checkpoint(y)(v).square().sum())(rows[0])
    assert mx.allclose(again, slope(rows[0]), atol=1e-6)


def many(value: float, L: int = 3, N: int = 8, H: int = 40) -> tuple[mx.array, mx.array]:
    """Gates' sums that are all one value, more than sigmoid itself is called for; and weights."""
    return mx.full((L, N, 4 * H), value), mx.zeros((4 * H, H))


@pytest.mark.parametrize("value", [-1e30, -104.0, -89.0, -5.0, 0.0, 5.0, 89.0, 1e30])
def test_derivatives_of_saturated_gates_are_finite(value: float) -> None:
    zx, Wh = many(value)

    def y(z: mx.array) -> mx.array:
        return module.unroll(z, None, None, Wh).hs.sum()

    def slope(z: mx.array) -> mx.array:
        return mx.grad(y)(z).sum()

    _, tangents = mx.jvp(y, [zx], [mx.ones_like(zx)])
    found = [*tangents, mx.grad(y)(zx), mx.grad(slope)(zx)]
    with lstm_bridge.portable():
        _, tangents = mx.jvp(y, [zx], [mx.ones_like(zx)])
        expected = [*tangents, mx.grad(y)(zx), mx.grad(slope)(zx)]
    for ours, autodiff in zip(found, expected, strict=True):
        # MLX's own second derivative of a saturated sigmoid is NaN. Terms have the size of 1.
        known = mx.where(mx.isfinite(autodiff), autodiff, 0)
        assert mx.isfinite(ours).all()
        assert mx.allclose(ours, known, rtol=0, atol=2e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), -1e30, 1e30])
def test_extremes_poison_what_sigmoid_lets_through(value: float) -> None:
    zx, Wh = many(value)
    hs = module.unroll(zx, None, None, Wh).hs
    i = o = mx.sigmoid(mx.array(value))
    first = o * mx.tanh(i * mx.tanh(mx.array(value)))
    assert mx.allclose(hs[0], first, equal_nan=True, atol=1e-6)


def sigmoid_by_exp(x: mx.array) -> mx.array:
    return 1 / (1 + mx.exp(-x))


def sigmoid_of_rounded(x: mx.array) -> mx.array:
    """Negative control: what a base of few digits would do."""
    return 1 / (1 + mx.power(0.368, x))


def test_sigmoid_of_many_is_as_good_as_that_of_mlx() -> None:
    x = np.linspace(-60, 60, 20001, dtype="f4")
    truth = 1 / (1 + np.exp(-x.astype("f8")))
    source = np.array(sigmoid_by_exp(mx.array(x)))
    assert judge(np.array(sigmoid_of_many(mx.array(x))), source, truth).passed
    assert not judge(np.array(sigmoid_of_rounded(mx.array(x))), source, truth).passed


@pytest.mark.parametrize("given", [False, True])
def test_one_step_maps_over_any_of_its_inputs(given: bool) -> None:
    p = problem(3, 1, 4, 5)
    x, states = p["x"][0], (p["h"], p["c"]) if given else (None, None)

    def step(x: mx.array) -> mx.array:
        done = only_step(x, p["Wx"], p["Wh"], (p["bias"], p["bias"]), *states)
        assert done is not None
        return mx.concatenate(done)

    xs = mx.stack([x, x * 2, -x])
    assert mx.allclose(mx.vmap(step)(xs), mx.stack([step(x) for x in xs]), atol=1e-6)


@pytest.mark.parametrize("wrong", ["Wx", "Wh", "bias", "h", "c"])
def test_one_step_leaves_what_does_not_fit(wrong: str) -> None:
    p = problem(3, 1, 4, 5)

    def step(**odd: mx.array) -> object:
        q = p | odd
        return only_step(q["x"][0], q["Wx"], q["Wh"], (q["bias"],), q["h"], q["c"])

    assert step() is not None
    assert step(**{wrong: p[wrong][:-1]}) is None
    assert step(**{wrong: p[wrong].astype(mx.float16)}) is None


def test_python_runs_once_per_length_of_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled chunks of few lengths: later calls replay them. Built, never run: no compiler."""
    monkeypatch.setattr(fuse, "fuses", lambda: True)
    honest, traced = module._fused_steps, []

    def counting(zx: mx.array, *rest: mx.array) -> object:
        traced.append(len(zx))
        return honest(zx, *rest)

    monkeypatch.setattr(module, "_fused_steps", counting)
    Wh = mx.zeros((8, 2))
    for L in (100, 100, 36, 99, 103):
        assert module.unroll(mx.zeros((L, 3, 8)), None, None, Wh).hs.shape == (L, 3, 2)
    assert traced == [32, 4, 2, 1]


@pytest.mark.skipif(shutil.which("g++") is None, reason="mx.compile on a CPU calls g++")
@pytest.mark.parametrize("L", [1, 7])
def test_compiled_chunks_compute_the_same(monkeypatch: pytest.MonkeyPatch, L: int) -> None:
    p = problem(3, L, 4, 5)
    y = run(LSTMWeights(p["Wx"], p["Wh"], p["bias"]), p["x"]).y
    slopes = gradients(p, True, mx.float32, portable=False)
    monkeypatch.setattr(fuse, "fuses", lambda: True)
    assert mx.allclose(run(LSTMWeights(p["Wx"], p["Wh"], p["bias"]), p["x"]).y, y, atol=1e-6)
    compiled = gradients(p, True, mx.float32, portable=False)
    truth = gradients(p, True, mx.float64, portable=True)
    assert judge_all(compiled, slopes, truth).passed


def test_an_exported_graph_runs_elsewhere(tmp_path: Path) -> None:
    p = problem(2, 4, 3, 5)
    weights = LSTMWeights(p["Wx"], p["Wh"], p["bias"])
    with lstm_bridge.portable():
        assert is_portable()
        mx.export_function(str(tmp_path / "f.mlxfn"), lambda x: run(weights, x).y, p["x"])
    assert not is_portable()
    (y,) = mx.import_function(str(tmp_path / "f.mlxfn"))(p["x"])
    assert mx.array_equal(y, run(weights, p["x"]).y)


def test_a_step_has_at_most_two_kernels_when_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted on the graph: per step one matrix product and one fused element-wise kernel.

    Split and Slice make views. Metal compiles; here the compiled graph is built but never run, so
    no C++ compiler is needed.
    """
    monkeypatch.setattr(fuse, "fuses", lambda: True)
    p = problem(2, 7, 3, 5)
    weights = LSTMWeights(p["Wx"], p["Wh"], p["bias"])

    def kernels(y: mx.array, path: Path) -> int:
        mx.export_to_dot(str(path), y)
        drawn = [line for line in path.read_text().splitlines() if "shape=rectangle" in line]
        views = ("Split", "Slice", "Transpose", "Reshape", "Squeeze", "ExpandDims", "Broadcast")
        return sum(not any(view in line for view in views) for line in drawn)

    with lstm_bridge.portable():
        seven = kernels(run(weights, p["x"]).y, tmp_path / "7.dot")
        six = kernels(run(weights, p["x"][:6]).y, tmp_path / "6.dot")
    assert seven - six <= 2
    stock = mlx.nn.LSTM(3, 5)
    x = mx.moveaxis(p["x"], 0, 1)
    stock_step = kernels(stock(x)[0], tmp_path / "s7.dot") - kernels(
        stock(x[:, :6])[0], tmp_path / "s6.dot"
    )
    assert stock_step >= 10, "the count that ours is compared with"
