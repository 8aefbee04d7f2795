"""``torch.nn.functional``'s linear and bilinear maps, distances and similarities.

Source: torch.nn.functional 2.13.
"""

from __future__ import annotations

import mlx.core as mx

from lstm_bridge.core.affine import affine
from lstm_bridge.errors import ShapeError
from lstm_bridge.torch.nn.functional.activation import norm


def linear(
    input: mx.array,  # noqa: A002
    weight: mx.array,
    bias: mx.array | None = None,
) -> mx.array:
    """``x W^T + b``."""
    if input.shape[-1] != weight.shape[-1]:
        raise ShapeError(
            "linear input", expected=f"last axis {weight.shape[-1]}", got=str(list(input.shape))
        )
    return affine(input, weight, bias)


def bilinear(
    input1: mx.array,
    input2: mx.array,
    weight: mx.array,
    bias: mx.array | None = None,
) -> mx.array:
    """``x1^T W_o x2 + b_o`` for each output o: ``weight [O, I1, I2]``."""
    outs, I1, I2 = weight.shape
    if input1.shape[-1] != I1 or input2.shape[-1] != I2 or input1.shape[:-1] != input2.shape[:-1]:
        raise ShapeError(
            "bilinear inputs",
            expected=f"[*, {I1}] and [*, {I2}]",
            got=f"{list(input1.shape)} and {list(input2.shape)}",
        )
    left = affine(input1.reshape(-1, I1), weight.swapaxes(0, 1).reshape(I1, outs * I2), turned=True)
    y = mx.sum(left.reshape(-1, outs, I2) * input2.reshape(-1, 1, I2), axis=-1)
    y = y.reshape(*input1.shape[:-1], outs)
    return y if bias is None else y + bias


def cosine_similarity(x1: mx.array, x2: mx.array, dim: int = 1, eps: float = 1e-8) -> mx.array:
    """``x1 · x2 / (max(|x1|, eps) max(|x2|, eps))`` along an axis."""
    sizes = (mx.maximum(norm(x, 2, dim, keepdims=True), eps) for x in (x1, x2))
    first, second = sizes
    return mx.sum((x1 / first) * (x2 / second), axis=dim)


def pairwise_distance(
    x1: mx.array, x2: mx.array, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> mx.array:
    """The p-norm of ``x1 - x2 + eps`` along the last axis."""
    return norm(x1 - x2 + eps, p, -1, keepdims=keepdim)
