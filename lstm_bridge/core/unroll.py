r"""The plain LSTM (tanh and sigmoid, no mask, dropout or projection) over time, with its gradient.

Shape letters: N batch, L length, H hidden; time-major. The gradient is written by hand: autodiff of
the loop adds up L small weight gradients and keeps every intermediate of every step. Here the gates
of many steps at a time are computed again from the outputs as one matrix product, and

.. math::
    \bar h_t &= \bar y_t + \bar z_{t+1} W_h \\
    \bar c_t &= \bar c_{t+1} f_{t+1} + \bar c^{out}_t + \bar h_t\, o_t (1 - \tanh^2 c_t) \\
    \bar z_t &= [\bar c_t g_t i_t (1 - i_t),\ \bar c_t c_{t-1} f_t (1 - f_t),\
                 \bar c_t i_t (1 - g_t^2),\ \bar h_t \tanh(c_t)\, o_t (1 - o_t)] \\
    \bar W_h &= \sum_t \bar z_t^T h_{t-1} \qquad\text{as one product over all steps and rows}
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import mlx.core as mx

from lstm_bridge.core import lstm
from lstm_bridge.core.paths import is_portable

States = tuple[mx.array, mx.array]
Gates = Callable[[mx.array, mx.array], States]


def unroll(zx: mx.array, h0: mx.array, c0: mx.array, Wh: mx.array) -> tuple[mx.array, mx.array]:
    """Run all steps: ``h_t, c_t = gates(zx_t + h_{t-1} Wh^T, c_{t-1})``.

    Args:
        zx: the input's part of the gates, ``[L, N, 4H]``, L > 0.
        h0: initial hidden state, ``[N, H]``.
        c0: initial cell state, ``[N, H]``.
        Wh: recurrent weights, ``[4H, H]``.

    Returns:
        Hidden and cell states of all steps, each ``[L, N, H]``.
    """
    loop: Callable[..., States] = _loop if is_portable() else _with_gradient
    return loop(zx, h0, c0, Wh)


def _loop(zx: mx.array, h0: mx.array, c0: mx.array, Wh: mx.array) -> States:
    gates, turned = _gates(), Wh.T
    h, c, hs, cs = h0, c0, [], []
    for z in zx:
        h, c = gates(mx.addmm(z, h, turned), c)
        hs.append(h)
        cs.append(c)
    return mx.stack(hs), mx.stack(cs)


_TOGETHER = 32
"""Steps whose gates are computed again together: all at once they would fill the memory."""

_with_gradient: Any = mx.custom_function(_loop)


@_with_gradient.vjp  # type: ignore[untyped-decorator]
def _gradient(
    primals: tuple[mx.array, ...],
    cotangents: tuple[mx.array, ...],
    outputs: tuple[mx.array, ...],
) -> tuple[mx.array, ...]:
    zx, h0, c0, Wh = primals
    hs, cs = outputs
    dhs, dcs = cotangents
    before, c_before = mx.concatenate([h0[None], hs[:-1]]), mx.concatenate([c0[None], cs[:-1]])
    pull, L = _pull(), len(zx)
    parts: list[Any] = []
    dh, dc = dhs[-1], dcs[-1]
    for first in reversed(range(0, L, _TOGETHER)):
        steps = slice(first, first + _TOGETHER)
        z = mx.addmm(zx[steps], before[steps], Wh.T)
        slopes = _slopes(z, cs[steps], c_before[steps])
        dz: list[Any] = [None] * len(z)
        for k in reversed(range(len(z))):
            dz[k], dc = pull(dh, dc, *(slope[k] for slope in slopes))
            t = first + k
            dh = mx.addmm(dhs[t - 1] if t else mx.zeros_like(h0), dz[k], Wh)
            dc = dc + dcs[t - 1] if t else dc
        parts.insert(0, mx.stack(dz))
    dzs = parts[0] if len(parts) == 1 else mx.concatenate(parts)
    dWh = dzs.reshape(-1, dzs.shape[-1]).T @ before.reshape(-1, before.shape[-1])
    return dzs, dh, dc, dWh


def _slopes(
    z: mx.array, c: mx.array, c_before: mx.array
) -> tuple[mx.array, mx.array, mx.array, mx.array]:
    """All steps' local derivatives: of z by c (i, f, g) and by h (o), of c by h, and f itself."""
    i, f, g, o = mx.split(z, 4, axis=-1)
    i, f, o = mx.sigmoid(i), mx.sigmoid(f), mx.sigmoid(o)
    g, tanh_c = mx.tanh(g), mx.tanh(c)
    through_c = mx.concatenate([g * i * (1 - i), c_before * f * (1 - f), i * (1 - g * g)], axis=-1)
    return through_c, tanh_c * o * (1 - o), o * (1 - tanh_c * tanh_c), f


def _pull_step(
    dh: mx.array,
    dc: mx.array,
    through_c: mx.array,
    through_h: mx.array,
    to_c: mx.array,
    f: mx.array,
) -> tuple[mx.array, mx.array]:
    """One step back: the gates' gradient, and the gradient of the cell state before."""
    dc = dc + dh * to_c
    dz = mx.concatenate(
        [mx.concatenate([dc, dc, dc], axis=-1) * through_c, dh * through_h], axis=-1
    )
    return dz, dc * f


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return mx.compile(function)


def _for_device(function: Callable[..., Any]) -> Callable[..., Any]:
    """Fuse element-wise work into one kernel on a GPU; on a CPU that would call a C++ compiler."""
    return _compiled(function) if mx.default_device().type == mx.DeviceType.gpu else function


def _gates() -> Gates:
    return _for_device(lstm.gates)


def _pull() -> Callable[..., tuple[mx.array, mx.array]]:
    return _for_device(_pull_step)
