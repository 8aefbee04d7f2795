"""A linear recurrence over time without a loop over time.

Shape letters: L length; the other axes are the caller's.
"""

from __future__ import annotations

import mlx.core as mx


def linear_recurrence(f: mx.array, u: mx.array, c0: mx.array) -> mx.array:
    """Solve ``c_t = f_t c_{t-1} + u_t`` for every t at once.

    Two steps of such a recurrence are one step of the same kind, with decay ``f_t f_{t-1}`` and
    input ``f_t u_{t-1} + u_t``, so doubling the span takes ceil(log2 L) element-wise rounds. It
    multiplies and adds, never divides: decays in (0, 1) can underflow to 0, not overflow.

    Args:
        f: decays, ``[L, ...]``, broadcast to u.
        u: inputs, ``[L, ...]``.
        c0: state before the first step, ``[...]``, broadcast to one step of u.

    Returns:
        The states c_1 … c_L, ``[L, ...]``.
    """
    c = mx.concatenate([u[:1] + f[:1] * c0, u[1:]])
    span = 1
    while span < len(c):
        c = mx.concatenate([c[:span], c[span:] + f[span:] * c[:-span]])
        f = mx.concatenate([f[:span], f[span:] * f[:-span]])
        span *= 2
    return c
