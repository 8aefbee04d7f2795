"""The linear recurrence without a time loop, and what it saves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_bridge.core import native
from lstm_bridge.core.scan import linear_recurrence
from lstm_bridge.equivalence.judge import judge
from lstm_bridge.pytorch_forecasting.layers import mLSTMLayer

torch = pytest.importorskip("torch", reason="upstream's operations are counted live")


def loop(f: Any, u: Any, c: Any) -> Any:
    """Solve the recurrence one step after another, in the arrays' own dtype."""
    states = []
    for decay, more in zip(f, u, strict=True):
        c = decay * c + more
        states.append(c)
    return np.stack(states)


def draw(L: int, seed: int) -> tuple[Any, Any, Any]:
    """Return decays in (0, 1), shared by two states, their inputs and their start."""
    rng = np.random.default_rng(seed)
    f = 1 / (1 + np.exp(-rng.normal(1, 2, (L, 1, 3, 4))))
    u, c0 = rng.normal(size=(L, 2, 3, 4)), rng.normal(size=(2, 3, 4))
    return f.astype(np.float32), u.astype(np.float32), c0.astype(np.float32)


@given(st.integers(1, 70), st.integers(0, 2**16))
def test_it_is_the_loop(L: int, seed: int) -> None:
    arrays = draw(L, seed)
    ours = linear_recurrence(*map(mx.array, arrays))
    truth = loop(*(a.astype(np.float64) for a in arrays))
    assert judge(np.array(ours), loop(*arrays), truth).reason == ""


@pytest.mark.parametrize("L", [1, 2, 3, 8, 21])
def test_its_gradient_is_the_loops(L: int) -> None:
    arrays = draw(L, L)
    probe = np.random.default_rng(0).normal(size=(L, 2, 3, 4))

    def ours(f: mx.array, u: mx.array, c: mx.array) -> mx.array:
        return (linear_recurrence(f, u, c) * mx.array(probe, mx.float32)).sum()

    found = mx.grad(ours, argnums=(0, 1, 2))(*map(mx.array, arrays))
    by_loop = {}
    for dtype in (torch.float32, torch.float64):
        given = [torch.tensor(a, dtype=dtype, requires_grad=True) for a in arrays]
        c, loss = given[2], 0
        for t in range(L):
            c = given[0][t] * c + given[1][t]
            loss = loss + (c * torch.tensor(probe[t], dtype=dtype)).sum()
        loss.backward()
        by_loop[dtype] = [a.grad.numpy() for a in given]
    for mine, source, truth in zip(found, *by_loop.values(), strict=True):
        assert judge(np.array(mine), source, truth).reason == ""


def test_a_forgotten_start_is_caught() -> None:
    f, u, c0 = draw(9, 1)
    ours = linear_recurrence(mx.array(f), mx.array(u), mx.zeros(c0.shape))
    truth = loop(*(a.astype(np.float64) for a in (f, u, c0)))
    assert not judge(np.array(ours), loop(f, u, c0), truth).passed


def test_decays_that_underflow_leave_the_rest_exact() -> None:
    f = mx.full((64, 1), 1e-3)
    c = linear_recurrence(f, mx.ones((64, 1)), mx.array([1e30]))
    assert np.array(c)[-1] == pytest.approx(1 / (1 - 1e-3), rel=1e-6)
    assert np.isfinite(np.array(c)).all()


def test_a_nan_spoils_its_own_row_from_its_own_step_on() -> None:
    f, u, c0 = draw(9, 2)
    u[4, 1, 2, 3] = np.nan
    spoilt = np.isnan(np.array(linear_recurrence(*map(mx.array, (f, u, c0)))))
    expected = np.zeros_like(spoilt)
    expected[4:, 1, 2, 3] = True
    assert (spoilt == expected).all()


def primitives(path: Path, *outputs: mx.array) -> int:
    """Count the operations in the graph that computes the outputs."""
    mx.export_to_dot(str(path), *outputs)
    return len(re.findall(r"shape=rectangle", path.read_text()))


def upstream_operations(L: int) -> int:
    """Count what live pytorch-forecasting dispatches for the same forward pass."""
    from pytorch_forecasting.layers import mLSTMLayer as UpstreamLayer
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):  # type: ignore[misc]
        total = 0

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            self.total += not func.is_view
            return func(*args, **(kwargs or {}))

    layer = UpstreamLayer(3, 8, 1, layer_norm=False).eval()
    with torch.no_grad(), Count() as count:
        layer(torch.zeros(L, 2, 3))
    return count.total


def test_operations_grow_with_the_logarithm_of_the_length(tmp_path: Path) -> None:
    layer = mLSTMLayer(3, 8, 1, layer_norm=False)
    layer.eval()
    mx.eval(layer.parameters())  # drawing them is not part of the forward pass

    def ours(L: int) -> int:
        with native.disabled():  # the kernel has one operation at any length
            y, states = layer(mx.zeros((L, 2, 3)))
        return primitives(tmp_path / "graph.dot", y, *states)

    counts = {L: (ours(L), upstream_operations(L)) for L in (8, 64, 512)}
    for L, (here, there) in counts.items():
        print(
            f"mLSTM layer, forward, L={L}: {here} operations, upstream {there}: {there / here:.1f}x"
        )
    per_eightfold = counts[64][0] - counts[8][0]
    assert 0 < per_eightfold == counts[512][0] - counts[64][0] <= 3 * 15
    assert counts[512][1] > 7 * counts[64][1] > 7 * 8 * counts[64][0]
