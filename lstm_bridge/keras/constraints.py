"""Keras's weight constraints: projections of a weight after an optimizer's update."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from lstm_bridge.keras.saving import (
    deserialize_keras_object,
    keras_export,
    resolve,
    serialize_keras_object,
    spellings,
)

EPSILON = 1e-7
"""What Keras adds to a norm before dividing by it."""


class Constraint:
    """Base of all constraints: called with a weight, returns its projection."""

    def __call__(self, w: mx.array) -> mx.array:
        """Return the projection."""
        return w

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Constraint:
        """Make a constraint from its config."""
        return cls(**config)


def _norms(w: mx.array, axis: int | Sequence[int]) -> mx.array:
    return mx.sqrt(mx.sum(mx.square(w), axis=axis, keepdims=True))


@keras_export("keras.constraints")
class MaxNorm(Constraint):
    """Norms at most ``max_value``.

    Args:
        max_value: largest norm. Default: 2.
        axis: axis or axes along which a norm is taken. Default: 0.
    """

    def __init__(self, max_value: float = 2, axis: int | Sequence[int] = 0) -> None:
        self.max_value, self.axis = max_value, axis

    def __call__(self, w: mx.array) -> mx.array:
        """Return the projection."""
        norms = _norms(w, self.axis)
        return w * (mx.clip(norms, 0, self.max_value) / (EPSILON + norms))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"max_value": self.max_value, "axis": self.axis}


@keras_export("keras.constraints")
class NonNeg(Constraint):
    """No negative weights."""

    def __call__(self, w: mx.array) -> mx.array:
        """Return the projection."""
        return mx.maximum(w, 0)


@keras_export("keras.constraints")
class UnitNorm(Constraint):
    """Norms of 1.

    Args:
        axis: axis or axes along which a norm is taken. Default: 0.
    """

    def __init__(self, axis: int | Sequence[int] = 0) -> None:
        self.axis = axis

    def __call__(self, w: mx.array) -> mx.array:
        """Return the projection."""
        return w / (EPSILON + _norms(w, self.axis))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"axis": self.axis}


@keras_export("keras.constraints")
class MinMaxNorm(Constraint):
    """Norms between two bounds, approached at a rate.

    Args:
        min_value: smallest norm. Default: 0.
        max_value: largest norm. Default: 1.
        rate: 1 enforces the bounds at once, less moves towards them. Default: 1.
        axis: axis or axes along which a norm is taken. Default: 0.
    """

    def __init__(
        self,
        min_value: float = 0.0,
        max_value: float = 1.0,
        rate: float = 1.0,
        axis: int | Sequence[int] = 0,
    ) -> None:
        self.min_value, self.max_value, self.rate, self.axis = min_value, max_value, rate, axis

    def __call__(self, w: mx.array) -> mx.array:
        """Return the projection."""
        norms = _norms(w, self.axis)
        clipped = mx.clip(norms, self.min_value, self.max_value)
        desired = self.rate * clipped + (1 - self.rate) * norms
        return w * (desired / (EPSILON + norms))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        names = ("min_value", "max_value", "rate", "axis")
        return {name: getattr(self, name) for name in names}


_CLASSES: tuple[type[Constraint], ...] = (MaxNorm, MinMaxNorm, NonNeg, UnitNorm)
ALIASES: dict[str, type[Constraint]] = spellings(_CLASSES)
"""Every spelling Keras accepts."""


def serialize(constraint: Any) -> Any:
    """Return a constraint's config."""
    return serialize_keras_object(constraint)


def deserialize(config: Any, custom_objects: Any = None) -> Any:
    """Return the constraint a config describes."""
    return deserialize_keras_object(config, custom_objects, ALIASES)


def get(identifier: Any) -> Any:
    """Return a constraint from its name, config, class, instance or a function.

    Raises:
        UsageError: it is none of these.
    """
    return resolve(identifier, ALIASES, "constraint")
