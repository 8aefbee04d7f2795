"""torch's element-wise arithmetic, comparisons, logic and matrix products.

Operands may be arrays or numbers, and numbers stay numbers: sizes are computed with too.

Source: torch 2.13.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import mlx.core as mx

from lstm_bridge.core import products, sums
from lstm_bridge.core.exponentials import erf, exponential
from lstm_bridge.errors import ShapeError, UsageError
from lstm_bridge.torch.nn import functional

Value = Any  # an array, or a number


def add(input: Value, other: Value, *, alpha: float = 1) -> Value:  # noqa: A002
    """``input + alpha · other``."""
    return sums.add(input, other if alpha == 1 else other * alpha)


def sub(input: Value, other: Value, *, alpha: float = 1) -> Value:  # noqa: A002
    """``input - alpha · other``."""
    return input - (other if alpha == 1 else other * alpha)


def rsub(input: Value, other: Value) -> Value:  # noqa: A002
    """``other - input``."""
    return other - input


def mul(input: Value, other: Value) -> Value:  # noqa: A002
    """``input · other``."""
    for x, scale in ((input, other), (other, input)):
        arrays = isinstance(x, mx.array) and isinstance(scale, mx.array)
        if arrays and scale.size == 1 and scale.ndim < 2 <= x.ndim:
            return products.scaled(x, scale)
    return input * other


def div(input: Value, other: Value, *, rounding_mode: str | None = None) -> Value:  # noqa: A002
    """``input / other``, rounded down with "floor", towards zero with "trunc"."""
    if rounding_mode == "floor":
        return floor_divide(input, other)
    if rounding_mode not in (None, "trunc"):
        raise UsageError("div rounding_mode", expected="'floor' or 'trunc'", got=rounding_mode)
    y = input / other
    if rounding_mode is None:
        return y
    truncated = trunc(y)
    whole = _is_whole(input) and _is_whole(other)
    return truncated.astype(mx.int64) if whole and isinstance(y, mx.array) else truncated


def floor_divide(input: Value, other: Value) -> Value:  # noqa: A002
    """``input / other``, rounded down."""
    if not _has_array(input, other):
        return input // other
    if _is_whole(input) and _is_whole(other):
        rest = remainder(input, other)
        return (input - rest) // other
    return mx.floor(input / other)


def remainder(input: Value, other: Value) -> Value:  # noqa: A002
    """What is left of a division rounded down: the sign is the divisor's."""
    if not _has_array(input, other):
        return input % other
    rest = fmod(input, other)
    off = (rest != 0) & ((rest < 0) != (_array(other) < 0))
    return mx.where(off, rest + other, rest)


def fmod(input: Value, other: Value) -> Value:  # noqa: A002
    """What is left of a division rounded towards zero: the sign is the dividend's."""
    x, y = _array(input), _array(other)
    left = mx.remainder(mx.abs(x), mx.abs(y))
    return mx.where(x < 0, -left, left)


def pow(input: Value, exponent: Value) -> Value:  # noqa: A001, A002
    """``input ** exponent``."""
    if isinstance(input, mx.array) and not isinstance(exponent, mx.array):
        if exponent == 2:
            return input * input
        if exponent == 0.5:
            return mx.sqrt(input)
    return input**exponent


def trunc(input: Value) -> Value:  # noqa: A002
    """Round towards zero."""
    if not isinstance(input, mx.array):
        return math.trunc(input)
    return mx.sign(input) * mx.floor(mx.abs(input))


def round_(input: Value, *, decimals: int = 0) -> Value:  # noqa: A002
    """Round to the nearest, halves to even."""
    if not isinstance(input, mx.array):
        return round(input, decimals) if decimals else round(input)
    return mx.round(input, decimals)


def clamp(input: Value, min: Value = None, max: Value = None) -> Value:  # noqa: A002
    """``input`` within limits, either of which may be None."""
    return mx.clip(_array(input), min, max)


def exp(input: Value) -> Value:  # noqa: A002
    """``e ** input``."""
    return exponential(input) if isinstance(input, mx.array) else math.exp(input)


def where(condition: mx.array, input: Value = None, other: Value = None) -> mx.array:  # noqa: A002
    """``input`` where the condition holds, ``other`` elsewhere.

    Raises:
        UsageError: the condition alone: how many places it has would depend on its values.
    """
    if input is None or other is None:
        raise UsageError("where", expected="three arguments", got="one")
    return mx.where(condition, input, other)


def masked_fill(input: mx.array, mask: mx.array, value: Value) -> mx.array:  # noqa: A002
    """``value`` where the mask holds, ``input`` elsewhere."""
    fill = mx.array(value).astype(input.dtype) if not isinstance(value, mx.array) else value
    return mx.where(mask, fill.astype(input.dtype), input)


