"""Functions of ``keras.ops`` in NumPy, as a saved model's graph names them. Source: keras 3.15.

Functions take keras.ops' arguments by keras.ops' names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lstm_bridge.equivalence.oracle.activations import ACTIVATIONS
from lstm_bridge.equivalence.oracle.around import Array

Operation = Callable[..., Any]


def _reduced(reduce: Callable[..., Any]) -> Operation:
    def run(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
        axes = tuple(axis) if isinstance(axis, list) else axis
        return np.asarray(reduce(x, axis=axes, keepdims=keepdims))

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


KERAS_OPERATIONS: dict[str, Operation] = {
    "NotEqual": np.not_equal,
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterEqual": np.greater_equal,
    "Less": np.less,
    "LessEqual": np.less_equal,
    "LogicalAnd": np.logical_and,
    "LogicalOr": np.logical_or,
    "LogicalNot": np.logical_not,
    "Where": np.where,
    "Any": _reduced(np.any),
    "All": _reduced(np.all),
    "Sum": _reduced(np.sum),
    "Mean": _reduced(np.mean),
    "Max": _reduced(np.max),
    "Min": _reduced(np.min),
    "ZerosLike": _like(np.zeros_like),
    "OnesLike": _like(np.ones_like),
    "Cast": lambda x, dtype: np.asarray(x).astype(_kind(dtype, np.asarray(x).dtype)),
    "ExpandDims": lambda x, axis: np.expand_dims(x, axis),
    "Squeeze": lambda x, axis=None: np.squeeze(x, axis),
    "Reshape": _reshape,
    "Transpose": lambda x, axes=None: np.transpose(x, axes),
    "Concatenate": lambda xs, axis=0: np.concatenate(list(xs), axis=axis),
    "Stack": lambda xs, axis=0: np.stack(list(xs), axis=axis),
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
