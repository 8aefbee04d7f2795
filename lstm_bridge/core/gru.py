r"""THE EQUATIONS of one GRU step (Cho et al. 2014), in both forms of its reset gate.

Shape letters: N batch, L length, D input, H hidden.

.. math::
    z^r_t, z^z_t, z^n_t &= W_x x_t + b          && [N, 3H], \text{ gates in order } r, z, n \\
    r_t, z_t &= \sigma(z^r_t + W^r_h h_{t-1} + b^r_h),\ \sigma(z^z_t + W^z_h h_{t-1} + b^z_h) \\
    n_t &= \phi(z^n_t + r_t \odot (W^n_h h_{t-1} + b^n_h)) && \text{reset after (torch, cuDNN)} \\
    n_t &= \phi(z^n_t + W^n_h (r_t \odot h_{t-1}) + b^n_h) && \text{reset before (Cho)} \\
    h_t &= z_t \odot h_{t-1} + (1 - z_t) \odot n_t         && [N, H]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import mlx.core as mx

from lstm_bridge.core import recurrence
from lstm_bridge.core.activations import Activation
from lstm_bridge.core.affine import affine, by_kernel
from lstm_bridge.core.native.ops import Inputs, Operation


@dataclass(frozen=True, slots=True)
class GRUWeights:
    """One layer's, one direction's weights; rows in the order r (reset), z (update), n (new).

    Args:
        Wx: input weights, ``[3H, D]``.
        Wh: recurrent weights, ``[3H, H]``.
        bias: added to the input's part, ``[3H]``, or None.
        bias_h: added to the state's part, ``[3H]``, or None.
        reset_after: multiply by r after the matrix product, not before. Default: True.
        update_first: rows are in the order z, r, n instead, as Keras's. Default: False.
    """

    Wx: mx.array
    Wh: mx.array
    bias: mx.array | None = None
    bias_h: mx.array | None = None
    reset_after: bool = True
    update_first: bool = False

    def input_part(self, x: mx.array) -> mx.array:
        """Return ``x Wx^T + bias`` for any leading axes: ``[..., D] -> [..., 3H]``."""
        return affine(x, self.Wx, self.bias)

    def gates(self, rows: mx.array, axis: int = -1) -> tuple[mx.array, mx.array, mx.array]:
        """Return the parts for r, z and n of what stands in the weights' order."""
        first, second, n = mx.split(rows, 3, axis=axis)
        return (second, first, n) if self.update_first else (first, second, n)


def step(
    zx: mx.array,
    h: mx.array,
    weights: GRUWeights,
    activation: Activation = mx.tanh,
    recurrent_activation: Activation = mx.sigmoid,
    h_mask: mx.array | None = None,
) -> mx.array:
    """Advance one time step: ``h_{t-1} -> h_t``.

    Args:
        zx: the input's part of the gates, ``[N, 3H]``.
        h: previous hidden state, ``[N, H]``.
        weights: canonical weights.
        activation: phi in the equations. Default: tanh.
        recurrent_activation: sigma in the equations. Default: sigmoid.
        h_mask: scaled recurrent-dropout masks of the state as each of the three gates reads it,
            ``[3, N, H]``, in the weights' order; the carried state drops nothing. Default: None.

    Returns:
        ``h_t [N, H]``.
    """
    activation, recurrent_activation = by_kernel(activation), by_kernel(recurrent_activation)
    xr, xz, xn = weights.gates(zx)
    if weights.reset_after and h_mask is None:
        hr, hz, hn = weights.gates(affine(h, weights.Wh, weights.bias_h))
        r, z = recurrent_activation(xr + hr), recurrent_activation(xz + hz)
        return _mixed(z, h, activation(xn + r * hn))
    Wr, Wz, Wn = weights.gates(weights.Wh, axis=0)
    br, bz, bn = (None,) * 3 if weights.bias_h is None else weights.gates(weights.bias_h)
    hr, hz, hn = (h,) * 3
    if h_mask is not None:
        hr, hz, hn = (kept.squeeze(0) for kept in weights.gates(h * h_mask, axis=0))
    r = recurrent_activation(xr + affine(hr, Wr, br))
    z = recurrent_activation(xz + affine(hz, Wz, bz))
    if weights.reset_after:
        n = activation(xn + r * affine(hn, Wn, bn))
    else:
        n = activation(xn + affine(r * hn, Wn, bn))
    return _mixed(z, h, n)