def lerp(input: mx.array, end: mx.array, weight: Value) -> mx.array:  # noqa: A002
    """``input + weight (end - input)``."""
    return mx.add(input, weight * (end - input))


def addcmul(
    input: mx.array,  # noqa: A002
    tensor1: mx.array,
    tensor2: mx.array,
    *,
    value: float = 1,
) -> mx.array:
    """``input + value · tensor1 · tensor2``."""
    return input + value * tensor1 * tensor2


def addcdiv(
    input: mx.array,  # noqa: A002
    tensor1: mx.array,
    tensor2: mx.array,
    *,
    value: float = 1,
) -> mx.array:
    """``input + value · tensor1 / tensor2``."""
    return input + value * tensor1 / tensor2


def frac(input: mx.array) -> mx.array:  # noqa: A002
    """What stands behind the point."""
    return input - mx.stop_gradient(trunc(input))


def diff(input: mx.array, n: int = 1, dim: int = -1) -> mx.array:  # noqa: A002
    """Differences of neighbours along an axis, so many times."""
    for _ in range(n):
        parts = mx.split(input, [1, input.shape[dim] - 1], axis=dim)
        first, middle, last = parts
        later = mx.concatenate([middle, last], axis=dim)
        input = later - mx.concatenate([first, middle], axis=dim)  # noqa: A001
    return input


def tensordot(a: mx.array, b: mx.array, dims: Any = 2, out: None = None) -> mx.array:
    """The sum of products over axes of both: so many, or two lists of them."""
    return mx.tensordot(a, b, dims)


def meshgrid(*tensors: Any, indexing: str | None = None) -> list[mx.array]:
    """Grids of all combinations of several vectors' elements."""
    arrays = tensors[0] if isinstance(tensors[0], list | tuple) else tensors
    return list(mx.meshgrid(*arrays, indexing=indexing or "ij"))


def cdist(x1: mx.array, x2: mx.array, p: float = 2.0, compute_mode: str = "") -> mx.array:
    """The p-norm distances of all rows of one to all rows of the other."""
    return functional.activation.norm(x1[..., :, None, :] - x2[..., None, :, :], p, -1, False)


def isclose(
    input: mx.array,  # noqa: A002
    other: mx.array,
    rtol: float = 1e-5,
    atol: float = 1e-8,
    equal_nan: bool = False,
) -> mx.array:
    """Whether elements differ by no more than ``atol + rtol · |other|``."""
    return mx.isclose(input, other, rtol, atol, equal_nan=equal_nan)


def matmul(input: mx.array, other: mx.array) -> mx.array:  # noqa: A002
    """The matrix product of the last two axes."""
    return products.matmul(input, other)


def bmm(input: mx.array, mat2: mx.array) -> mx.array:  # noqa: A002
    """The matrix products of two batches.

    Raises:
        ShapeError: not 3D both, or batches of another size.
    """
    if input.ndim != 3 or mat2.ndim != 3 or len(input) != len(mat2):
        raise ShapeError(
            "bmm", expected="two 3D batches", got=f"{list(input.shape)} and {list(mat2.shape)}"
        )
    return products.matmul(input, mat2)


def addmm(
    input: mx.array,  # noqa: A002
    mat1: mx.array,
    mat2: mx.array,
    *,
    beta: float = 1,
    alpha: float = 1,
) -> mx.array:
    """``beta · input + alpha · mat1 @ mat2``; batches of matrices too."""
    return mx.addmm(input, mat1, mat2, alpha, beta)


def einsum(equation: str, *operands: Any) -> mx.array:
    """Einstein's summation; operands one by one or as a list."""
    arrays = (
        operands[0] if len(operands) == 1 and isinstance(operands[0], list | tuple) else operands
    )
    return products.einsum(equation.replace(" ", ""), *arrays)


def dot(input: mx.array, tensor: mx.array) -> mx.array:  # noqa: A002
    """The sum of the products of two vectors."""
    return mx.sum(input * tensor)


def outer(input: mx.array, vec2: mx.array) -> mx.array:  # noqa: A002
    """All products of two vectors' elements."""
    return input[:, None] * vec2[None, :]


def softmax(input: mx.array, dim: int, dtype: Any = None) -> mx.array:  # noqa: A002
    """``exp(x) / sum exp(x)`` along an axis."""
    return functional.softmax(input, dim, dtype=dtype)


def log_softmax(input: mx.array, dim: int, dtype: Any = None) -> mx.array:  # noqa: A002
    """``x - log sum exp(x)`` along an axis."""
    return functional.log_softmax(input, dim, dtype=dtype)


