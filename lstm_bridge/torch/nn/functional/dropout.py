"""``torch.nn.functional``'s dropout family.

Source: torch.nn.functional 2.13.
"""

from __future__ import annotations

import mlx.core as mx

from lstm_bridge.torch.nn.arguments import probability

_SATURATED = -1.7580993408473766
"""What selu tends to at -∞: alpha dropout's value of a dropped element."""


def dropout(
    input: mx.array,  # noqa: A002
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
) -> mx.array:
    """Zero each element with probability p while training, and scale the others by 1 / (1 - p)."""
    return _dropped(input, p, training, input.shape)


def dropout1d(
    input: mx.array,  # noqa: A002
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
) -> mx.array:
    """Zero whole channels of ``[N, C, L]`` or ``[C, L]``."""
    return _dropped(input, p, training, (*input.shape[:-1], 1))


def dropout2d(
    input: mx.array,  # noqa: A002
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
) -> mx.array:
    """Zero whole channels of ``[N, C, H, W]``: a mask per sample and channel.

    As in torch, three axes are taken as ``[N, C, L]``.
    """
    return _dropped(input, p, training, (*input.shape[:2], *[1] * (input.ndim - 2)))


def alpha_dropout(
    input: mx.array,  # noqa: A002
    p: float = 0.5,
    training: bool = False,
    inplace: bool = False,
) -> mx.array:
    """Replace elements by selu's lower limit, keeping mean 0 and variance 1."""
    p = probability(p, "alpha_dropout p")
    if not training or p == 0:
        return input
    if p == 1:
        return mx.zeros_like(input)
    a = ((1 - p) * (1 + p * _SATURATED**2)) ** -0.5
    keep = mx.random.bernoulli(1 - p, input.shape)
    dropped = mx.array(_SATURATED).astype(input.dtype)
    kept = mx.where(keep, input, dropped)
    return mx.subtract(kept * a, a * p * _SATURATED)


def _dropped(x: mx.array, p: float, training: bool, shape: tuple[int, ...]) -> mx.array:
    p = probability(p, "dropout p")
    if not training or p == 0:
        return x
    if p == 1:
        return mx.zeros_like(x)
    keep = mx.random.bernoulli(1 - p, shape)
    return mx.where(keep, x / (1 - p), mx.zeros_like(x))
