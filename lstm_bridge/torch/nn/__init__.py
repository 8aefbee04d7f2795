"""The LSTM family of ``torch.nn`` on MLX, with the thin base that a model around it needs."""

from __future__ import annotations

from lstm_bridge.torch.nn import utils
from lstm_bridge.torch.nn.linear import Linear
from lstm_bridge.torch.nn.lstm import LSTM
from lstm_bridge.torch.nn.lstm_cell import LSTMCell
from lstm_bridge.torch.nn.module import Module

__all__ = ["LSTM", "LSTMCell", "Linear", "Module", "utils"]
