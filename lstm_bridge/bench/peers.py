"""Who is timed: our layer and its peers, each as a forward and a training step of one shape.

A framework is imported when its peer is made, and a peer that is not installed is named as such.
All peers get the same sizes and random weights of their own; what they compute is not compared
here (``lstm-bridge verify`` does that).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

from lstm_bridge.bench.shapes import Shape

Work = Callable[[], object]


class Peer(NamedTuple):
    """One implementation, ready to be called.

    Args:
        forward: one inference pass, its result computed when it returns.
        train: forward and backward with gradients of every weight.
    """

    forward: Work
    train: Work


def _mlx(model: Any, shape: Shape, time_major: bool) -> Peer:
    import mlx.core as mx
    import mlx.nn as nn

    first, second = (shape.L, shape.N) if time_major else (shape.N, shape.L)
    x = mx.random.normal((first, second, shape.D))
    mx.eval(x, model.parameters())

    def loss(model: Any, x: mx.array) -> mx.array:
        total: mx.array = model(x)[0].square().sum()
        return total

    both = nn.value_and_grad(model, loss)
    return Peer(lambda: mx.eval(model(x)), lambda: mx.eval(both(model, x)))


def ours(shape: Shape) -> Peer:
    """lstm_bridge.torch.nn.LSTM: every front-end runs on the same core."""
    from lstm_bridge.torch.nn import LSTM

    model = LSTM(shape.D, shape.H, shape.layers, bidirectional=shape.bidirectional)
    return _mlx(model, shape, time_major=True)


def mlx_drop_in(shape: Shape) -> Peer | None:
    """lstm_bridge.mlx.nn.LSTM, which also returns all cell states."""
    from lstm_bridge.mlx.nn import LSTM

    if shape.layers > 1 or shape.bidirectional:
        return None
    return _mlx(LSTM(shape.D, shape.H), shape, time_major=False)


def stock_mlx(shape: Shape) -> Peer | None:
    """mlx.nn.LSTM, which has one layer and one direction."""
    import mlx.nn as nn

    if shape.layers > 1 or shape.bidirectional:
        return None
    return _mlx(nn.LSTM(shape.D, shape.H), shape, time_major=False)


def torch(shape: Shape) -> Peer:
    """torch.nn.LSTM."""
    import torch as framework

    model = framework.nn.LSTM(shape.D, shape.H, shape.layers, bidirectional=shape.bidirectional)
    x = framework.randn(shape.L, shape.N, shape.D)

    def forward() -> object:
        with framework.no_grad():
            return model(x)

    def train() -> None:
        model.zero_grad(set_to_none=True)
        model(x)[0].square().sum().backward()

    return Peer(forward, train)


def keras(shape: Shape) -> Peer | None:
    """keras.layers.LSTM on the torch backend."""
    import os

    os.environ.setdefault("KERAS_BACKEND", "torch")
    import keras as framework
    import torch

    if framework.backend.backend() != "torch" or shape.layers > 1 or shape.bidirectional:
        return None
    model = framework.layers.LSTM(shape.H, return_sequences=True)
    x = torch.randn(shape.N, shape.L, shape.D)
    model(x)

    def forward() -> object:
        with torch.no_grad():
            return model(x)

    def train() -> None:
        for weight in model.trainable_weights:
            weight.value.grad = None
        model(x).square().sum().backward()

    return Peer(forward, train)


PEERS: dict[str, tuple[str, Callable[[Shape], Peer | None]]] = {
    "lstm_bridge": ("mlx", ours),
    "lstm_bridge.mlx": ("mlx", mlx_drop_in),
    "mlx.nn.LSTM": ("mlx", stock_mlx),
    "torch.nn.LSTM": ("torch", torch),
    "keras.layers.LSTM": ("keras", keras),
}
"""Name → the distribution that it needs, and how it is made: the only list of peers."""


def installed(*only: str) -> dict[str, Callable[[Shape], Peer | None]]:
    """Return the peers whose framework is installed.

    Args:
        only: the distributions whose peers are wanted. Default: all.
    """
    return {
        name: make
        for name, (needs, make) in PEERS.items()
        if (not only or needs in only) and find_spec(needs) is not None
    }
