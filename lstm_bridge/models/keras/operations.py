"""Functions of ``keras.ops`` that stand in a Functional model's graph: masks and arithmetic.

Keras 3 writes into its files, beside the layers, every operation that made a mask, and every
operator or function that was applied to what a layer returned. Each function here takes the
arguments of the class that Keras writes: those of its call, then those of its constructor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mlx.core as mx

from lstm_bridge.core.activations import ACTIVATIONS, gelu
from lstm_bridge.core.activations import get as activation
from lstm_bridge.core.exponentials import erf, exponential
from lstm_bridge.core.normal import softmax
from lstm_bridge.core.products import einsum, matmul
from lstm_bridge.errors import ShapeError, UnsupportedError
from lstm_bridge.models.graph import Operation
from lstm_bridge.models.keras.nest import in_order
from lstm_bridge.models.keras.sizes import Sizes, on_sizes, shape_of, whole

_DTYPES = {
    "bool": mx.bool_, "int8": mx.int8, "int16": mx.int16, "int32": mx.int32, "int64": mx.int64,
    "uint8": mx.uint8, "uint32": mx.uint32, "float32": mx.float32, "float16": mx.float16,
    "bfloat16": mx.bfloat16,
}  # fmt: skip


def _dtype(name: Any) -> mx.Dtype:
    if name not in _DTYPES:
        raise UnsupportedError("dtype", expected=f"one of {', '.join(_DTYPES)}", got=repr(name))
    return _DTYPES[name]


def constant(value: Any, dtype: str) -> mx.array:
    """Return an array that stands in a graph; float64, as NumPy makes it, counts as float32."""
    return mx.array(value, dtype=_dtype("float32" if dtype == "float64" else dtype))


def _axes(axis: Any) -> Any:
    return list(axis) if isinstance(axis, tuple) else axis


def _like(make: Callable[[Any, mx.Dtype], mx.array]) -> Operation:
    return lambda x, dtype=None: make(x.shape, x.dtype if dtype is None else _dtype(dtype))


def _reduced(reduce: Callable[..., mx.array]) -> Operation:
    def run(x: mx.array, axis: Any = None, keepdims: bool = False, dtype: Any = None) -> mx.array:
        x = x if dtype is None else x.astype(_dtype(dtype))
        return reduce(x, axis=_axes(axis), keepdims=keepdims)

    return run


def _arg(reduce: Callable[..., mx.array]) -> Operation:
    def run(x: mx.array, axis: int | None = None, keepdims: bool = False) -> mx.array:
        return reduce(x, axis=axis, keepdims=keepdims).astype(mx.int32)

    return run


def _getitem(x: mx.array, key: Any) -> mx.array:
    return x[tuple(key) if isinstance(key, list) else key]


def _reshape(x: mx.array, newshape: Sequence[int]) -> mx.array:
    return x.reshape(whole(newshape))


def _full(shape: Any, value: Any, dtype: Any = None) -> mx.array:
    kind = None if dtype is None else _dtype(dtype)
    whole_number = isinstance(value, int) and not isinstance(value, bool)
    return mx.full(whole(shape), value, mx.int32 if kind is None and whole_number else kind)


def _range(start: Any, limit: Any = None, delta: Any = 1, dtype: Any = None) -> mx.array:
    start, limit = (0, start) if limit is None else (start, limit)
    return mx.arange(start, limit, delta, None if dtype is None else _dtype(dtype))


def _slice(x: mx.array, begin: Sequence[int], size: Sequence[int]) -> mx.array:
    pairs = zip(whole(begin), whole(size), strict=True)
    return x[tuple(slice(b, None if n == -1 else b + n) for b, n in pairs)]


def _sequence_mask(lengths: mx.array, maxlen: int, dtype: Any = "bool") -> mx.array:
    return (mx.arange(maxlen) < lengths[..., None]).astype(_dtype(dtype))


def _where(condition: Any, x1: Any = None, x2: Any = None) -> mx.array:
    return mx.where(mx.array(condition).astype(mx.bool_), x1, x2)


def _split(x: mx.array, indices_or_sections: Any, axis: int = 0) -> list[mx.array]:
    return list(mx.split(x, indices_or_sections, axis=axis))


def _unstack(x: mx.array, num: int | None = None, axis: int = 0) -> list[mx.array]:
    return [mx.squeeze(part, axis) for part in mx.split(x, x.shape[axis], axis=axis)]


def _flip(x: mx.array, axis: Any = None) -> mx.array:
    axes = range(x.ndim) if axis is None else axis if isinstance(axis, list | tuple) else [axis]
    turned = {a % x.ndim for a in axes}
    return x[tuple(slice(None, None, -1 if a in turned else 1) for a in range(x.ndim))]


def _softmax(x: mx.array, axis: Any = -1) -> mx.array:
    return mx.softmax(x) if axis is None else softmax(x, axis)


def _log_softmax(x: mx.array, axis: Any = -1) -> mx.array:
    return x - mx.logsumexp(x, axis=_axes(axis), keepdims=True)


def _clip(x: mx.array, x_min: Any, x_max: Any) -> mx.array:
    return mx.clip(x, x_min, x_max)


def _one_hot(
    x: mx.array, num_classes: int, axis: int = -1, dtype: Any = None, sparse: bool = False
) -> mx.array:
    found = x.astype(mx.int32)[..., None] == mx.arange(num_classes)
    found = found.astype(_dtype(dtype or "float32"))
    return mx.moveaxis(found, -1, axis)


def _norm(x: mx.array, axis: Any = None, keepdims: bool = False, **options: Any) -> mx.array:
    if options.get("ord") not in (None, 2, "euclidean") or isinstance(axis, list | tuple):
        got = f"{options}, axis={axis}"
        raise UnsupportedError("Norm", expected="the L2 norm along one axis or none", got=got)
    return mx.sqrt(mx.sum(mx.square(x), axis=axis, keepdims=keepdims))


def _normalize(x: mx.array, axis: int = -1, order: Any = 2, epsilon: Any = None) -> mx.array:
    if order != 2:
        raise UnsupportedError("Normalize", expected="order 2", got=repr(order))
    squares = mx.sum(mx.square(x), axis=axis, keepdims=True)
    return x * mx.rsqrt(mx.maximum(squares, (epsilon or 1e-7) ** 2))


def _pad(
    x: mx.array, constant_values: Any = None, pad_width: Any = 0, mode: str = "constant"
) -> mx.array:
    if mode.lower() != "constant":
        raise UnsupportedError("Pad", expected="mode 'constant'", got=repr(mode))
    width = [tuple(w) for w in pad_width] if isinstance(pad_width, list | tuple) else pad_width
    return mx.pad(x, width, constant_values=constant_values or 0)


def _matmul(
    x1: mx.array, x2: mx.array, transpose_a: bool = False, transpose_b: bool = False
) -> mx.array:
    """Keras's product, and TensorFlow's with its flags."""
    x1 = mx.swapaxes(x1, -1, -2) if transpose_a else x1
    return matmul(x1, mx.swapaxes(x2, -1, -2) if transpose_b else x2)


def _dot(x1: mx.array, x2: mx.array) -> mx.array:
    if min(x1.ndim, x2.ndim) == 0:
        return x1 * x2
    return mx.tensordot(x1, x2, [[x1.ndim - 1], [max(x2.ndim - 2, 0)]])


def _take(x: mx.array, indices: Any, axis: int | None = None) -> mx.array:
    places = mx.array(indices).astype(mx.int32)
    return mx.take(x, places) if axis is None else mx.take(x, places, axis)


def _take_along(x: mx.array, indices: Any, axis: int | None = None) -> mx.array:
    return mx.take_along_axis(x, mx.array(indices).astype(mx.int32), axis)


def _cosine(arrays: Sequence[mx.array]) -> mx.array:
    """The cosine of two ``[N, D]``, row by row, in the ``[N, 1, 1]`` that Keras 1 made of it."""
    if len(arrays) != 2 or any(x.ndim != 2 for x in arrays):
        got = f"shapes {[list(x.shape) for x in arrays]}"
        raise ShapeError("Merge of mode cos", expected="two arrays of vectors", got=got)
    x, y = arrays
    lengths = mx.sqrt(mx.sum(x * x, axis=1) * mx.sum(y * y, axis=1))
    return (mx.sum(x * y, axis=1) / mx.maximum(lengths, 1e-7))[:, None, None]


def _full_like(x: mx.array, fill_value: Any, dtype: Any = None) -> mx.array:
    return mx.full(x.shape, fill_value, x.dtype if dtype is None else _dtype(dtype))


def _cumulative(run: Callable[..., mx.array]) -> Operation:
    def cumulate(x: mx.array, axis: int | None = None, dtype: Any = None) -> mx.array:
        return run(x if dtype is None else x.astype(_dtype(dtype)), axis=axis)

    return cumulate


def _repeat(x: mx.array, repeats: int, axis: int | None = None) -> mx.array:
    return mx.repeat(x, repeats, axis)


def _convert(x: Any, dtype: Any = None, sparse: Any = None, ragged: Any = None) -> mx.array:
    return mx.array(x) if dtype is None else mx.array(x, dtype=_dtype(dtype))


def _output(value: Any, output: int) -> Any:
    return in_order(value)[output]


def _named(name: str) -> Operation:
    return lambda x, **options: activation(name)(x, **options)


_BY_CLASS: Mapping[str, Operation] = {
    "Constant": constant,
    "Output": _output,
    "NotEqual": mx.not_equal,
    "Equal": mx.equal,
    "Greater": mx.greater,
    "GreaterEqual": mx.greater_equal,
    "Less": mx.less,
    "LessEqual": mx.less_equal,
    "LogicalAnd": mx.logical_and,
    "LogicalOr": mx.logical_or,
    "LogicalNot": mx.logical_not,
    "Where": _where,
    "Any": _reduced(mx.any),
    "All": _reduced(mx.all),
    "Sum": _reduced(mx.sum),
    "Mean": _reduced(mx.mean),
    "Max": _reduced(mx.max),
    "Min": _reduced(mx.min),
    "Amax": _reduced(mx.max),
    "Amin": _reduced(mx.min),
    "Prod": _reduced(mx.prod),
    "Var": _reduced(mx.var),
    "Std": _reduced(mx.std),
    "Logsumexp": _reduced(mx.logsumexp),
    "Argmax": _arg(mx.argmax),
    "Argmin": _arg(mx.argmin),
    "Cumsum": _cumulative(mx.cumsum),
    "Cumprod": _cumulative(mx.cumprod),
    "Norm": _norm,
    "Normalize": _normalize,
    "ZerosLike": _like(mx.zeros),
    "OnesLike": _like(mx.ones),
    "FullLike": _full_like,
    "Cast": lambda x, dtype: x.astype(_dtype(dtype)),
    "ConvertToTensor": _convert,
    "Shape": shape_of,
    "Size": lambda x, dtype=None: shape_of(x).prod(),
    "Zeros": lambda shape, dtype="float32": mx.zeros(whole(shape), _dtype(dtype)),
    "Ones": lambda shape, dtype="float32": mx.ones(whole(shape), _dtype(dtype)),
    "Full": _full,
    "Range": _range,
    "Slice": _slice,
    "SequenceMask": _sequence_mask,
    "StopGradient": lambda variable: mx.stop_gradient(variable),
    "Copy": lambda x: x[...],
    "ExpandDims": lambda x, axis: mx.expand_dims(x, axis),
    "Squeeze": lambda x, axis=None: mx.squeeze(x, axis),
    "Reshape": _reshape,
    "Ravel": lambda x: x.reshape(-1),
    "Transpose": lambda x, axes=None: mx.transpose(x, axes),
    "Swapaxes": lambda x, axis1, axis2: mx.swapaxes(x, axis1, axis2),
    "Moveaxis": lambda x, source, destination: mx.moveaxis(x, source, destination),
    "BroadcastTo": lambda x, shape: mx.broadcast_to(x, whole(shape)),
    "Flip": _flip,
    "Roll": lambda x, shift, axis=None: mx.roll(x, shift, axis),
    "Repeat": _repeat,
    "Tile": lambda x, repeats: mx.tile(x, whole(repeats)),
    "Pad": _pad,
    "Concatenate": lambda xs, axis=0: mx.concatenate(list(xs), axis=axis),
    "Stack": lambda x, axis=0: mx.stack(list(x), axis=axis),
    "Split": _split,
    "Unstack": _unstack,
    "GetItem": _getitem,
    "Take": _take,
    "TakeAlongAxis": _take_along,
    "OneHot": _one_hot,
    "Tril": lambda x, k=0: mx.tril(x, k),
    "Triu": lambda x, k=0: mx.triu(x, k),
    "Add": mx.add,
    "Subtract": mx.subtract,
    "Multiply": mx.multiply,
    "Divide": mx.divide,
    "TrueDivide": mx.divide,
    "FloorDivide": mx.floor_divide,
    "Mod": mx.remainder,
    "Power": mx.power,
    "Negative": mx.negative,
    "Abs": mx.abs,
    "Absolute": mx.abs,
    "Sign": mx.sign,
    "Square": mx.square,
    "Sqrt": mx.sqrt,
    "Rsqrt": mx.rsqrt,
    "Reciprocal": mx.reciprocal,
    "Exp": exponential,
    "Expm1": mx.expm1,
    "Log": mx.log,
    "Log1p": mx.log1p,
    "Erf": erf,
    "Sin": mx.sin,
    "Cos": mx.cos,
    "Floor": mx.floor,
    "Ceil": mx.ceil,
    "Round": lambda x, decimals=0: mx.round(x, decimals),
    "Clip": _clip,
    "Maximum": mx.maximum,
    "Minimum": mx.minimum,
    "Matmul": _matmul,
    "Dot": _dot,
    "CosineMerge": _cosine,
    "Einsum": lambda *operands, subscripts: einsum(subscripts, *operands),
    "Softmax": _softmax,
    "LogSoftmax": _log_softmax,
    **{
        "".join(part.capitalize() for part in name.split("_")): _named(name)
        for name in ACTIVATIONS
        if name not in ("softmax", "log_softmax", "hard_sigmoid_keras2", "exponential", "linear")
    },
    "Gelu": lambda x, approximate=True: gelu(x, approximate),
}

KERAS_OPERATIONS: dict[str, Operation] = {
    f"keras.{name}": on_sizes(name, operation) for name, operation in _BY_CLASS.items()
}
"""Function name in a graph → function."""

_OPEN = (7, 11)  # two sizes for an open one: what depends on it differs between them


def inferred_shape(operation: Operation, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """Return the shape of what an operation returns; None where it hangs on an open size.

    Of sizes of arrays, what they are with either of two open sizes.

    Args:
        operation: the function.
        args: its arguments, with an object that has a ``shape`` for each array.
        kwargs: likewise.
    """
    found = [operation(*_filled(args, size), **_filled(dict(kwargs), size)) for size in _OPEN]
    if isinstance(found[0], list | tuple):
        return [_common(*pair) for pair in zip(*found, strict=True)]
    return _common(*found)


def _common(a: Any, b: Any) -> Any:
    if not isinstance(a, mx.array):
        return Sizes(dict(zip(_OPEN, (a, b), strict=True)))
    return tuple(m if m == n else None for m, n in zip(a.shape, b.shape, strict=True))


def _filled(value: Any, size: int) -> Any:
    if isinstance(value, mx.array):
        return value
    if isinstance(value, Sizes):
        return value.values[size]
    if hasattr(value, "shape"):
        return mx.zeros([size if n is None else n for n in value.shape])
    if isinstance(value, list | tuple):
        return type(value)(_filled(v, size) for v in value)
    if isinstance(value, Mapping):
        return {k: _filled(v, size) for k, v in value.items()}
    if isinstance(value, slice):
        return slice(*(_filled(v, size) for v in (value.start, value.stop, value.step)))
    return value
