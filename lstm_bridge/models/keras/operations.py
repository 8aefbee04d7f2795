"""Functions of ``keras.ops`` that stand in a Functional model's graph: masks and arithmetic.

Keras 3 writes into its files, beside the layers, every operation that made a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mlx.core as mx

from lstm_bridge.core.activations import exponential
from lstm_bridge.errors import UnsupportedError
from lstm_bridge.models.graph import Operation

_DTYPES = {
    "bool": mx.bool_, "int32": mx.int32, "int64": mx.int64, "float32": mx.float32,
    "float16": mx.float16, "bfloat16": mx.bfloat16, "uint8": mx.uint8,
}  # fmt: skip


def _dtype(name: Any) -> mx.Dtype:
    if name not in _DTYPES:
        raise UnsupportedError("dtype", expected=f"one of {', '.join(_DTYPES)}", got=repr(name))
    return _DTYPES[name]


def _like(make: Callable[[Any, mx.Dtype], mx.array]) -> Operation:
    return lambda x, dtype=None: make(x.shape, x.dtype if dtype is None else _dtype(dtype))


def _reduced(reduce: Callable[..., mx.array]) -> Operation:
    def run(x: mx.array, axis: Any = None, keepdims: bool = False) -> mx.array:
        return reduce(x, axis=list(axis) if isinstance(axis, tuple) else axis, keepdims=keepdims)

    return run


def _divide(x: Any, y: Any) -> mx.array:
    return mx.divide(x, y)


def _getitem(x: mx.array, key: Any) -> mx.array:
    return x[tuple(key) if isinstance(key, list) else key]


def _reshape(x: mx.array, newshape: Sequence[int]) -> mx.array:
    return x.reshape(tuple(-1 if n is None else n for n in newshape))


def _transpose(x: mx.array, axes: Sequence[int] | None = None) -> mx.array:
    return mx.transpose(x, axes)


def _concatenate(xs: Sequence[mx.array], axis: int = 0) -> mx.array:
    return mx.concatenate(list(xs), axis=axis)


def _stack(xs: Sequence[mx.array], axis: int = 0) -> mx.array:
    return mx.stack(list(xs), axis=axis)


_BY_CLASS: Mapping[str, Operation] = {
    "NotEqual": mx.not_equal,
    "Equal": mx.equal,
    "Greater": mx.greater,
    "GreaterEqual": mx.greater_equal,
    "Less": mx.less,
    "LessEqual": mx.less_equal,
    "LogicalAnd": mx.logical_and,
    "LogicalOr": mx.logical_or,
    "LogicalNot": mx.logical_not,
    "Where": mx.where,
    "Any": _reduced(mx.any),
    "All": _reduced(mx.all),
    "Sum": _reduced(mx.sum),
    "Mean": _reduced(mx.mean),
    "Max": _reduced(mx.max),
    "Min": _reduced(mx.min),
    "ZerosLike": _like(mx.zeros),
    "OnesLike": _like(mx.ones),
    "Cast": lambda x, dtype: x.astype(_dtype(dtype)),
    "ExpandDims": lambda x, axis: mx.expand_dims(x, axis),
    "Squeeze": lambda x, axis=None: mx.squeeze(x, axis),
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Concatenate": _concatenate,
    "Stack": _stack,
    "GetItem": _getitem,
    "Add": mx.add,
    "Subtract": mx.subtract,
    "Multiply": mx.multiply,
    "Divide": _divide,
    "TrueDivide": _divide,
    "Negative": mx.negative,
    "Abs": mx.abs,
    "Absolute": mx.abs,
    "Square": mx.square,
    "Sqrt": mx.sqrt,
    "Exp": exponential,
    "Log": mx.log,
    "Maximum": mx.maximum,
    "Minimum": mx.minimum,
    "Matmul": mx.matmul,
    "Tanh": mx.tanh,
    "Sigmoid": mx.sigmoid,
}

KERAS_OPERATIONS: dict[str, Operation] = {f"keras.{k}": v for k, v in _BY_CLASS.items()}
"""Function name in a graph → function."""


def inferred_shape(operation: Operation, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """Return the shape of what an operation returns; None where it hangs on an open size.

    Args:
        operation: the function.
        args: its arguments, with an object that has a ``shape`` for each array.
        kwargs: likewise.
    """
    found = [
        tuple(operation(*_filled(args, size), **_filled(dict(kwargs), size)).shape)
        for size in (7, 11)
    ]
    return tuple(a if a == b else None for a, b in zip(*found, strict=True))


def _filled(value: Any, size: int) -> Any:
    if hasattr(value, "shape"):
        return mx.zeros([size if n is None else n for n in value.shape])
    if isinstance(value, list | tuple):
        return type(value)(_filled(v, size) for v in value)
    if isinstance(value, Mapping):
        return {k: _filled(v, size) for k, v in value.items()}
    return value
