"""pytorch-forecasting's sLSTMLayer. Shape letters: N batch, L length, D input, H hidden."""

from __future__ import annotations

from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn

from lstm_bridge.core import slstm
from lstm_bridge.core.affine import Linear
from lstm_bridge.core.maps import Map, identity
from lstm_bridge.core.state_dict import StateDictModule
from lstm_bridge.errors import ArgumentTypeError, ShapeError
from lstm_bridge.pytorch_forecasting import _checks
from lstm_bridge.pytorch_forecasting.layers._recurrent._slstm.cell import sLSTMCell


class sLSTMLayer(StateDictModule):
    """Stacked sLSTM cells over time, each with residual connection and layer normalisation.

    The returned states carry no gradient, and lists given as h and c hold the final states (with
    gradient) afterwards: both as upstream.

    Args:
        input_size: D, number of input features.
        hidden_size: H, width of the states of every cell.
        num_layers: number of stacked cells. Default: 1.
        dropout: probability of zeroing an input or a previous hidden value of a cell while
            training. Default: 0.
        use_layer_norm: normalise inside the cells and after each of them. Default: True.
        use_residual: add a cell's input to its output, for the first cell through
            ``input_projection`` when D ≠ H; the sum goes on to the next step. Default: True.

    Raises:
        UsageError: a size below 1, or dropout that is no probability.

    Source: pytorch_forecasting.layers.sLSTMLayer 1.8.0.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {
        "h": "same, including that a given list or array is updated in place; as upstream, both "
        "states start from zero when one of them is None; refused unless there is one state "
        "per layer, because upstream would then return a state as its output",
        "init_hidden.device": _checks.DEVICE_NOTE,
    }

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        dropout: float = 0.0,
        use_layer_norm: bool = True,
        use_residual: bool = True,
    ) -> None:
        super().__init__()
        _checks.positive("sLSTMLayer", num_layers=num_layers)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.dropout = dropout
        self.use_layer_norm = use_layer_norm
        self.use_residual = use_residual
        self.input_projection = None
        if use_residual and input_size != hidden_size:
            self.input_projection = Linear(input_size, hidden_size, bias=False)
        self.cells = [
            sLSTMCell(hidden_size if k else input_size, hidden_size, dropout, use_layer_norm)
            for k in range(num_layers)
        ]
        if use_layer_norm:
            self.layer_norm_layers = [nn.LayerNorm(hidden_size) for _ in range(num_layers)]

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
            Outputs of the last cell ``[L, N, H]`` and the final ``(h, c)``, a list of ``[N, H]``
            per layer each, without gradient.

        Raises:
            ShapeError: an array has another shape, or there is not one state per layer.
            ArgumentTypeError: a state that cannot be updated in place.
        """
        y = _checks.sequence_input("sLSTMLayer", x, self.input_size)
        if h is None or c is None:
            h, c = self.init_hidden(y.shape[1])
        self._check_containers(h=h, c=c)
        # A layer at step t needs only the layer below at t: running layer by layer is the same.
        for k, cell in enumerate(self.cells):
            h0, c0 = cell.check_states(y.shape[1], h[k], c[k])
            y, h[k], c[k] = slstm.run(
                y,
                h0,
                c0,
                cell.maps,
                residual=self._residual(k, y),
                norm=self._norm(k),
                drop=cell.dropout_layer if cell.dropout_layer.drops else identity,
            )
        states = [[mx.stop_gradient(s[k]) for k in range(self.num_layers)] for s in (h, c)]
        return y, (states[0], states[1])

    def _residual(self, k: int, x: mx.array) -> mx.array | None:
        """Return what layer k adds to its outputs for inputs x, at all steps."""
        if not self.use_residual:
            return None
        return x if k or self.input_projection is None else self.input_projection(x)

    def _norm(self, k: int) -> Map:
        """Return the normalisation after layer k."""
        norm: Map = self.layer_norm_layers[k] if self.use_layer_norm else identity
        return norm

    def _check_containers(self, **states: Any) -> None:
        """Raise unless each of h and c is a list or array of one state per layer."""
        for name, value in states.items():
            if not hasattr(value, "__setitem__"):
                raise ArgumentTypeError(
                    f"sLSTMLayer {name}",
                    expected="a list or an array, because it is updated in place",
                    got=type(value).__name__,
                    fix="pass list(states)",
                )
            if len(value) != self.num_layers:
                raise ShapeError(
                    f"sLSTMLayer {name}",
                    expected=f"states of {self.num_layers} layers",
                    got=f"{len(value)}",
                )

    def init_hidden(
        self, batch_size: int, device: object = None
    ) -> tuple[list[mx.array], list[mx.array]]:
        """Return zero states h and c, a list of ``[batch_size, H]`` per layer each."""
        pairs = [cell.init_hidden(batch_size) for cell in self.cells]
        return [h for h, _ in pairs], [c for _, c in pairs]
