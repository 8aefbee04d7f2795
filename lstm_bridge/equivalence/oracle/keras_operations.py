"""Functions of ``keras.ops`` in NumPy, as a saved model's graph names them. Source: keras 3.15.

Functions take keras.ops' arguments by keras.ops' names.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from lstm_bridge.equivalence.oracle.activations import ACTIVATIONS
from lstm_bridge.equivalence.oracle.around import Array
from lstm_bridge.equivalence.oracle.torch_functional import SIMPLE
from lstm_bridge.equivalence.oracle.torch_tensor import TENSOR
from lstm_bridge.errors import UnsupportedError

Operation = Callable[..., Any]


def _reduced(reduce: Callable[..., Any]) -> Operation:
    def run(x: Array, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> Array:
        return np.asarray(reduce(x, axis=_axes(axis), keepdims=keepdims))

    return run


def _like(make: Callable[..., Any]) -> Operation:
    return lambda x, dtype=None: make(x, dtype=_kind(dtype, x.dtype))


def _kind(name: Any, own: Any) -> Any:
    """The dtype of a name; floats stay as wide as the oracle computes."""
    if name is None:
        return own
    floating = str(name).startswith(("float", "bfloat"))
    if floating:
        return own if np.issubdtype(own, np.floating) else np.float64
    return np.dtype(str(name))


def _getitem(x: Array, key: Any) -> Any:
    return x[tuple(key) if isinstance(key, list) else key]


def _reshape(x: Array, newshape: Any) -> Array:
    return x.reshape([-1 if n is None else n for n in newshape])


def _axes(axis: Any) -> Any:
    return tuple(axis) if isinstance(axis, list) else axis


def _along(name: str) -> Operation:
    def run(x: Array, axis: Any = -1) -> Array:
        if isinstance(axis, list | tuple):
            e = np.exp(x - x.max(axis=_axes(axis), keepdims=True))
            return np.asarray(e / e.sum(axis=_axes(axis), keepdims=True))
        return np.moveaxis(ACTIVATIONS[name].f(np.moveaxis(x, axis, -1)), -1, axis)

    return run


def _logsumexp(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    top = x.max(axis=_axes(axis), keepdims=True)
    made = top + np.log(np.exp(x - top).sum(axis=_axes(axis), keepdims=True))
    return np.asarray(made if keepdims else made.squeeze(_axes(axis)))


def _one_hot(
    x: Array, num_classes: int, axis: int = -1, dtype: Any = None, sparse: bool = False
) -> Array:
    found = np.asarray(x)[..., None] == np.arange(num_classes)
    return np.moveaxis(found.astype(_kind(dtype or "float32", found.dtype)), -1, axis)


def _normalize(x: Array, axis: Any = -1, order: Any = 2, epsilon: Any = None) -> Array:
    if order != 2:
        raise UnsupportedError("oracle of Normalize", expected="order 2", got=repr(order))
    squares = (x * x).sum(axis=_axes(axis), keepdims=True)
    return np.asarray(x / np.sqrt(np.maximum(squares, (epsilon or 1e-7) ** 2)))


def _norm(x: Array, axis: Any = None, keepdims: bool = False, ord: Any = None) -> Array:  # noqa: A002
    return np.asarray(np.sqrt((x * x).sum(axis=_axes(axis), keepdims=keepdims)))


def _pad(
    x: Array, constant_values: Any = None, pad_width: Any = 0, mode: str = "constant"
) -> Array:
    if mode != "constant":
        kind: Any = mode
        return np.asarray(np.pad(x, pad_width, mode=kind))
    return np.pad(x, pad_width, constant_values=constant_values or 0)


def _arg(find: Callable[..., Any]) -> Operation:
    return lambda x, axis=None, keepdims=False: find(x, axis=axis, keepdims=keepdims)


def _typed(run: Callable[..., Any]) -> Operation:
    return lambda x, axis=None, dtype=None: run(x, axis=axis)


def _cast(x: Any, dtype: Any = None, **_: Any) -> Array:
    array = np.asarray(x)
    return array.astype(_kind(dtype, array.dtype))


def constant(value: Any, dtype: str) -> Array:
    """Return an array that stands in a graph."""
    array = np.asarray(value)
    return array.astype(_kind(dtype, array.dtype))


def _leaky(x: Array, negative_slope: float = 0.2) -> Array:
    return np.where(x > 0, x, negative_slope * x)


def _gelu(x: Array, approximate: bool = True) -> Array:
    return SIMPLE["gelu"](x, "tanh" if approximate else "none")  # type: ignore[no-any-return]


def _glu(x: Array, axis: int = -1) -> Array:
    return SIMPLE["glu"](x, axis)  # type: ignore[no-any-return]


def _relu(
    x: Array, negative_slope: float = 0.0, max_value: Any = None, threshold: float = 0.0
) -> Array:
    y = np.where(x >= threshold, x, negative_slope * (x - threshold))
    return np.asarray(y if max_value is None else np.minimum(y, max_value))


def _sparsemax(x: Array, axis: int = -1) -> Array:
    z = np.moveaxis(x, axis, -1)
    ordered = -np.sort(-z, axis=-1)
    total = np.cumsum(ordered, axis=-1)
    count = np.arange(1, z.shape[-1] + 1)
    support = (1 + count * ordered > total).sum(axis=-1, keepdims=True)
    tau = (np.take_along_axis(total, support - 1, -1) - 1) / support
    return np.moveaxis(np.maximum(z - tau, 0), -1, axis)


def _plain(name: str) -> Operation:
    return lambda x: ACTIVATIONS[name].f(x)


def _range(start: Any, limit: Any = None, delta: Any = 1, dtype: Any = None) -> Array:
    made = np.arange(start, step=delta) if limit is None else np.arange(start, limit, delta)
    return made.astype(_kind(dtype, made.dtype))


def _cosine(arrays: Any) -> Array:
    x, y = arrays
    lengths = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    return np.asarray(((x * y).sum(axis=1) / np.maximum(lengths, 1e-7)).reshape(-1, 1, 1))


_ACTIVATIONS = (
    *("HardSigmoid", "HardSilu", "HardSwish", "HardTanh", "LogSigmoid", "Mish", "Relu6", "Selu"),
    *("Silu", "Swish", "Softplus", "Softsign", "SparsePlus", "SparseSigmoid", "Squareplus"),
    "TanhShrink",
)

_MORE: dict[str, Operation] = {
    "Amax": _reduced(np.max),
    "Amin": _reduced(np.min),
    "Prod": _reduced(np.prod),
    "Var": _reduced(np.var),
    "Std": _reduced(np.std),
    "Logsumexp": _logsumexp,
    "Argmax": _arg(np.argmax),
    "Argmin": _arg(np.argmin),
    "Cumsum": _typed(np.cumsum),
    "Cumprod": _typed(np.cumprod),
    "Norm": _norm,
    "Normalize": _normalize,
    "FullLike": lambda x, fill_value, dtype=None: np.full(
        x.shape, fill_value, _kind(dtype, x.dtype)
    ),
    "ConvertToTensor": _cast,
    "Shape": lambda x, dtype=None: np.array(x.shape),
    "Size": lambda x, dtype=None: np.array(x.size),
    "Zeros": lambda shape, dtype="float32": np.zeros(shape, _kind(dtype, np.dtype(float))),
    "Ones": lambda shape, dtype="float32": np.ones(shape, _kind(dtype, np.dtype(float))),
    "Full": lambda shape, value, dtype=None: np.full(shape, value),
    "Range": _range,
    "Slice": lambda x, begin, size: x[
        tuple(slice(b, None if n == -1 else b + n) for b, n in zip(begin, size, strict=True))
    ],
    "SequenceMask": lambda lengths, maxlen, dtype="bool": (
        np.arange(maxlen) < np.asarray(lengths)[..., None]
    ).astype(_kind(dtype, np.dtype(bool))),
    "StopGradient": lambda variable: variable,
    "Copy": lambda x: x[...],
    "Ravel": lambda x: x.reshape(-1),
    "Swapaxes": lambda x, axis1, axis2: np.swapaxes(x, axis1, axis2),
    "Moveaxis": lambda x, source, destination: np.moveaxis(x, source, destination),
    "BroadcastTo": lambda x, shape: np.broadcast_to(x, shape),
    "Flip": lambda x, axis=None: np.flip(x, _axes(axis)),
    "Roll": lambda x, shift, axis=None: np.roll(x, shift, _axes(axis)),
    "Repeat": lambda x, repeats, axis=None: np.repeat(x, repeats, axis),
    "Tile": lambda x, repeats: np.tile(x, repeats),
    "Pad": _pad,
    "Split": lambda x, indices_or_sections, axis=0: np.split(x, indices_or_sections, axis=axis),
    "Unstack": lambda x, num=None, axis=0: list(np.moveaxis(x, axis, 0)),
    "Take": lambda x, indices, axis=None: np.take(x, np.asarray(indices, np.int64), axis=axis),
    "TakeAlongAxis": lambda x, indices, axis=None: np.take_along_axis(
        x, np.asarray(indices, np.int64), axis
    ),
    "OneHot": _one_hot,
    "Tril": lambda x, k=0: np.tril(x, k),
    "Triu": lambda x, k=0: np.triu(x, k),
    "FloorDivide": np.floor_divide,
    "Mod": np.mod,
    "Power": np.power,
    "Sign": np.sign,
    "Rsqrt": lambda x: 1 / np.sqrt(x),
    "Reciprocal": lambda x: 1 / x,
    "Expm1": np.expm1,
    "Log1p": np.log1p,
    "Erf": TENSOR["erf"],
    "Sin": np.sin,
    "Cos": np.cos,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Round": lambda x, decimals=0: np.round(x, decimals),
    "Clip": lambda x, x_min, x_max: np.clip(x, x_min, x_max),
    "Dot": np.dot,
    "CosineMerge": _cosine,
    "Einsum": lambda *operands, subscripts: np.einsum(subscripts, *operands),
    "Softmax": _along("softmax"),
    "LogSoftmax": _along("log_softmax"),
    "Sparsemax": _sparsemax,
    "Celu": lambda x, alpha=1.0: SIMPLE["celu"](x, alpha),
    "Elu": lambda x, alpha=1.0: SIMPLE["elu"](x, alpha),
    "Gelu": _gelu,
    "Glu": _glu,
    "HardShrink": lambda x, threshold=0.5: SIMPLE["hardshrink"](x, threshold),
    "SoftShrink": lambda x, threshold=0.5: SIMPLE["softshrink"](x, threshold),
    "LeakyRelu": _leaky,
    "Relu": _relu,
    "Threshold": lambda x, threshold, value: SIMPLE["threshold"](x, threshold, value),
    **{name: _plain(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()) for name in _ACTIVATIONS},
}
"""What may be applied to what a layer returned, beyond what masks are made of."""

KERAS_OPERATIONS: dict[str, Operation] = {
    **_MORE,
    "NotEqual": np.not_equal,
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterEqual": np.greater_equal,
    "Less": np.less,
    "LessEqual": np.less_equal,
    "LogicalAnd": np.logical_and,
    "LogicalOr": np.logical_or,
    "LogicalNot": np.logical_not,
    "Where": lambda condition, x1, x2: np.where(condition, x1, x2),
    "Any": _reduced(np.any),
    "All": _reduced(np.all),
    "Sum": _reduced(np.sum),
    "Mean": _reduced(np.mean),
    "Max": _reduced(np.max),
    "Min": _reduced(np.min),
    "ZerosLike": _like(np.zeros_like),
    "OnesLike": _like(np.ones_like),
    "Cast": _cast,
    "ExpandDims": lambda x, axis: np.expand_dims(x, axis),
    "Squeeze": lambda x, axis=None: np.squeeze(x, axis),
    "Reshape": _reshape,
    "Transpose": lambda x, axes=None: np.transpose(x, axes),
    "Concatenate": lambda xs, axis=0: np.concatenate(list(xs), axis=axis),
    "Stack": lambda x, axis=0: np.stack(list(x), axis=axis),
    "GetItem": _getitem,
    "Add": np.add,
    "Subtract": np.subtract,
    "Multiply": np.multiply,
    "Divide": np.divide,
    "TrueDivide": np.divide,
    "Negative": np.negative,
    "Abs": np.abs,
    "Absolute": np.abs,
    "Square": np.square,
    "Sqrt": np.sqrt,
    "Exp": np.exp,
    "Log": np.log,
    "Maximum": np.maximum,
    "Minimum": np.minimum,
    "Matmul": np.matmul,
    "Tanh": np.tanh,
    "Sigmoid": ACTIVATIONS["sigmoid"].f,
}
"""Class name of an operation → function."""
