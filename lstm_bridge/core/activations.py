"""Named activations, with Keras's spelling and definitions.

``hard_sigmoid`` changed its slope between Keras 2 (0.2) and Keras 3 (1/6); the gap reaches 0.083.
The core knows both, under two names: a converter picks by the version that wrote the file.
"""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn

from lstm_bridge.errors import UnsupportedError

Activation = Callable[[mx.array], mx.array]


def hard_sigmoid(x: mx.array) -> mx.array:
    """``clip(x / 6 + 0.5, 0, 1)`` (Keras 3, torch)."""
    return mx.clip(x / 6 + 0.5, 0, 1)


def hard_sigmoid_keras2(x: mx.array) -> mx.array:
    """``clip(0.2 x + 0.5, 0, 1)`` (Keras 1 and 2, Theano, ONNX's default)."""
    return mx.clip(0.2 * x + 0.5, 0, 1)


def linear(x: mx.array) -> mx.array:
    """The identity."""
    return x


def softsign(x: mx.array) -> mx.array:
    """``x / (1 + |x|)``."""
    return x / (1 + mx.abs(x))


ACTIVATIONS: dict[str, Activation] = {
    "elu": nn.elu,
    "exponential": mx.exp,
    "hard_sigmoid": hard_sigmoid,
    "hard_sigmoid_keras2": hard_sigmoid_keras2,
    "linear": linear,
    "relu": nn.relu,
    "sigmoid": mx.sigmoid,
    "softplus": nn.softplus,
    "softsign": softsign,
    "tanh": mx.tanh,
}
"""Every activation by its Keras name: the only list of them."""


def get(name: str) -> Activation:
    """Return the activation of that name.

    Raises:
        UnsupportedError: no activation has that name.
    """
    try:
        return ACTIVATIONS[name]
    except (KeyError, TypeError):
        raise UnsupportedError(
            "activation", expected=f"one of {', '.join(ACTIVATIONS)}", got=repr(name)
        ) from None
