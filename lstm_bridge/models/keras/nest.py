"""Nests of arrays, as Keras counts through them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def in_order(nest: Any) -> list[Any]:
    """Return the leaves of a nest; a dictionary's by its sorted keys."""
    if isinstance(nest, Mapping):
        return [leaf for key in sorted(nest) for leaf in in_order(nest[key])]
    if isinstance(nest, list | tuple):
        return [leaf for one in nest for leaf in in_order(one)]
    return [nest]
