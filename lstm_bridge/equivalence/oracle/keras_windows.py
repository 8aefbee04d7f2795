"""Keras's convolutions and pooling by their documentation. Source: keras 3.15.

Every function takes ``(options, params, x)``; the rank is that of the kernel or of the name.
Shape letters: N batch, L length, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lstm_bridge.equivalence.oracle.activations import ACTIVATIONS
from lstm_bridge.equivalence.oracle.around import (
    Array,
    convolved,
    padded,
    same_padding,
    sizes,
    to_last,
    to_second,
    windows,
)
from lstm_bridge.equivalence.oracle.lstm import Options, Params
from lstm_bridge.errors import UnsupportedError

Layer = Callable[..., Any]


def activated(o: Options, y: Array) -> Array:
    """Apply the activation that the options name."""
    name = o.get("activation") or "linear"
    if isinstance(name, dict):  # serialised as an object
        name = name.get("config", {}) if isinstance(name.get("config"), str) else name
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise UnsupportedError("oracle of keras", expected="a named activation", got=str(name))
    return np.asarray(ACTIVATIONS[name].f(y))


def channels_last(function: Layer) -> Layer:
    """Let a function over channels at the end do what ``data_format`` says."""

    def run(o: Options, p: Params, x: Array, *args: Any) -> Array:
        if o.get("data_format") != "channels_first":
            return np.asarray(function(o, p, x, *args))
        return to_second(function(o, p, to_last(x), *args))

    return run


def window_conv(o: Options, x: Array, kernel: Array, groups: int) -> Array:
    """Convolve as strides, dilation_rate and padding say."""
    rank = kernel.ndim - 2
    steps, apart = sizes(o.get("strides", 1), rank), sizes(o.get("dilation_rate", 1), rank)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel.shape, apart, strict=False)]
    padding = o.get("padding", "valid")
    axes = zip(x.shape[1:-1], reach, steps, strict=True)
    around = {
        "valid": [(0, 0)] * rank,
        "same": [same_padding(*axis) for axis in axes],
        "causal": [(r - 1, 0) for r in reach],
    }[padding]
    return convolved(padded(x, around), kernel, steps, apart, groups)


def _biased(p: Params, y: Array) -> Array:
    return y + p["bias"] if "bias" in p else y


def _conv(o: Options, p: Params, x: Array) -> Array:
    return activated(o, _biased(p, window_conv(o, x, p["kernel"], o.get("groups", 1))))


def _separable(o: Options, p: Params, x: Array) -> Array:
    depth = p["depthwise_kernel"]  # [K, C, multiplier]
    *K, C, multiplier = depth.shape
    y = window_conv(o, x, depth.reshape(*K, 1, C * multiplier), C)
    return activated(o, _biased(p, y @ p["pointwise_kernel"].reshape(C * multiplier, -1)))


def _pool(rank: int, average: bool) -> Layer:
    def pool(o: Options, p: Params, x: Array) -> Array:
        size = sizes(o.get("pool_size", 2), rank)
        stride = sizes(o.get("strides") or size, rank)
        around = [(0, 0)] * rank
        if o.get("padding", "valid") == "same":
            axes = zip(x.shape[1:-1], size, stride, strict=True)
            around = [same_padding(*axis) for axis in axes]
        if not average:
            return np.asarray(windows(padded(x, around, -np.inf), size, stride).max(axis=0))
        count = windows(padded(np.ones_like(x), around), size, stride).sum(axis=0)
        return np.asarray(windows(padded(x, around), size, stride).sum(axis=0) / count)

    return channels_last(pool)


def _global(rank: int, average: bool) -> Layer:
    def pool(o: Options, p: Params, x: Array, mask: Array | None = None) -> Array:
        first = o.get("data_format") == "channels_first"
        axes = tuple(range(2, 2 + rank)) if first else tuple(range(1, 1 + rank))
        keep = bool(o.get("keepdims", False))
        if average and mask is not None:
            valid = np.asarray(mask, x.dtype)
            valid = valid[:, None] if first else valid[..., None]
            total = (x * valid).sum(axis=axes, keepdims=keep)
            return np.asarray(total / valid.sum(axis=axes, keepdims=keep))
        return np.asarray((x.mean if average else x.max)(axis=axes, keepdims=keep))

    return pool


KERAS_WINDOWS: dict[str, Layer] = {
    "Conv1D": channels_last(_conv),
    "Conv2D": channels_last(_conv),
    "SeparableConv1D": channels_last(_separable),
    **{f"MaxPooling{n}D": _pool(n, average=False) for n in (1, 2)},
    **{f"AveragePooling{n}D": _pool(n, average=True) for n in (1, 2)},
    **{f"GlobalMaxPooling{n}D": _global(n, average=False) for n in (1, 2)},
    **{f"GlobalAveragePooling{n}D": _global(n, average=True) for n in (1, 2)},
}
"""Class name → function of options, parameters and x."""
