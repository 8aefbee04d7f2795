"""Products of matrices, of batches of them, and of arrays by index: who computes them.

On a Linux CPU the fused kernel, as in ``affine``. Shape letters: M rows, D inner, O columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import mlx.core as mx

from lstm_bridge.core.affine import affine
from lstm_bridge.core.native.ops import DENSE_SERVES, Inputs, Operation


def matmul(a: mx.array, b: mx.array) -> mx.array:
    """Return the matrix product of the last two axes; the others are broadcast.

    Args:
        a: ``[..., M, D]``, or ``[D]``.
        b: ``[..., D, O]``, or ``[D]``.

    Returns:
        ``[..., M, O]``, without the axis that a vector lacks.
    """
    if not DENSE_SERVES or not a.ndim or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        return mx.matmul(a, b)
    if b.ndim == 2:
        return affine(a, b, turned=True)
    y = None if a.ndim == 1 else _fused_products(a, b)
    return mx.matmul(a, b) if y is None else y


def einsum(subscripts: str, *operands: mx.array) -> mx.array:
    """Return Einstein's sum; that of two arrays over common letters is a batch of products."""
    way = _contraction(subscripts, operands) if DENSE_SERVES else None
    if way is None:
        return mx.einsum(subscripts, *operands)
    sizes = way.sizes

    def shape(*groups: str) -> list[int]:
        return [sizes[letter] for group in groups for letter in group]

    def flat(*groups: str) -> list[int]:
        return [*shape(way.batch), *(math.prod(shape(group)) for group in groups)]

    (left, right), (a, b) = way.order, operands
    a = a.transpose(left).reshape(flat(way.left, way.inner))
    b = b.transpose(right).reshape(flat(way.inner, way.right))
    return matmul(a, b).reshape(shape(way.batch, way.left, way.right)).transpose(way.back)


def scaled(x: mx.array, scale: mx.array) -> mx.array:
    """Return ``scale x``, where scale is a single number: its gradient is summed up in two stages.

    MLX's sums lose digits with their length, and that one is over all of x.

    Args:
        x: at least one axis.
        scale: ``[]`` or ``[1]``.
    """
    return mx.broadcast_to(scale, x.shape[-1:]) * x


class _Contraction(NamedTuple):
    """Letters of a sum that is a batch of products, and how the axes are put in order for it."""

    batch: str
    left: str
    inner: str
    right: str
    sizes: dict[str, int]
    order: tuple[list[int], list[int]]
    back: list[int]


def _contraction(subscripts: str, operands: Sequence[mx.array]) -> _Contraction | None:
    given, arrow, out = subscripts.replace(" ", "").partition("->")
    names = given.split(",")
    if not arrow or len(names) != 2 or len(operands) != 2 or not _plain([*names, out]):
        return None
    a, b = names
    if any(len(name) != x.ndim for name, x in zip(names, operands, strict=True)):
        return None
    sizes = dict(zip(a + b, [*operands[0].shape, *operands[1].shape], strict=True))
    if any(sizes[letter] != size for letter, size in zip(a, operands[0].shape, strict=True)):
        return None
    batch = "".join(letter for letter in a if letter in b and letter in out)
    inner = "".join(letter for letter in a if letter in b and letter not in out)
    left, right = (
        "".join(letter for letter in own if letter not in other) for own, other in ((a, b), (b, a))
    )
    found = batch + left + right
    if not inner or sorted(found) != sorted(out):
        return None
    order = [a.index(k) for k in batch + left + inner], [b.index(k) for k in batch + inner + right]
    return _Contraction(batch, left, inner, right, sizes, order, [found.index(k) for k in out])


def _plain(names: Sequence[str]) -> bool:
    """Whether all axes are letters, and each of an array is another one."""
    return all(not name or (name.isalpha() and len(set(name)) == len(name)) for name in names)


def _fused_products(a: mx.array, b: mx.array) -> mx.array | None:
    batch = _broadcast(a.shape[:-2], b.shape[:-2])
    if batch is None:
        return None
    four = (1,) * (2 - len(batch)) + batch if len(batch) <= 2 else (1, math.prod(batch))
    sides = [
        mx.broadcast_to(x, (*batch, *x.shape[-2:])).reshape(*four, *x.shape[-2:]) for x in (a, b)
    ]
    done = _PRODUCTS.fused(sides)
    return None if done is None else done[0].reshape(*batch, a.shape[-2], b.shape[-1])


def _broadcast(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...] | None:
    """Return the shape to which both are broadcast, or None."""
    count = max(len(a), len(b))
    pairs = list(
        zip((1,) * (count - len(a)) + tuple(a), (1,) * (count - len(b)) + tuple(b), strict=True)
    )
    if any(m != n and 1 not in (m, n) for m, n in pairs):
        return None
    return tuple(n if m == 1 else m for m, n in pairs)


def _composed_products(inputs: Inputs, settings: Sequence[float]) -> list[mx.array]:
    a, b = inputs
    assert a is not None
    assert b is not None
    return [mx.matmul(a, b)]


_PRODUCTS = Operation("LSTMBridgeProducts", _composed_products)
