"""keras.layers around recurrent ones by their documentation. Source: keras 3.15.

Every function takes ``(options, params, x)`` and computes in the dtype of its arrays.
Shape letters: N batch, L length, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from lstm_bridge.equivalence.oracle.activations import ACTIVATIONS
from lstm_bridge.equivalence.oracle.around import (
    Array,
    convolved,
    normalized,
    padded,
    same_padding,
    windows,
)
from lstm_bridge.equivalence.oracle.lstm import Options, Params
from lstm_bridge.errors import UnsupportedError

Layer = Callable[..., Any]


def _activated(o: Options, y: Array) -> Array:
    name = o.get("activation") or "linear"
    if name not in ACTIVATIONS:
        raise UnsupportedError("oracle of keras", expected="a named activation", got=str(name))
    return np.asarray(ACTIVATIONS[name].f(y))


def _dense(o: Options, p: Params, x: Array) -> Array:
    y = x @ p["kernel"]
    return _activated(o, y + p["bias"] if "bias" in p else y)


def _embedding(o: Options, p: Params, x: Array) -> Array:
    return np.asarray(p["embeddings"][x.astype(np.int64)])


def _single(value: Any) -> int:
    return int(value[0] if isinstance(value, list | tuple) else value)


def _plain(o: Options) -> None:
    if o.get("data_format") == "channels_first":
        raise UnsupportedError(
            "oracle of keras", expected="channels_last", got="data_format='channels_first'"
        )


def _conv1d(o: Options, p: Params, x: Array) -> Array:
    _plain(o)
    stride, dilation = _single(o.get("strides", 1)), _single(o.get("dilation_rate", 1))
    reach = dilation * (len(p["kernel"]) - 1) + 1
    padding = o.get("padding", "valid")
    before, after = {
        "valid": (0, 0),
        "same": same_padding(x.shape[1], reach, stride),
        "causal": (reach - 1, 0),
    }[padding]
    y = convolved(padded(x, before, after), p["kernel"], stride, dilation, o.get("groups", 1))
    return _activated(o, y + p["bias"] if "bias" in p else y)


def _pool(average: bool) -> Layer:
    def pool(o: Options, p: Params, x: Array) -> Array:
        _plain(o)
        size = _single(o.get("pool_size", 2))
        stride = _single(o.get("strides") or size)
        same = o.get("padding", "valid") == "same"
        before, after = same_padding(x.shape[1], size, stride) if same else (0, 0)
        if not average:
            return np.asarray(windows(padded(x, before, after, -np.inf), size, stride).max(axis=2))
        count = windows(padded(np.ones_like(x), before, after), size, stride).sum(axis=2)
        return np.asarray(windows(padded(x, before, after), size, stride).sum(axis=2) / count)

    return pool


def _global(average: bool) -> Layer:
    def pool(o: Options, p: Params, x: Array, mask: Array | None = None) -> Array:
        _plain(o)
        keep = bool(o.get("keepdims", False))
        if average and mask is not None:
            valid = np.asarray(mask, x.dtype)[..., None]
            total = (x * valid).sum(axis=1, keepdims=keep)
            return np.asarray(total / valid.sum(axis=1, keepdims=keep))
        return np.asarray((x.mean if average else x.max)(axis=1, keepdims=keep))

    return pool


def _axes(o: Options, x: Array) -> tuple[int, ...]:
    axis = o.get("axis", -1)
    return tuple(a % x.ndim for a in (axis if isinstance(axis, list | tuple) else [axis]))


def _layer_norm(o: Options, p: Params, x: Array) -> Array:
    axes = _axes(o, x)
    shape = [size if k in axes else 1 for k, size in enumerate(x.shape)]
    if o.get("rms_scaling"):
        raise UnsupportedError("oracle of keras", expected="rms_scaling=False", got="True")
    y = normalized(x, axes, o.get("epsilon", 1e-3))
    y = y * p["gamma"].reshape(shape) if "gamma" in p else y
    return y + p["beta"].reshape(shape) if "beta" in p else y


def _batch_norm(o: Options, p: Params, x: Array) -> Array:
    (axis,) = _axes(o, x)
    shape = [size if k == axis else 1 for k, size in enumerate(x.shape)]
    full = {name: value.reshape(shape) for name, value in p.items()}
    y = (x - full["moving_mean"]) / np.sqrt(full["moving_variance"] + o.get("epsilon", 1e-3))
    y = y * full["gamma"] if "gamma" in p else y
    return np.asarray(y + full["beta"] if "beta" in p else y)


def _relu(o: Options, p: Params, x: Array) -> Array:
    threshold, top = o.get("threshold") or 0.0, o.get("max_value")
    slope = o.get("negative_slope") or 0.0
    y = np.where(x >= threshold, x, slope * (x - threshold))
    return np.asarray(y if top is None else np.minimum(y, top))


def _leaky(o: Options, p: Params, x: Array) -> Array:
    return np.where(x > 0, x, o.get("negative_slope", 0.3) * x)


def _elu(o: Options, p: Params, x: Array) -> Array:
    return np.where(x > 0, x, o.get("alpha", 1.0) * np.expm1(np.minimum(x, 0)))


def _softmax(o: Options, p: Params, x: Array) -> Array:
    (axis,) = _axes(o, x)
    return np.moveaxis(ACTIVATIONS["softmax"].f(np.moveaxis(x, axis, -1)), -1, axis)


def _rescaling(o: Options, p: Params, x: Array) -> Array:
    return np.asarray(x * o["scale"] + o.get("offset", 0.0))


def _same(o: Options, p: Params, x: Array) -> Array:
    return x


def _flatten(o: Options, p: Params, x: Array) -> Array:
    return x.reshape(len(x), -1)


def _reshape(o: Options, p: Params, x: Array) -> Array:
    return x.reshape(len(x), *o["target_shape"])


def _permute(o: Options, p: Params, x: Array) -> Array:
    return x.transpose(0, *o["dims"])


def _repeat(o: Options, p: Params, x: Array) -> Array:
    return np.repeat(x[:, None], o["n"], axis=1)


def _padding1d(o: Options, p: Params, x: Array) -> Array:
    around = o.get("padding", 1)
    return padded(x, *((around, around) if isinstance(around, int) else around))


def _cropping1d(o: Options, p: Params, x: Array) -> Array:
    around = o.get("cropping", 1)
    before, after = (around, around) if isinstance(around, int) else around
    return x[:, before : x.shape[1] - after]


def _upsampling1d(o: Options, p: Params, x: Array) -> Array:
    return np.repeat(x, o.get("size", 2), axis=1)


def _merge(f: Callable[[Array, Array], Array]) -> Layer:
    return lambda o, p, xs: reduce(f, xs)


def _average(o: Options, p: Params, xs: Sequence[Array]) -> Array:
    return np.asarray(reduce(np.add, xs) / len(xs))


def _concatenate(o: Options, p: Params, xs: Sequence[Array]) -> Array:
    return np.concatenate(list(xs), axis=o.get("axis", -1))


_BY_NAME: dict[str, Layer] = {
    "Dense": _dense,
    "Embedding": _embedding,
    "Conv1D": _conv1d,
    "MaxPooling1D": _pool(average=False),
    "AveragePooling1D": _pool(average=True),
    "GlobalMaxPooling1D": _global(average=False),
    "GlobalAveragePooling1D": _global(average=True),
    "LayerNormalization": _layer_norm,
    "BatchNormalization": _batch_norm,
    "Activation": lambda o, p, x: _activated(o, x),
    "ReLU": _relu,
    "LeakyReLU": _leaky,
    "ELU": _elu,
    "Softmax": _softmax,
    "Rescaling": _rescaling,
    "Dropout": _same,
    "SpatialDropout1D": _same,
    "GaussianDropout": _same,
    "GaussianNoise": _same,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Permute": _permute,
    "RepeatVector": _repeat,
    "ZeroPadding1D": _padding1d,
    "Cropping1D": _cropping1d,
    "UpSampling1D": _upsampling1d,
    "Add": _merge(np.add),
    "Multiply": _merge(np.multiply),
    "Maximum": _merge(np.maximum),
    "Minimum": _merge(np.minimum),
    "Subtract": _merge(np.subtract),
    "Average": _average,
    "Concatenate": _concatenate,
}

KERAS_LAYERS: dict[str, Layer] = {f"keras.layers.{name}": f for name, f in _BY_NAME.items()}
"""Class path → function of options, parameters and x."""
