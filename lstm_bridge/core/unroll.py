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
from functools import cache, partial
from typing import Any, NamedTuple

import mlx.core as mx

from lstm_bridge.core import fuse, lstm
from lstm_bridge.core.activations import (
    gate,
    gate_of_many,
    power_is_quicker,
    sigmoid_of_many,
    tanh_of_many,
)
from lstm_bridge.core.paths import is_portable
from lstm_bridge.core.weights import LSTMWeights

_TOGETHER = 32
"""Steps that are compiled as one function, and whose gates are computed again together: those of
all steps at once would fill the memory."""

_FEW = 1024
"""Numbers of one gate up to which the start of an operation takes longer than they do."""

_REARRANGED_PER_STEP, _TURNED_PER_STEP = 16384, 4096
"""Weights that are brought into another order, and turned, in the time that a step gains by it."""

_NOTHING = 1e-18
"""An output gate below it lets nothing through; its square is a normal number."""


class Unrolled(NamedTuple):
    """Hidden and cell states of all steps, ``[L, N, H]``, and of the last, ``[N, H]``."""

    hs: mx.array
    cs: mx.array
    h: mx.array
    c: mx.array


def rearranges(N: int, L: int, weights: LSTMWeights, dtype: mx.Dtype) -> bool:
    """Say whether ``unroll`` is quicker with the weights of ``lstm.sigmoids_first``."""
    size = weights.Wx.size + weights.Wh.size
    return (
        N * weights.H >= _FEW
        and size <= _REARRANGED_PER_STEP * L
        and power_is_quicker(N * weights.H, dtype)
        and not is_portable()
    )


def unroll(
    zx: mx.array,
    h0: mx.array | None,
    c0: mx.array | None,
    Wh: mx.array,
    order: lstm.Order = lstm.CANONICAL,
) -> Unrolled:
    """Run all steps: ``h_t, c_t = gates(zx_t + h_{t-1} Wh^T, c_{t-1})``.

    Args:
        zx: the input's part of the gates, ``[L, N, 4H]``, L > 0.
        h0: initial hidden state, ``[N, H]``, or None for zeros.
        c0: initial cell state, ``[N, H]``, or None for zeros.
        Wh: recurrent weights, ``[4H, H]``.
        order: of the gates in zx and Wh, ``CANONICAL`` or ``SIGMOIDS_FIRST``. Default: canonical.
    """
    states: list[mx.array] = []
    if fuse.fuses() or h0 is not None or c0 is not None:
        states = [lstm.start(s, zx[0], Wh.shape[1]) for s in (h0, c0)]
    if is_portable():
        return Unrolled(*_loop(order, zx, Wh, *states))
    return Unrolled(*_with_gradient(order)(zx, Wh, *states))


def advance(
    zx: mx.array, h: mx.array | None, c: mx.array | None, Wh: mx.array
) -> tuple[mx.array, mx.array]:
    """Run one step alone, which autodiff differentiates: ``h_t [N, H]`` and ``c_t [N, H]``.

    Args:
        zx: the input's part of the gates, ``[N, 4H]``.
        h: hidden state before, ``[N, H]``, or None for zeros.
        c: cell state before, ``[N, H]``, or None for zeros.
        Wh: recurrent weights, ``[4H, H]``.
    """
    # No addmm: MLX 0.32's fails under vmap unless all its operands are mapped.
    z = zx if h is None else zx + h @ Wh.T
    if fuse.fuses():
        done: tuple[mx.array, mx.array] = fuse.fused(lstm.gates)(z, c)
        return done
    return lstm.gates(z, None) if c is None else _gates_of_a_cpu(z, c)


_gates_of_a_cpu = partial(lstm.gates, recurrent=gate(sigmoid_of_many), order=lstm.AT_ONCE)


def _loop(order: lstm.Order, zx: mx.array, Wh: mx.array, *states: mx.array) -> tuple[mx.array, ...]:
    """The loop of operations that autodiff differentiates."""
    if order is lstm.CANONICAL:
        steps = fuse.fused(_fused_steps) if fuse.fuses() else _cpu_steps
    else:
        steps = partial(_steps, partial(lstm.gates, recurrent=gate(sigmoid_of_many), order=order))
    return _run(steps, zx, Wh.T, *states)


