"""pytorch-forecasting's mLSTMCell. Shape letters: N batch, L length, D input, H hidden."""

from __future__ import annotations

from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn

from lstm_bridge.core import mlstm
from lstm_bridge.core.affine import Linear
from lstm_bridge.core.maps import identity
from lstm_bridge.core.state_dict import StateDictModule
from lstm_bridge.pytorch_forecasting import _checks
from lstm_bridge.pytorch_forecasting._dropout import Dropout


class mLSTMCell(StateDictModule):
    r"""One step of an mLSTM with a vector cell.

    .. math::
        c_t &= f_t \odot c_{t-1} + i_t \odot (\textstyle\sum k_t)\, v_t \\
        n_t &= f_t \odot n_{t-1} + i_t \odot k_t \\
        h_t &= o_t \odot \tanh\big(c_t \odot n_t / (\lVert n_t \rVert + \epsilon)\big)

    with key, value and sigmoid gates as in :mod:`lstm_bridge.core.mlstm`. ``Wq`` and ``ln_q`` are
    parameters, as upstream, but do not reach the output; their gradient is zero here and None in
    torch, so a weight decay moves them here and not there, without consequence.

    Args:
        input_size: D, number of input features.
        hidden_size: H, width of the three states.
        dropout: probability of zeroing an input while training. Default: 0.2.
        layer_norm: normalise key, value and gates over H. Default: True.

    Raises:
        UsageError: a size below 1, or dropout that is no probability.

    Source: pytorch_forecasting.layers.mLSTMCell 1.8.0.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {
        "h_prev": "no effect here, because it has none upstream: only its shape is checked",
        "dropout": "same for x; upstream also drops from h_prev, which does not reach the output",
        "init_hidden.device": _checks.DEVICE_NOTE,
    }

    def __init__(
        self, input_size: int, hidden_size: int, dropout: float = 0.2, layer_norm: bool = True
    ) -> None:
        super().__init__()
        _checks.positive("mLSTMCell", input_size=input_size, hidden_size=hidden_size)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.layer_norm = layer_norm
        for name in "qkvifo":
            setattr(self, f"W{name}", Linear(input_size, hidden_size))
        self.dropout = Dropout(dropout)
        if layer_norm:
            for name in "qkvifo":
                setattr(self, f"ln_{name}", nn.LayerNorm(hidden_size))

    def __call__(
        self, x: Any, h_prev: Any, c_prev: Any, n_prev: Any
    ) -> tuple[mx.array, mx.array, mx.array]:
        """Advance one time step.

        Args:
            x: input, ``[N, D]``.
            h_prev: previous hidden state, ``[N, H]``.
            c_prev: previous cell state, ``[N, H]``.
            n_prev: previous normaliser, ``[N, H]``.

        Returns:
            ``h``, ``c`` and ``n``, ``[N, H]`` each.

        Raises:
            AssertedShapeError: x or a state has another shape.
        """
        x = _checks.step_input("mLSTMCell", x, self.input_size)
        _, c, n = self.check_states(len(x), h_prev, c_prev, n_prev)
        return mlstm.step(self.dropout(x), c, n, self.branches)

    @property
    def branches(self) -> mlstm.Branches:
        """The five learned maps of the equations, in their terms."""
        return mlstm.Branches(
            *(
                mlstm.Branch(self[f"W{name}"], self[f"ln_{name}"] if self.layer_norm else identity)
                for name in mlstm.Branches._fields
            )
        )

    def check_states(self, N: int, h: Any, c: Any, n: Any) -> list[mx.array]:
        """Return the three states as arrays of shape ``[N, H]``."""
        states = {"h_prev": h, "c_prev": c, "n_prev": n}
        return [
            _checks.state("mLSTMCell", name, value, [(N, self.hidden_size)])
            for name, value in states.items()
        ]

    def init_hidden(
        self, batch_size: int, device: object = None
    ) -> tuple[mx.array, mx.array, mx.array]:
        """Return zero states h, c and n, ``[batch_size, H]`` each, of the parameters' dtype."""
        zeros = mx.zeros((batch_size, self.hidden_size), self.Wo.bias.dtype)
        return zeros, zeros, zeros
