r"""THE EQUATION of one step of the simple recurrent network (Elman 1990).

Shape letters: N batch, D input, H hidden.

.. math:: h_t = \phi(W_x x_t + b + W_h h_{t-1})
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

from lstm_bridge.core.activations import Activation
from lstm_bridge.core.affine import affine, by_kernel


@dataclass(frozen=True, slots=True)
class SimpleRNNWeights:
    """One layer's, one direction's weights.

    Args:
        Wx: input weights, ``[H, D]``.
        Wh: recurrent weights, ``[H, H]``.
        bias: the sum of all biases, ``[H]``, or None.
    """

    Wx: mx.array
    Wh: mx.array
    bias: mx.array | None = None

    def input_part(self, x: mx.array) -> mx.array:
        """Return ``x Wx^T + bias`` for any leading axes: ``[..., D] -> [..., H]``."""
        return affine(x, self.Wx, self.bias)


def step(
    zx: mx.array,
    h: mx.array,
    weights: SimpleRNNWeights,
    activation: Activation = mx.tanh,
    h_mask: mx.array | None = None,
) -> mx.array:
    """Advance one time step: ``h_{t-1} -> h_t``.

    Args:
        zx: the input's part, ``x_t Wx^T + bias``, ``[N, H]``.
        h: previous hidden state, ``[N, H]``.
        weights: canonical weights.
        activation: phi in the equation. Default: tanh.
        h_mask: scaled recurrent-dropout mask, ``[N, H]``; None drops nothing.

    Returns:
        ``h_t [N, H]``.
    """
    return by_kernel(activation)(mx.addmm(zx, h if h_mask is None else h * h_mask, weights.Wh.T))
