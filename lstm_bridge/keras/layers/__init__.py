"""Keras's LSTM family on MLX: ``keras.layers`` with ``lstm_bridge.`` in front of the import."""

from lstm_bridge.keras.layers.bidirectional import Bidirectional
from lstm_bridge.keras.layers.embedding import Embedding
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.layers.lstm import LSTM
from lstm_bridge.keras.layers.lstm_cell import LSTMCell
from lstm_bridge.keras.layers.masking import Masking
from lstm_bridge.keras.layers.rnn import RNN
from lstm_bridge.keras.layers.stacked_rnn_cells import StackedRNNCells
from lstm_bridge.keras.layers.time_distributed import TimeDistributed
from lstm_bridge.keras.layers.wrapper import Wrapper

__all__ = [
    "LSTM",
    "RNN",
    "Bidirectional",
    "Embedding",
    "LSTMCell",
    "Layer",
    "Masking",
    "StackedRNNCells",
    "TimeDistributed",
    "Wrapper",
]
