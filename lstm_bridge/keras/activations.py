"""Keras's activations by name, function or config; the functions themselves are the core's."""

from __future__ import annotations

import types
from typing import Any

from lstm_bridge.core.activations import ACTIVATIONS, linear
from lstm_bridge.core.activations import get as _by_name
from lstm_bridge.errors import UsageError
from lstm_bridge.keras.saving import (
    deserialize_keras_object,
    serialize_function,
    serialize_keras_object,
)


def __getattr__(name: str) -> Any:
    """``keras.activations.tanh`` and all the others."""
    if name in ACTIVATIONS:
        return ACTIVATIONS[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def get(identifier: Any) -> Any:
    """Return an activation from its name, config, a callable, or None (the identity).

    ``"hard_sigmoid"`` is Keras 3's, of slope 1/6; ``"hard_sigmoid_keras2"`` that of Keras 1 and 2.

    Raises:
        UnsupportedError: no activation has that name.
        UsageError: it is nothing of the kind.
    """
    if identifier is None:
        return linear
    if isinstance(identifier, str):
        return _by_name(identifier)
    found = deserialize(identifier) if isinstance(identifier, dict) else identifier
    if callable(found):
        return found
    raise UsageError("activation", expected="a name, config or callable", got=repr(identifier))


def name_or_function(identifier: Any) -> Any:
    """Return what ``get`` returns, as its name if it is one of Keras's: that can be pickled."""
    found = get(identifier)
    return next((name for name, known in ACTIVATIONS.items() if known is found), found)


def deserialize(config: Any, custom_objects: Any = None) -> Any:
    """Return the activation a config describes."""
    if isinstance(config, str):
        return _by_name(config)
    return deserialize_keras_object(config, custom_objects, ACTIVATIONS)


def serialize(activation: Any) -> Any:
    """Return an activation's config: its name if it is one of Keras's."""
    named = name_or_function(activation)  # "silu" comes before its other name, "swish"
    if isinstance(named, types.FunctionType):
        return serialize_function(named)
    return serialize_keras_object(named)
