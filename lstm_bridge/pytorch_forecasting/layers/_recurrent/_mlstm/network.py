"""pytorch-forecasting's mLSTMNetwork. Shape letters: N batch, L length, D input, H hidden."""

from __future__ import annotations

from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.core.affine import Linear
from lstm_bridge.core.state_dict import StateDictModule
from lstm_bridge.pytorch_forecasting import _checks
from lstm_bridge.pytorch_forecasting.layers._recurrent._mlstm.layer import mLSTMLayer


class mLSTMNetwork(StateDictModule):
    """An mLSTM layer with a linear map on its last step's output.

    Args:
        input_size: D, number of input features.
        hidden_size: H, width of the states of every cell.
        num_layers: number of stacked cells.
        output_size: number of output features.
        dropout: probability of zeroing an input of a cell while training. Default: 0.
        use_layer_norm: normalise inside the cells. Default: True.
        use_residual: add a cell's input to its output, for every cell but the first.
            Default: True.

    Raises:
        UsageError: a size below 1, or dropout that is no probability.

    Source: pytorch_forecasting.layers.mLSTMNetwork 1.8.0.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = mLSTMLayer.ARGUMENT_NOTES

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        output_size: int,
        dropout: float = 0.0,
        use_layer_norm: bool = True,
        use_residual: bool = True,
    ) -> None:
        super().__init__()
        _checks.positive("mLSTMNetwork", output_size=output_size)
        self.mlstm_layer = mLSTMLayer(
            input_size, hidden_size, num_layers, dropout, use_layer_norm, use_residual
        )
        self.fc = Linear(hidden_size, output_size)

    def __call__(
        self, x: Any, h: Any = None, c: Any = None, n: Any = None
    ) -> tuple[mx.array, tuple[mx.array, mx.array, mx.array]]:
        """Run a batch of sequences.

        Args:
            x: inputs, ``[L, N, D]``, L ≥ 1.
            h: initial hidden states, ``[num_layers, N, H]`` or a list. Default: zeros.
            c: initial cell states, likewise. Default: zeros.
            n: initial normalisers, likewise. Default: zeros.

        Returns:
            Output ``[N, output_size]`` and the final ``(h, c, n)``, ``[num_layers, N, H]`` each.

        Raises:
            ShapeError: an array has another shape.
        """
        y, states = self.mlstm_layer(x, h, c, n)
        return self.fc(y[-1]), states

    def init_hidden(
        self, batch_size: int, device: object = None
    ) -> tuple[mx.array, mx.array, mx.array]:
        """Return zero states h, c and n, ``[num_layers, batch_size, H]`` each."""
        return self.mlstm_layer.init_hidden(batch_size, device)
