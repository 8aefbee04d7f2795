"""What the xLSTM-family equations are written in: learned maps, and two normalisations.

A map is any callable, so that a quantized or low-rank-adapted linear layer fits as well as a plain
one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn

from lstm_bridge.core.affine import Linear, affine
from lstm_bridge.core.arrays import at_least_float32

Map = Callable[[mx.array], mx.array]


def identity(x: mx.array) -> mx.array:
    """Return x: the map of a normalisation or a dropout that is switched off."""
    return x


class LinearWeights(NamedTuple):
    """What a plain linear map knows."""

    W: mx.array  # [O, D]
    bias: mx.array | None  # [O]


class NormWeights(NamedTuple):
    """What a layer normalisation knows; the identity knows nothing."""

    gamma: mx.array | None = None
    beta: mx.array | None = None
    eps: float = 0.0


def linear_weights(map_: Map) -> LinearWeights | None:
    """Return a plain linear layer's weights, or None for any other map."""
    if not isinstance(map_, nn.Linear) or type(map_) not in (Linear, nn.Linear):
        return None
    return LinearWeights(map_["weight"], map_.get("bias"))


def norm_weights(map_: Map) -> NormWeights | None:
    """Return a layer normalisation's weights, empty ones of the identity, or None for others."""
    if map_ is identity:
        return NormWeights()
    if not isinstance(map_, nn.LayerNorm) or type(map_) is not nn.LayerNorm or "bias" not in map_:
        return None
    return NormWeights(map_["weight"], map_["bias"], map_.eps)


def linear_of(W: mx.array, bias: mx.array | None) -> Map:
    """Return the linear map of these weights."""
    return lambda x: affine(x, W, bias)


def norm_of(gamma: mx.array | None, beta: mx.array | None, eps: float) -> Map:
    """Return the layer normalisation of these weights, without any the identity."""
    if gamma is None:
        return identity
    return lambda x: mx.fast.layer_norm(x, gamma, beta, eps)


def unit_vector(n: mx.array, eps: float) -> mx.array:
    """Return ``n / (|n| + eps)`` along the last axis; the gradient of |n| at n = 0 is 0."""
    wide = at_least_float32(n)
    squares = mx.sum(wide * wide, axis=-1, keepdims=True)
    is_zero = squares == 0
    # sqrt has no slope at 0: keep its argument away from there on both branches of the gradient.
    norm = mx.where(is_zero, 0.0, mx.sqrt(mx.where(is_zero, 1.0, squares)))
    return (wide / (norm + eps)).astype(n.dtype)
