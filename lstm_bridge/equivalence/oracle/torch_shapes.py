"""torch's indexing and reshaping in NumPy, by torch's names. Source: torch 2.13.

Sizes and places may be plain numbers or arrays of one, as models compute them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lstm_bridge.equivalence.oracle.around import Array
from lstm_bridge.errors import UnsupportedError

Operation = Callable[..., Any]


def kind_of(name: Any, own: Any = np.float64) -> Any:
    """Return the NumPy dtype of a torch dtype's name; floats stay as wide as the oracle's."""
    if name is None:
        return own
    text = str(name).removeprefix("torch.")
    if text.startswith(("float", "bfloat", "half", "double")):
        return own if np.issubdtype(own, np.floating) else np.float64
    return np.dtype({"long": "int64", "int": "int32", "short": "int16"}.get(text, text))


def shape_of(size: tuple[Any, ...], options: dict[str, Any]) -> tuple[int, ...]:
    """Return sizes that come one by one, as one sequence or by name."""
    given = (options["size"],) if not size and "size" in options else size
    if len(given) == 1 and isinstance(given[0], tuple | list):
        given = tuple(given[0])
    return tuple(int(n) for n in given)


# --- indexing ---------------------------------------------------------------------------------


def _key(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(_key(part) for part in index)
    if isinstance(index, slice):
        return slice(
            *(None if v is None else int(v) for v in (index.start, index.stop, index.step))
        )
    return np.asarray(list(index)) if isinstance(index, list | range) else index


def getitem(input: Any, index: Any) -> Any:  # noqa: A002
    """``input[index]`` of an array, or of a tuple, list or dictionary."""
    return input[_key(index)] if isinstance(input, np.ndarray) else input[index]


def setitem(input: Array, index: Any, value: Any) -> Array:  # noqa: A002
    """A copy in which ``[index]`` is ``value``."""
    made = np.array(input)
    made[_key(index)] = value
    return made


def _gather(input: Array, dim: int, index: Array) -> Array:  # noqa: A002
    kept = tuple(
        slice(None) if k == dim % input.ndim else slice(n) for k, n in enumerate(index.shape)
    )
    return np.take_along_axis(input[kept], index, dim)


def _narrow(input: Array, dim: int, start: int, length: int) -> Array:  # noqa: A002
    first = start + input.shape[dim] if start < 0 else start
    return np.take(input, range(first, first + length), axis=dim)


def _scatter(input: Array, dim: int, index: Array, src: Any) -> Array:  # noqa: A002
    made = np.array(input)
    np.put_along_axis(made, index, src, axis=dim)
    return made


def _take_along(input: Array, indices: Array, dim: int | None = None) -> Array:  # noqa: A002
    return np.take_along_axis(input.reshape(-1) if dim is None else input, indices, dim or 0)


def _scatter_add(input: Array, dim: int, index: Array, src: Array) -> Array:  # noqa: A002
    made, kept = np.array(input), src[tuple(slice(n) for n in index.shape)]
    places: list[Any] = list(np.indices(index.shape))
    places[dim % input.ndim] = index
    np.add.at(made, tuple(places), kept)
    return made


def _index_add(
    input: Array,  # noqa: A002
    dim: int,
    index: Array,
    source: Array,
    *,
    alpha: float = 1,
) -> Array:
    made = np.array(input)
    places: Any = (*[slice(None)] * (dim % input.ndim), index)
    np.add.at(made, places, source * alpha)
    return made


INDEXING: dict[str, Operation] = {
    "getitem": getitem, "setitem": setitem, "gather": _gather, "narrow": _narrow,
    "scatter": _scatter,
    "scatter_add": _scatter_add,
    "index_add": _index_add, "take_along_dim": _take_along,
    "index_select": lambda input, dim, index: np.take(input, index, axis=dim),  # noqa: A006
    "select": lambda input, dim, index: np.take(input, int(index), axis=dim),  # noqa: A006
}  # fmt: skip


# --- shapes -----------------------------------------------------------------------------------


def _sizes(given: tuple[Any, ...]) -> tuple[int, ...]:
    return shape_of(given, {})


def _reshape(input: Array, *shape: Any, **o: Any) -> Array:  # noqa: A002
    if len(shape) == 1 and isinstance(shape[0], str):  # view(dtype) of torch
        raise UnsupportedError("oracle of torch.view", expected="sizes", got=shape[0])
    return input.reshape(_sizes(shape or (o["shape"],)))


def _squeeze(input: Array, dim: Any = None) -> Array:  # noqa: A002
    dims = range(input.ndim) if dim is None else (dim,) if isinstance(dim, int) else dim
    return np.squeeze(input, tuple(d % input.ndim for d in dims if input.shape[d] == 1))


def _flatten(input: Array, start_dim: int = 0, end_dim: int = -1) -> Array:  # noqa: A002
    start, end = start_dim % input.ndim, end_dim % input.ndim
    return input.reshape(*input.shape[:start], -1, *input.shape[end + 1 :])


def _unflatten(input: Array, dim: int, sizes: Sequence[int]) -> Array:  # noqa: A002
    at = dim % input.ndim
    return input.reshape(*input.shape[:at], *(int(n) for n in sizes), *input.shape[at + 1 :])


def _expand(input: Array, *sizes: Any) -> Array:  # noqa: A002
    wanted = _sizes(sizes)
    own = (1,) * (len(wanted) - input.ndim) + input.shape
    return np.broadcast_to(input, [o if w == -1 else w for w, o in zip(wanted, own, strict=True)])


def _split(tensor: Array, split_size_or_sections: Any, dim: int = 0) -> tuple[Array, ...]:
    L = tensor.shape[dim]
    if isinstance(split_size_or_sections, int):
        ends = list(range(split_size_or_sections, L, split_size_or_sections))
    else:
        ends = [int(n) for n in np.cumsum(split_size_or_sections)[:-1]]
    return tuple(np.split(tensor, ends, axis=dim))


def _chunk(input: Array, chunks: int, dim: int = 0) -> tuple[Array, ...]:  # noqa: A002
    return _split(input, max(1, math.ceil(input.shape[dim] / chunks)), dim)


def _tensor_split(input: Array, indices_or_sections: Any, dim: int = 0) -> tuple[Array, ...]:  # noqa: A002
    return tuple(np.array_split(input, indices_or_sections, axis=dim))


def _unfold(input: Array, dimension: int, size: int, step: int) -> Array:  # noqa: A002
    starts = range(0, input.shape[dimension] - size + 1, step)
    parts = [np.take(input, range(k, k + size), axis=dimension) for k in starts]
    at = dimension % input.ndim
    return np.moveaxis(np.stack(parts, axis=at), at + 1, -1)


def _cat(tensors: Sequence[Array], dim: int = 0, *, axis: int | None = None) -> Array:
    arrays = [x for x in tensors if x.shape != (0,)] or list(tensors)
    return np.concatenate(arrays, axis=dim if axis is None else axis)


def _roll(input: Array, shifts: Any, dims: Any = None) -> Array:  # noqa: A002
    return np.roll(input, shifts, tuple(dims) if isinstance(dims, list) else dims)


def cast(name: str) -> Operation:
    """Return a cast to a dtype of torch's."""
    return lambda input, *_, **__: input.astype(kind_of(name, input.dtype))  # noqa: A006


