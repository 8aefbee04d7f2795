"""``torch.nn.utils``: packed sequences."""

from __future__ import annotations

from lstm_bridge.torch.nn.utils import rnn

__all__ = ["rnn"]
