"""Keras's LSTM family on MLX: ``keras`` with ``lstm_bridge.`` in front of the import."""

from lstm_bridge.keras import (
    activations,
    constraints,
    dtype_policies,
    initializers,
    layers,
    random,
    regularizers,
    saving,
)
from lstm_bridge.keras.dtype_policies import DTypePolicy
from lstm_bridge.keras.layers import Layer

__all__ = [
    "DTypePolicy",
    "Layer",
    "activations",
    "constraints",
    "dtype_policies",
    "initializers",
    "layers",
    "random",
    "regularizers",
    "saving",
]
