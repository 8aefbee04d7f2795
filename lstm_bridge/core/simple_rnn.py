r"""THE EQUATION of one step of the simple recurrent network (Elman 1990).

Shape letters: N batch, L length, D input, H hidden.

.. math:: h_t = \phi(W_x x_t + b + W_h h_{t-1})
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import mlx.core as mx

from lstm_bridge.core import recurrence
from lstm_bridge.core.activations import Activation, linear
from lstm_bridge.core.affine import affine, by_kernel, squash_number, squashed
from lstm_bridge.core.native.ops import Inputs, Operation


@dataclass(frozen=True, slots=True)
class SimpleRNNWeights:
    """One layer's, one direction's weights.

    Args:
        Wx: input weights, ``[H, D]``.
        Wh: recurrent weights, ``[H, H]``.
        bias: ``[H]``, or None.
        bias_h: another bias, ``[H]``, or None.
    """

    Wx: mx.array
    Wh: mx.array
    bias: mx.array | None = None
    bias_h: mx.array | None = None

    def input_part(self, x: mx.array) -> mx.array:
        """Return ``x Wx^T + bias + bias_h`` for any leading axes: ``[..., D] -> [..., H]``."""
        there = [b for b in (self.bias, self.bias_h) if b is not None]
        return affine(x, self.Wx, sum(there[1:], there[0]) if there else None)


def step(
    zx: mx.array,
    h: mx.array,
    weights: SimpleRNNWeights,
    activation: Activation = mx.tanh,
    h_mask: mx.array | None = None,
) -> mx.array:
    """Advance one time step: ``h_{t-1} -> h_t``.

    Args:
        zx: the input's part, ``x_t Wx^T`` and the biases, ``[N, H]``.
        h: previous hidden state, ``[N, H]``.
        weights: canonical weights.
        activation: phi in the equation. Default: tanh.
        h_mask: scaled recurrent-dropout mask, ``[N, H]``; None drops nothing.

    Returns:
        ``h_t [N, H]``.
    """
    return by_kernel(activation)(mx.addmm(zx, h if h_mask is None else h * h_mask, weights.Wh.T))


def run(
    weights: SimpleRNNWeights,
    x: mx.array,
    h: mx.array | None = None,
    *,
    reverse: bool = False,
    mask: mx.array | None = None,
    zero_masked: bool = False,
    activation: Activation = mx.tanh,
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
        h_mask: as in ``step``. Default: None.

    Returns:
        Outputs ``[L, N, H]`` and the last state ``[N, H]``.
    """
    done = (
        None
        if h_mask is not None
        else _fused(weights, x, h, mask, (reverse, zero_masked), activation)
    )
    if done is not None:
        return done[0], done[1]
    zx = weights.input_part(x)
    advance = partial(step, weights=weights, activation=activation, h_mask=h_mask)
    h = recurrence.start(h, zx[0], weights.Wh.shape[1])
    return recurrence.run(advance, zx, h, reverse=reverse, mask=mask, zero_masked=zero_masked)


def advance(
    weights: SimpleRNNWeights,
    x: mx.array,
    h: mx.array | None = None,
    activation: Activation = mx.tanh,
) -> mx.array:
    """Take one step of ``[N, D]`` or ``[D]``.

    Args:
        weights: canonical weights.
        x: the input, ``[N, D]`` or ``[D]``.
        h: previous hidden state, ``[N, H]`` or ``[H]`` as the input. Default: zeros.
        activation: as in ``step``. Default: tanh.

    Returns:
        The next state, shaped like h.
    """
    done = at_once(weights, x, h, activation)
    if done is not None:
        return done
    zx = weights.input_part(x)
    return step(zx, recurrence.start(h, zx, weights.Wh.shape[1]), weights, activation)


def at_once(
    weights: SimpleRNNWeights,
    x: mx.array,
    h: mx.array | None = None,
    activation: Activation = mx.tanh,
) -> mx.array | None:
    """Do the same by the kernel, or return None where it does not serve."""
    if x.ndim >= recurrence.AXES:
        return None
    done = _fused(weights, x, h, None, (False, False), activation)
    return None if done is None else done[0]


def _fused(
    weights: SimpleRNNWeights,
    x: mx.array,
    h: mx.array | None,
    mask: mx.array | None,
    order: tuple[bool, bool],
    activation: Activation,
) -> list[mx.array] | None:
    number = squash_number(activation)
    if not number and activation is not linear:
        return None
    own = (weights.Wx, weights.Wh, weights.bias, weights.bias_h)
    return _RNN.fused((x, *own, h, mask), (*order, number))


def _composed(inputs: Inputs, settings: Sequence[float]) -> list[mx.array]:
    x, Wx, Wh, bias, bias_h, h, mask = inputs
    assert x is not None
    assert Wx is not None
    assert Wh is not None
    weights = SimpleRNNWeights(Wx, Wh, bias, bias_h)
    phi = partial(squashed, number=int(settings[2]))
    if x.ndim < recurrence.AXES:
        return [advance(weights, x, h, phi)] * 2
    reverse, zero_masked = bool(settings[0]), bool(settings[1])
    return list(
        run(weights, x, h, reverse=reverse, mask=mask, zero_masked=zero_masked, activation=phi)
    )


_RNN = Operation("LSTMBridgeRNN", _composed)
