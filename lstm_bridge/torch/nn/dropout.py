"""``torch.nn``'s dropout layers; the functions are ``functional``'s."""

from __future__ import annotations

import mlx.core as mx

from lstm_bridge.torch.nn import functional
from lstm_bridge.torch.nn.arguments import probability
from lstm_bridge.torch.nn.module import Module


class _Dropout(Module):
    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        self.p = probability(p, f"torch.nn.{type(self).__name__} p")
        self.inplace = inplace

    def extra_repr(self) -> str:
        """Return torch's text."""
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """Zero each element with probability p while training, and scale the others by 1 / (1 - p).

    Args:
        p: probability of zeroing. Default: 0.5.
        inplace: no effect on values here, because MLX arrays are never changed. Default: False.

    Source: torch.nn.Dropout 2.13.
    """

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``input`` with a fresh mask applied while training, itself otherwise."""
        return functional.dropout(input, self.p, self.training)


class Dropout1d(_Dropout):
    """Zero whole channels of ``[N, C, L]`` or ``[C, L]``; arguments as of :class:`Dropout`.

    Source: torch.nn.Dropout1d 2.13.
    """

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``input`` with a fresh mask applied while training, itself otherwise."""
        return functional.dropout1d(input, self.p, self.training)


class Dropout2d(_Dropout):
    """Zero whole channels of ``[N, C, H, W]``; arguments as of :class:`Dropout`.

    Source: torch.nn.Dropout2d 2.13.
    """

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``input`` with a fresh mask applied while training, itself otherwise."""
        return functional.dropout2d(input, self.p, self.training)


class AlphaDropout(_Dropout):
    """Dropout that keeps mean 0 and variance 1 behind a selu; arguments as of :class:`Dropout`.

    Source: torch.nn.AlphaDropout 2.13.
    """

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``input`` with a fresh mask applied while training, itself otherwise."""
        return functional.alpha_dropout(input, self.p, self.training)
