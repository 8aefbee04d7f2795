"""torch's reductions, sorts and running sums.

Source: torch 2.13.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import mlx.core as mx

from lstm_bridge.errors import UsageError
from lstm_bridge.torch.dtypes import requested_dtype
from lstm_bridge.torch.nn.functional.activation import norm as p_norm
from lstm_bridge.torch.tensor.shapes import to

Axes = int | Sequence[int] | None


class Found(NamedTuple):
    """Values and where they stand, as torch's reductions along one axis return them."""

    values: mx.array
    indices: mx.array


def sum(  # noqa: A001
    input: mx.array,  # noqa: A002
    dim: Axes = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> mx.array:
    """The sum, of integers and booleans as int64."""
    return mx.sum(_wide(input, dtype), axis=_axes(dim), keepdims=keepdim)


def prod(
    input: mx.array,  # noqa: A002
    dim: int | None = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> mx.array:
    """The product, of integers and booleans as int64."""
    return mx.prod(_wide(input, dtype), axis=dim, keepdims=keepdim)


def mean(
    input: mx.array,  # noqa: A002
    dim: Axes = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> mx.array:
    """The mean of floating numbers.

    Raises:
        UsageError: of integers, as in torch.
    """
    kind = requested_dtype((), {"dtype": dtype})
    x = input if kind is None else input.astype(kind)
    if not mx.issubdtype(x.dtype, mx.inexact):
        raise UsageError("mean input", expected="a floating dtype", got=str(x.dtype))
    return mx.mean(x, axis=_axes(dim), keepdims=keepdim)


def var(
    input: mx.array,  # noqa: A002
    dim: Any = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: int | None = None,
) -> mx.array:
    """The variance, with Bessel's correction by default."""
    if isinstance(dim, bool):  # torch's form var(unbiased)
        dim, unbiased = None, dim
    ddof = (1 if unbiased else 0) if correction is None else correction
    axes = _axes(dim)
    centred = input - mx.mean(input, axis=axes, keepdims=True)
    total = mx.sum(centred * centred, axis=axes, keepdims=keepdim)
    return total / builtins.max(0, input.size // builtins.max(1, total.size) - ddof)


def std(
    input: mx.array,  # noqa: A002
    dim: Any = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: int | None = None,
) -> mx.array:
    """The standard deviation, with Bessel's correction by default."""
    return mx.sqrt(var(input, dim, unbiased, keepdim, correction=correction))


def norm(
    input: mx.array,  # noqa: A002
    p: Any = "fro",
    dim: Axes = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,
) -> mx.array:
    """The p-norm; the 2-norm by default."""
    input = to(input, dtype=dtype)  # noqa: A001
    return p_norm(input, 2 if p in ("fro", None) else float(p), _axes(dim), keepdim)


def vector_norm(
    x: mx.array,
    ord: float = 2,  # noqa: A002
    dim: Axes = None,
    keepdim: bool = False,
) -> mx.array:
    """``torch.linalg.norm`` and ``vector_norm`` of a vector norm."""
    return p_norm(x, 2 if ord is None else ord, _axes(dim), keepdim)


def max(input: Any, dim: Any = None, keepdim: bool = False) -> Any:  # noqa: A001, A002
    """The largest of all, the largest along an axis with its place, or of two arrays."""
    return _extreme(input, dim, keepdim, mx.max, mx.argmax, mx.maximum, builtins.max)


def min(input: Any, dim: Any = None, keepdim: bool = False) -> Any:  # noqa: A001, A002
    """The smallest of all, the smallest along an axis with its place, or of two arrays."""
    return _extreme(input, dim, keepdim, mx.min, mx.argmin, mx.minimum, builtins.min)


def _extreme(
    x: Any, dim: Any, keepdim: bool, whole: Any, place: Any, both: Any, of_numbers: Any
) -> Any:
    if not isinstance(x, mx.array) and not isinstance(dim, mx.array):
        return of_numbers(x) if dim is None else of_numbers(x, dim)
    if isinstance(dim, mx.array) or not isinstance(x, mx.array):
        return both(x, dim)
    if dim is None:
        return whole(x)
    at = mx.stop_gradient(place(x, axis=dim, keepdims=True))
    values = mx.take_along_axis(x, at, axis=dim)
    at = at.astype(mx.int64)
    return Found(values, at) if keepdim else Found(mx.squeeze(values, dim), mx.squeeze(at, dim))


def amax(input: mx.array, dim: Axes = None, keepdim: bool = False) -> mx.array:  # noqa: A002
    """The largest along axes."""
    return mx.max(input, axis=_axes(dim), keepdims=keepdim)


def amin(input: mx.array, dim: Axes = None, keepdim: bool = False) -> mx.array:  # noqa: A002
    """The smallest along axes."""
    return mx.min(input, axis=_axes(dim), keepdims=keepdim)


def argmax(
    input: mx.array,  # noqa: A002
    dim: int | None = None,
    keepdim: bool = False,
) -> mx.array:
    """Where the largest stands, int64."""
    return mx.stop_gradient(mx.argmax(input, axis=dim, keepdims=keepdim).astype(mx.int64))


def argmin(
    input: mx.array,  # noqa: A002
    dim: int | None = None,
    keepdim: bool = False,
) -> mx.array:
    """Where the smallest stands, int64."""
    return mx.stop_gradient(mx.argmin(input, axis=dim, keepdims=keepdim).astype(mx.int64))


def any(input: mx.array, dim: Axes = None, keepdim: bool = False) -> mx.array:  # noqa: A001, A002
    """Whether any is not 0."""
    return mx.any(input, axis=_axes(dim), keepdims=keepdim)


def all(input: mx.array, dim: Axes = None, keepdim: bool = False) -> mx.array:  # noqa: A001, A002
    """Whether none is 0."""
    return mx.all(input, axis=_axes(dim), keepdims=keepdim)


def logsumexp(input: mx.array, dim: Axes, keepdim: bool = False) -> mx.array:  # noqa: A002
    """The logarithm of the sum of exponentials."""
    return mx.logsumexp(input, axis=_axes(dim), keepdims=keepdim)


def cumsum(input: mx.array, dim: int, *, dtype: Any = None) -> mx.array:  # noqa: A002
    """Running sums."""
    return mx.cumsum(_wide(input, dtype), axis=dim)


def cumprod(input: mx.array, dim: int, *, dtype: Any = None) -> mx.array:  # noqa: A002
    """Running products."""
    return mx.cumprod(_wide(input, dtype), axis=dim)


def median(
    input: mx.array,  # noqa: A002
    dim: int | None = None,
    keepdim: bool = False,
) -> Any:
    """The lower of the middle values, of all or along an axis with its place."""
    if dim is None:
        return median(input.reshape(-1), 0).values
    return kthvalue(input, (input.shape[dim] + 1) // 2, dim, keepdim)


def kthvalue(
    input: mx.array,  # noqa: A002
    k: int,
    dim: int = -1,
    keepdim: bool = False,
) -> Found:
    """The k-th smallest along an axis, and where it stands."""
    at = mx.take(argsort(input, dim), mx.array([k - 1]), axis=dim)
    values = mx.take_along_axis(input, at, axis=dim)
    return Found(values, at) if keepdim else Found(mx.squeeze(values, dim), mx.squeeze(at, dim))


def cummax(input: mx.array, dim: int) -> Found:  # noqa: A002
    """The largest so far along an axis, and where it stands last."""
    return _running(input, dim, mx.cummax(input, axis=dim))


def cummin(input: mx.array, dim: int) -> Found:  # noqa: A002
    """The smallest so far along an axis, and where it stands last."""
    return _running(input, dim, mx.cummin(input, axis=dim))


def _running(x: mx.array, dim: int, best: mx.array) -> Found:
    shape = [1] * x.ndim
    shape[dim] = x.shape[dim]
    places = mx.arange(x.shape[dim]).reshape(shape)
    at = mx.stop_gradient(mx.cummax(mx.where(x == best, places, 0), axis=dim))
    return Found(mx.take_along_axis(x, at, axis=dim), at.astype(mx.int64))


def sort(
    input: mx.array,  # noqa: A002
    dim: int = -1,
    descending: bool = False,
    stable: bool = False,
) -> Found:
    """Values in order along an axis, and where they stood."""
    at = argsort(input, dim, descending, stable)
    return Found(mx.take_along_axis(input, at, axis=dim), at)


def argsort(
    input: mx.array,  # noqa: A002
    dim: int = -1,
    descending: bool = False,
    stable: bool = False,
) -> mx.array:
    """Where the values in order stood, int64."""
    key = input.astype(mx.int64) if input.dtype == mx.bool_ else input
    return mx.stop_gradient(mx.argsort(-key if descending else key, axis=dim).astype(mx.int64))


def topk(
    input: mx.array,  # noqa: A002
    k: int,
    dim: int = -1,
    largest: bool = True,
    sorted: bool = True,  # noqa: A002
) -> Found:
    """The k largest or smallest along an axis in order, and where they stood."""
    at = mx.take(argsort(input, dim, largest), mx.arange(k), axis=dim)
    return Found(mx.take_along_axis(input, at, axis=dim), at)


def count_nonzero(input: mx.array, dim: Axes = None) -> mx.array:  # noqa: A002
    """How many are not 0, int64."""
    return mx.sum((input != 0).astype(mx.int64), axis=_axes(dim))


def _axes(dim: Axes) -> Any:
    if dim is None or isinstance(dim, int):
        return dim
    return tuple(dim) or None


def _wide(x: mx.array, dtype: Any) -> mx.array:
    kind = requested_dtype((), {"dtype": dtype})
    if kind is None and not mx.issubdtype(x.dtype, mx.inexact):
        kind = mx.int64
    return x if kind is None else x.astype(kind)


REDUCTION: dict[str, Callable[..., Any]] = {
    fn.__name__: fn
    for fn in (
        sum, prod, mean, var, std, norm, max, min, amax, amin, argmax, argmin, any, all,
        logsumexp, cumsum, cumprod, cummax, cummin, median, kthvalue, sort, argsort, topk,
        count_nonzero,
    )
} | {"linalg.norm": vector_norm, "linalg.vector_norm": vector_norm}  # fmt: skip
"""torch's name → function."""
