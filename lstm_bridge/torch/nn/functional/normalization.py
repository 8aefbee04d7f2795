"""``torch.nn.functional``'s normalisations, channels on axis 1.

N batch, C channels, G groups. Statistics are computed at least in float32.

Source: torch.nn.functional 2.13.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import mlx.core as mx

from lstm_bridge.core.arrays import at_least_float32
from lstm_bridge.core.normal import batch_norm as batch_norm_of
from lstm_bridge.core.normal import layer_norm as layer_norm_of
from lstm_bridge.errors import ShapeError, UsageError


class Statistics(NamedTuple):
    """Mean and variance of each channel, the variance without Bessel's correction."""

    mean: mx.array
    var: mx.array


def layer_norm(
    input: mx.array,  # noqa: A002
    normalized_shape: Sequence[int],
    weight: mx.array | None = None,
    bias: mx.array | None = None,
    eps: float = 1e-5,
) -> mx.array:
    """Normalise over the last axes, those of ``normalized_shape``.

    Raises:
        ShapeError: the input does not end in them.
    """
    tail = tuple(normalized_shape)
    if input.shape[input.ndim - len(tail) :] != tail:
        raise ShapeError(
            "layer_norm input",
            expected=f"last axes {list(tail)}",
            got=str(list(input.shape)),
        )
    if len(tail) == 1:
        return layer_norm_of(input, weight, bias, eps)
    flat = input.reshape(*input.shape[: input.ndim - len(tail)], math.prod(tail))
    y = layer_norm_of(
        flat,
        None if weight is None else weight.reshape(-1),
        None if bias is None else bias.reshape(-1),
        eps,
    )
    return y.reshape(input.shape)


def rms_norm(
    input: mx.array,  # noqa: A002
    normalized_shape: Sequence[int],
    weight: mx.array | None = None,
    eps: float | None = None,
) -> mx.array:
    """Divide by the root of the mean square over the last axes."""
    axes = tuple(range(-len(tuple(normalized_shape)), 0))
    wide = at_least_float32(input)
    eps = float(mx.finfo(input.dtype).eps) if eps is None else eps
    y = wide * mx.rsqrt(mx.mean(wide * wide, axis=axes, keepdims=True) + eps)
    y = y.astype(input.dtype)
    return y if weight is None else y * weight


def group_norm(
    input: mx.array,  # noqa: A002
    num_groups: int,
    weight: mx.array | None = None,
    bias: mx.array | None = None,
    eps: float = 1e-5,
) -> mx.array:
    """Normalise each group of channels of ``[N, C, *]`` by itself.

    Raises:
        UsageError: the channels do not divide into the groups.
    """
    N, C = input.shape[:2]
    if C % num_groups:
        raise UsageError(
            "group_norm input", expected=f"channels divisible by {num_groups}", got=str(C)
        )
    y = layer_norm_of(input.reshape(N, num_groups, -1), None, None, eps)
    return _affine(y.reshape(input.shape), weight, bias)


def batch_norm(
    input: mx.array,  # noqa: A002
    running_mean: mx.array | None,
    running_var: mx.array | None,
    weight: mx.array | None = None,
    bias: mx.array | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> mx.array:
    """Normalise each channel of ``[N, C]`` or ``[N, C, *]`` over all other axes.

    Unlike torch it changes no running statistics in place; the layers keep their own.
    """
    found = None if training else _given(running_mean, running_var)
    found = channel_statistics(input, "batch_norm") if found is None else found
    return normalised(input, found, weight, bias, eps)


def instance_norm(
    input: mx.array,  # noqa: A002
    running_mean: mx.array | None = None,
    running_var: mx.array | None = None,
    weight: mx.array | None = None,
    bias: mx.array | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> mx.array:
    """Normalise each channel of each sample of ``[N, C, *]`` over the further axes.

    Raises:
        ShapeError: a single element per channel, whose variance is 0.
    """
    found = None if use_input_stats else _given(running_mean, running_var)
    if found is not None:
        return normalised(input, found, weight, bias, eps)
    N, C, *rest = input.shape
    if math.prod(rest) <= 1:
        raise ShapeError(
            "instance_norm input",
            expected="more than one value per channel",
            got=str(list(input.shape)),
        )
    y = layer_norm_of(input.reshape(N, C, -1), None, None, eps)
    return _affine(y.reshape(input.shape), weight, bias)


def channel_statistics(x: mx.array, owner: str) -> Statistics:
    """Return each channel's mean and variance over all axes but 1.

    Raises:
        ShapeError: a single value per channel.
    """
    if x.size <= x.shape[1]:
        raise ShapeError(
            f"{owner} input",
            expected="more than one value per channel while training",
            got=str(list(x.shape)),
            fix="call eval(), or give a larger batch",
        )
    axes = tuple(k for k in range(x.ndim) if k != 1)
    wide = at_least_float32(x)
    return Statistics(mx.mean(wide, axis=axes), mx.var(wide, axis=axes))


def normalised(
    x: mx.array,
    found: Statistics,
    weight: mx.array | None,
    bias: mx.array | None,
    eps: float,
) -> mx.array:
    """Return ``(x - mean) / sqrt(var + eps) · weight + bias``, one number for each channel."""
    # Channels last, as a convolution leaves them in memory.
    y = batch_norm_of(mx.moveaxis(x, 1, -1), found.mean, found.var, weight, bias, eps)
    return mx.moveaxis(y, -1, 1)


def _given(mean: mx.array | None, var: mx.array | None) -> Statistics | None:
    return None if mean is None or var is None else Statistics(mean, var)


def _affine(y: mx.array, weight: mx.array | None, bias: mx.array | None) -> mx.array:
    y = y if weight is None else y * _channels(weight, y.ndim)
    return y if bias is None else y + _channels(bias, y.ndim)


def _channels(values: mx.array, ndim: int) -> mx.array:
    """Give one number per channel the axes that stand behind the channels."""
    return values.reshape(-1, *[1] * (ndim - 2))
