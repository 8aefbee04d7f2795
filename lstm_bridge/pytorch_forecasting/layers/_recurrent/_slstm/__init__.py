"""sLSTM cell, layer and network."""

from lstm_bridge.pytorch_forecasting.layers._recurrent._slstm.cell import sLSTMCell
from lstm_bridge.pytorch_forecasting.layers._recurrent._slstm.layer import sLSTMLayer
from lstm_bridge.pytorch_forecasting.layers._recurrent._slstm.network import sLSTMNetwork

__all__ = ["sLSTMCell", "sLSTMLayer", "sLSTMNetwork"]
