"""torch.nn's layers around recurrent ones by their documentation. Source: torch 2.13.

Every function takes ``(options, params, x)`` and computes in the dtype of its arrays.
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
    normalized,
    padded,
    same_padding,
    windows,
)
from lstm_bridge.equivalence.oracle.lstm import Options, Params
from lstm_bridge.errors import UnsupportedError

Layer = Callable[..., Any]


def _linear(o: Options, p: Params, x: Array) -> Array:
    y = x @ p["weight"].T
    return y + p["bias"] if "bias" in p else y


def _embedding(o: Options, p: Params, x: Array) -> Array:
    if o.get("max_norm") is not None:
        raise UnsupportedError("oracle of torch.nn.Embedding", expected="no max_norm", got="one")
    return np.asarray(p["weight"][x.astype(np.int64)])


def _single(value: Any) -> int:
    return int(value[0] if isinstance(value, list | tuple) else value)


def _conv1d(o: Options, p: Params, x: Array) -> Array:
    stride, dilation = _single(o.get("stride", 1)), _single(o.get("dilation", 1))
    kernel = p["weight"].transpose(2, 1, 0)
    if o.get("padding_mode", "zeros") != "zeros":
        raise UnsupportedError("oracle of torch.nn.Conv1d", expected="zeros", got="padding_mode")
    padding = o.get("padding", 0)
    if padding == "same":
        before, after = same_padding(x.shape[2], dilation * (len(kernel) - 1) + 1, 1)
    else:
        before = after = 0 if padding == "valid" else _single(padding)
    y = convolved(
        padded(x.swapaxes(1, 2), before, after), kernel, stride, dilation, o.get("groups", 1)
    )
    return np.asarray((y + p["bias"] if "bias" in p else y).swapaxes(1, 2))


def _pool(reduce: Callable[[Array, int, int], Array], fill: float) -> Layer:
    def pool(o: Options, p: Params, x: Array) -> Array:
        size = _single(o["kernel_size"])
        stride = _single(o.get("stride") or size)
        around = _single(o.get("padding", 0))
        odd = o.get("ceil_mode") or _single(o.get("dilation", 1)) != 1
        if odd or o.get("return_indices") or o.get("count_include_pad") is False:
            raise UnsupportedError(
                "oracle of torch pooling", expected="plain windows", got="another option"
            )
        cut = windows(padded(x.swapaxes(1, 2), around, around, fill), size, stride)
        return np.asarray(reduce(cut, 2, size).swapaxes(1, 2))

    return pool


def _scaled(p: Params, y: Array) -> Array:
    y = y * p["weight"] if "weight" in p else y
    return y + p["bias"] if "bias" in p else y


def _layer_norm(o: Options, p: Params, x: Array) -> Array:
    shape = o["normalized_shape"]
    count = 1 if isinstance(shape, int) else len(shape)
    return _scaled(p, normalized(x, tuple(range(x.ndim - count, x.ndim)), o.get("eps", 1e-5)))


def _batch_norm(o: Options, p: Params, x: Array) -> Array:
    moved = x if x.ndim == 2 else x.swapaxes(1, 2)
    if "running_mean" in p:
        y = (moved - p["running_mean"]) / np.sqrt(p["running_var"] + o.get("eps", 1e-5))
    else:
        y = normalized(moved, tuple(range(moved.ndim - 1)), o.get("eps", 1e-5))
    y = _scaled(p, y)
    return np.asarray(y if x.ndim == 2 else y.swapaxes(1, 2))


def _group_norm(o: Options, p: Params, x: Array) -> Array:
    grouped = x.reshape(len(x), o["num_groups"], -1)
    y = normalized(grouped, (2,), o.get("eps", 1e-5)).reshape(x.shape)
    return np.asarray(_scaled(p, y.swapaxes(1, -1)).swapaxes(1, -1))


def _rms_norm(o: Options, p: Params, x: Array) -> Array:
    shape = o["normalized_shape"]
    count = 1 if isinstance(shape, int) else len(shape)
    epsilon = o.get("eps")
    axes = tuple(range(x.ndim - count, x.ndim))
    mean = (x * x).mean(axis=axes, keepdims=True)
    return _scaled(p, x / np.sqrt(mean + (2.0**-23 if epsilon is None else epsilon)))


def _activation(name: str) -> Layer:
    return lambda o, p, x: ACTIVATIONS[name].f(x)


def _leaky(o: Options, p: Params, x: Array) -> Array:
    return np.where(x > 0, x, o.get("negative_slope", 0.01) * x)


def _elu(o: Options, p: Params, x: Array) -> Array:
    return np.where(x > 0, x, o.get("alpha", 1.0) * np.expm1(np.minimum(x, 0)))


def _gelu(o: Options, p: Params, x: Array) -> Array:
    if o.get("approximate", "none") == "none":
        return np.asarray(ACTIVATIONS["gelu"].f(x))
    inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    return np.asarray(0.5 * x * (1 + np.tanh(inner)))


def _softmax(o: Options, p: Params, x: Array) -> Array:
    axis = o["dim"]
    return np.moveaxis(ACTIVATIONS["softmax"].f(np.moveaxis(x, axis, -1)), -1, axis)


def _flatten(o: Options, p: Params, x: Array) -> Array:
    start, end = o.get("start_dim", 1) % x.ndim, o.get("end_dim", -1) % x.ndim
    return x.reshape(*x.shape[:start], -1, *x.shape[end + 1 :])


def _same(o: Options, p: Params, x: Array) -> Array:
    return x


_BY_NAME: dict[str, Layer] = {
    "Linear": _linear,
    "Embedding": _embedding,
    "Conv1d": _conv1d,
    "MaxPool1d": _pool(lambda cut, axis, size: cut.max(axis=axis), -np.inf),
    "AvgPool1d": _pool(lambda cut, axis, size: cut.sum(axis=axis) / size, 0.0),
    "LayerNorm": _layer_norm,
    "BatchNorm1d": _batch_norm,
    "GroupNorm": _group_norm,
    "RMSNorm": _rms_norm,
    "ReLU": _activation("relu"),
    "ReLU6": _activation("relu6"),
    "Tanh": _activation("tanh"),
    "Sigmoid": _activation("sigmoid"),
    "SiLU": _activation("silu"),
    "Mish": _activation("mish"),
    "SELU": _activation("selu"),
    "Softsign": _activation("softsign"),
    "Tanhshrink": _activation("tanh_shrink"),
    "LogSigmoid": _activation("log_sigmoid"),
    "Hardsigmoid": _activation("hard_sigmoid"),
    "Hardswish": _activation("hard_swish"),
    "LeakyReLU": _leaky,
    "ELU": _elu,
    "GELU": _gelu,
    "Softmax": _softmax,
    "Flatten": _flatten,
    "Identity": _same,
    "Dropout": _same,
}

TORCH_LAYERS: dict[str, Layer] = {f"torch.nn.{name}": f for name, f in _BY_NAME.items()}
"""Class path → function of options, parameters and x."""
