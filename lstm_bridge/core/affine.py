r"""Affine maps with an activation, and sigmoid and tanh alone: who computes them.

.. math:: y = \phi(x W^T + b)

On a Linux CPU MLX's own matrix products are the reference BLAS's and its element-wise code is
scalar: there the fused kernel computes these. macOS has Accelerate, and stays with it.

Shape letters: D input, O output.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import mlx.core as mx
import mlx.nn as nn

from lstm_bridge.core import native
from lstm_bridge.core.activations import Activation, relu
from lstm_bridge.core.native.ops import DENSE_SERVES, Inputs, Operation

# The kernel's own activations, by their number there.
_SQUASHES: dict[Activation, int] = {mx.sigmoid: 1, mx.tanh: 2, relu: 3}
_BY_NUMBER: dict[int, Activation] = {number: f for f, number in _SQUASHES.items()}
_MOST_AXES = 3


def affine(
    x: mx.array,
    W: mx.array,
    bias: mx.array | None = None,
    activation: Activation | None = None,
    *,
    turned: bool = False,
) -> mx.array:
    """Return ``activation(x W^T + bias)``.

    Args:
        x: ``[..., D]``.
        W: ``[O, D]``.
        bias: ``[O]``, or None.
        activation: any element-wise or last-axis function. Default: None, the identity.
        turned: W is ``[D, O]``, as Keras keeps it. Default: False.

    Returns:
        ``[..., O]``.
    """
    number = squash_number(activation)
    y = _fused_affine(x, W, bias, (number, turned)) if DENSE_SERVES else None
    if y is None:
        y, number = _plain_affine(x, W, bias, turned), 0
    return y if activation is None or number else activation(y)


def squash_number(activation: Activation | None) -> int:
    """Return the kernel's number of an activation, 0 for those that it has not."""
    # An activation may be a layer, which has no hash.
    return next((n for known, n in _SQUASHES.items() if known is activation), 0)


def squashed(y: mx.array, number: int) -> mx.array:
    """Return the activation of that number by MLX's own operations."""
    return _BY_NUMBER[number](y) if number else y


def by_kernel(activation: Activation) -> Activation:
    """Return the activation by way of the kernel, where it has it."""
    return partial(_squash, activation=activation) if squash_number(activation) else activation


def sigmoid(x: mx.array) -> mx.array:
    """Return ``1 / (1 + exp(-x))``."""
    return _squash(x, mx.sigmoid)


def tanh(x: mx.array) -> mx.array:
    """Return the hyperbolic tangent."""
    return _squash(x, mx.tanh)


def fused_squash(x: mx.array, activation: Activation) -> mx.array | None:
    """Return an activation that the kernel has by the kernel, or None where it does not serve."""
    if not DENSE_SERVES:
        return None
    flat = x if x.ndim <= 4 else x.reshape(-1)
    done = _SQUASH.fused((flat,), (_SQUASHES[activation],))
    if done is None:
        return None
    return done[0] if flat is x else done[0].reshape(x.shape)


class Linear(nn.Linear):
    """mlx.nn.Linear by way of ``affine``."""

    def __call__(self, x: mx.array) -> mx.array:
        """Return ``x W^T + b``."""
        return affine(x, self["weight"], self.get("bias"))


def _fused_affine(
    x: mx.array, W: mx.array, bias: mx.array | None, settings: Sequence[float]
) -> mx.array | None:
    flat = x if x.ndim <= _MOST_AXES else x.reshape(-1, x.shape[-1])
    done = _AFFINE.fused((flat, W, bias), settings)
    if done is None:
        return None
    return done[0] if flat is x else done[0].reshape(*x.shape[:-1], -1)


def _squash(x: mx.array, activation: Activation) -> mx.array:
    y = fused_squash(x, activation)
    return activation(x) if y is None else y


def _plain_affine(x: mx.array, W: mx.array, bias: mx.array | None, turned: bool) -> mx.array:
    columns = W if turned else W.T
    if bias is None:
        return x @ columns
    # MLX 0.32's addmm fails where vmap maps the bias alone.
    return x @ columns + bias if native.is_composing() else mx.addmm(bias, x, columns)


def _composed_affine(inputs: Inputs, settings: Sequence[float]) -> list[mx.array]:
    x, W, bias = inputs
    assert x is not None
    assert W is not None
    y = _plain_affine(x, W, bias, bool(settings[1]))
    return [squashed(y, int(settings[0]))]


def _composed_squash(inputs: Inputs, settings: Sequence[float]) -> list[mx.array]:
    x = inputs[0]
    assert x is not None
    return [squashed(x, int(settings[0]))]


_AFFINE = Operation("LSTMBridgeAffine", _composed_affine)
_SQUASH = Operation("LSTMBridgeSquash", _composed_squash)
