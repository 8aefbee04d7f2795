"""What the xLSTM-family equations are written in: learned maps, and two normalisations.

A map is any callable, so that a quantized or low-rank-adapted linear layer fits as well as a plain
one.
"""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx

Map = Callable[[mx.array], mx.array]


def identity(x: mx.array) -> mx.array:
    """Return x: the map of a normalisation or a dropout that is switched off."""
    return x


def at_least_float32(x: mx.array) -> mx.array:
    """Widen float16 and bfloat16, whose squares and sums over H overflow or vanish."""
    return x.astype(mx.result_type(x.dtype, mx.float32))


def unit_vector(n: mx.array, eps: float) -> mx.array:
    """Return ``n / (|n| + eps)`` along the last axis; the gradient of |n| at n = 0 is 0."""
    wide = at_least_float32(n)
    squares = mx.sum(wide * wide, axis=-1, keepdims=True)
    is_zero = squares == 0
    # sqrt has no slope at 0: keep its argument away from there on both branches of the gradient.
    norm = mx.where(is_zero, 0.0, mx.sqrt(mx.where(is_zero, 1.0, squares)))
    return (wide / (norm + eps)).astype(n.dtype)
