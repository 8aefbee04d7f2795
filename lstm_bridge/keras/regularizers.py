"""Keras's weight and activity penalties."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx

from lstm_bridge.errors import ShapeError, UsageError, quote
from lstm_bridge.keras.saving import (
    deserialize_keras_object,
    keras_export,
    resolve,
    serialize_keras_object,
    spellings,
)


class Regularizer:
    """Base of all regularizers: called with an array, returns a scalar penalty."""

    def __call__(self, x: mx.array) -> mx.array:
        """Return the penalty."""
        return mx.zeros((), x.dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        raise NotImplementedError(f"{self} does not implement get_config()")

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Regularizer:
        """Make a regularizer from its config."""
        return cls(**config)


def _factor(value: Any, name: str) -> float:
    """Return a non-negative finite float; UsageError for anything else."""
    if not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        raise UsageError(name, expected="a non-negative float", got=repr(value))
    return float(value)


def _single(value: float) -> float:
    """Round to float32, as Keras does to these factors."""
    rounded: Any = mx.array(value, mx.float32).item()
    return float(rounded)


@keras_export("keras.regularizers")
class L1L2(Regularizer):
    """``l1 · sum|x| + l2 · sum x²``.

    Args:
        l1: factor of the absolute values. Default: 0.
        l2: factor of the squares. Default: 0.
    """

    def __init__(self, l1: float | None = 0.0, l2: float | None = 0.0) -> None:
        self.l1 = _factor(0.0 if l1 is None else l1, "l1")
        self.l2 = _factor(0.0 if l2 is None else l2, "l2")

    def __call__(self, x: mx.array) -> mx.array:
        """Return the penalty."""
        penalty = mx.zeros((), x.dtype)
        if self.l1:
            penalty = penalty + self.l1 * mx.sum(mx.abs(x))
        if self.l2:
            penalty = penalty + self.l2 * mx.sum(mx.square(x))
        return penalty

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"l1": self.l1, "l2": self.l2}


@keras_export("keras.regularizers")
class L1(Regularizer):
    """``l1 · sum|x|``.

    Args:
        l1: factor. Default: 0.01.
    """

    def __init__(self, l1: float | None = 0.01) -> None:
        self.l1 = _single(_factor(0.01 if l1 is None else l1, "l1"))

    def __call__(self, x: mx.array) -> mx.array:
        """Return the penalty."""
        return self.l1 * mx.sum(mx.abs(x))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"l1": self.l1}


@keras_export("keras.regularizers")
class L2(Regularizer):
    """``l2 · sum x²``.

    Args:
        l2: factor. Default: 0.01.
    """

    def __init__(self, l2: float | None = 0.01) -> None:
        self.l2 = _factor(0.01 if l2 is None else l2, "l2")

    def __call__(self, x: mx.array) -> mx.array:
        """Return the penalty."""
        return self.l2 * mx.sum(mx.square(x))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"l2": self.l2}


@keras_export("keras.regularizers")
class OrthogonalRegularizer(Regularizer):
    """``factor`` times the mean absolute cosine between different rows (or columns).

    Args:
        factor: factor. Default: 0.01.
        mode: ``"rows"`` or ``"columns"``. Default: ``"rows"``.
    """

    def __init__(self, factor: float = 0.01, mode: str = "rows") -> None:
        self.factor = _single(_factor(factor, "factor"))
        if mode not in ("rows", "columns"):
            raise UsageError("mode", expected="'rows' or 'columns'", got=quote(mode))
        self.mode = mode

    def __call__(self, x: mx.array) -> mx.array:
        """Return the penalty; ShapeError unless ``x`` is a matrix."""
        if x.ndim != 2:
            raise ShapeError("OrthogonalRegularizer", expected="2 axes", got=str(list(x.shape)))
        x = x if self.mode == "rows" else x.T
        # Keras multiplies by min(1 / norm, 1e7), so a row of zeros stays one.
        x = x * mx.rsqrt(mx.maximum(mx.sum(mx.square(x), axis=1, keepdims=True), 1e-14))
        size = x.shape[0]
        cosines = (x @ x.T) * (1.0 - mx.eye(size, dtype=x.dtype))
        pairs = size * (size - 1.0) / 2.0
        return self.factor * 0.5 * mx.sum(mx.abs(cosines)) / pairs

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"factor": self.factor, "mode": self.mode}


_CLASSES: tuple[type[Regularizer], ...] = (L1, L2, L1L2, OrthogonalRegularizer)
ALIASES: dict[str, type[Regularizer]] = spellings(_CLASSES)
"""Every spelling Keras accepts."""


def serialize(regularizer: Any) -> Any:
    """Return a regularizer's config."""
    return serialize_keras_object(regularizer)


def deserialize(config: Any, custom_objects: Any = None) -> Any:
    """Return the regularizer a config describes."""
    return deserialize_keras_object(config, custom_objects, ALIASES)


def get(identifier: Any) -> Any:
    """Return a regularizer from its name, config, class, instance or a function.

    Raises:
        UsageError: it is none of these.
    """
    return resolve(identifier, ALIASES, "regularizer")
