"""torch's dropout: like mlx.nn.Dropout, but p = 1 is allowed and p can be read."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn

from lstm_bridge.errors import UsageError


class Dropout(nn.Module):
    """Zero each element with probability p while training, and scale the others by 1 / (1 - p).

    As with mlx.nn.Dropout, mx.checkpoint draws another mask when it recomputes: its gradient is
    then of another sample than its value.

    Args:
        p: probability of zeroing, 0 … 1. Default: 0.5.

    Raises:
        UsageError: p is no probability.

    Source: torch.nn.Dropout 2.13.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise UsageError("dropout", expected="a probability between 0 and 1", got=repr(p))
        self.p = p

    def _extra_repr(self) -> str:
        return f"p={self.p}"

    @property
    def drops(self) -> bool:
        """Whether it does anything."""
        return self.training and self.p > 0

    def __call__(self, x: mx.array) -> mx.array:
        """Return x with a fresh random mask applied while training, x itself otherwise."""
        if not self.drops:
            return x
        if self.p == 1:
            return mx.zeros_like(x)
        keep = mx.random.bernoulli(1 - self.p, x.shape)
        return mx.where(keep, x / (1 - self.p), mx.zeros_like(x))
