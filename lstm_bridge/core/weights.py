"""Canonical LSTM weights: the one layout that every dialect is translated into.

Shape letters: D input, H hidden, P projection (P = H without one).
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx

from lstm_bridge.errors import ShapeError

GATES = ("i", "f", "g", "o")
"""The order of the four row blocks of ``Wx``, ``Wh`` and ``bias``."""


@dataclass(frozen=True, slots=True)
class LSTMWeights:
    """One layer's, one direction's weights.

    Args:
        Wx: input weights, ``[4H, D]``.
        Wh: recurrent weights, ``[4H, P]``.
        bias: the sum of all biases, ``[4H]``, or None.
        Wp: projection of the hidden state, ``[P, H]``, or None (then P = H).
    """

    Wx: mx.array
    Wh: mx.array
    bias: mx.array | None = None
    Wp: mx.array | None = None

    @property
    def D(self) -> int:
        """Width of the input."""
        return int(self.Wx.shape[1])

    @property
    def H(self) -> int:
        """Width of the cell state."""
        return int(self.Wx.shape[0]) // 4

    @property
    def P(self) -> int:
        """Width of the hidden state."""
        return int(self.Wh.shape[1])

    def check(self, owner: str = "LSTMWeights") -> LSTMWeights:
        """Raise ShapeError unless all arrays fit each other; return self.

        Args:
            owner: name used in the message.

        Raises:
            ShapeError: naming the array, its expected and its received shape.
        """
        if self.Wx.ndim != 2 or self.Wx.shape[0] % 4 or not self.Wx.size:
            raise ShapeError(f"{owner} Wx", expected="shape [4H, D]", got=str(list(self.Wx.shape)))
        H = self.H
        P = H if self.Wp is None else int(self.Wp.shape[0])
        wanted = {"Wh": (4 * H, P), "bias": (4 * H,), "Wp": (P, H)}
        for name, shape in wanted.items():
            array = getattr(self, name)
            if array is not None and tuple(array.shape) != shape:
                raise ShapeError(
                    f"{owner} {name}",
                    expected=f"shape {list(shape)} for Wx {list(self.Wx.shape)}",
                    got=str(list(array.shape)),
                )
        return self
