"""The mathematics of the layers that stand around recurrent ones, in plain NumPy.

Shape letters: N batch, L length, C channels in, F channels out, K kernel.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def convolved(x: Array, kernel: Array, stride: int, dilation: int, groups: int) -> Array:
    """Cross-correlate ``x [N, L, C]``, padded already, with ``kernel [K, C / groups, F]``."""
    K, width, F = kernel.shape
    reach = dilation * (K - 1) + 1
    starts = range(0, x.shape[1] - reach + 1, stride)
    out = np.zeros((x.shape[0], len(starts), F), x.dtype)
    per = F // groups
    for g in range(groups):
        part, own = x[..., g * width : (g + 1) * width], kernel[..., g * per : (g + 1) * per]
        for k in range(K):
            taken = part[:, [s + k * dilation for s in starts]]
            out[..., g * per : (g + 1) * per] += taken @ own[k]
    return out


def padded(x: Array, before: int, after: int, value: float = 0.0) -> Array:
    """Return ``x [N, L, C]`` with ``value`` before and after it in time."""
    return np.pad(x, ((0, 0), (before, after), (0, 0)), constant_values=value)


def same_padding(length: int, reach: int, stride: int) -> tuple[int, int]:
    """Return what TensorFlow's "same" puts before and after: the odd one after."""
    total = max(0, (math.ceil(length / stride) - 1) * stride + reach - length)
    return total // 2, total - total // 2


def windows(x: Array, size: int, stride: int) -> Array:
    """Return all windows of ``x [N, L, C]`` in time, ``[N, windows, size, C]``."""
    starts = range(0, x.shape[1] - size + 1, stride)
    cut = [x[:, s : s + size] for s in starts]
    return np.stack(cut, axis=1) if cut else np.zeros((len(x), 0, size, x.shape[2]), x.dtype)


def normalized(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    """Return ``(x - mean) / sqrt(var + epsilon)`` over axes, with the biased variance."""
    mean = x.mean(axis=axes, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=axes, keepdims=True)
    return np.asarray((x - mean) / np.sqrt(variance + epsilon))
