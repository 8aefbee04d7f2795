"""How a layer is called and built: binding arguments, shapes of arguments, the call around it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import cache
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map

Shape = Any  # a tuple of int | None, or a nest of such tuples

training_context: ContextVar[bool | None] = ContextVar("keras_training", default=None)
"""The ``training`` argument of the layer call around this one."""

call_depth: ContextVar[int] = ContextVar("keras_call_depth", default=0)
"""How many layer calls are under way: activity losses are cleared at the outermost."""


@cache
def parameters_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return a method's parameters without ``self``."""
    return dict(list(inspect.signature(function).parameters.items())[1:])


@cache
def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return a method's signature without ``self``."""
    return inspect.Signature(list(parameters_of(function).values()))


def is_nested(value: Any) -> bool:
    """Return True for lists, tuples and dictionaries."""
    return isinstance(value, (list, tuple, dict))


def map_leaves(function: Callable[[Any], Any], value: Any) -> Any:
    """Apply a function to the leaves of a nest."""
    return tree_map(function, value) if is_nested(value) else function(value)


def leaves(value: Any) -> list[Any]:
    """Return the leaves of a nest in order."""
    return [leaf for _, leaf in tree_flatten(value)] if is_nested(value) else [value]


def tensor_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that are arrays or nests of arrays (or None)."""

    def all_arrays(value: Any) -> bool:
        flat = leaves(value)
        return any(isinstance(v, mx.array) for v in flat) and all(
            v is None or isinstance(v, mx.array) for v in flat
        )

    return {name: value for name, value in arguments.items() if all_arrays(value)}


def shape_arguments(build: Callable[..., Any], tensors: Mapping[str, Any]) -> dict[str, Shape]:
    """Return the arguments for ``build``: the first array's shape, or shapes by argument name."""
    shapes = {
        f"{name}_shape": _shapes_in(value) for name, value in tensors.items() if name != "mask"
    }
    names = list(parameters_of(build))
    if len(names) == 1:
        return {names[0]: next(iter(shapes.values()), None)}
    return {name: shapes[name] for name in names if name in shapes}


def _shapes_in(value: Any) -> Shape:
    if isinstance(value, dict):
        return {key: _shapes_in(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shapes_in(item) for item in value]
    return None if value is None else tuple(value.shape)
