"""Sizes of arrays as values of a Keras graph: ``tf.shape(x)[0]`` and what is computed from it.

They are NumPy integers, known before anything runs, so that shapes can be made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx
import numpy as np

from lstm_bridge.models.graph import Operation


class Sizes:
    """Numbers that hang on open sizes, where only shapes are known: one for each of two sizes.

    Args:
        values: the numbers, by the size that open sizes are taken to have.
    """

    def __init__(self, values: Mapping[int, Any]) -> None:
        self.values = dict(values)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the numbers."""
        return np.shape(next(iter(self.values.values())))


def holds(kinds: Any, value: Any) -> bool:
    """Say whether a nest has a member of these classes."""
    if isinstance(value, list | tuple):
        return any(holds(kinds, v) for v in value)
    if isinstance(value, Mapping):
        return any(holds(kinds, v) for v in value.values())
    if isinstance(value, slice):
        return holds(kinds, [value.start, value.stop, value.step])
    return isinstance(value, kinds)


_NUMBERS = (np.ndarray, np.generic)


def _getitem(x: Any, key: Any) -> Any:
    return x[tuple(key) if isinstance(key, list) else key]


def _cast(x: Any, dtype: str) -> Any:
    return np.asarray(x).astype("float32" if dtype == "bfloat16" else dtype)[()]


def _squeezed(x: Any, axis: Any = None) -> Any:
    return np.squeeze(x, tuple(axis) if isinstance(axis, list) else axis)


def _reduced(reduce: Callable[..., Any]) -> Operation:
    def run(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
        along = tuple(axis) if isinstance(axis, list) else axis
        return reduce(np.asarray(x), axis=along, keepdims=keepdims)

    return run


_ON_SIZES: Mapping[str, Operation] = {
    "Absolute": np.absolute,
    "Add": np.add,
    "Cast": _cast,
    "Concatenate": lambda xs, axis=0: np.concatenate(list(xs), axis),
    "Copy": lambda x: x,
    "ExpandDims": lambda x, axis: np.expand_dims(x, axis),
    "FloorDivide": np.floor_divide,
    "GetItem": _getitem,
    "Max": _reduced(np.max),
    "Maximum": np.maximum,
    "Min": _reduced(np.min),
    "Minimum": np.minimum,
    "Mod": np.mod,
    "Multiply": np.multiply,
    "Negative": np.negative,
    "Prod": _reduced(np.prod),
    "Reshape": lambda x, newshape: np.reshape(x, newshape),
    "Sqrt": np.sqrt,
    "Squeeze": _squeezed,
    "Stack": lambda x, axis=0: np.stack(list(x), axis),
    "StopGradient": lambda variable: variable,
    "Subtract": np.subtract,
    "Sum": _reduced(np.sum),
    "Take": lambda x, indices, axis=None: np.take(x, indices, axis),
    "TrueDivide": lambda x, y: np.true_divide(x, y, dtype=np.float32),
    "Unstack": lambda x, num=None, axis=0: list(np.moveaxis(x, axis, 0)),
}
"""Operation → the same on numbers alone, whose result is again a size."""


def on_sizes(name: str, operation: Operation) -> Operation:
    """Return an operation that takes sizes, too: alone where it can, else beside arrays."""
    alone = _ON_SIZES.get(name)

    def run(*args: Any, **kwargs: Any) -> Any:
        if not holds(_NUMBERS, [args, kwargs]):
            return operation(*args, **kwargs)
        if alone is not None and not holds(mx.array, [args, kwargs]):
            return alone(*args, **kwargs)
        return operation(*_plain(args), **_plain(kwargs))

    return run


def _plain(value: Any) -> Any:
    """The same with Python's numbers, which take the dtype of the arrays they meet."""
    if isinstance(value, list | tuple):
        return type(value)(_plain(v) for v in value)
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, slice):
        return slice(*_plain([value.start, value.stop, value.step]))
    return value.tolist() if isinstance(value, _NUMBERS) else value


def shape_of(x: mx.array, dtype: Any = None) -> np.ndarray:
    """Return the sizes of an array."""
    return np.array(x.shape, np.int64)


def whole(shape: Any) -> tuple[int, ...]:
    """Return a shape as integers; None, as configs write an open size, as -1."""
    listed = shape if isinstance(shape, list | tuple) else [shape]
    return tuple(-1 if n is None else int(n) for n in listed)