def to(input: Any, *args: Any, dtype: Any = None, **_: Any) -> Any:  # noqa: A002
    """Cast to the dtype among the arguments, or to another array's, if any."""
    wanted = [a for a in (*args, dtype) if isinstance(a, str) and hasattr(np, a.split(".")[-1])]
    others = [a for a in args if isinstance(a, np.ndarray)]
    if wanted or dtype is not None:
        return input.astype(kind_of((wanted or [dtype])[0], input.dtype))
    return input.astype(others[0].dtype) if others else input


def _same(input: Any, *_: Any, **__: Any) -> Any:  # noqa: A002
    return input


def _size(input: Array, dim: int | None = None) -> Any:  # noqa: A002
    return input.shape if dim is None else input.shape[dim]


def _repeat_interleave(input: Array, repeats: int, dim: int | None = None) -> Array:  # noqa: A002
    return np.repeat(input.reshape(-1) if dim is None else input, repeats, axis=dim or 0)


def _tile(input: Array, *repeats: Any) -> Array:  # noqa: A002
    return np.tile(input, _sizes(repeats))


def _unbind(input: Array, dim: int = 0) -> tuple[Array, ...]:  # noqa: A002
    return tuple(np.moveaxis(input, dim, 0))


def _swapped(input: Array, dim0: int, dim1: int) -> Array:  # noqa: A002
    return np.swapaxes(input, dim0, dim1)