def fill(input: mx.array, value: Value) -> mx.array:  # noqa: A002
    """One value in an array's shape and dtype."""
    return mx.broadcast_to(_array(value).astype(input.dtype), input.shape)


def copy(input: mx.array, src: mx.array) -> mx.array:  # noqa: A002
    """Another array's values in an array's shape and dtype."""
    return mx.broadcast_to(src.astype(input.dtype), input.shape)


def logical_not(input: Value) -> Value:  # noqa: A002
    """True where ``input`` is 0."""
    return input == 0 if isinstance(input, mx.array) else not input


def _logical(combine: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def combined(input: Any, other: Any) -> Any:  # noqa: A002
        return combine(_array(input) != 0, _array(other) != 0)

    return combined


def _of_number_or_array(of_array: Any, of_number: Any) -> Callable[[Any], Any]:
    def either(input: Any) -> Any:  # noqa: A002
        return of_array(input) if isinstance(input, mx.array) else of_number(input)

    return either


def _has_array(*values: Any) -> bool:
    return any(isinstance(value, mx.array) for value in values)


def _array(value: Any) -> mx.array:
    return value if isinstance(value, mx.array) else mx.array(value)


def _is_whole(value: Any) -> bool:
    if isinstance(value, mx.array):
        return not mx.issubdtype(value.dtype, mx.inexact)
    return isinstance(value, int)


_UNARY = {
    name: _of_number_or_array(getattr(mx, name), getattr(math, name))
    for name in (
        "sin", "cos", "tan", "sinh", "cosh", "sqrt", "log", "log2", "log10", "log1p", "expm1",
        "floor", "ceil", "isnan", "isinf", "isfinite", "degrees", "radians",
    )
}  # fmt: skip

ARITHMETIC: dict[str, Callable[..., Any]] = {
    **_UNARY,
    "add": add, "sub": sub, "subtract": sub, "rsub": rsub, "mul": mul, "multiply": mul,
    "div": div, "divide": div, "true_divide": operator.truediv, "floor_divide": floor_divide,
    "remainder": remainder, "fmod": fmod, "pow": pow, "trunc": trunc, "round": round_,
    "clamp": clamp, "clip": clamp, "exp": exp, "where": where, "masked_fill": masked_fill,
    "clamp_min": lambda input, min: clamp(input, min),  # noqa: A006
    "clamp_max": lambda input, max: clamp(input, None, max),  # noqa: A006
    "lerp": lerp, "addcmul": addcmul, "addcdiv": addcdiv, "frac": frac, "diff": diff,
    "tensordot": tensordot, "meshgrid": meshgrid, "kron": mx.kron, "cdist": cdist,
    "isclose": isclose, "matmul": matmul, "mm": matmul, "mv": matmul, "bmm": bmm,
    "addmm": addmm, "baddbmm": addmm, "einsum": einsum, "dot": dot, "outer": outer,
    "neg": operator.neg, "negative": operator.neg, "positive": operator.pos,
    "abs": abs, "absolute": abs, "square": lambda input: input * input,  # noqa: A006
    "reciprocal": lambda input: 1 / input,  # noqa: A006
    "rsqrt": mx.rsqrt, "sign": mx.sign, "erf": erf,
    "maximum": mx.maximum, "minimum": mx.minimum, "logaddexp": mx.logaddexp,
    "arctan": mx.arctan, "atan": mx.arctan, "asin": mx.arcsin, "acos": mx.arccos,
    "atan2": mx.arctan2, "asinh": mx.arcsinh, "acosh": mx.arccosh, "atanh": mx.arctanh,
    "nan_to_num": mx.nan_to_num, "hypot": lambda input, other: mx.sqrt(input**2 + other**2),  # noqa: A006
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le,
    "gt": operator.gt, "ge": operator.ge, "not_equal": operator.ne, "greater": operator.gt,
    "greater_equal": operator.ge, "less": operator.lt, "less_equal": operator.le,
    "logical_not": logical_not, "logical_and": _logical(operator.and_),
    "logical_or": _logical(operator.or_), "logical_xor": _logical(operator.ne),
    "bitwise_and": operator.and_, "bitwise_or": operator.or_, "bitwise_xor": operator.xor,
    "bitwise_not": operator.invert, "sigmoid": functional.sigmoid, "tanh": functional.tanh,
    "relu": functional.relu, "selu": functional.selu, "celu": functional.celu,
    "prelu": functional.prelu, "softmax": softmax, "log_softmax": log_softmax,
    "zero": mx.zeros_like, "fill": fill, "copy": copy,
}  # fmt: skip
"""torch's name → function."""
