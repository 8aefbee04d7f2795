"""torch's functions and tensor methods in NumPy, by torch's names. Source: torch 2.13.

Arguments are torch's, and whatever asks for a floating dtype gets the one that the oracle computes
in. Values may be arrays or, as sizes are, plain numbers.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lstm_bridge.equivalence.oracle.around import Array
from lstm_bridge.equivalence.oracle.torch_functional import SIMPLE, p_norm
from lstm_bridge.equivalence.oracle.torch_shapes import INDEXING, SHAPES, kind_of, shape_of
from lstm_bridge.errors import UnsupportedError

Operation = Callable[..., Any]


class Found(NamedTuple):
    """Values and where they stand."""

    values: Array
    indices: Array


def _whole(value: Any) -> bool:
    return not np.issubdtype(np.asarray(value).dtype, np.floating)


# --- arithmetic -------------------------------------------------------------------------------


def _div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Any:  # noqa: A002
    if rounding_mode == "floor":
        return np.floor_divide(input, other)
    y = np.true_divide(input, other)
    if rounding_mode is None:
        return y
    return np.trunc(y).astype(np.int64) if _whole(input) and _whole(other) else np.trunc(y)


def _clamp(input: Any, min: Any = None, max: Any = None) -> Any:  # noqa: A002
    y = input if min is None else np.maximum(input, min)
    return y if max is None else np.minimum(y, max)


def _masked_fill(input: Array, mask: Array, value: Any) -> Array:  # noqa: A002
    return np.where(mask, np.asarray(value, input.dtype), input)


def _addmm(input: Any, mat1: Array, mat2: Array, *, beta: float = 1, alpha: float = 1) -> Any:  # noqa: A002
    return beta * input + alpha * (mat1 @ mat2)


def _einsum(equation: str, *operands: Any) -> Any:
    nested = len(operands) == 1 and isinstance(operands[0], list | tuple)
    return np.einsum(equation.replace(" ", ""), *(operands[0] if nested else operands))


def _logical(combine: Any) -> Operation:
    return lambda input, other: combine(np.asarray(input) != 0, np.asarray(other) != 0)  # noqa: A006


def _along(name: str) -> Operation:
    return lambda input, dim, dtype=None: SIMPLE[name](input, dim)  # noqa: A006


def _pow(input: Any, exponent: Any) -> Any:  # noqa: A002
    return input**exponent


ARITHMETIC: dict[str, Operation] = {
    **{name: getattr(np, name) for name in (
        "sin", "cos", "tan", "sinh", "cosh", "sqrt", "log", "log2", "log10", "log1p", "expm1",
        "floor", "ceil", "isnan", "isinf", "isfinite", "degrees", "radians", "exp", "trunc",
        "abs", "sign", "square", "maximum", "minimum", "logaddexp", "arctan", "nan_to_num",
        "hypot", "fmod", "matmul", "outer", "remainder", "floor_divide", "true_divide",
        "logical_not", "negative", "positive", "absolute",
    )},
    **{name: getattr(np, f"arc{name[1:]}") for name in (
        "asin", "acos", "atan", "atan2", "asinh", "acosh", "atanh",
    ) if name != "atan2"},
    "atan2": np.arctan2,
    "add": lambda input, other, alpha=1: input + other * alpha,  # noqa: A006
    "sub": lambda input, other, alpha=1: input - other * alpha,  # noqa: A006
    "subtract": lambda input, other, alpha=1: input - other * alpha,  # noqa: A006
    "rsub": lambda input, other: other - input,  # noqa: A006
    "mul": lambda input, other: input * other,  # noqa: A006
    "multiply": lambda input, other: input * other,  # noqa: A006
    "div": _div, "divide": _div, "pow": _pow,
    "round": lambda input, decimals=0: np.round(input, decimals),  # noqa: A006
    "clamp": _clamp, "clip": _clamp,
    "clamp_min": lambda input, min: _clamp(input, min),  # noqa: A006
    "clamp_max": lambda input, max: _clamp(input, None, max),  # noqa: A006
    "where": lambda condition, input, other: np.where(condition, input, other),  # noqa: A006
    "masked_fill": _masked_fill,
    "lerp": lambda input, end, weight: input + weight * (end - input),  # noqa: A006
    "addcmul": lambda input, tensor1, tensor2, value=1: input + value * tensor1 * tensor2,  # noqa: A006
    "mm": np.matmul, "mv": np.matmul, "bmm": lambda input, mat2: input @ mat2,  # noqa: A006
    "addmm": _addmm, "baddbmm": _addmm, "einsum": _einsum,
    "dot": lambda input, tensor: (input * tensor).sum(),  # noqa: A006
    "neg": np.negative,
    "reciprocal": lambda input: 1 / input,  # noqa: A006
    "rsqrt": lambda input: 1 / np.sqrt(input),  # noqa: A006
    "erf": lambda input: np.vectorize(math.erf, otypes=[np.float64])(input),  # noqa: A006
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "not_equal": np.not_equal, "greater": np.greater,
    "greater_equal": np.greater_equal, "less": np.less, "less_equal": np.less_equal,
    "logical_and": _logical(np.logical_and), "logical_or": _logical(np.logical_or),
    "logical_xor": _logical(np.logical_xor),
    "bitwise_and": np.bitwise_and, "bitwise_or": np.bitwise_or, "bitwise_xor": np.bitwise_xor,
    "bitwise_not": np.invert,
    **{name: SIMPLE[name] for name in ("sigmoid", "tanh", "relu", "selu", "celu", "prelu")},
    "softmax": _along("softmax"), "log_softmax": _along("log_softmax"),
    "zero": np.zeros_like,
    "fill": lambda input, value: np.full_like(input, value),  # noqa: A006
    "copy": lambda input, src: np.broadcast_to(src, input.shape).astype(input.dtype),  # noqa: A006
}  # fmt: skip


# --- creation ---------------------------------------------------------------------------------


def _filled(value: float) -> Operation:
    return lambda *size, **o: np.full(shape_of(size, o), value, kind_of(o.get("dtype")))


def _like(value: float) -> Operation:
    return lambda input, **o: np.full(input.shape, value, kind_of(o.get("dtype"), input.dtype))  # noqa: A006


def _new(value: float) -> Operation:
    return lambda input, *size, **o: np.full(  # noqa: A006
        shape_of(size, o), value, kind_of(o.get("dtype"), input.dtype)
    )


def _full(size: Any, fill_value: Any, **o: Any) -> Array:
    own = np.asarray(fill_value).dtype
    return np.full(shape_of((size,), {}), fill_value, kind_of(o.get("dtype"), own))


def _full_like(input: Array, fill_value: Any, **o: Any) -> Array:  # noqa: A002
    return np.full(input.shape, fill_value, kind_of(o.get("dtype"), input.dtype))


def _new_full(input: Array, size: Any, fill_value: Any, **o: Any) -> Array:  # noqa: A002
    return np.full(shape_of((size,), {}), fill_value, kind_of(o.get("dtype"), input.dtype))


def _arange(start: Any, end: Any = None, step: Any = 1, **o: Any) -> Array:
    first, last = (0, start) if end is None else (start, end)
    made = np.arange(*(np.asarray(v).item() for v in (first, last, step)))
    return made.astype(kind_of(o.get("dtype"), made.dtype))


def _tensor(data: Any, **o: Any) -> Array:
    made = np.asarray(data)
    return made.astype(kind_of(o.get("dtype"), made.dtype))


def _random(*_: Any, **__: Any) -> Array:
    raise UnsupportedError("oracle of torch.rand", expected="what is no draw", got="random numbers")


def _new_tensor(input: Array, data: Any, **o: Any) -> Array:  # noqa: A002
    return np.asarray(data).astype(kind_of(o.get("dtype"), input.dtype))


def _new_of(input: Array, *size: Any) -> Array:  # noqa: A002
    if len(size) == 1 and isinstance(size[0], list):
        return _new_tensor(input, size[0])
    return np.zeros(shape_of(size, {}), input.dtype)


CREATION: dict[str, Operation] = {
    "zeros": _filled(0), "ones": _filled(1), "empty": _filled(0), "full": _full,
    "zeros_like": _like(0), "ones_like": _like(1), "empty_like": _like(0),
    "full_like": _full_like, "new_zeros": _new(0), "new_ones": _new(1), "new_empty": _new(0),
    "new_full": _new_full, "arange": _arange, "tensor": _tensor, "as_tensor": _tensor,
    "linspace": lambda start, end, steps, **o: np.linspace(start, end, steps),
    "eye": lambda n, m=None, **o: np.eye(n, m, dtype=kind_of(o.get("dtype"))),
    "new_tensor": _new_tensor,
    "new": _new_of,
    **dict.fromkeys(
        (
            *("rand", "randn", "rand_like", "randn_like", "randint", "randperm", "bernoulli"),
            "normal",
        ),
        _random,
    ),
}  # fmt: skip


# --- reduction --------------------------------------------------------------------------------


def _axes(dim: Any) -> Any:
    return (tuple(dim) or None) if isinstance(dim, list | tuple) else dim


def _reduced(reduce: Operation) -> Operation:
    def run(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:  # noqa: A002
        x = np.asarray(input)
        x = x if dtype is None else x.astype(kind_of(dtype, x.dtype))
        return reduce(x, axis=_axes(dim), keepdims=keepdim)

    return run


def _var(
    input: Array,  # noqa: A002
    dim: Any = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: int | None = None,
) -> Any:
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    ddof = (1 if unbiased else 0) if correction is None else correction
    return np.var(input, axis=_axes(dim), ddof=ddof, keepdims=keepdim)


def _norm(input: Array, p: Any = "fro", dim: Any = None, keepdim: bool = False) -> Any:  # noqa: A002
    return p_norm(input, 2 if p in ("fro", None) else float(p), _axes(dim), keepdim)


def _vector_norm(x: Array, ord: Any = 2, dim: Any = None, keepdim: bool = False) -> Any:  # noqa: A002
    return p_norm(x, 2 if ord is None else ord, _axes(dim), keepdim)


def _extreme(whole: Any, place: Any, both: Any, of_numbers: Any) -> Operation:
    def run(input: Any, dim: Any = None, keepdim: bool = False) -> Any:  # noqa: A002
        if not isinstance(input, np.ndarray) and not isinstance(dim, np.ndarray):
            return of_numbers(input) if dim is None else of_numbers(input, dim)
        if isinstance(dim, np.ndarray) or not isinstance(input, np.ndarray):
            return both(input, dim)
        if dim is None:
            return whole(input)
        at = np.expand_dims(place(input, axis=dim), dim)
        values = np.take_along_axis(input, at, dim)
        return Found(values, at) if keepdim else Found(values.squeeze(dim), at.squeeze(dim))

    return run


def _argsort(input: Array, dim: int = -1, descending: bool = False, stable: bool = False) -> Array:  # noqa: A002
    key = input.astype(np.int64) if input.dtype == bool else input
    return np.argsort(-key if descending else key, axis=dim, kind="stable")


def _sort(input: Array, dim: int = -1, descending: bool = False, stable: bool = False) -> Found:  # noqa: A002
    at = _argsort(input, dim, descending)
    return Found(np.take_along_axis(input, at, dim), at)


def _topk(
    input: Array,  # noqa: A002
    k: int,
    dim: int = -1,
    largest: bool = True,
    sorted: bool = True,  # noqa: A002
) -> Found:
    at = np.take(_argsort(input, dim, largest), range(k), axis=dim)
    return Found(np.take_along_axis(input, at, dim), at)


def _logsumexp(input: Array, dim: Any, keepdim: bool = False) -> Array:  # noqa: A002
    top = input.max(axis=_axes(dim), keepdims=True)
    made = top + np.log(np.exp(input - top).sum(axis=_axes(dim), keepdims=True))
    return np.asarray(made if keepdim else made.squeeze(_axes(dim)))


REDUCTION: dict[str, Operation] = {
    "sum": _reduced(np.sum), "prod": _reduced(np.prod), "mean": _reduced(np.mean),
    "amax": _reduced(np.max), "amin": _reduced(np.min), "any": _reduced(np.any),
    "all": _reduced(np.all), "argmax": _reduced(np.argmax), "argmin": _reduced(np.argmin),
    "var": _var, "std": lambda *args, **named: np.sqrt(_var(*args, **named)),
    "norm": _norm, "linalg.norm": _vector_norm, "linalg.vector_norm": _vector_norm,
    "max": _extreme(np.max, np.argmax, np.maximum, builtins.max),
    "min": _extreme(np.min, np.argmin, np.minimum, builtins.min),
    "logsumexp": _logsumexp, "sort": _sort, "argsort": _argsort, "topk": _topk,
    "cumsum": lambda input, dim, dtype=None: np.cumsum(input, axis=dim),  # noqa: A006
    "cumprod": lambda input, dim, dtype=None: np.cumprod(input, axis=dim),  # noqa: A006
    "count_nonzero": lambda input, dim=None: np.count_nonzero(input, axis=_axes(dim)),  # noqa: A006
}  # fmt: skip


TENSOR: dict[str, Operation] = {**ARITHMETIC, **CREATION, **INDEXING, **REDUCTION, **SHAPES}
"""torch's name → function."""
