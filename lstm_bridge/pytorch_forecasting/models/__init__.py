"""The model of pytorch-forecasting 1.8 that is made of xLSTM layers."""

from lstm_bridge.pytorch_forecasting.models.xlstm import xLSTMTime

__all__ = ["xLSTMTime"]