def _quickest_loop(
    order: lstm.Order, zx: mx.array, Wh: mx.array, *states: mx.array
) -> tuple[mx.array, ...]:
    """The loop where no derivative is taken of its operations."""
    (L, N, width), H = zx.shape, Wh.shape[1]
    zx = _equal_to_nothing(zx)
    if fuse.fuses() or not power_is_quicker(N * width, zx.dtype):
        return _loop(order, zx, Wh, *states)
    if order is lstm.SIGMOIDS_FIRST:
        at_once = 3 * H
    else:
        order, at_once = (lstm.AT_ONCE, width) if N * H < _FEW else (order, H)
    gates = partial(
        lstm.gates,
        activation=tanh_of_many,
        recurrent=gate_of_many((N, at_once)),
        order=order,
    )
    # A BLAS reads rows quicker, but turning large weights takes as long as many steps.
    turned = mx.contiguous(Wh.T) if Wh.size <= _TURNED_PER_STEP * L else Wh.T
    return _run(partial(_steps, gates), zx, turned, *states)


def _same(array: mx.array) -> mx.array:
    return array


# MLX 0.32's compile merges equal graphs, and fails on those of two equal loops with gradients. It
# merges no custom functions, and nothing that comes from different ones.
_equal_to_nothing: Any = mx.custom_function(_same)
_equal_to_nothing.vjp(lambda array, slope, _: slope)


def _run(
    run: Callable[..., Any], zx: mx.array, turned: mx.array, *states: mx.array
) -> tuple[mx.array, ...]:
    h, c = states or (None, None)
    hs, cs = [], []
    for some in _chunks(len(zx)):
        more_hs, more_cs = run(zx[some], turned, h, c)
        h, c = more_hs[-1], more_cs[-1]
        hs += more_hs
        cs += more_cs
    assert h is not None
    assert c is not None
    return _joined(hs), _joined(cs), h, c


def _steps(
    gates: Callable[..., Any],
    zx: mx.array,
    turned: mx.array,
    h: mx.array | None,
    c: mx.array | None,
) -> tuple[list[Any], list[Any]]:
    hs, cs = [], []
    for zx_t in _rows(zx):
        h, c = gates(zx_t if h is None else mx.addmm(zx_t, h, turned), c)
        hs.append(h)
        cs.append(c)
    return hs, cs


_fused_steps = partial(_steps, lstm.gates)
_cpu_steps = partial(_steps, _gates_of_a_cpu)


def _gradient(
    order: lstm.Order,
    primals: tuple[mx.array, ...],
    cotangents: tuple[mx.array, ...],
    outputs: tuple[mx.array, ...],
) -> tuple[mx.array, ...]:
    zx, Wh, *states = primals
    hs, cs, _, _ = outputs
    dhs, dcs, dh, dc = cotangents
    h0, c0 = states or (lstm.start(None, zx[0], Wh.shape[1]),) * 2
    before, c_before = _shifted(h0, hs), _shifted(c0, cs)
    # What reaches a step from outside is added to what comes from the step after it.
    none = mx.zeros_like(dh)
    dh, dhs = dh + dhs[-1], _shifted(none, dhs)
    dc, dcs = dc + dcs[-1], _shifted(none, dcs)
    inputs = (zx, before, hs, cs, c_before, dhs, dcs)
    fuses = fuse.fuses() and order is lstm.CANONICAL
    back: Callable[..., Any] = fuse.fused(_fused_back) if fuses else partial(_back, order)
    dzs: list[Any] = []
    for some in reversed(_chunks(len(zx))):
        dz, dh, dc = back(Wh, dh, dc, *(a[some] for a in inputs))
        dzs = dz + dzs
    dzx = _joined(dzs)
    dWh = dzx.reshape(-1, dzx.shape[-1]).T @ before.reshape(-1, before.shape[-1])
    return (dzx, dWh, dh, dc)[: len(primals)]


