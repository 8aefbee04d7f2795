"""``mlx.nn``'s own LSTM on this package's core."""

from __future__ import annotations

from lstm_bridge.mlx import nn

__all__ = ["nn"]
