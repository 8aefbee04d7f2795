"""pytorch-forecasting's mLSTMLayer. Shape letters: N batch, L length, D input, H hidden."""

from __future__ import annotations

from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.core import mlstm
from lstm_bridge.core.state_dict import StateDictModule
from lstm_bridge.pytorch_forecasting import _checks
from lstm_bridge.pytorch_forecasting._dropout import Dropout
from lstm_bridge.pytorch_forecasting.layers._recurrent._mlstm.cell import mLSTMCell


class mLSTMLayer(StateDictModule):
    """Stacked mLSTM cells over time.

    Nothing recurs through h, so each cell runs all time steps at once: five matmuls and a scan,
    whose operations grow with the logarithm of L, where upstream makes L steps.

    Args:
        input_size: D, number of input features.
        hidden_size: H, width of the states of every cell.
        num_layers: number of stacked cells.
        dropout: probability of zeroing an input of a cell while training. Default: 0.2.
        layer_norm: normalise inside the cells. Default: True.
        residual_conn: add a cell's input to its output, for every cell but the first; the sum is
            the hidden state that is returned. Default: True.

    Raises:
        UsageError: a size below 1, or dropout that is no probability.

    Source: pytorch_forecasting.layers.mLSTMLayer 1.8.0.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {
        "h": "no effect here, because it has none upstream: only its shape is checked; as "
        "upstream, all three states start from zero when one of them is None",
        "init_hidden.device": _checks.DEVICE_NOTE,
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        dropout: float = 0.2,
        layer_norm: bool = True,
        residual_conn: bool = True,
    ) -> None:
        super().__init__()
        _checks.positive("mLSTMLayer", num_layers=num_layers)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.layer_norm = layer_norm
        self.residual_conn = residual_conn
        self.dropout = Dropout(dropout)
        self.cells = [
            mLSTMCell(hidden_size if k else input_size, hidden_size, dropout, layer_norm)
            for k in range(num_layers)
        ]

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
            Outputs of the last cell ``[L, N, H]`` and the final ``(h, c, n)``,
            ``[num_layers, N, H]`` each.

        Raises:
            ShapeError: an array has another shape.
        """
        y = _checks.sequence_input("mLSTMLayer", x, self.input_size)
        N = y.shape[1]
        if h is None or c is None or n is None:
            h, c, n = self.init_hidden(N)
        given = [
            _checks.per_layer("mLSTMLayer", name, value, self.num_layers)
            for name, value in (("h", h), ("c", c), ("n", n))
        ]
        lasts = []
        for k, cell in enumerate(self.cells):
            _, c0, n0 = cell.check_states(N, *(states[k] for states in given))
            residual = y if self.residual_conn and k else None
            y, last_c, last_n = mlstm.run(cell.dropout(y), c0, n0, cell.branches, residual)
            lasts.append((y[-1], last_c, last_n))
        h, c, n = (mx.stack(list(states)) for states in zip(*lasts, strict=True))
        return y, (h, c, n)

    def init_hidden(
        self, batch_size: int, device: object = None
    ) -> tuple[mx.array, mx.array, mx.array]:
        """Return zero states h, c and n, ``[num_layers, batch_size, H]`` each."""
        h, c, n = (
            mx.stack(list(states))
            for states in zip(*(cell.init_hidden(batch_size) for cell in self.cells), strict=True)
        )
        return h, c, n
