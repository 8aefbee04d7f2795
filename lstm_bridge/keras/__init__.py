"""Keras's layers and models on MLX: ``keras`` with ``lstm_bridge.`` in front of the import."""

from importlib import import_module
from typing import Any

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


def __getattr__(name: str) -> Any:
    if name == "models":  # only when asked for: it reads files, which layers know nothing of
        return import_module("lstm_bridge.keras.models")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