def _moved(input: Array, source: Any, destination: Any) -> Array:  # noqa: A002
    return np.moveaxis(input, source, destination)


def _as_other(input: Array, other: Array) -> Array:  # noqa: A002
    return input.reshape(other.shape)


def _rank(input: Array) -> int:  # noqa: A002
    return input.ndim


SHAPES: dict[str, Operation] = {
    **dict.fromkeys(("reshape", "view"), _reshape),
    "permute": lambda input, *dims: np.transpose(input, _sizes(dims)),  # noqa: A006
    **dict.fromkeys(
        ("transpose", "swapaxes", "swapdims"), _swapped
    ),
    "t": np.transpose, "squeeze": _squeeze,
    "unsqueeze": lambda input, dim: np.expand_dims(input, dim),  # noqa: A006
    "flatten": _flatten, "ravel": lambda input: input.reshape(-1), "unflatten": _unflatten,  # noqa: A006
    "expand": _expand, "broadcast_to": _expand,
    "expand_as": lambda input, other: np.broadcast_to(input, other.shape),  # noqa: A006
    **dict.fromkeys(
        ("view_as", "reshape_as"), _as_other
    ),
    "type_as": lambda input, other: input.astype(other.dtype),  # noqa: A006
    "repeat": _tile, "tile": _tile, "repeat_interleave": _repeat_interleave, "size": _size,
    **dict.fromkeys(("cat", "concat", "concatenate"), _cat),
    "stack": lambda tensors, dim=0: np.stack(list(tensors), axis=dim),
    "hstack": lambda tensors: np.hstack(list(tensors)),
    "vstack": lambda tensors: np.vstack(list(tensors)),
    "split": _split, "chunk": _chunk, "tensor_split": _tensor_split, "unbind": _unbind,
    "flip": lambda input, *dims: np.flip(input, _sizes(dims)),  # noqa: A006
    "roll": _roll,
    **dict.fromkeys(
        ("movedim", "moveaxis"),
        _moved,
    ),
    "unfold": _unfold, "to": to,
    "triu": lambda input, diagonal=0: np.triu(input, diagonal),  # noqa: A006
    "tril": lambda input, diagonal=0: np.tril(input, diagonal),  # noqa: A006
    "diagonal": lambda input, offset=0, dim1=0, dim2=1: np.diagonal(input, offset, dim1, dim2),  # noqa: A006
    "diag": lambda input, diagonal=0: np.diag(input, diagonal),  # noqa: A006
    **dict.fromkeys(("dim", "ndimension"), _rank),
    "numel": lambda input: input.size if isinstance(input, np.ndarray) else math.prod(input),  # noqa: A006
    **dict.fromkeys(("contiguous", "clone", "cpu", "cuda", "requires_grad_", "detach"), _same),
    "item": lambda input: input.item(), "tolist": lambda input: input.tolist(),  # noqa: A006
    "is_floating_point": lambda input: np.issubdtype(input.dtype, np.floating),  # noqa: A006
    **{name: cast(kind) for name, kind in {
        "float": "float32", "double": "float64", "half": "float16", "bfloat16": "bfloat16",
        "int": "int32", "long": "int64", "short": "int16", "bool": "bool",
    }.items()},
}  # fmt: skip
