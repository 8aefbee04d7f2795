r"""THE EQUATIONS of pytorch-forecasting's mLSTM.

It is not the mLSTM of the xLSTM paper: the gates are sigmoids, the cell is a vector, there is no
stabiliser, and neither a query nor the previous hidden state reaches the output.

Shape letters: N batch, L length, D input, H hidden. LN is layer normalisation or the identity.

.. math::
    k_t &= LN_k\big((W_k x_t + b_k) / \sqrt H\big) \qquad v_t = LN_v(W_v x_t + b_v)   && [N, H] \\
    i_t, f_t, o_t &= \sigma(LN_\bullet(W_\bullet x_t + b_\bullet)) \\
    c_t &= f_t \odot c_{t-1} + i_t \odot \textstyle\sum_a (k_t v_t^T)_{a \cdot}
         = f_t \odot c_{t-1} + i_t \odot (\textstyle\sum k_t)\, v_t \\
    n_t &= f_t \odot n_{t-1} + i_t \odot k_t \\
    h_t &= o_t \odot \tanh\big(c_t \odot n_t / (\lVert n_t \rVert + \epsilon)\big)

Nothing recurs through h: c and n are linear recurrences, so a whole sequence is five matmuls and a
scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import mlx.core as mx

from lstm_bridge.core.affine import sigmoid, tanh
from lstm_bridge.core.maps import (
    Map,
    identity,
    linear_of,
    linear_weights,
    norm_of,
    norm_weights,
    unit_vector,
)
from lstm_bridge.core.native.ops import Inputs, Operation
from lstm_bridge.core.scan import linear_recurrence

EPS = 1e-8


class Branch(NamedTuple):
    """One affine map of the input and the normalisation after it."""

    affine: Map  # [..., D] -> [..., H]
    norm: Map = identity


class Branches(NamedTuple):
    """Key, value and the three gates."""

    k: Branch
    v: Branch
    i: Branch
    f: Branch
    o: Branch


class Drive(NamedTuple):
    """All that a step takes from its input, ``[..., H]`` each."""

    f: mx.array  # decay of c and n
    to_c: mx.array  # what is added to c
    to_n: mx.array  # what is added to n
    o: mx.array  # output gate


def drive(x: mx.array, branches: Branches) -> Drive:
    """Compute the input's part of one step or of many: ``[..., D] -> 4 × [..., H]``."""
    key = branches.k.affine(x)
    k = branches.k.norm(key / key.shape[-1] ** 0.5)
    v = branches.v.norm(branches.v.affine(x))
    i, f, o = (sigmoid(g.norm(g.affine(x))) for g in (branches.i, branches.f, branches.o))
    return Drive(f, i * (k.sum(axis=-1, keepdims=True) * v), i * k, o)


def read(c: mx.array, n: mx.array, o: mx.array) -> mx.array:
    """Return the hidden state of cell state c, normaliser n and output gate o."""
    return o * tanh(c * unit_vector(n, EPS))


def step(
    x: mx.array, c: mx.array, n: mx.array, branches: Branches
) -> tuple[mx.array, mx.array, mx.array]:
    """Advance one time step.

    Args:
        x: input, ``[N, D]``.
        c: previous cell state, ``[N, H]``.
        n: previous normaliser, ``[N, H]``.
        branches: the five learned maps.

    Returns:
        ``h_t``, ``c_t`` and ``n_t``, ``[N, H]`` each.
    """
    h, c, n = run(x[None], c, n, branches)
    return h[0], c, n


def run(
    x: mx.array,
    c: mx.array,
    n: mx.array,
    branches: Branches,
    residual: mx.array | None = None,
) -> tuple[mx.array, mx.array, mx.array]:
    """Advance all time steps at once.

    Args:
        x: inputs, ``[L, N, D]``, L ≥ 1.
        c: cell state before the first step, ``[N, H]``.
        n: normaliser before the first step, ``[N, H]``.
        branches: the five learned maps.
        residual: added to every ``h_t``, ``[L, N, H]``. Default: nothing.

    Returns:
        Every ``h_t`` ``[L, N, H]``, the last ``c`` and the last ``n``, ``[N, H]`` each.
    """
    weights = _weights(branches)
    if weights is not None:
        done = _FUSED.fused((x, c, n, residual, *weights), (_eps(branches),))
        if done is not None:
            return done[0], done[1], done[2]
    return _scan(x, c, n, branches, residual)


def _scan(
    x: mx.array, c: mx.array, n: mx.array, branches: Branches, residual: mx.array | None
) -> tuple[mx.array, mx.array, mx.array]:
    """Advance all time steps by MLX's own operations."""
    f, to_c, to_n, o = drive(x, branches)
    # One scan for both: they share their decays, and so the products of them.
    both = linear_recurrence(f[:, None], mx.stack([to_c, to_n], axis=1), mx.stack([c, n]))
    cs, ns = both[:, 0], both[:, 1]
    h = read(cs, ns, o)
    return h if residual is None else h + residual, cs[-1], ns[-1]


def _weights(branches: Branches) -> list[mx.array | None] | None:
    """Four arrays per branch, or None where a branch is no plain map."""
    found: list[mx.array | None] = []
    for branch in branches:
        linear, norm = linear_weights(branch.affine), norm_weights(branch.norm)
        if (
            linear is None
            or norm is None
            or (norm.gamma is not None and norm.eps != _eps(branches))
        ):
            return None
        found += [*linear, norm.gamma, norm.beta]
    return found


def _eps(branches: Branches) -> float:
    norm = norm_weights(branches.k.norm)
    return 0.0 if norm is None else norm.eps


def _composed(inputs: Inputs, settings: Sequence[float]) -> list[mx.array]:
    x, c, n, residual, *rest = inputs
    fours = [rest[k : k + 4] for k in range(0, len(rest), 4)]
    branches = Branches(
        *(Branch(linear_of(W, b), norm_of(g, e, settings[0])) for W, b, g, e in fours)  # type: ignore[arg-type]
    )
    return list(_scan(x, c, n, branches, residual))  # type: ignore[arg-type]


_FUSED = Operation("LSTMBridgeMLSTM", _composed)
