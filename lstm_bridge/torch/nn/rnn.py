"""``torch.nn.RNN`` and ``torch.nn.RNNCell``: the simple recurrent network with tanh or relu."""

from __future__ import annotations

from functools import partial
from typing import Any

import mlx.core as mx

from lstm_bridge.core import simple_rnn
from lstm_bridge.core.activations import Activation, relu
from lstm_bridge.core.recurrence import run_layers
from lstm_bridge.errors import UsageError
from lstm_bridge.torch.nn.rnn_base import RNNBase
from lstm_bridge.torch.nn.rnn_cell_base import RNNCellBase
from lstm_bridge.torch.nn.utils.packed import PackedSequence

_NONLINEARITIES: dict[str, Activation] = {"tanh": mx.tanh, "relu": relu}


class RNN(RNNBase):
    r"""A multi-layer, optionally bidirectional simple recurrent network.

    N batch, L length, D input, H hidden, K directions (1 or 2).

    .. math:: h_t = \phi(W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh})

    Parameters per layer k, each also with ``_reverse``: ``weight_ih_lk [H, D or K·H]``,
    ``weight_hh_lk [H, H]``, ``bias_ih_lk [H]``, ``bias_hh_lk [H]``.

    Args:
        input_size: D.
        hidden_size: H.
        num_layers: stacked layers, each reading the one before. Default: 1.
        nonlinearity: phi, "tanh" or "relu". Default: "tanh".
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

    Source: torch.nn.RNN 2.13.
    """

    OWNER = "torch.nn.RNN"
    GATES = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        _known(nonlinearity, self.OWNER)
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
        self.nonlinearity = nonlinearity
        self.mode = f"RNN_{nonlinearity.upper()}"

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
        phi = _NONLINEARITIES[self.nonlinearity]
        flat = [partial(simple_rnn.run, _weights(own), activation=phi) for own in self._own()]
        return run_layers(self._by_layer(flat), x, h0, mask=mask, dropout=self._dropping)


class RNNCell(RNNCellBase):
    """One step of a simple recurrent network; the equation is :class:`RNN`'s.

    Parameters: ``weight_ih [H, D]``, ``weight_hh [H, H]``, ``bias_ih [H]``, ``bias_hh [H]``.

    Args:
        input_size: D.
        hidden_size: H.
        bias: has the two biases. Default: True.
        nonlinearity: phi, "tanh" or "relu". Default: "tanh".
        device: no effect here (``ARGUMENT_NOTES`` says why).
        dtype: torch or MLX floating dtype of the parameters, or its name. Default: float32.

    Raises:
        ArgumentTypeError: a size is no int.
        UsageError: another nonlinearity.

    Source: torch.nn.RNNCell 2.13.
    """

    OWNER = "torch.nn.RNNCell"
    GATES = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        _known(nonlinearity, self.OWNER)
        super().__init__(input_size, hidden_size, bias, dtype)
        self.nonlinearity = nonlinearity

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
        weights, phi = _weights(self), _NONLINEARITIES[self.nonlinearity]
        if self._are_arrays(input, hx):
            done = simple_rnn.at_once(weights, input, hx, phi)
            if done is not None:
                return done
        return simple_rnn.advance(weights, *self._checked(input, hx), phi)

    def extra_repr(self) -> str:
        """Return torch's text."""
        tail = "" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}"
        return super().extra_repr() + tail


def _weights(own: Any) -> simple_rnn.SimpleRNNWeights:
    return simple_rnn.SimpleRNNWeights(
        own["weight_ih"], own["weight_hh"], own.get("bias_ih"), own.get("bias_hh")
    )


def _known(nonlinearity: Any, owner: str) -> None:
    if nonlinearity not in _NONLINEARITIES:
        raise UsageError(
            f"{owner} nonlinearity", expected="'tanh' or 'relu'", got=repr(nonlinearity)
        )
