"""What is computed at the call and what is left to MLX's scheduler are the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from lstm_bridge.core import native
from lstm_bridge.core.paths import portable
from lstm_bridge.mlx import nn as mlx_front_end
from lstm_bridge.torch import nn

pytestmark = pytest.mark.skipif(
    not native.status().serves, reason=f"the fused kernel does not serve: {native.status().reason}"
)
N, L, D, H = 3, 4, 5, 18

LAYERS = [
    {},
    {"bias": False},
    {"batch_first": True},
    {"bidirectional": True, "batch_first": True},
    {"num_layers": 3, "bidirectional": True, "proj_size": 7},
    {"num_layers": 2, "batch_first": True, "proj_size": 7, "bias": False},
]


def draw(*shape: int) -> mx.array:
    return mx.array(np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32))


def flat(tree: Any) -> list[mx.array]:
    return [tree] if isinstance(tree, mx.array) else [leaf for part in tree for leaf in flat(part)]


def ways(call: Callable[..., Any], *inputs: mx.array) -> dict[str, list[mx.array]]:
    """At once, later, traced for a gradient, and by MLX's own operations."""
    with mx.stream(mx.cpu):
        found = {"at once": flat(call(*inputs)), "later": flat(call(*(a + 0 for a in inputs)))}
        down = [mx.ones_like(a) for a in found["at once"]]
        found["traced"] = mx.vjp(lambda *a: flat(call(*a)), list(inputs), down)[0]
        with portable():
            found["composed"] = flat(call(*inputs))
        mx.eval(found)
    return found


def assert_one(found: dict[str, list[mx.array]]) -> None:
    for name in ("later", "traced"):
        for ours, theirs in zip(found["at once"], found[name], strict=True):
            assert ours.shape == theirs.shape
            assert mx.array_equal(ours, theirs), name
    for ours, theirs in zip(found["at once"], found["composed"], strict=True):
        assert ours.shape == theirs.shape
        assert float(mx.abs(ours - theirs).max()) < 2e-6


@pytest.mark.parametrize("with_states", [False, True])
@pytest.mark.parametrize("options", LAYERS, ids=str)
def test_layers(options: dict[str, Any], with_states: bool) -> None:
    model = nn.LSTM(D, H, **options)
    mx.eval(model.parameters())
    x = draw(*((N, L) if options.get("batch_first") else (L, N)), D)
    depth = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    states = (draw(depth, N, options.get("proj_size") or H), draw(depth, N, H))
    if with_states:
        assert_one(ways(lambda x, h, c: model(x, (h, c)), x, *states))
    else:
        assert_one(ways(model, x))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("lead", [(), (N,)], ids=str)
def test_one_step(lead: tuple[int, ...], bias: bool) -> None:
    cell = nn.LSTMCell(D, H, bias=bias)
    mx.eval(cell.parameters())
    x, h, c = draw(*lead, D), draw(*lead, H), draw(*lead, H) * 2
    assert_one(ways(lambda x, h, c: cell(x, (h, c)), x, h, c))
    assert_one(ways(cell, x))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("lead", [(), (N,)], ids=str)
def test_all_states(lead: tuple[int, ...], bias: bool) -> None:
    model = mlx_front_end.LSTM(D, H, bias=bias)
    mx.eval(model.parameters())
    x, h, c = draw(*lead, L, D), draw(*lead, H), draw(*lead, H) * 2
    assert_one(ways(model, x, h, c))
    assert_one(ways(model, x))
    assert_one(ways(lambda x, c: model(x, None, c), x, c))


def test_strided_inputs() -> None:
    model = nn.LSTM(D, H, bidirectional=True)
    mx.eval(model.parameters())
    x, h, c = draw(D, N, L).transpose(2, 1, 0), draw(H, N, 2).T, draw(N, 2, H).swapaxes(0, 1)
    mx.eval(x, h, c)
    assert_one(ways(lambda x, h, c: model(x, (h, c)), x, h, c))


def test_nothing_is_computed_at_once_inside_a_transformation() -> None:
    """A value taken from a trace would be a constant, and its gradient zero."""
    cell = nn.LSTMCell(D, H)
    x = draw(N, D)
    mx.eval(cell.parameters())
    with mx.stream(mx.cpu):
        slope = mx.grad(lambda x: cell(x)[0].sum())(x)
        assert float(mx.abs(slope).min()) > 0
        doubled = mx.compile(lambda x: cell(x)[0])
        doubled(x)
        assert mx.array_equal(doubled(2 * x), cell(2 * x)[0])


def test_new_weights_are_used_at_the_next_call() -> None:
    """Nothing of a weight is kept between calls."""
    model = nn.LSTM(D, H)
    mx.eval(model.parameters())
    x = draw(L, N, D)
    before = model(x)[0]
    model.weight_hh_l0 = model.weight_hh_l0 * 2
    mx.eval(model.parameters())
    after = model(x)[0]
    assert mx.array_equal(before[0], after[0])
    assert not mx.array_equal(before[1], after[1])
