"""The layers of pytorch-forecasting 1.8 that its xLSTM models are made of."""

from lstm_bridge.pytorch_forecasting.layers._decomposition import SeriesDecomposition
from lstm_bridge.pytorch_forecasting.layers._recurrent import (
    mLSTMCell,
    mLSTMLayer,
    mLSTMNetwork,
    sLSTMCell,
    sLSTMLayer,
    sLSTMNetwork,
)

__all__ = [
    "SeriesDecomposition",
    "mLSTMCell",
    "mLSTMLayer",
    "mLSTMNetwork",
    "sLSTMCell",
    "sLSTMLayer",
    "sLSTMNetwork",
]
