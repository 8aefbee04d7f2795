r"""THE EQUATIONS of pytorch-forecasting's sLSTM.

Shape letters: N batch, L length, D input, H hidden. LN is layer normalisation or the identity.

.. math::
    z_t &= LN_x(W_x x_t + b_x) + LN_h(W_h h_{t-1} + b_h)
        && [N, 4H], \text{ gates in the order } i, f, g, o \\
    \hat\imath, \hat f &= E(z^i),\ E(z^f), \qquad
        E(z) = \frac{e^{\mathrm{clip}(z - \bar z, -5, 5)}}
                    {\sum_H e^{\mathrm{clip}(z - \bar z, -5, 5)} + \epsilon} \\
    i_t, f_t &= \hat\imath / (\hat\imath + \hat f + \epsilon),\
                \hat f / (\hat\imath + \hat f + \epsilon) \\
    c_t &= LN_c(f_t \odot c_{t-1} + i_t \odot \tanh z^g)                  && [N, H] \\
    h_t &= \sigma(z^o) \odot LN_{out}(\tanh c_t)                          && [N, H]

In a layer, the state that goes on to the next step is ``LN_layer(h_t + residual_t)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import mlx.core as mx

from lstm_bridge.core.affine import sigmoid, tanh
from lstm_bridge.core.arrays import at_least_float32
from lstm_bridge.core.maps import (
    Map,
    identity,
    linear_of,
    linear_weights,
    norm_of,
    norm_weights,
)
from lstm_bridge.core.native.ops import Inputs, Operation
from lstm_bridge.core.recurrence import steps

EPS = 1e-6
CLIP = 5.0


class Maps(NamedTuple):
    """The learned maps of one cell."""

    x: Map  # [..., D] -> [..., 4H]
    h: Map  # [N, H] -> [N, 4H]
    norm_x: Map = identity
    norm_h: Map = identity
    norm_c: Map = identity
    norm_out: Map = identity


def input_part(x: mx.array, maps: Maps) -> mx.array:
    """Return the input's part of the gates for any leading axes: ``[..., D] -> [..., 4H]``."""
    return maps.norm_x(maps.x(x))


def normalized_exp(z: mx.array, eps: float = EPS) -> mx.array:
    """Exponential gate E(z), normalised over the last axis, at least in float32."""
    wide = at_least_float32(z)
    e = mx.exp(mx.clip(wide - wide.mean(axis=-1, keepdims=True), -CLIP, CLIP))
    return e / (e.sum(axis=-1, keepdims=True) + eps)


def input_and_forget(zi: mx.array, zf: mx.array) -> tuple[mx.array, mx.array]:
    """Return the two exponential gates, scaled to sum to (almost) one."""
    i, f = normalized_exp(zi), normalized_exp(zf)
    total = i + f + EPS
    return (i / total).astype(zi.dtype), (f / total).astype(zf.dtype)


def step(zx: mx.array, h: mx.array, c: mx.array, maps: Maps) -> tuple[mx.array, mx.array]:
    """Advance one time step: ``(h_{t-1}, c_{t-1}) -> (h_t, c_t)``.

    Args:
        zx: the input's part of the gates, ``[N, 4H]``.
        h: previous hidden state, ``[N, H]``.
        c: previous cell state, ``[N, H]``.
        maps: the cell's learned maps.

    Returns:
        ``h_t`` and ``c_t``, ``[N, H]`` each.
    """
    zi, zf, zg, zo = mx.split(zx + maps.norm_h(maps.h(h)), 4, axis=-1)
    i, f = input_and_forget(zi, zf)
    c = maps.norm_c(f * c + i * tanh(zg))
    h = sigmoid(zo) * maps.norm_out(tanh(c))
    return h, c


def run(
    x: mx.array,
    h: mx.array,
    c: mx.array,
    maps: Maps,
    *,
    residual: mx.array | None = None,
    norm: Map = identity,
    drop: Map = identity,
) -> tuple[mx.array, mx.array, mx.array]:
    """Run one layer over time.

    Args:
        x: inputs, ``[L, N, D]``, L ≥ 1.
        h: initial hidden state, ``[N, H]``.
        c: initial cell state, ``[N, H]``.
        maps: the cell's learned maps.
        residual: added to every step's hidden state, ``[L, N, H]``. Default: nothing.
        norm: normalisation after the residual. Default: none.
        drop: dropout of the inputs and, at every step anew, of the hidden state. Default: none.

    Returns:
        Every ``h_t`` ``[L, N, H]``, the last ``h`` and the last ``c``, ``[N, H]`` each.
    """
    x = drop(x)
    keep: mx.array | None = None
    if drop is not identity:  # all steps' masks at once, and the same ones on both paths
        keep = drop(mx.ones((len(x), *h.shape), h.dtype))
    weights = _weights(maps, norm)
    if weights is not None:
        inputs = (x, h, c, residual, *weights.linear, keep, *weights.norms)
        done = _FUSED.fused(inputs, weights.eps)
        if done is not None:
            return done[0], done[1], done[2]
    return _loop(x, h, c, maps, residual, norm, keep)


def _loop(
    x: mx.array,
    h: mx.array,
    c: mx.array,
    maps: Maps,
    residual: mx.array | None,
    norm: Map,
    keep: mx.array | None,
) -> tuple[mx.array, mx.array, mx.array]:
    """Run one layer step by step."""
    hs: list[mx.array] = []
    all_of = [[None] * len(x) if one is None else steps(one) for one in (keep, residual)]
    for zx, kept, more in zip(steps(input_part(x, maps)), *all_of, strict=True):
        h, c = step(zx, h if kept is None else h * kept, c, maps)
        h = norm(h if more is None else h + more)
        hs.append(h)
    return mx.stack(hs), h, c


class _Weights(NamedTuple):
    linear: tuple[mx.array | None, ...]  # Wx, bias_x, Wh, bias_h
    norms: list[mx.array | None]  # gamma and beta of five
    eps: list[float]


def _weights(maps: Maps, norm: Map) -> _Weights | None:
    """Return what the kernel reads, or None where a map is no plain one."""
    x, h = linear_weights(maps.x), linear_weights(maps.h)
    if x is None or h is None:
        return None
    norms: list[mx.array | None] = []
    eps: list[float] = []
    for one in map(norm_weights, (*maps[2:], norm)):
        if one is None:
            return None
        norms += [one.gamma, one.beta]
        eps.append(one.eps)
    return _Weights((*x, *h), norms, eps)


def _composed(inputs: Inputs, settings: Sequence[float]) -> list[mx.array]:
    x, h, c, residual, Wx, bias_x, Wh, bias_h, keep, *rest = inputs
    norms = [norm_of(rest[2 * k], rest[2 * k + 1], eps) for k, eps in enumerate(settings)]
    maps = Maps(linear_of(Wx, bias_x), linear_of(Wh, bias_h), *norms[:-1])  # type: ignore[arg-type]
    return list(_loop(x, h, c, maps, residual, norms[-1], keep))  # type: ignore[arg-type]


_FUSED = Operation("LSTMBridgeSLSTM", _composed)
