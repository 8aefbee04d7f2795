"""pytorch-forecasting's sLSTMNetwork. Shape letters: N batch, L length, D input, H hidden."""

from __future__ import annotations

from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.core.affine import Linear
from lstm_bridge.core.state_dict import StateDictModule
from lstm_bridge.pytorch_forecasting import _checks
from lstm_bridge.pytorch_forecasting.layers._recurrent._slstm.layer import sLSTMLayer


class sLSTMNetwork(StateDictModule):
    """An sLSTM layer, with residual connections, and a linear map on its last step's output.

    Args:
        input_size: D, number of input features.
        hidden_size: H, width of the states of every cell.
        num_layers: number of stacked cells.
        output_size: number of output features.
        dropout: probability of zeroing an input or a previous hidden value of a cell while
            training. Default: 0.
        use_layer_norm: normalise inside the cells and after each of them. Default: True.

    Raises:
        UsageError: a size below 1, or dropout that is no probability.

    Source: pytorch_forecasting.layers.sLSTMNetwork 1.8.0.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = sLSTMLayer.ARGUMENT_NOTES

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        output_size: int,
        dropout: float = 0.0,
        use_layer_norm: bool = True,
    ) -> None:
        super().__init__()
        _checks.positive("sLSTMNetwork", output_size=output_size)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.output_size = output_size
        self.dropout = dropout
        self.slstm_layer = sLSTMLayer(input_size, hidden_size, num_layers, dropout, use_layer_norm)
        self.fc = Linear(hidden_size, output_size)

    def __call__(
        self, x: Any, h: Any = None, c: Any = None
    ) -> tuple[mx.array, tuple[list[mx.array], list[mx.array]]]:
        """Run a batch of sequences.

        Args:
            x: inputs, ``[L, N, D]``, L ≥ 1.
            h: initial hidden states, a list of ``[N, H]`` per layer, or an array; updated in
                place. Default: zeros.
            c: initial cell states, likewise. Default: zeros.

        Returns:
            Output ``[N, output_size]`` and the final ``(h, c)``, a list of ``[N, H]`` per layer
            each, without gradient.

        Raises:
            ShapeError: an array has another shape, or there is not one state per layer.
            ArgumentTypeError: a state that cannot be updated in place.
        """
        y, states = self.slstm_layer(x, h, c)
        return self.fc(y[-1]), states

    def init_hidden(
        self, batch_size: int, device: object = None
    ) -> tuple[list[mx.array], list[mx.array]]:
        """Return zero states h and c, a list of ``[batch_size, H]`` per layer each."""
        return self.slstm_layer.init_hidden(batch_size, device)
