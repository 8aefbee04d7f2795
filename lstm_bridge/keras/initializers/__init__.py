"""Keras's weight initializers: the same distributions from MLX's random generator.

The random streams differ between frameworks, so equal seeds do not give equal weights; equal
initializers give equally distributed ones. As in Keras, one initializer object returns the same
values at every call unless its seed is a SeedGenerator.
"""

from __future__ import annotations

import inspect
from typing import Any

import mlx.core as mx

from lstm_bridge.core.arrays import as_array
from lstm_bridge.errors import ShapeError, UsageError
from lstm_bridge.keras.dtype_policies import to_mlx
from lstm_bridge.keras.initializers.constant import (
    STFT,
    Constant,
    Identity,
    Initializer,
    Ones,
    Shape,
    Zeros,
)
from lstm_bridge.keras.initializers.random import (
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    LecunNormal,
    LecunUniform,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
)
from lstm_bridge.keras.saving import deserialize_keras_object, serialize_keras_object, spellings

__all__ = [
    "ALIASES", "STFT", "Constant", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform",
    "Identity", "Initializer", "LecunNormal", "LecunUniform", "Ones", "Orthogonal", "RandomNormal",
    "RandomUniform", "TruncatedNormal", "VarianceScaling", "Zeros", "deserialize", "get",
    "serialize",
]  # fmt: skip

_CLASSES: tuple[type[Initializer], ...] = (
    Constant, GlorotNormal, GlorotUniform, HeNormal, HeUniform, Identity, LecunNormal,
    LecunUniform, Ones, Orthogonal, RandomNormal, RandomUniform, STFT, TruncatedNormal,
    VarianceScaling, Zeros,
)  # fmt: skip

ALIASES: dict[str, type[Initializer]] = {
    **spellings(_CLASSES),
    "IdentityInitializer": Identity,
    "OrthogonalInitializer": Orthogonal,
    "STFTInitializer": STFT,
    "normal": RandomNormal,
    "one": Ones,
    "uniform": RandomUniform,
    "zero": Zeros,
}
"""Every spelling Keras accepts."""


def serialize(initializer: Any) -> Any:
    """Return an initializer's config."""
    return serialize_keras_object(initializer)


def deserialize(config: Any, custom_objects: Any = None) -> Any:
    """Return the initializer a config describes."""
    return deserialize_keras_object(config, custom_objects, ALIASES)


def get(identifier: Any) -> Any:
    """Return an initializer from its name, config, class, instance, a function or an array.

    Raises:
        UsageError: it is none of these.
    """
    if identifier is None:
        return None
    if isinstance(identifier, str):
        if identifier not in ALIASES and ">" not in identifier:  # "package>Name" is registered
            raise UsageError(
                "initializer", expected=f"one of {', '.join(ALIASES)}", got=repr(identifier)
            )
        identifier = {"class_name": identifier, "config": {}}
    if isinstance(identifier, dict):
        return deserialize(identifier)
    if isinstance(identifier, mx.array) or hasattr(identifier, "__array__"):
        return _fixed(as_array(identifier, "initializer"))
    if callable(identifier):
        return identifier() if inspect.isclass(identifier) else identifier
    raise UsageError("initializer", expected="a name, config or callable", got=repr(identifier))


def _fixed(value: mx.array) -> Any:
    """An initializer that returns ``value`` and takes no other shape."""

    def initialize(shape: Shape, dtype: Any = None) -> mx.array:
        if tuple(shape) != tuple(value.shape):
            raise ShapeError("initializer", expected=str(list(shape)), got=str(list(value.shape)))
        return value.astype(to_mlx(dtype))

    return initialize