def _mixed(z: mx.array, h: mx.array, n: mx.array) -> mx.array:
    return z * h + (1 - z) * n


def run(
    weights: GRUWeights,
    x: mx.array,
    h: mx.array | None = None,
    *,
    reverse: bool = False,
    mask: mx.array | None = None,
    zero_masked: bool = False,
    activation: Activation = mx.tanh,
    recurrent_activation: Activation = mx.sigmoid,
    h_mask: mx.array | None = None,
) -> tuple[mx.array, mx.array]:
    """Run one layer in one direction over a batch of sequences.

    Args:
        weights: canonical weights.
        x: inputs, ``[L, N, D]``, L ≥ 1.
        h: state before the first step, ``[N, H]``. Default: zeros.
        reverse: start at the last step. Outputs keep the input's time positions. Default: False.
        mask: boolean, ``[L, N]``; where False the step carries h unchanged. Default: None.
        zero_masked: masked outputs are zero instead of repeating the output before. Default: False.
        activation: as in ``step``. Default: tanh.
        recurrent_activation: as in ``step``. Default: sigmoid.
        h_mask: as in ``step``. Default: None.

    Returns:
        Outputs ``[L, N, H]`` and the last state ``[N, H]``.
    """
    if activation is mx.tanh and recurrent_activation is mx.sigmoid and h_mask is None:
        done = _fused(weights, x, h, mask, (reverse, zero_masked))
        if done is not None:
            return done[0], done[1]
    zx = weights.input_part(x)
    advance = partial(
        step,
        weights=weights,
        activation=activation,
        recurrent_activation=recurrent_activation,
        h_mask=h_mask,
    )
    h = recurrence.start(h, zx[0], weights.Wh.shape[1])
    return recurrence.run(advance, zx, h, reverse=reverse, mask=mask, zero_masked=zero_masked)


def advance(weights: GRUWeights, x: mx.array, h: mx.array | None = None) -> mx.array:
    """Take one step of ``[N, D]`` or ``[D]`` with tanh and sigmoid.

    Args:
        weights: canonical weights.
        x: the input, ``[N, D]`` or ``[D]``.
        h: previous hidden state, ``[N, H]`` or ``[H]`` as the input. Default: zeros.

    Returns:
        The next state, shaped like h.
    """
    done = at_once(weights, x, h)
    if done is not None:
        return done
    zx = weights.input_part(x)
    return step(zx, recurrence.start(h, zx, weights.Wh.shape[1]), weights)


def at_once(weights: GRUWeights, x: mx.array, h: mx.array | None = None) -> mx.array | None:
    """Do the same by the kernel, or return None where it does not serve."""
    done = _fused(weights, x, h, None, (False, False)) if x.ndim < recurrence.AXES else None
    return None if done is None else done[0]


def _fused(
    weights: GRUWeights,
    x: mx.array,
    h: mx.array | None,
    mask: mx.array | None,
    order: tuple[bool, bool],
) -> list[mx.array] | None:
    own = (weights.Wx, weights.Wh, weights.bias, weights.bias_h)
    return _GRU.fused((x, *own, h, mask), (*order, weights.reset_after, weights.update_first))


def _composed(inputs: Inputs, settings: Sequence[float]) -> list[mx.array]:
    x, Wx, Wh, bias, bias_h, h, mask = inputs
    assert x is not None
    assert Wx is not None
    assert Wh is not None
    reverse, zero_masked, *form = (bool(one) for one in settings)
    weights = GRUWeights(Wx, Wh, bias, bias_h, *form)
    if x.ndim < recurrence.AXES:
        return [advance(weights, x, h)] * 2
    return list(run(weights, x, h, reverse=reverse, mask=mask, zero_masked=zero_masked))


_GRU = Operation("LSTMBridgeGRU", _composed)
