"""Shapes and sizes at the front door, named the way the caller knows them.

Shape letters: N batch, L length, D input, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from lstm_bridge.core.arrays import as_array
from lstm_bridge.errors import ShapeError, UsageError

DEVICE_NOTE = "no effect here, because MLX arrays live in memory that all devices share"


class AssertedShapeError(ShapeError, AssertionError):
    """A shape that upstream checks with ``assert``: who catches AssertionError still does."""


def positive(owner: str, **sizes: int) -> None:
    """Raise UsageError unless every size is an integer of at least 1."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise UsageError(f"{owner} {name}", expected="an integer ≥ 1", got=repr(size))


def step_input(owner: str, x: Any, width: int) -> mx.array:
    """Return one step's input as an array of shape ``[N, width]``."""
    array = as_array(x, f"{owner} x")
    if array.ndim != 2 or array.shape[1] != width:
        raise AssertedShapeError(
            f"{owner} x", expected=f"shape [N, {width}]", got=str(list(array.shape))
        )
    return array


def sequence_input(owner: str, x: Any, width: int) -> mx.array:
    """Return a time-major batch of sequences as an array of shape ``[L, N, width]``, L ≥ 1."""
    array = as_array(x, f"{owner} x")
    if array.ndim != 3 or array.shape[2] != width or not array.shape[0]:
        raise ShapeError(
            f"{owner} x", expected=f"shape [L, N, {width}] with L ≥ 1", got=str(list(array.shape))
        )
    return array


def state(owner: str, name: str, value: Any, allowed: Sequence[tuple[int, ...]]) -> mx.array:
    """Return a state as an array of one of the allowed shapes."""
    array = as_array(value, f"{owner} {name}")
    if tuple(array.shape) not in allowed:
        raise AssertedShapeError(
            f"{owner} {name}",
            expected=" or ".join(f"shape {list(shape)}" for shape in allowed),
            got=str(list(array.shape)),
        )
    return array


def per_layer(owner: str, name: str, value: Any, layers: int) -> Any:
    """Return a value that holds at least one state per layer: an array or a sequence of arrays."""
    if not isinstance(value, (list, tuple)):
        value = as_array(value, f"{owner} {name}")
    if len(value) < layers:
        raise ShapeError(
            f"{owner} {name}", expected=f"states of {layers} layers", got=f"{len(value)}"
        )
    return value
