"""torch's reshaping, joining, splitting and casting.

Source: torch 2.13.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx

from lstm_bridge.errors import ShapeError, UnsupportedError
from lstm_bridge.torch.dtypes import requested_dtype


def reshape(input: mx.array, *shape: Any) -> mx.array:  # noqa: A002
    """The same elements in another shape; one size may be -1."""
    return mx.reshape(input, _sizes(shape))


def permute(input: mx.array, *dims: Any) -> mx.array:  # noqa: A002
    """The axes in another order."""
    return mx.transpose(input, _sizes(dims))


def transpose(input: mx.array, dim0: int, dim1: int) -> mx.array:  # noqa: A002
    """Two axes exchanged."""
    return mx.swapaxes(input, dim0, dim1)


def t(input: mx.array) -> mx.array:  # noqa: A002
    """The transposed matrix; a vector stays.

    Raises:
        ShapeError: more than two axes.
    """
    if input.ndim > 2:
        raise ShapeError("t input", expected="2 axes or fewer", got=str(list(input.shape)))
    return input.T


def squeeze(input: mx.array, dim: Any = None) -> mx.array:  # noqa: A002
    """Without axes of size 1: all of them, or those given that are."""
    dims = range(input.ndim) if dim is None else (dim,) if isinstance(dim, int) else dim
    single = [d % max(1, input.ndim) for d in dims if input.ndim and input.shape[d] == 1]
    return mx.squeeze(input, single) if single else input


def unsqueeze(input: mx.array, dim: int) -> mx.array:  # noqa: A002
    """With a new axis of size 1."""
    return mx.expand_dims(input, dim)


def flatten(input: mx.array, start_dim: int = 0, end_dim: int = -1) -> mx.array:  # noqa: A002
    """Several axes as one."""
    return mx.flatten(input, start_dim, end_dim)


def unflatten(input: mx.array, dim: int, sizes: Sequence[int]) -> mx.array:  # noqa: A002
    """One axis as several."""
    return mx.unflatten(input, dim, tuple(sizes))


def expand(input: mx.array, *sizes: Any) -> mx.array:  # noqa: A002
    """Axes of size 1 repeated; -1 keeps an axis."""
    wanted = _sizes(sizes)
    own = (1,) * (len(wanted) - input.ndim) + input.shape
    return mx.broadcast_to(input, [o if w == -1 else w for w, o in zip(wanted, own, strict=True)])


def repeat(input: mx.array, *repeats: Any) -> mx.array:  # noqa: A002
    """The whole array side by side, so many times along each axis."""
    return mx.tile(input, _sizes(repeats))


def repeat_interleave(
    input: mx.array,  # noqa: A002
    repeats: int,
    dim: int | None = None,
) -> mx.array:
    """Each element so many times in a row.

    Raises:
        UnsupportedError: a number for each element: the shape would depend on values.
    """
    if not isinstance(repeats, int):
        raise UnsupportedError(
            "repeat_interleave repeats", expected="one int", got=type(repeats).__name__
        )
    return mx.repeat(input.reshape(-1) if dim is None else input, repeats, axis=dim or 0)


def size(input: mx.array, dim: int | None = None) -> Any:  # noqa: A002
    """The shape, or the size of one axis."""
    return input.shape if dim is None else input.shape[dim]


def cat(tensors: Sequence[mx.array], dim: int = 0, *, axis: int | None = None) -> mx.array:
    """Arrays end to end along an axis."""
    # As in torch, empty vectors join with anything.
    arrays = [x for x in tensors if x.shape != (0,)] or list(tensors)
    return mx.concatenate(arrays, axis=dim if axis is None else axis)


def stack(tensors: Sequence[mx.array], dim: int = 0) -> mx.array:
    """Arrays side by side along a new axis."""
    return mx.stack(list(tensors), axis=dim)


def hstack(tensors: Sequence[mx.array]) -> mx.array:
    """Arrays end to end along the second axis, vectors along the first."""
    return mx.concatenate(list(tensors), axis=0 if tensors[0].ndim <= 1 else 1)


def vstack(tensors: Sequence[mx.array]) -> mx.array:
    """Arrays end to end along the first axis, vectors as rows."""
    return mx.concatenate([x if x.ndim > 1 else x.reshape(1, -1) for x in tensors], axis=0)


def dstack(tensors: Sequence[mx.array]) -> mx.array:
    """Arrays side by side along the third axis."""
    deep = [x.reshape(1, -1, 1) if x.ndim < 2 else x for x in tensors]
    return mx.concatenate([x[..., None] if x.ndim == 2 else x for x in deep], axis=2)


def type_(input: mx.array, dtype: Any = None, non_blocking: bool = False) -> mx.array:  # noqa: A002
    """Cast to a dtype, or to that of one of torch's old tensor classes.

    Raises:
        UnsupportedError: no dtype: the name of torch's class says where a tensor lies.
    """
    if dtype is None:
        raise UnsupportedError("type", expected="a dtype", got="none")
    return to(input, dtype=dtype)  # type: ignore[no-any-return]


def split(tensor: mx.array, split_size_or_sections: Any, dim: int = 0) -> tuple[mx.array, ...]:
    """Parts of so many elements, or of the given sizes."""
    L = tensor.shape[dim]
    if isinstance(split_size_or_sections, int):
        n = split_size_or_sections
        ends = list(range(n, L, n)) if n else []
    else:
        if sum(split_size_or_sections) != L:
            raise ShapeError(
                "split", expected=f"sizes that add up to {L}", got=str(split_size_or_sections)
            )
        ends = [
            sum(split_size_or_sections[: k + 1]) for k in range(len(split_size_or_sections) - 1)
        ]
    return tuple(mx.split(tensor, ends, axis=dim))


def chunk(input: mx.array, chunks: int, dim: int = 0) -> tuple[mx.array, ...]:  # noqa: A002
    """At most so many parts of equal size, the last one smaller."""
    return split(input, max(1, math.ceil(input.shape[dim] / chunks)), dim)


def tensor_split(
    input: mx.array,  # noqa: A002
    indices_or_sections: Any,
    dim: int = 0,
) -> tuple[mx.array, ...]:
    """So many parts of nearly equal size, or parts that end at the given places."""
    if not isinstance(indices_or_sections, int):
        return tuple(mx.split(input, list(indices_or_sections), axis=dim))
    L, n = input.shape[dim], indices_or_sections
    sizes = [L // n + (k < L % n) for k in range(n)]
    return split(input, sizes, dim)


def unbind(input: mx.array, dim: int = 0) -> tuple[mx.array, ...]:  # noqa: A002
    """The slices along an axis."""
    moved = mx.moveaxis(input, dim, 0)
    # Slices are views; an index would copy.
    return tuple(moved[k : k + 1].squeeze(0) for k in range(len(moved)))


def flip(input: mx.array, *dims: Any) -> mx.array:  # noqa: A002
    """Axes in reverse."""
    for dim in _sizes(dims):
        input = mx.take(input, mx.arange(input.shape[dim] - 1, -1, -1), axis=dim)  # noqa: A001
    return input


def roll(input: mx.array, shifts: Any, dims: Any = None) -> mx.array:  # noqa: A002
    """Elements moved along axes, those at the end to the start."""
    return mx.roll(input, shifts, dims)


def movedim(input: mx.array, source: Any, destination: Any) -> mx.array:  # noqa: A002
    """Axes moved to other places, the rest in order."""
    sources = [source] if isinstance(source, int) else list(source)
    targets = [destination] if isinstance(destination, int) else list(destination)
    sources = [s % input.ndim for s in sources]
    placed = {t % input.ndim: s for s, t in zip(sources, targets, strict=True)}
    rest = iter(k for k in range(input.ndim) if k not in sources)
    return mx.transpose(
        input, [placed[k] if k in placed else next(rest) for k in range(input.ndim)]
    )


def to(input: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: A002
    """Cast to the dtype that is asked for, if any; devices have no effect here."""
    dtype = requested_dtype(args, kwargs)
    return input if dtype is None else input.astype(dtype)


def _cast(dtype: mx.Dtype) -> Callable[[mx.array], mx.array]:
    def cast(input: mx.array) -> mx.array:  # noqa: A002
        return input.astype(dtype)

    return cast


def unfold(input: mx.array, dimension: int, size: int, step: int) -> mx.array:  # noqa: A002
    """Windows of an axis, along a new last axis."""
    moved = mx.moveaxis(input, dimension, 0)
    starts = range(0, len(moved) - size + 1, step)
    windows = mx.stack([moved[k : k + size] for k in starts])
    windows = mx.moveaxis(windows, 1, -1)
    return mx.moveaxis(windows, 0, dimension % input.ndim)


def _same(input: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: A002
    """Return the array: memory, devices and gradient flags are no matter of MLX arrays."""
    return input


def _sizes(given: tuple[Any, ...]) -> tuple[int, ...]:
    """Return sizes that come one by one or as one sequence."""
    if len(given) == 1 and isinstance(given[0], tuple | list):
        given = tuple(given[0])
    return whole_numbers(given)


def whole_numbers(values: Sequence[Any]) -> tuple[int, ...]:
    """Return sizes as ints, those that were computed as arrays too."""
    plain: list[Any] = [v.item() if isinstance(v, mx.array) else v for v in values]
    return tuple(int(v) for v in plain)


SHAPES: dict[str, Callable[..., Any]] = {
    fn.__name__: fn
    for fn in (
        reshape, permute, transpose, t, squeeze, unsqueeze, flatten, unflatten, expand, repeat,
        repeat_interleave, size, cat, stack, hstack, vstack, dstack, split, chunk, tensor_split,
        unbind, flip, roll, movedim, to, unfold,
    )
} | {
    "type": type_, "view": reshape, "swapaxes": transpose, "swapdims": transpose, "concat": cat,
    "concatenate": cat, "moveaxis": movedim, "ravel": flatten, "tile": repeat,
    "broadcast_to": expand, "expand_as": lambda input, other: expand(input, other.shape),  # noqa: A006
    "view_as": lambda input, other: reshape(input, other.shape),  # noqa: A006
    "reshape_as": lambda input, other: reshape(input, other.shape),  # noqa: A006
    "type_as": lambda input, other: input.astype(other.dtype),  # noqa: A006
    "triu": lambda input, diagonal=0: mx.triu(input, diagonal),  # noqa: A006
    "tril": lambda input, diagonal=0: mx.tril(input, diagonal),  # noqa: A006
    "diagonal": mx.diagonal, "diag": mx.diag,
    "dim": lambda input: input.ndim, "ndimension": lambda input: input.ndim,  # noqa: A006
    "numel": lambda input: input.size if isinstance(input, mx.array) else math.prod(input),  # noqa: A006
    "contiguous": _same, "clone": _same, "cpu": _same, "cuda": _same, "requires_grad_": _same,
    "detach": mx.stop_gradient, "item": lambda input: input.item(),  # noqa: A006
    "tolist": lambda input: input.tolist(),  # noqa: A006
    "is_floating_point": lambda input: mx.issubdtype(input.dtype, mx.floating),  # noqa: A006
    "float": _cast(mx.float32), "double": _cast(mx.float64), "half": _cast(mx.float16),
    "bfloat16": _cast(mx.bfloat16), "int": _cast(mx.int32), "long": _cast(mx.int64),
    "short": _cast(mx.int16), "bool": _cast(mx.bool_),
}  # fmt: skip
"""torch's name → function."""
