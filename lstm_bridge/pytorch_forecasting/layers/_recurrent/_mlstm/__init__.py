"""mLSTM cell, layer and network."""

from lstm_bridge.pytorch_forecasting.layers._recurrent._mlstm.cell import mLSTMCell
from lstm_bridge.pytorch_forecasting.layers._recurrent._mlstm.layer import mLSTMLayer
from lstm_bridge.pytorch_forecasting.layers._recurrent._mlstm.network import mLSTMNetwork

__all__ = ["mLSTMCell", "mLSTMLayer", "mLSTMNetwork"]
