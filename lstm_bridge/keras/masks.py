"""Masks that travel with an array, as Keras's ``_keras_mask`` does.

An mx.array takes no attributes, so the mask of an array is kept beside it for as long as the array
object lives. As in Keras, only layers pass a mask on: an operation of MLX in between loses it.
"""

from __future__ import annotations

import weakref
from typing import Any

import mlx.core as mx

_masks: dict[int, tuple[Any, mx.array]] = {}


def set_keras_mask(x: mx.array, mask: mx.array) -> None:
    """Attach a mask to an array."""
    key = id(x)
    _masks[key] = (weakref.ref(x, lambda _: _masks.pop(key, None)), mask)


def get_keras_mask(x: Any) -> mx.array | None:
    """Return the mask attached to an array, or None."""
    if not isinstance(x, mx.array):
        return None
    found = _masks.get(id(x))
    return found[1] if found is not None and found[0]() is x else None
