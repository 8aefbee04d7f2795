"""The base of all initializers, and those without randomness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from lstm_bridge.core.arrays import as_array
from lstm_bridge.errors import ShapeError, UnsupportedError
from lstm_bridge.keras.dtype_policies import to_mlx
from lstm_bridge.keras.saving import (
    deserialize_keras_object,
    keras_export,
    serialize_keras_object,
)

Shape = Sequence[int]


class Initializer:
    """Base of all initializers: called with a shape and a dtype, returns an array."""

    def __call__(self, shape: Shape, dtype: Any = None) -> mx.array:
        """Return a new array of that shape and dtype."""
        raise NotImplementedError("Initializer subclasses must implement the `__call__()` method.")

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Initializer:
        """Make an initializer from its config.

        A ``dtype`` entry, which Keras wrote before 2.0 of TensorFlow, is without effect: the
        layer gives the dtype in each call.
        """
        return cls(**{key: value for key, value in config.items() if key != "dtype"})


@keras_export("keras.initializers")
class Zeros(Initializer):
    """All zeros."""

    def __call__(self, shape: Shape, dtype: Any = None) -> mx.array:
        """Return zeros."""
        return mx.zeros(tuple(shape), to_mlx(dtype))


@keras_export("keras.initializers")
class Ones(Initializer):
    """All ones."""

    def __call__(self, shape: Shape, dtype: Any = None) -> mx.array:
        """Return ones."""
        return mx.ones(tuple(shape), to_mlx(dtype))


@keras_export("keras.initializers")
class Constant(Initializer):
    """One value everywhere.

    Args:
        value: the value. Default: 0.
    """

    def __init__(self, value: Any = 0.0) -> None:
        self.value = value

    def __call__(self, shape: Shape, dtype: Any = None) -> mx.array:
        """Return the constant, broadcast to the shape."""
        return as_array(self.value, "value", to_mlx(dtype)) * mx.ones(tuple(shape), to_mlx(dtype))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"value": serialize_keras_object(self.value)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Constant:
        """Make an initializer from its config."""
        return cls(deserialize_keras_object(config["value"]))


@keras_export("keras.initializers")
class Identity(Initializer):
    """The identity matrix times ``gain``.

    Args:
        gain: factor. Default: 1.
    """

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def __call__(self, shape: Shape, dtype: Any = None) -> mx.array:
        """Return the scaled identity; ShapeError unless the shape has two axes."""
        if len(shape) != 2:
            raise ShapeError("Identity shape", expected="2 axes", got=str(list(shape)))
        return self.gain * mx.eye(shape[0], shape[1], dtype=to_mlx(dtype))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments; a gain of 1 is left out, as Keras leaves out all."""
        return {} if self.gain == 1 else {"gain": self.gain}


@keras_export("keras.initializers")
class STFT(Initializer):
    """Refused: it makes three-dimensional convolution kernels, which no layer here has."""

    def __init__(self, **config: Any) -> None:
        raise UnsupportedError(
            "STFT",
            expected="an initializer of vectors or matrices",
            got="one of convolution kernels",
            fix="no layer of lstm_bridge.keras has such a kernel",
        )
