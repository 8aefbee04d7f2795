"""pytorch-forecasting's xLSTM family, as mlx modules.

``from pytorch_forecasting.layers import mLSTMCell`` becomes
``from lstm_bridge.pytorch_forecasting.layers import mLSTMCell``; so do the longer paths.
"""