def _back(
    order: lstm.Order, Wh: mx.array, dh: mx.array, dc: mx.array, *steps: mx.array
) -> tuple[list[Any], mx.array, mx.array]:
    """Some steps back: the gradient of their z, and of the states before them."""
    zx, before, hs, cs, c_before, *outside = steps
    slopes = _slopes(order, mx.addmm(zx, before, Wh.T), hs, cs, c_before)
    dzs: list[Any] = []
    each = zip(*map(_rows, (*outside, *slopes)), strict=True)
    for dh_before, dc_before, *slope in reversed(list(each)):
        dz, dc = _pull_step(order, dh, dc, *slope)
        dzs.insert(0, dz)
        dh, dc = mx.addmm(dh_before, dz, Wh), dc + dc_before
    return dzs, dh, dc


_fused_back = partial(_back, lstm.CANONICAL)


def _slopes(
    order: lstm.Order, z: mx.array, h: mx.array, c: mx.array, c_before: mx.array
) -> tuple[mx.array, mx.array, mx.array]:
    """All steps' local derivatives: of z by c (i, f, g) and h (o), of c by h, and f itself."""
    i, f, g, o = order.parts(z, sigmoid_of_many)
    g = mx.tanh(g)  # not tanh_of_many, whose own derivatives overflow: those of higher order
    new, kept = i * g, f * c_before
    through = order.of_gates(new * (1 - i), kept * (1 - f), i * (1 - g * g), h * (1 - o))
    to_c = o - h * _tanh_of_cell(h, o, c)
    return mx.concatenate(through, axis=-1), to_c, f


def _tanh_of_cell(h: mx.array, o: mx.array, c: mx.array) -> mx.array:
    """Return ``tanh(c)``, which h = o tanh(c) has in it."""
    if h.dtype != mx.float32:
        return mx.tanh(c)
    return h / mx.maximum(o, _NOTHING)  # divided by more than o, h is nothing still


def _pull_step(
    order: lstm.Order,
    dh: mx.array,
    dc: mx.array,
    through: mx.array,
    to_c: mx.array,
    f: mx.array,
) -> tuple[mx.array, mx.array]:
    """One step back: the gates' gradient, and the gradient of the cell state before."""
    dc = dc + dh * to_c
    return mx.concatenate(order.of_gates(dc, dc, dc, dh), axis=-1) * through, dc * f


def _tangents(
    order: lstm.Order, primals: tuple[mx.array, ...], tangents: tuple[mx.array | None, ...]
) -> tuple[mx.array, ...]:
    known = [mx.zeros_like(p) if t is None else t for p, t in zip(primals, tangents, strict=True)]
    return tuple(mx.jvp(partial(_loop, order), list(primals), known)[1])


def _mapped(
    order: lstm.Order, inputs: tuple[mx.array, ...], axes: tuple[int | None, ...]
) -> tuple[tuple[mx.array, ...], tuple[int, ...]]:
    outputs = mx.vmap(partial(_loop, order), in_axes=tuple(axes))(*inputs)
    return tuple(outputs), (0,) * len(outputs)


@cache
def _with_gradient(order: lstm.Order) -> Any:
    done: Any = mx.custom_function(partial(_quickest_loop, order))
    done.vjp(partial(_gradient, order))
    done.jvp(partial(_tangents, order))
    done.vmap(partial(_mapped, order))
    return done


def _shifted(first: mx.array, steps: mx.array) -> mx.array:
    """What is before each step, ``[L, N, ·]``."""
    return mx.concatenate([first[None], steps[:-1]])


def _rows(steps: mx.array) -> list[Any]:
    """``[L, N, ·]`` as L arrays, in one operation; its cost grows with the square of L."""
    L, N, width = steps.shape
    return list(mx.split(steps.reshape(L * N, width), L, axis=0))


def _joined(steps: list[Any]) -> mx.array:
    """L arrays ``[N, ·]`` as one."""
    return mx.concatenate(steps).reshape(len(steps), *steps[0].shape)


def _chunks(L: int) -> list[slice]:
    """Steps in chunks of few lengths: ``mx.compile`` keeps one function for each."""
    chunks, first = [], 0
    while first < L:
        length = _TOGETHER
        while length > L - first and fuse.fuses():
            length //= 2
        chunks.append(slice(first, first + length))
        first += length
    return chunks
