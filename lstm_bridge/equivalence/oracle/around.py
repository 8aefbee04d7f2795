"""The mathematics of the layers that stand around recurrent ones, in plain NumPy.

Windows slide over all axes between the batch and the channels.
Shape letters: N batch, S sizes of the axes that windows slide over, C channels in, F channels out,
K kernel.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Sizes = Sequence[int]


def sizes(value: Any, rank: int) -> tuple[int, ...]:
    """Return one whole number per axis, from a number or a sequence of one or of all."""
    given = tuple(value) if isinstance(value, list | tuple) else (value,)
    return tuple(int(v) for v in (given if len(given) == rank else given * rank))


def convolved(x: Array, kernel: Array, stride: Sizes, dilation: Sizes, groups: int) -> Array:
    """Cross-correlate ``x [N, *S, C]``, padded already, with ``kernel [*K, C / groups, F]``."""
    *K, width, F = kernel.shape
    counts = _counts(x, K, stride, dilation)
    out = np.zeros((len(x), *counts, F), x.dtype)
    per = F // groups
    for place, part in _taken(x, K, stride, dilation):
        for g in range(groups):
            own = kernel[place][:, g * per : (g + 1) * per]
            out[..., g * per : (g + 1) * per] += part[..., g * width : (g + 1) * width] @ own
    return out


def spread(x: Array, kernel: Array, stride: Sizes, dilation: Sizes, groups: int) -> Array:
    """Add up a kernel at every place of ``x [N, *S, C]``: convolution's transpose, not cropped.

    ``kernel [*K, C, F / groups]``.
    """
    *K, C, per = kernel.shape
    counts = x.shape[1:-1]
    full = [
        (n - 1) * s + d * (k - 1) + 1
        for n, k, s, d in zip(counts, K, stride, dilation, strict=True)
    ]
    out = np.zeros((len(x), *full, per * groups), x.dtype)
    width = C // groups
    for place in np.ndindex(*K):
        spans = zip(place, counts, stride, dilation, strict=True)
        at = tuple(slice(k * d, k * d + s * (n - 1) + 1, s) for k, n, s, d in spans)
        for g in range(groups):
            part = x[..., g * width : (g + 1) * width]
            own = kernel[place][g * width : (g + 1) * width]
            out[(slice(None), *at, slice(g * per, (g + 1) * per))] += part @ own
    return out


def _counts(x: Array, K: Sizes, stride: Sizes, dilation: Sizes) -> list[int]:
    axes = zip(x.shape[1:-1], K, stride, dilation, strict=True)
    return [max(0, (n - d * (k - 1) - 1) // s + 1) for n, k, s, d in axes]


def _taken(
    x: Array, K: Sizes, stride: Sizes, dilation: Sizes
) -> Iterator[tuple[tuple[int, ...], Array]]:
    """Yield each place in a window with the elements that stand there in all windows."""
    counts = _counts(x, K, stride, dilation)
    for place in np.ndindex(*K):
        spans = zip(place, counts, stride, dilation, strict=True)
        at = tuple(slice(k * d, k * d + max(0, s * (n - 1) + 1), s) for k, n, s, d in spans)
        yield place, x[(slice(None), *at)]


def padded(x: Array, around: Sequence[tuple[int, int]], value: float = 0.0) -> Array:
    """Return ``x [N, *S, C]`` with ``value`` before and after it on each axis between."""
    return np.pad(x, ((0, 0), *around, (0, 0)), constant_values=value)


def same_padding(length: int, reach: int, stride: int) -> tuple[int, int]:
    """Return what TensorFlow's "same" puts before and after: the odd one after."""
    total = max(0, (math.ceil(length / stride) - 1) * stride + reach - length)
    return total // 2, total - total // 2


def windows(x: Array, K: Sizes, stride: Sizes, dilation: Sizes | None = None) -> Array:
    """Return all windows of ``x [N, *S, C]``, ``[elements of a window, N, *windows, C]``."""
    parts = [part for _, part in _taken(x, K, stride, dilation or [1] * len(K))]
    return np.stack(parts)


def normalized(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    """Return ``(x - mean) / sqrt(var + epsilon)`` over axes, with the biased variance."""
    mean = x.mean(axis=axes, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=axes, keepdims=True)
    return np.asarray((x - mean) / np.sqrt(variance + epsilon))


def to_last(x: Array) -> Array:
    """Channels from the second axis to the last."""
    return np.moveaxis(x, 1, -1)


def to_second(x: Array) -> Array:
    """Channels from the last axis to the second."""
    return np.moveaxis(x, -1, 1)
