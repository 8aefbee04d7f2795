"""xLSTMTime."""

from lstm_bridge.pytorch_forecasting.models.xlstm._xlstm import xLSTMTime

__all__ = ["xLSTMTime"]
