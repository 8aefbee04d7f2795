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
from lstm_bridge.equivalence.oracle.around import Array, normalized, padded
from lstm_bridge.equivalence.oracle.keras_attention import KERAS_ATTENTION
from lstm_bridge.equivalence.oracle.keras_windows import KERAS_WINDOWS, activated
from lstm_bridge.equivalence.oracle.lstm import Options, Params
from lstm_bridge.errors import UnsupportedError

Layer = Callable[..., Any]


def _dense(o: Options, p: Params, x: Array) -> Array:
    y = x @ p["kernel"]
    return activated(o, y + p["bias"] if "bias" in p else y)


def _embedding(o: Options, p: Params, x: Array) -> Array:
    return np.asarray(p["embeddings"][x.astype(np.int64)])


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
    return np.asarray(x * np.asarray(o["scale"], x.dtype) + np.asarray(o.get("offset", 0), x.dtype))


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
    return padded(x, [(around, around) if isinstance(around, int) else tuple(around)])


def _cropping1d(o: Options, p: Params, x: Array) -> Array:
    around = o.get("cropping", 1)
    before, after = (around, around) if isinstance(around, int) else around
    return x[:, before : x.shape[1] - after]


def _upsampling1d(o: Options, p: Params, x: Array) -> Array:
    return np.repeat(x, o.get("size", 2), axis=1)


def _normalization(o: Options, p: Params, x: Array) -> Array:
    """Moments as weights along ``axis``, or given as options."""
    axis = o.get("axis", -1)
    axes = [] if axis is None else _axes(o, x)
    shape = [size if k in axes else 1 for k, size in enumerate(x.shape)]
    mean, variance = (
        np.asarray(p[n] if n in p else o[n], x.dtype).reshape(shape) for n in ("mean", "variance")
    )
    deviation = np.maximum(np.sqrt(variance), 1e-7)
    return np.asarray(mean + x * deviation if o.get("invert") else (x - mean) / deviation)


def _unit_length(x: Array, axes: tuple[int, ...]) -> Array:
    squares = (x * x).sum(axis=axes, keepdims=True)
    return np.asarray(x / np.sqrt(np.maximum(squares, 1e-12)))


def _unit_normalization(o: Options, p: Params, x: Array) -> Array:
    return _unit_length(x, _axes(o, x))


def _prelu(o: Options, p: Params, x: Array) -> Array:
    return np.where(x > 0, x, p["alpha"] * x)


def _masking(o: Options, p: Params, x: Array) -> Array:
    valid = (x != o.get("mask_value", 0.0)).any(axis=-1, keepdims=True)
    return np.where(valid, x, np.zeros_like(x))


def _dot(o: Options, p: Params, xs: Sequence[Array]) -> Array:
    """Products along an axis of each, row by row."""
    a, b = xs
    axes = o["axes"]
    given = [axes, axes] if isinstance(axes, int) else axes
    i, j = (k % x.ndim for k, x in zip(given, xs, strict=True))
    if o.get("normalize"):
        a, b = _unit_length(a, (i,)), _unit_length(b, (j,))
    rows = [np.tensordot(u, v, axes=(i - 1, j - 1)) for u, v in zip(a, b, strict=True)]
    made = np.stack(rows)
    return made[:, None] if made.ndim == 1 else made


def _merge(f: Callable[[Array, Array], Array]) -> Layer:
    return lambda o, p, xs: reduce(f, xs)


def _average(o: Options, p: Params, xs: Sequence[Array]) -> Array:
    return np.asarray(reduce(np.add, xs) / len(xs))


def _concatenate(o: Options, p: Params, xs: Sequence[Array]) -> Array:
    return np.concatenate(list(xs), axis=o.get("axis", -1))


_BY_NAME: dict[str, Layer] = {
    **KERAS_WINDOWS,
    **KERAS_ATTENTION,
    "Dense": _dense,
    "Embedding": _embedding,
    "LayerNormalization": _layer_norm,
    "BatchNormalization": _batch_norm,
    "Activation": lambda o, p, x: activated(o, x),
    "ReLU": _relu,
    "LeakyReLU": _leaky,
    "ELU": _elu,
    "Softmax": _softmax,
    "Rescaling": _rescaling,
    "Normalization": _normalization,
    "UnitNormalization": _unit_normalization,
    "PReLU": _prelu,
    "Masking": _masking,
    "ActivityRegularization": _same,
    "AlphaDropout": _same,
    "Dot": _dot,
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

_OLDER = ("Add", "Average", "Concatenate", "Maximum", "Minimum", "Multiply", "Subtract")

KERAS_LAYERS: dict[str, Layer] = {
    **{f"keras.layers.{name}": f for name, f in _BY_NAME.items()},
    **{f"models.keras.older.{name}": _BY_NAME[name] for name in _OLDER},
}
"""Class path → function of options, parameters and x."""
