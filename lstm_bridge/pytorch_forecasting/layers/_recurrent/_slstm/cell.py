"""pytorch-forecasting's sLSTMCell. Shape letters: N batch, L length, D input, H hidden."""

from __future__ import annotations

from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map

from lstm_bridge.core import slstm
from lstm_bridge.core.affine import Linear
from lstm_bridge.core.state_dict import StateDictModule
from lstm_bridge.pytorch_forecasting import _checks
from lstm_bridge.pytorch_forecasting._dropout import Dropout


class sLSTMCell(StateDictModule):
    r"""One step of an LSTM with normalised exponential input and forget gates.

    .. math::
        c_t &= LN_c(f_t \odot c_{t-1} + i_t \odot \tanh z^g) \\
        h_t &= \sigma(z^o) \odot LN_{out}(\tanh c_t)

    with the gates as in :mod:`lstm_bridge.core.slstm`.

    Args:
        input_size: D, number of input features.
        hidden_size: H, width of the states.
        dropout: probability of zeroing an input or a previous hidden value while training.
            Default: 0.
        use_layer_norm: normalise gates, cell and output. Default: True.

    Raises:
        UsageError: a size below 1, or dropout that is no probability.

    Source: pytorch_forecasting.layers.sLSTMCell 1.8.0.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {
        "h_prev": "same; upstream also broadcasts x over it, here only the states broadcast",
        "init_hidden.device": _checks.DEVICE_NOTE,
    }

    def __init__(
        self, input_size: int, hidden_size: int, dropout: float = 0.0, use_layer_norm: bool = True
    ) -> None:
        super().__init__()
        _checks.positive("sLSTMCell", input_size=input_size, hidden_size=hidden_size)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.dropout = dropout
        self.use_layer_norm = use_layer_norm
        self.eps = slstm.EPS
        self.input_weights = Linear(input_size, 4 * hidden_size)
        self.hidden_weights = Linear(hidden_size, 4 * hidden_size)
        if use_layer_norm:
            self.ln_cell = nn.LayerNorm(hidden_size)
            self.ln_hidden = nn.LayerNorm(hidden_size)
            self.ln_input = nn.LayerNorm(4 * hidden_size)
            self.ln_hidden_update = nn.LayerNorm(4 * hidden_size)
        self.dropout_layer = Dropout(dropout)
        self.reset_parameters()
        self.grad_clip = 5.0  # upstream has this attribute and never reads it

    def __call__(self, x: Any, h_prev: Any, c_prev: Any) -> tuple[mx.array, mx.array]:
        """Advance one time step.

        Args:
            x: input, ``[N, D]``.
            h_prev: previous hidden state, ``[N, H]``, or ``[1, H]`` or ``[H]`` for all rows.
            c_prev: previous cell state, likewise.

        Returns:
            ``h`` and ``c``, ``[N, H]`` each.

        Raises:
            ShapeError: x or a state has another shape.
        """
        x = _checks.step_input("sLSTMCell", x, self.input_size)
        h, c = self.check_states(len(x), h_prev, c_prev)
        zx = slstm.input_part(self.dropout_layer(x), self.maps)
        return slstm.step(zx, self.dropout_layer(h), c, self.maps)

    @property
    def maps(self) -> slstm.Maps:
        """The learned maps of the equations, in their terms."""
        maps = slstm.Maps(self.input_weights, self.hidden_weights)
        if not self.use_layer_norm:
            return maps
        return maps._replace(
            norm_x=self.ln_input,
            norm_h=self.ln_hidden_update,
            norm_c=self.ln_cell,
            norm_out=self.ln_hidden,
        )

    def check_states(self, N: int, h: Any, c: Any) -> tuple[mx.array, mx.array]:
        """Return the two states as arrays that broadcast to ``[N, H]``."""
        H = self.hidden_size
        allowed = [(N, H), (1, H), (H,)]
        return (
            mx.broadcast_to(_checks.state("sLSTMCell", "h_prev", h, allowed), (N, H)),
            mx.broadcast_to(_checks.state("sLSTMCell", "c_prev", c, allowed), (N, H)),
        )

    def normalized_exp_gate(self, pre_gate: Any) -> mx.array:
        """Return ``exp(clip(z - mean z, -5, 5))`` over its own sum, along the last axis.

        Args:
            pre_gate: z, ``[N, H]``.
        """
        z = _checks.step_input("sLSTMCell.normalized_exp_gate", pre_gate, self.hidden_size)
        return slstm.normalized_exp(z, self.eps).astype(z.dtype)

    def reset_parameters(self) -> None:
        """Draw every parameter, the normalisations' too, from ±1/sqrt(H), uniformly."""
        bound = self.hidden_size**-0.5
        self.update(
            tree_map(
                lambda p: mx.random.uniform(-bound, bound, p.shape, p.dtype), self.parameters()
            )
        )

    def init_hidden(self, batch_size: int, device: object = None) -> tuple[mx.array, mx.array]:
        """Return zero states h and c, ``[batch_size, H]`` each, of the parameters' dtype."""
        zeros = mx.zeros((batch_size, self.hidden_size), self.hidden_weights.bias.dtype)
        return zeros, zeros
