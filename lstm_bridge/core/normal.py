r"""Softmax, layer normalisation and that of channels: who computes them.

.. math::
    \text{softmax}(x)_j &= e^{x_j} / \textstyle\sum_k e^{x_k} \\
    \text{norm}(x) &= \gamma (x - \bar x) / \sqrt{\text{var}(x) + \epsilon} + \beta

of channels with a mean and a variance that are given.

On a Linux CPU the fused kernel, as in ``affine``.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from lstm_bridge.core.arrays import at_least_float32
from lstm_bridge.core.exponentials import exponential
from lstm_bridge.core.native.ops import DENSE_SERVES, Inputs, Operation

_MOST_AXES = 4


def softmax(x: mx.array, axis: int | Sequence[int] = -1) -> mx.array:
    """``exp(x) / sum exp(x)`` along an axis, or over several."""
    if not x.size:
        return x
    axes = [axis] if isinstance(axis, int) else list(axis)
    y = fused_softmax(x, axes[0]) if len(axes) == 1 else None
    return mx.softmax(x, axis=axes) if y is None else y


def exact_softmax(x: mx.array, axis: int = -1) -> mx.array:
    """Return the softmax to float32's precision, which MLX's own lacks on a CPU."""
    if not x.size:
        return x
    y = fused_softmax(x, axis)
    return _composed_softmax(x, axis) if y is None else y


def fused_softmax(x: mx.array, axis: int = -1) -> mx.array | None:
    """Return the softmax along an axis by the kernel, or None where it does not serve."""
    if not DENSE_SERVES or not x.ndim or not x.size:
        return None
    last = axis in (-1, x.ndim - 1)
    rows = x if last else mx.moveaxis(x, axis, -1)
    done = _SOFTMAX.fused((_few_axes(rows),))
    if done is None:
        return None
    y = done[0] if rows.ndim <= _MOST_AXES else done[0].reshape(rows.shape)
    return y if last else mx.moveaxis(y, -1, axis)


def layer_norm(x: mx.array, gamma: mx.array | None, beta: mx.array | None, eps: float) -> mx.array:
    """Normalise over the last axis.

    Args:
        x: ``[..., D]``.
        gamma: ``[D]``, or None for ones.
        beta: ``[D]``, or None for zeros.
        eps: added to the variance.

    Returns:
        ``[..., D]``.
    """
    if not x.size:  # MLX's own cannot do nothing
        return x
    if DENSE_SERVES and x.ndim:
        ones = mx.ones(x.shape[-1:], x.dtype) if gamma is None else gamma
        rows = _few_axes(x)
        done = _LAYER_NORM.fused((rows, ones, beta), (eps,))
        if done is not None:
            return done[0] if rows is x else done[0].reshape(x.shape)
    return _composed_norm(x, gamma, beta, eps)


def _composed_norm(
    x: mx.array, gamma: mx.array | None, beta: mx.array | None, eps: float
) -> mx.array:
    if x.dtype != mx.float64:
        return mx.fast.layer_norm(x, gamma, beta, eps)
    # MLX's own has float32's precision there too.
    from_mean = x - mx.mean(x, axis=-1, keepdims=True)
    y = from_mean * mx.rsqrt(mx.mean(mx.square(from_mean), axis=-1, keepdims=True) + eps)
    y = y if gamma is None else y * gamma
    return y if beta is None else y + beta


def batch_norm(
    x: mx.array,
    mean: mx.array,
    var: mx.array,
    gamma: mx.array | None,
    beta: mx.array | None,
    eps: float,
) -> mx.array:
    """Normalise each channel by moments that are given, at least in float32.

    Args:
        x: ``[..., C]``, two axes or more.
        mean: ``[C]``.
        var: ``[C]``.
        gamma: ``[C]``, or None for ones.
        beta: ``[C]``, or None for zeros.
        eps: added to the variance.

    Returns:
        ``[..., C]``, of x's dtype.
    """
    inputs = (_few_axes(x), mean, var, gamma, beta)
    done = _BATCH_NORM.fused(inputs, (eps,)) if DENSE_SERVES else None
    if done is None:
        return _composed_batch_norm(x, mean, var, gamma, beta, eps)
    return done[0] if inputs[0] is x else done[0].reshape(x.shape)


def _composed_batch_norm(
    x: mx.array,
    mean: mx.array,
    var: mx.array,
    gamma: mx.array | None,
    beta: mx.array | None,
    eps: float,
) -> mx.array:
    factor = mx.rsqrt(at_least_float32(var) + eps)
    factor = factor if gamma is None else factor * gamma
    y = (at_least_float32(x) - mean) * factor
    if beta is not None:
        # Its gradient is summed up in two stages: MLX's sums lose digits with their length.
        y = y + mx.broadcast_to(beta, y.shape[-2:])
    return y.astype(x.dtype)


def _few_axes(x: mx.array) -> mx.array:
    return x if x.ndim <= _MOST_AXES else x.reshape(-1, x.shape[-1])


def _composed_softmax(x: mx.array, axis: int = -1) -> mx.array:
    grown = exponential(x - mx.stop_gradient(mx.max(x, axis=axis, keepdims=True)))
    return grown / mx.sum(grown, axis=axis, keepdims=True)


def _softmax_of(inputs: Inputs, settings: Sequence[float]) -> list[mx.array]:
    x = inputs[0]
    assert x is not None
    return [_composed_softmax(x)]


def _layer_norm_of(inputs: Inputs, settings: Sequence[float]) -> list[mx.array]:
    x, gamma, beta = inputs
    assert x is not None
    return [_composed_norm(x, gamma, beta, settings[0])]


def _batch_norm_of(inputs: Inputs, settings: Sequence[float]) -> list[mx.array]:
    x, mean, var, gamma, beta = inputs
    assert x is not None
    assert mean is not None
    assert var is not None
    return [_composed_batch_norm(x, mean, var, gamma, beta, settings[0])]


_SOFTMAX = Operation("LSTMBridgeSoftmax", _softmax_of)
_LAYER_NORM = Operation("LSTMBridgeLayerNorm", _layer_norm_of)
_BATCH_NORM = Operation("LSTMBridgeBatchNorm", _batch_norm_of)
