r"""THE EQUATIONS of one LSTM step (Hochreiter & Schmidhuber 1997, with Gers's forget gate).

Shape letters: N batch, D input, H hidden, P projection (P = H without one).

.. math::
    z_t &= W_x x_t + b + W_h h_{t-1}            && [N, 4H], \text{ gates in order } i, f, g, o \\
    i_t, f_t, o_t &= \sigma(z^i_t),\ \sigma(z^f_t),\ \sigma(z^o_t) \\
    g_t &= \phi(z^g_t) \\
    c_t &= f_t \odot c_{t-1} + i_t \odot g_t    && [N, H] \\
    h_t &= W_p\,(o_t \odot \phi(c_t))           && [N, P], \text{ without } W_p \text{ when } P = H
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, TypeVar

import mlx.core as mx

from lstm_bridge.core.activations import Activation, Gate, gate
from lstm_bridge.core.affine import affine
from lstm_bridge.core.weights import LSTMWeights

_T = TypeVar("_T")


def input_part(x: mx.array, weights: LSTMWeights) -> mx.array:
    """Return ``x Wx^T + bias`` for any leading axes: ``[..., D] -> [..., 4H]``."""
    return affine(x, weights.Wx, weights.bias)


def start(state: mx.array | None, zx: mx.array, width: int) -> mx.array:
    """Return the state before the first step, zeros by default: ``[N, width]``.

    Args:
        state: initial hidden or cell state, or None.
        zx: the first step's input part of the gates, ``[N, 4H]``.
        width: P for a hidden, H for a cell state.
    """
    # Zeros that hang on zx: MLX 0.32's addmm fails under vmap unless all its operands are mapped.
    zeros = mx.where(mx.array(False), mx.stop_gradient(zx[:, :width]), 0)
    return zeros if state is None else state + zeros


def step(
    zx: mx.array,
    h: mx.array,
    c: mx.array,
    weights: LSTMWeights,
    activation: Activation = mx.tanh,
    recurrent_activation: Activation = mx.sigmoid,
    h_mask: mx.array | None = None,
) -> tuple[mx.array, mx.array]:
    """Advance one time step: ``(h_{t-1}, c_{t-1}) -> (h_t, c_t)``.

    Args:
        zx: the input's part of the gates, ``x_t Wx^T + bias``, ``[N, 4H]``.
        h: previous hidden state, ``[N, P]``.
        c: previous cell state, ``[N, H]``.
        weights: canonical weights.
        activation: phi in the equations. Default: tanh.
        recurrent_activation: sigma in the equations. Default: sigmoid.
        h_mask: scaled recurrent-dropout masks, one per gate, ``[4, N, P]``; None drops nothing.

    Returns:
        ``h_t [N, P]`` and ``c_t [N, H]``.
    """
    if h_mask is None:
        z = mx.addmm(zx, h, weights.Wh.T)
    else:
        z = zx + mx.concatenate(per_gate(h * h_mask, weights.Wh), axis=-1)
    h, c = gates(z, c, activation, gate(recurrent_activation))
    if weights.Wp is not None:
        h = h @ weights.Wp.T
    return h, c


class Order(NamedTuple):
    """The order of the four gates in z, and how they are told apart.

    Args:
        of_gates: i, f, g, o as that order has them.
        parts: z and σ to ``σ(i), σ(f), g, σ(o)``.
    """

    of_gates: Callable[[_T, _T, _T, _T], list[_T]]
    parts: Callable[[mx.array, Activation], tuple[mx.array, mx.array, mx.array, mx.array]]


def _apart(z: mx.array, sigma: Activation) -> tuple[mx.array, mx.array, mx.array, mx.array]:
    i, f, g, o = mx.split(z, 4, axis=-1)
    return sigma(i), sigma(f), g, sigma(o)


def _at_once(z: mx.array, sigma: Activation) -> tuple[mx.array, mx.array, mx.array, mx.array]:
    i, f, _, o = mx.split(sigma(z), 4, axis=-1)
    return i, f, mx.split(z, 4, axis=-1)[2], o


def _three_at_once(z: mx.array, sigma: Activation) -> tuple[mx.array, mx.array, mx.array, mx.array]:
    H = z.shape[-1] // 4
    three = sigma(z[..., : 3 * H])
    return three[..., :H], three[..., H : 2 * H], z[..., 3 * H :], three[..., 2 * H :]


CANONICAL = Order(lambda i, f, g, o: [i, f, g, o], _apart)
AT_ONCE = CANONICAL._replace(parts=_at_once)
"""One call of an element-wise σ on all of z: where the start of an operation takes longer than the
numbers of g, which go unused."""
SIGMOIDS_FIRST = Order(lambda i, f, g, o: [i, f, o, g], _three_at_once)
"""One call of an element-wise σ on what needs it, of weights in that order."""


def sigmoids_first(weights: LSTMWeights) -> LSTMWeights:
    """Return the weights with their gates in the order i, f, o, g."""

    def arranged(rows: mx.array) -> mx.array:
        H = len(rows) // 4
        # No mx.split: mx.compile merges equals, and fails where they have several outputs.
        parts = (rows[k * H : (k + 1) * H] for k in range(4))
        return mx.concatenate(SIGMOIDS_FIRST.of_gates(*parts))

    bias = None if weights.bias is None else arranged(weights.bias)
    return replace(weights, Wx=arranged(weights.Wx), Wh=arranged(weights.Wh), bias=bias)


_SIGMOID = gate(mx.sigmoid)


def gates(
    z: mx.array,
    c: mx.array | None,
    activation: Activation = mx.tanh,
    recurrent: Gate = _SIGMOID,
    order: Order = CANONICAL,
) -> tuple[mx.array, mx.array]:
    """Return ``o φ(c_t)`` and ``c_t`` from the pre-activations ``[N, 4H]`` and ``c_{t-1}``.

    A ``c_{t-1}`` of None is zero.
    """
    i, f, g, o = order.parts(z, recurrent.of)
    new = recurrent.through(activation(g), i)
    c = new if c is None else recurrent.through(c, f) + new
    return recurrent.through(activation(c), o), c


def per_gate(xs: mx.array, W: mx.array) -> list[mx.array]:
    """Multiply each gate's input with its rows of ``W``: ``[4,...,K], [4H,K] -> 4 × [...,H]``."""
    return [x @ w.T for x, w in zip(xs, mx.split(W, 4, axis=0), strict=True)]
