"""Activations by their Keras names with their derivatives, in plain NumPy.

Written from the definitions, apart from the package's own: an oracle that shared them would agree
with any mistake in them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Activation(NamedTuple):
    """A function and its vector-Jacobian product ``(x, y, dy) -> dx`` with ``y = f(x)``."""

    f: Callable[[Array], Array]
    vjp: Callable[[Array, Array, Array], Array]


def _elementwise(f: Callable[[Array], Array], d: Callable[[Array, Array], Array]) -> Activation:
    return Activation(f, lambda x, y, dy: dy * d(x, y))


def sigmoid(x: Array) -> Array:
    """``1 / (1 + e^-x)``, without overflow on either side."""
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, np.ones_like(e), e) / (1 + e))


def softplus(x: Array) -> Array:
    """``log(1 + e^x)``, without overflow."""
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def _erf(x: Array) -> Array:
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x), x.dtype)


def _normal_cdf(x: Array) -> Array:
    return np.asarray(0.5 * (1 + _erf(x / math.sqrt(2))))


def _clip_slope(x: Array, low: float, high: float, slope: float) -> Array:
    return np.asarray(np.where((x > low) & (x < high), slope, 0.0).astype(x.dtype))


def _exp_neg(x: Array) -> Array:
    """``e^x`` where x is negative, 1 elsewhere: the branch of the elu family."""
    return np.asarray(np.exp(np.minimum(x, 0)))


def _elu(alpha: float, scale: float = 1.0) -> Activation:
    return _elementwise(
        lambda x: scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
        lambda x, y: scale * np.where(x > 0, 1.0, alpha * _exp_neg(x)).astype(x.dtype),
    )


def _hard_sigmoid(slope: float) -> Activation:
    edge = 0.5 / slope
    return _elementwise(
        lambda x: np.clip(slope * x + 0.5, 0, 1), lambda x, y: _clip_slope(x, -edge, edge, slope)
    )


def _leaky(slope: float, top: float = math.inf) -> Activation:
    return _elementwise(
        lambda x: np.minimum(np.where(x > 0, x, slope * x), top),
        lambda x, y: np.where(x > 0, np.where(x < top, 1.0, 0.0), slope).astype(x.dtype),
    )


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def _log_softmax(x: Array) -> Array:
    shifted = x - x.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def _mish_slope(x: Array, y: Array) -> Array:
    t = np.tanh(softplus(x))
    return np.asarray(t + x * (1 - t * t) * sigmoid(x))


_SILU = _elementwise(lambda x: x * sigmoid(x), lambda x, y: sigmoid(x) + y * (1 - sigmoid(x)))
_HARD_SILU = _elementwise(
    lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    lambda x, y: np.where(x <= -3, 0.0, np.where(x >= 3, 1.0, x / 3 + 0.5)).astype(x.dtype),
)

ACTIVATIONS: dict[str, Activation] = {
    "celu": _elu(1.0),
    "elu": _elu(1.0),
    "exponential": _elementwise(np.exp, lambda x, y: y),
    "gelu": _elementwise(
        lambda x: x * _normal_cdf(x),
        lambda x, y: _normal_cdf(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi),
    ),
    "hard_shrink": _elementwise(
        lambda x: np.where(np.abs(x) > 0.5, x, 0),
        lambda x, y: (np.abs(x) > 0.5).astype(x.dtype),
    ),
    "hard_sigmoid": _hard_sigmoid(1 / 6),
    "hard_sigmoid_keras2": _hard_sigmoid(0.2),
    "hard_silu": _HARD_SILU,
    "hard_swish": _HARD_SILU,
    "hard_tanh": _elementwise(
        lambda x: np.clip(x, -1, 1), lambda x, y: _clip_slope(x, -1.0, 1.0, 1.0)
    ),
    "leaky_relu": _leaky(0.2),
    "linear": _elementwise(lambda x: x, lambda x, y: np.ones_like(x)),
    "log_sigmoid": _elementwise(lambda x: -softplus(-x), lambda x, y: sigmoid(-x)),
    "log_softmax": Activation(
        _log_softmax, lambda x, y, dy: dy - np.exp(y) * dy.sum(axis=-1, keepdims=True)
    ),
    "mish": _elementwise(lambda x: x * np.tanh(softplus(x)), _mish_slope),
    "relu": _leaky(0.0),
    "relu6": _leaky(0.0, 6.0),
    "selu": _elu(1.6732632423543772, 1.0507009873554805),
    "sigmoid": _elementwise(sigmoid, lambda x, y: y * (1 - y)),
    "silu": _SILU,
    "soft_shrink": _elementwise(
        lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0),
        lambda x, y: (np.abs(x) > 0.5).astype(x.dtype),
    ),
    "softmax": Activation(
        _softmax, lambda x, y, dy: y * (dy - (dy * y).sum(axis=-1, keepdims=True))
    ),
    "softplus": _elementwise(softplus, lambda x, y: sigmoid(x)),
    "softsign": _elementwise(lambda x: x / (1 + np.abs(x)), lambda x, y: (1 + np.abs(x)) ** -2),
    "sparse_plus": _elementwise(
        lambda x: np.where(x <= -1, 0, np.where(x < 1, (x + 1) ** 2 / 4, x)),
        lambda x, y: np.clip((x + 1) / 2, 0, 1),
    ),
    "sparse_sigmoid": _elementwise(
        lambda x: np.clip((x + 1) / 2, 0, 1), lambda x, y: _clip_slope(x, -1.0, 1.0, 0.5)
    ),
    "squareplus": _elementwise(
        lambda x: (x + np.sqrt(x * x + 4)) / 2, lambda x, y: (1 + x / np.sqrt(x * x + 4)) / 2
    ),
    "swish": _SILU,
    "tanh": _elementwise(np.tanh, lambda x, y: 1 - y * y),
    "tanh_shrink": _elementwise(lambda x: x - np.tanh(x), lambda x, y: np.tanh(x) ** 2),
}
"""Every Keras activation that keeps its input's width, and Keras 2's hard_sigmoid."""
