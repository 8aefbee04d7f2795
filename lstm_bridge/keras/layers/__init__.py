"""Keras's layers on MLX: ``keras.layers`` with ``lstm_bridge.`` in front of the import."""

from lstm_bridge.keras.layers.activation_layers import (
    ELU,
    Activation,
    LeakyReLU,
    PReLU,
    ReLU,
    Softmax,
)
from lstm_bridge.keras.layers.activity_regularization import ActivityRegularization
from lstm_bridge.keras.layers.attention import AdditiveAttention, Attention
from lstm_bridge.keras.layers.bidirectional import Bidirectional
from lstm_bridge.keras.layers.conv_lstm import ConvLSTM1D, ConvLSTM2D
from lstm_bridge.keras.layers.convolution import Conv1D, Conv2D, SeparableConv1D
from lstm_bridge.keras.layers.dense import Dense
from lstm_bridge.keras.layers.dropout import (
    AlphaDropout,
    Dropout,
    GaussianDropout,
    GaussianNoise,
    SpatialDropout1D,
)
from lstm_bridge.keras.layers.embedding import Embedding
from lstm_bridge.keras.layers.gru_cell import GRUCell
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.layers.lstm import LSTM
from lstm_bridge.keras.layers.lstm_cell import LSTMCell
from lstm_bridge.keras.layers.masking import Masking
from lstm_bridge.keras.layers.merging import (
    Add,
    Average,
    Concatenate,
    Dot,
    Maximum,
    Minimum,
    Multiply,
    Subtract,
)
from lstm_bridge.keras.layers.multi_head_attention import MultiHeadAttention
from lstm_bridge.keras.layers.normalization import (
    BatchNormalization,
    LayerNormalization,
    UnitNormalization,
)
from lstm_bridge.keras.layers.one_state_rnn import GRU, SimpleRNN
from lstm_bridge.keras.layers.pooling import (
    AveragePooling1D,
    AveragePooling2D,
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalMaxPooling1D,
    GlobalMaxPooling2D,
    MaxPooling1D,
    MaxPooling2D,
)
from lstm_bridge.keras.layers.preprocessing import Normalization, Rescaling
from lstm_bridge.keras.layers.reshaping import (
    Cropping1D,
    Flatten,
    Permute,
    RepeatVector,
    Reshape,
    UpSampling1D,
    ZeroPadding1D,
)
from lstm_bridge.keras.layers.rnn import RNN
from lstm_bridge.keras.layers.simple_rnn_cell import SimpleRNNCell
from lstm_bridge.keras.layers.stacked_rnn_cells import StackedRNNCells
from lstm_bridge.keras.layers.time_distributed import TimeDistributed
from lstm_bridge.keras.layers.wrapper import Wrapper

__all__ = [
    "ELU",
    "GRU",
    "LSTM",
    "RNN",
    "Activation",
    "ActivityRegularization",
    "Add",
    "AdditiveAttention",
    "AlphaDropout",
    "Attention",
    "Average",
    "AveragePooling1D",
    "AveragePooling2D",
    "BatchNormalization",
    "Bidirectional",
    "Concatenate",
    "Conv1D",
    "Conv2D",
    "ConvLSTM1D",
    "ConvLSTM2D",
    "Cropping1D",
    "Dense",
    "Dot",
    "Dropout",
    "Embedding",
    "Flatten",
    "GRUCell",
    "GaussianDropout",
    "GaussianNoise",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "LSTMCell",
    "Layer",
    "LayerNormalization",
    "LeakyReLU",
    "Masking",
    "MaxPooling1D",
    "MaxPooling2D",
    "Maximum",
    "Minimum",
    "MultiHeadAttention",
    "Multiply",
    "Normalization",
    "PReLU",
    "Permute",
    "ReLU",
    "RepeatVector",
    "Rescaling",
    "Reshape",
    "SeparableConv1D",
    "SimpleRNN",
    "SimpleRNNCell",
    "Softmax",
    "SpatialDropout1D",
    "StackedRNNCells",
    "Subtract",
    "TimeDistributed",
    "UnitNormalization",
    "UpSampling1D",
    "Wrapper",
    "ZeroPadding1D",
]
