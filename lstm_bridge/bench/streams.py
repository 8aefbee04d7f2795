"""Streaming peers: some single steps of one sequence, each call's states given to the next."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from lstm_bridge.bench.peers import Work
from lstm_bridge.bench.shapes import Shape

STEPS = 50
"""Steps of one timed call."""


def _mlx_steps(advance: Callable[[Any, Any], Any], xs: list[Any]) -> Work:
    import mlx.core as mx

    def run() -> None:
        state = None
        for x in xs:
            state = advance(x, state)
            mx.eval(state)

    return run


def _mlx_inputs(model: Any, *shape: int) -> list[Any]:
    import mlx.core as mx

    xs = [mx.random.normal(shape) for _ in range(STEPS)]
    mx.eval(xs, model.parameters())
    return xs


def our_cell(shape: Shape) -> Work:
    """lstm_bridge.torch.nn.LSTMCell."""
    from lstm_bridge.torch.nn import LSTMCell

    cell = LSTMCell(shape.D, shape.H)
    return _mlx_steps(cell, _mlx_inputs(cell, 1, shape.D))


def our_layer(shape: Shape) -> Work:
    """lstm_bridge.torch.nn.LSTM over one step."""
    from lstm_bridge.torch.nn import LSTM

    model = LSTM(shape.D, shape.H)
    return _mlx_steps(lambda x, state: model(x, state)[1], _mlx_inputs(model, 1, 1, shape.D))


def torch_cell(shape: Shape) -> Work:
    """torch.nn.LSTMCell."""
    import torch

    cell = torch.nn.LSTMCell(shape.D, shape.H)
    xs = [torch.randn(1, shape.D) for _ in range(STEPS)]

    def run() -> None:
        with torch.no_grad():
            state = None
            for x in xs:
                state = cell(x, state)

    return run


def _last_states(model: Any) -> Callable[[Any, Any], Any]:
    def advance(x: Any, state: Any) -> Any:
        h, c = model(x, *(state or ()))
        return h[-1], c[-1]

    return advance


def our_mlx(shape: Shape) -> Work:
    """lstm_bridge.mlx.nn.LSTM over one step."""
    from lstm_bridge.mlx.nn import LSTM

    model = LSTM(shape.D, shape.H)
    return _mlx_steps(_last_states(model), _mlx_inputs(model, 1, shape.D))


def stock_mlx(shape: Shape) -> Work:
    """mlx.nn.LSTM over one step."""
    import mlx.nn as nn

    model = nn.LSTM(shape.D, shape.H)
    return _mlx_steps(_last_states(model), _mlx_inputs(model, 1, shape.D))


STREAMERS: dict[str, tuple[str, Callable[[Shape], Work]]] = {
    "lstm_bridge": ("mlx", our_cell),
    "lstm_bridge, LSTM": ("mlx", our_layer),
    "torch.nn.LSTMCell": ("torch", torch_cell),
    "lstm_bridge.mlx": ("mlx", our_mlx),
    "mlx.nn.LSTM": ("mlx", stock_mlx),
}
"""Name → the distribution that it needs, and how it is made; ours comes first."""


def streamers(shape: Shape, *only: str) -> dict[str, Work]:
    """Return the sides whose framework is installed.

    Args:
        only: the distributions whose sides are wanted. Default: all.
    """
    return {
        name: make(shape)
        for name, (needs, make) in STREAMERS.items()
        if (not only or needs in only) and find_spec(needs)
    }
