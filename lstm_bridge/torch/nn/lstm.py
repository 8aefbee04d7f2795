"""``torch.nn.LSTM``: layers, directions, projections, dropout, packed sequences."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from lstm_bridge.core import native
from lstm_bridge.core.sequence import only_step
from lstm_bridge.core.stack import run_stack
from lstm_bridge.core.weights import LSTMWeights
from lstm_bridge.torch.nn.arguments import pair
from lstm_bridge.torch.nn.rnn_base import RNNBase
from lstm_bridge.torch.nn.utils.packed import PackedSequence

_NAME = "torch.nn.LSTM"


class LSTM(RNNBase):
    r"""A multi-layer, optionally bidirectional LSTM with torch's parameters.

    N batch, L length, D input, H hidden, P projection (P = H without one), K directions (1 or 2).

    .. math::
        i_t, f_t, o_t &= \sigma(W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh})
            \text{ (each gate its own rows)} \\
        g_t &= \tanh(W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh}) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t \\
        h_t &= W_{hr} (o_t \odot \tanh(c_t)), \text{ without } W_{hr} \text{ when proj_size is } 0

    Parameters per layer k, each also with ``_reverse``: ``weight_ih_lk [4H, D or K·P]``,
    ``weight_hh_lk [4H, P]``, ``bias_ih_lk [4H]``, ``bias_hh_lk [4H]``, ``weight_hr_lk [P, H]``;
    rows in the order i, f, g, o. The two biases are separate and both train.

    Args:
        input_size: D.
        hidden_size: H.
        num_layers: stacked layers, each reading the one before. Default: 1.
        bias: has the two biases. Default: True.
        batch_first: batched input and output are ``[N, L, ·]`` instead of ``[L, N, ·]``; the states
            keep their layout. Default: False.
        dropout: probability of zeroing an output of every layer but the last, in training mode.
            Default: 0.
        bidirectional: a second direction from the last step to the first. Default: False.
        proj_size: P, or 0 for no projection. Default: 0.
        device: no effect here (``ARGUMENT_NOTES`` says why).
        dtype: torch or MLX floating dtype of the parameters, or its name. Default: float32.

    Raises:
        ArgumentTypeError: an argument of the wrong type.
        UsageError: a value outside of its range.

    Source: torch.nn.LSTM 2.13.
    """

    OWNER = _NAME
    GATES = 4

    mode = "LSTM"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
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
            proj_size,
            device,
            dtype,
        )

    def forward(
        self,
        input: Any,  # noqa: A002  torch's own name
        hx: tuple[Any, Any] | None = None,
    ) -> tuple[mx.array | PackedSequence, tuple[mx.array, mx.array]]:
        """Run over a batch of sequences, one sequence, or a packed batch.

        Args:
            input: ``[L, N, D]`` (``[N, L, D]`` with batch_first), ``[L, D]``, or a PackedSequence;
                in the parameters' dtype.
            hx: ``(h_0, c_0)`` of ``[layers·K, N, P]`` and ``[layers·K, N, H]``, without N for one
                sequence. Default: zeros.

        Returns:
            ``(output, (h_n, c_n))``: output like the input with K·P features, states like hx.

        Raises:
            ShapeError: wrong rank, size or dtype, or no time step at all.
        """
        done = self._in_one_call(input, hx)
        return self._forward(input, hx) if done is None else done

    def _in_one_call(self, x: Any, hx: Any) -> tuple[mx.array, tuple[mx.array, mx.array]] | None:
        """Run what most calls are; None where anything needs a closer look."""
        h, c = hx if isinstance(hx, tuple) and len(hx) == 2 else (None, None)
        states = isinstance(h, mx.array) and isinstance(c, mx.array) if hx is not None else True
        if not states or not isinstance(x, mx.array) or self._dropping:
            return None
        done = native.layers(
            x,
            [self[name] for name in self._flat_names],
            h,
            c,
            biased=self.bias,
            projected=self.proj_size > 0,
            directions=self._directions,
            batch_first=self.batch_first,
        )
        if done is not None:
            return done[0], (done[1], done[2])
        return self._in_one_step(x, h, c)

    def _in_one_step(
        self, x: mx.array, h: mx.array | None, c: mx.array | None
    ) -> tuple[mx.array, tuple[mx.array, mx.array]] | None:
        """Run what streams: one step of one layer."""
        time, depth = int(self.batch_first), self.num_layers * self._directions
        if depth > 1 or self.proj_size or x.ndim != 3 or x.shape[time] != 1:
            return None
        if h is not None and c is not None:
            if h.ndim != 3 or c.ndim != 3 or h.shape[0] != 1 or c.shape[0] != 1:
                return None
            h, c = h.squeeze(0), c.squeeze(0)
        Wx, Wh, *biases = (self[name] for name in self._flat_names)
        done = only_step(x.squeeze(time), Wx, Wh, biases, h, c)
        if done is None:
            return None
        h, c = done[0][None], done[1][None]
        return h.swapaxes(0, 1) if time else h, (h, c)

    def _given(self, hx: Any) -> tuple[Any, ...]:
        return pair(hx, f"{_NAME} hx")

    def _returned(self, states: list[mx.array]) -> Any:
        return tuple(states)

    @property
    def _state_count(self) -> int:
        return 2

    def _weights(self) -> list[list[LSTMWeights]]:
        """Canonical weights, layer by layer."""
        flat = []
        names = self._flat_names
        kinds = len(names) // (self.num_layers * self._directions)
        for k in range(0, len(names), kinds):
            Wx, Wh, *rest = (self[name] for name in names[k : k + kinds])
            bias = rest[0] + rest[1] if self.bias else None
            weights = LSTMWeights(Wx, Wh, bias, rest[-1] if self.proj_size else None)
            flat.append(weights.check(f"{_NAME} {names[k]}"))
        return self._by_layer(flat)

    def _run(self, x: mx.array, *states_and_mask: mx.array | None) -> tuple[mx.array, ...]:
        h0, c0, mask = states_and_mask
        return run_stack(self._weights(), x, h0, c0, mask=mask, dropout=self._dropping)
