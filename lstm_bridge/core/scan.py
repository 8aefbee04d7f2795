"""A linear recurrence over time without a loop over all of it.

Shape letters: L length; the other axes are the caller's.
"""

from __future__ import annotations

import mlx.core as mx

SPAN = 8  # steps that are taken one by one


def linear_recurrence(f: mx.array, u: mx.array, c0: mx.array) -> mx.array:
    """Solve ``c_t = f_t c_{t-1} + u_t`` for every t by an associative scan.

    Several steps of such a recurrence are one step of the same kind, with the product of their
    decays. So all spans of eight steps are solved side by side, each as if it began at 0; what they
    begin with is a recurrence over spans, an eighth as long. That touches every number a few times,
    in some 24 operations for each factor of eight in L. It multiplies and adds, never divides:
    decays in (0, 1) can underflow to 0, not overflow.

    Args:
        f: decays, ``[L, ...]``, broadcast to u.
        u: inputs, ``[L, ...]``.
        c0: state before the first step, ``[...]``, broadcast to one step of u.

    Returns:
        The states c_1 … c_L, ``[L, ...]``.
    """
    L = len(u)
    if L <= SPAN:
        cs = [c0[None]]
        for decay, more in zip(mx.split(f, L), mx.split(u, L), strict=True):
            cs.append(decay * cs[-1] + more)
        return mx.concatenate(cs[1:])
    fs, us = _positions(f, 1.0), _positions(u, 0.0)
    decays, states = fs[:1], us[:1]
    for decay, more in zip(fs[1:], us[1:], strict=True):
        decays.append(decay * decays[-1])
        states.append(decay * states[-1] + more)
    ends = linear_recurrence(decays[-1][:, 0], states[-1][:, 0], c0)
    begins = mx.concatenate([mx.broadcast_to(c0, ends[0].shape)[None], ends[:-1]])
    c = mx.concatenate(states, axis=1) + mx.concatenate(decays, axis=1) * begins[:, None]
    return mx.flatten(c, 0, 1)[:L]


def _positions(a: mx.array, fill: float) -> list[mx.array]:
    """Return the first, second … steps of all spans, ``[spans, 1, ...]`` each."""
    missing = -len(a) % SPAN
    if missing:
        a = mx.concatenate([a, mx.full((missing, *a.shape[1:]), fill, a.dtype)])
    # Not sliced one by one: the gradient of a split is one concatenation.
    return list(mx.split(mx.unflatten(a, 0, (len(a) // SPAN, SPAN)), SPAN, axis=1))
