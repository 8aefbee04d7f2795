"""``torch.nn.GRU`` and ``torch.nn.GRUCell``."""

from __future__ import annotations

from functools import partial
from typing import Any

import mlx.core as mx

from lstm_bridge.core import gru
from lstm_bridge.core.recurrence import run_layers
from lstm_bridge.torch.nn.rnn_base import RNNBase
from lstm_bridge.torch.nn.rnn_cell_base import RNNCellBase
from lstm_bridge.torch.nn.utils.packed import PackedSequence


class GRU(RNNBase):
    r"""A multi-layer, optionally bidirectional GRU with torch's parameters.

    N batch, L length, D input, H hidden, K directions (1 or 2).

    .. math::
        r_t, z_t &= \sigma(W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh}) \\
        n_t &= \tanh(W_{in} x_t + b_{in} + r_t \odot (W_{hn} h_{t-1} + b_{hn})) \\
        h_t &= (1 - z_t) \odot n_t + z_t \odot h_{t-1}

    Parameters per layer k, each also with ``_reverse``: ``weight_ih_lk [3H, D or K·H]``,
    ``weight_hh_lk [3H, H]``, ``bias_ih_lk [3H]``, ``bias_hh_lk [3H]``; rows in the order r, z, n.

    Args:
        input_size: D.
        hidden_size: H.
        num_layers: stacked layers, each reading the one before. Default: 1.
        bias: has the two biases. Default: True.
        batch_first: batched input and output are ``[N, L, ·]`` instead of ``[L, N, ·]``; the state
            keeps its layout. Default: False.
        dropout: probability of zeroing an output of every layer but the last, in training mode.
            Default: 0.
        bidirectional: a second direction from the last step to the first. Default: False.
        device: no effect here (``ARGUMENT_NOTES`` says why).
        dtype: torch or MLX floating dtype of the parameters, or its name. Default: float32.

    Raises:
        ArgumentTypeError: an argument of the wrong type.
        UsageError: a value outside of its range.

    Source: torch.nn.GRU 2.13.
    """

    OWNER = "torch.nn.GRU"
    GATES = 3

    mode = "GRU"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            dtype=dtype,
        )

    def forward(
        self,
        input: Any,  # noqa: A002  torch's own name
        hx: Any = None,
    ) -> tuple[mx.array | PackedSequence, mx.array]:
        """Run over a batch of sequences, one sequence, or a packed batch.

        Args:
            input: ``[L, N, D]`` (``[N, L, D]`` with batch_first), ``[L, D]``, or a PackedSequence;
                in the parameters' dtype.
            hx: ``[layers·K, N, H]``, without N for one sequence. Default: zeros.

        Returns:
            ``(output, h_n)``: output like the input with K·H features, h_n like hx.

        Raises:
            ShapeError: wrong rank, size or dtype, or no time step at all.
        """
        return self._forward(input, hx)

    def _run(self, x: mx.array, *states_and_mask: mx.array | None) -> tuple[mx.array, ...]:
        h0, mask = states_and_mask
        flat = [partial(gru.run, gru_weights(own)) for own in self._own()]
        return run_layers(self._by_layer(flat), x, h0, mask=mask, dropout=self._dropping)


class GRUCell(RNNCellBase):
    """One step of a GRU; the equations are :class:`GRU`'s.

    Parameters: ``weight_ih [3H, D]``, ``weight_hh [3H, H]``, ``bias_ih [3H]``, ``bias_hh [3H]``.

    Args:
        input_size: D.
        hidden_size: H.
        bias: has the two biases. Default: True.
        device: no effect here (``ARGUMENT_NOTES`` says why).
        dtype: torch or MLX floating dtype of the parameters, or its name. Default: float32.

    Raises:
        ArgumentTypeError: a size is no int.

    Source: torch.nn.GRUCell 2.13.
    """

    OWNER = "torch.nn.GRUCell"
    GATES = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, dtype)

    def forward(self, input: Any, hx: Any = None) -> mx.array:  # noqa: A002  torch's own name
        """Advance one step.

        Args:
            input: ``[N, D]`` or ``[D]``.
            hx: ``[N, H]`` or ``[H]`` as the input. Default: zeros.

        Returns:
            The new state, shaped like hx.

        Raises:
            ShapeError: wrong rank, size or dtype.
        """
        weights = gru_weights(self)
        done = gru.at_once(weights, input, hx) if self._are_arrays(input, hx) else None
        return gru.advance(weights, *self._checked(input, hx)) if done is None else done


def gru_weights(own: Any) -> gru.GRUWeights:
    """Return canonical weights of parameters by torch's kind."""
    return gru.GRUWeights(
        own["weight_ih"], own["weight_hh"], own.get("bias_ih"), own.get("bias_hh")
    )
