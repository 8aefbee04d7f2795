r"""THE EQUATIONS of one ConvLSTM step (Shi et al. 2015, without peepholes).

The LSTM's, with convolutions (\*) for matrix products; channels last; C channels, F filters.

.. math::
    z_t &= W_x * x_t + b + W_h * h_{t-1}     && [N, S, 4F], \text{ gates in order } i, f, g, o \\
    c_t &= \sigma(z^f_t) \odot c_{t-1} + \sigma(z^i_t) \odot \phi(z^g_t) \\
    h_t &= \sigma(z^o_t) \odot \phi(c_t)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from lstm_bridge.core.activations import Activation
from lstm_bridge.core.affine import by_kernel
from lstm_bridge.core.convolution import conv


@dataclass(frozen=True, slots=True)
class ConvLSTMWeights:
    """Weights and how the window moves.

    Args:
        Wx: ``[*windows, C, 4F]``.
        Wh: ``[*windows, F, 4F]``.
        bias: ``[4F]``, or None.
        strides: of the input's convolution; the recurrent one moves by 1.
        padding: of the input's convolution; the recurrent one is ``"same"``.
        dilations: of the input's convolution.
    """

    Wx: mx.array
    Wh: mx.array
    bias: mx.array | None
    strides: Sequence[int]
    padding: str
    dilations: Sequence[int]


def step(
    x: mx.array,
    h: mx.array,
    c: mx.array,
    weights: ConvLSTMWeights,
    activation: Activation = mx.tanh,
    recurrent_activation: Activation = mx.sigmoid,
    masks: tuple[mx.array | None, mx.array | None] = (None, None),
) -> tuple[mx.array, mx.array]:
    """Advance one time step: ``(h_{t-1}, c_{t-1}) -> (h_t, c_t)``.

    Args:
        x: input, ``[N, *spatial, C]``.
        h: previous hidden state, ``[N, *spatial', F]``.
        c: previous cell state, ``[N, *spatial', F]``.
        weights: canonical weights.
        activation: phi in the equations. Default: tanh.
        recurrent_activation: sigma in the equations. Default: sigmoid.
        masks: scaled dropout masks of x and of h, one per gate in front. Default: none.

    Returns:
        ``h_t`` and ``c_t``.
    """
    ones = [1] * len(weights.strides)
    x_options = (weights.strides, weights.padding, weights.dilations)
    z = _gates(x, weights.Wx, weights.bias, masks[0], *x_options)
    z = z + _gates(h, weights.Wh, None, masks[1], ones, "same", ones)
    i, f, g, o = mx.split(z, 4, axis=-1)
    activation, recurrent_activation = by_kernel(activation), by_kernel(recurrent_activation)
    c = recurrent_activation(f) * c + recurrent_activation(i) * activation(g)
    return recurrent_activation(o) * activation(c), c


def _gates(
    x: mx.array,
    W: mx.array,
    bias: mx.array | None,
    masks: mx.array | None,
    strides: Sequence[int],
    padding: str,
    dilations: Sequence[int],
) -> mx.array:
    if masks is None:
        return conv(x, W, bias, strides=strides, padding=padding, dilations=dilations)
    parts = zip(masks, mx.split(W, 4, axis=-1), strict=True)
    gates = [
        conv(x * k, w, strides=strides, padding=padding, dilations=dilations) for k, w in parts
    ]
    z = mx.concatenate(gates, axis=-1)
    return z if bias is None else z + bias
