"""How one target array is made from source arrays: a small expression over named operations.

Operations work on the bits as stored (bfloat16 as uint16), so all of them but ``sum`` only move
bytes, and what only moves bytes is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Shape = tuple[int, ...]


class Entry(NamedTuple):
    """What planning needs to know of a source tensor."""

    shape: Shape
    dtype: str  # safetensors code


@dataclass(frozen=True, slots=True)
class Source:
    """A tensor of the source file, taken as it is."""

    name: str


@dataclass(frozen=True, slots=True)
class Apply:
    """An operation over other expressions."""

    operation: str
    operands: tuple[Source | Apply, ...]


Recipe = Source | Apply


class Operation(NamedTuple):
    """One way to make an array from others: its bytes, its shape, and its name for the report."""

    evaluate: Callable[..., Array]
    shape: Callable[..., Shape]
    says: str
    inverse: str | None


def _cudnn_kernel(*gates: Array) -> Array:
    """Undo cuDNN's storage: each gate's block is a raw reinterpretation, not a transpose."""
    return np.concatenate([g.T.reshape(g.shape, order="F") for g in gates], axis=-1)


def _cudnn_split(op: Callable[..., Array], gates: int = 4) -> Callable[[Array], Array]:
    return lambda kernel: op(*np.split(kernel, gates, axis=-1))


def _sum(a: Array, b: Array) -> Array:
    """Add two biases in their own dtype, rounding once (bfloat16 arrives as bits).

    A bias that is all zeros leaves the other as it is, bit for bit: −0 + 0 would be 0.
    """
    for zeros, other in ((a, b), (b, a)):
        if not zeros.any():
            return other
    return _narrow(_wide(a) + _wide(b), a)


def _weight_norm(g: Array, v: Array) -> Array:
    """``g v / |v|`` over all axes but the first (over all of them for a scalar g), rounded once."""
    axes = tuple(range(1, v.ndim)) if g.ndim else None
    wide_g, wide_v = (_wide(a) for a in (g, v))
    norm = np.sqrt((wide_v**2).sum(axis=axes, keepdims=g.ndim > 0))
    return _narrow(wide_g * wide_v / norm, v)


def _wide(a: Array) -> Array:
    return (_from_bfloat16(a) if a.dtype == np.uint16 else a).astype(np.float64)


def _narrow(wide: Array, like: Array) -> Array:
    if like.dtype == np.uint16:
        return _to_bfloat16(wide.astype(np.float32))
    return wide.astype(like.dtype)


def _from_bfloat16(bits: Array) -> Array:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _to_bfloat16(values: Array) -> Array:
    bits = values.view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # nearest, ties to even
    quiet = (bits >> 16) | 0x40  # rounding must not turn a NaN into an infinity
    return np.where(np.isnan(values), quiet, rounded).astype(np.uint16)


def _joined(*shapes: Shape) -> Shape:
    return (*shapes[0][:-1], sum(s[-1] for s in shapes))


OPERATIONS: dict[str, Operation] = {
    "copy": Operation(lambda a: a, lambda s: s, "copied", "copy"),
    "transpose": Operation(lambda a: a.T, lambda s: s[::-1], "transposed", "transpose"),
    "join gates": Operation(
        lambda *gates: np.concatenate(gates, axis=-1), _joined, "gates joined as i, f, g, o", None
    ),
    "cudnn kernel": Operation(
        _cudnn_split(_cudnn_kernel), lambda s: s, "cuDNN input kernel reinterpreted", None
    ),
    "cudnn recurrent": Operation(
        _cudnn_split(lambda *gates: np.concatenate([g.T for g in gates], axis=-1)),
        lambda s: s,
        "cuDNN recurrent kernel transposed per gate",
        None,
    ),
    "cudnn bias": Operation(
        lambda b: _sum(*np.split(b, 2)), lambda s: (s[0] // 2,), "cuDNN biases summed", None
    ),
    "cudnn gru kernel": Operation(
        _cudnn_split(_cudnn_kernel, 3), lambda s: s, "cuDNN input kernel reinterpreted", None
    ),
    "cudnn gru recurrent": Operation(
        _cudnn_split(lambda *gates: np.concatenate([g.T for g in gates], axis=-1), 3),
        lambda s: s,
        "cuDNN recurrent kernel transposed per gate",
        None,
    ),
    "cudnn gru bias": Operation(
        lambda b: b.reshape(2, -1),
        lambda s: (2, s[0] // 2),
        "cuDNN biases one under the other",
        None,
    ),
    "drop second axis": Operation(
        lambda a: a[:, 0], lambda s: (s[0], *s[2:]), "an axis of length 1 left out", None
    ),
    "channels last": Operation(
        lambda a: a.transpose(2, 3, 1, 0),
        lambda s: (*s[2:], s[1], s[0]),
        "channels moved last",
        None,
    ),
    "flip windows": Operation(
        lambda a: a[tuple(slice(None, None, -1) for _ in a.shape[:-2])],
        lambda s: s,
        "windows flipped, as Theano convolves",
        "flip windows",
    ),
    "sum": Operation(_sum, lambda a, b: a, "two biases summed", None),
    "weight norm": Operation(_weight_norm, lambda g, v: v, "weight_norm applied", None),
    "zeros like": Operation(np.zeros_like, lambda s: s, "zeros of its shape", None),
}
"""Every operation a dialect may use, by the name its table spells."""


def applied(operation: str, recipe: Recipe) -> Recipe:
    """Return an operation over a recipe, simplified: copies vanish, and so do inverse pairs."""
    if operation == "copy":
        return recipe
    if isinstance(recipe, Apply) and OPERATIONS[recipe.operation].inverse == operation:
        return recipe.operands[0]
    return Apply(operation, (recipe,))


def evaluate(recipe: Recipe, read: Callable[[str], Array]) -> Array:
    """Return the array that ``recipe`` describes, C-contiguous, reading sources with ``read``."""
    return np.asarray(_evaluate(recipe, read), order="C")


def _evaluate(recipe: Recipe, read: Callable[[str], Array]) -> Array:
    if isinstance(recipe, Source):
        return read(recipe.name)
    operation = OPERATIONS[recipe.operation]
    return operation.evaluate(*(_evaluate(operand, read) for operand in recipe.operands))


def shape_of(recipe: Recipe, entries: Mapping[str, Entry]) -> Shape:
    """Return the shape that ``recipe`` will have, without reading anything."""
    if isinstance(recipe, Source):
        return entries[recipe.name].shape
    return OPERATIONS[recipe.operation].shape(*(shape_of(o, entries) for o in recipe.operands))


def sources(recipe: Recipe) -> Iterator[str]:
    """Yield the names of the source tensors that ``recipe`` reads."""
    if isinstance(recipe, Source):
        yield recipe.name
    else:
        for operand in recipe.operands:
            yield from sources(operand)


def describe(recipe: Recipe) -> str:
    """Return what happens to the bytes, for the report: ``copied``, ``transposed`` …"""
    steps = [OPERATIONS[name].says for name in _operations(recipe) if name != "copy"]
    return ", then ".join(reversed(steps)) if steps else "copied"


def _operations(recipe: Recipe) -> Iterator[str]:
    if isinstance(recipe, Apply):
        yield recipe.operation
        for operand in recipe.operands[:1]:
            yield from _operations(operand)
