"""torch's indexing, reading and (as a new array) writing.

Source: torch 2.13.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx

from lstm_bridge.errors import ShapeError, UnsupportedError

_FAR = 2**31 - 1
"""Beyond every axis: recorded graphs write 2⁶³ - 1 for a slice without an end."""


def getitem(input: Any, index: Any) -> Any:  # noqa: A002
    """``input[index]`` of an array, or of a tuple, list or dictionary.

    Raises:
        ShapeError: a place beyond an axis, which MLX would not notice.
        UnsupportedError: a boolean mask: the shape would depend on its values.
    """
    return input[_key(input, index)] if isinstance(input, mx.array) else input[index]


def setitem(input: mx.array, index: Any, value: Any) -> mx.array:  # noqa: A002
    """A copy of an array in which ``[index]`` is ``value``."""
    mask = index if isinstance(index, mx.array) and index.dtype == mx.bool_ else None
    if mask is not None:
        wide = mask.reshape(*mask.shape, *[1] * (input.ndim - mask.ndim))
        return mx.where(wide, mx.array(value).astype(input.dtype), input)
    copy = mx.array(input)
    copy[_key(input, index)] = value
    return copy


def gather(input: mx.array, dim: int, index: mx.array) -> mx.array:  # noqa: A002
    """Elements along an axis by index; the index may be smaller along the other axes."""
    kept = tuple(
        slice(None) if k == dim % input.ndim else slice(n) for k, n in enumerate(index.shape)
    )
    return mx.take_along_axis(input[kept], mx.stop_gradient(index), axis=dim)


def take_along_dim(
    input: mx.array,  # noqa: A002
    indices: mx.array,
    dim: int | None = None,
) -> mx.array:
    """Elements along an axis by index, broadcast along the others."""
    return mx.take_along_axis(input.reshape(-1) if dim is None else input, indices, axis=dim or 0)


def index_select(input: mx.array, dim: int, index: mx.array) -> mx.array:  # noqa: A002
    """Slices of an axis by index."""
    return mx.take(input, index, axis=dim)


def select(input: mx.array, dim: int, index: int) -> mx.array:  # noqa: A002
    """One slice of an axis, without the axis."""
    return getitem(input, (*[slice(None)] * (dim % input.ndim), index))  # type: ignore[no-any-return]


def narrow(input: mx.array, dim: int, start: int, length: int) -> mx.array:  # noqa: A002
    """A part of an axis.

    Raises:
        ShapeError: it reaches beyond the end.
    """
    L = input.shape[dim]
    first = start + L if start < 0 else start
    if first + length > L:
        raise ShapeError("narrow", expected=f"a part of {L}", got=f"{start} and {length} more")
    return input[(*[slice(None)] * (dim % input.ndim), slice(first, first + length))]


def scatter(
    input: mx.array,  # noqa: A002
    dim: int,
    index: mx.array,
    src: Any,
) -> mx.array:
    """A copy in which the elements along an axis by index are those of ``src``."""
    value = src if isinstance(src, mx.array) else mx.full(index.shape, src, input.dtype)
    return mx.put_along_axis(input, index, value.astype(input.dtype), axis=dim)


def scatter_add(
    input: mx.array,  # noqa: A002
    dim: int,
    index: mx.array,
    src: mx.array,
) -> mx.array:
    """A copy with the elements of ``src`` added along an axis by index, all that meet there."""
    kept = src[tuple(slice(n) for n in index.shape)].astype(input.dtype)
    places: list[Any] = []
    for axis, n in enumerate(index.shape):
        if axis == dim % input.ndim:
            places.append(mx.stop_gradient(index))
        else:
            shape = [1] * index.ndim
            shape[axis] = n
            places.append(mx.arange(n).reshape(shape))
    return input.at[tuple(places)].add(kept)


def index_add(
    input: mx.array,  # noqa: A002
    dim: int,
    index: mx.array,
    source: mx.array,
    *,
    alpha: float = 1,
) -> mx.array:
    """A copy with slices added along an axis by index."""
    key = (*[slice(None)] * (dim % input.ndim), index)
    return input.at[key].add(source * alpha)


def _key(x: mx.array, index: Any) -> Any:
    """Return an index as MLX takes it."""
    parts = index if isinstance(index, tuple) else (index,)
    after = sum(part is not None and part is not Ellipsis for part in parts)
    key: list[Any] = []
    axis = 0
    for part in parts:
        if part is None:
            key.append(None)
            continue
        if part is Ellipsis:
            axis = x.ndim - after
            key.append(part)
            continue
        key.append(_part(x, axis, part))
        axis, after = axis + 1, after - 1
    return tuple(key)


def _part(x: mx.array, axis: int, part: Any) -> Any:
    if isinstance(part, slice):
        return slice(*(_number(v) for v in (part.start, part.stop, part.step)))
    if isinstance(part, bool) or (isinstance(part, mx.array) and part.dtype == mx.bool_):
        raise UnsupportedError(
            "index",
            expected="integers and slices",
            got="a boolean mask, whose result would have a shape that depends on its values",
            fix="use where, or multiply by the mask",
        )
    if isinstance(part, int):
        if axis >= x.ndim or not -x.shape[axis] <= part < x.shape[axis]:
            raise ShapeError(
                "index", expected=f"within {list(x.shape)}", got=f"{part} on axis {axis}"
            )
        return part
    return mx.array(list(part)) if isinstance(part, list | tuple | range) else part


def _number(value: Any) -> Any:
    """Return a slice's limit as MLX takes it: a number of 32 bits."""
    plain: Any = value.item() if isinstance(value, mx.array) else value
    return plain if plain is None else max(-_FAR, min(plain, _FAR))


INDEXING: dict[str, Callable[..., Any]] = {
    fn.__name__: fn
    for fn in (
        getitem, setitem, gather, take_along_dim, index_select, select, narrow, scatter,
        scatter_add, index_add,
    )
}  # fmt: skip
"""torch's name → function."""
