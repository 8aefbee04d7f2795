"""Keras's LSTM family on MLX: ``keras.layers`` with ``lstm_bridge.`` in front of the import."""

from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.layers.lstm import LSTM
from lstm_bridge.keras.layers.lstm_cell import LSTMCell
from lstm_bridge.keras.layers.rnn import RNN
from lstm_bridge.keras.layers.stacked_rnn_cells import StackedRNNCells

__all__ = ["LSTM", "RNN", "LSTMCell", "Layer", "StackedRNNCells"]
