"""The arguments of a layer's call in a Keras model's config, as each era writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from lstm_bridge.converters.keras_graph import CONSTANT
from lstm_bridge.converters.keras_options import Config, Reader
from lstm_bridge.converters.keras_tensorflow import arguments


class History(NamedTuple):
    """An output of a layer's call: which layer, its how-manieth call, which of its outputs.

    No number stands for all outputs together, as a Sequential model hands them on.
    """

    layer: str
    call: int
    output: int | None


class Constant(NamedTuple):
    """An array that a call was given: nested lists of numbers, and the name of their dtype."""

    value: Any
    dtype: str


def modern(node: Config, reader: Reader, where: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A call as Keras 3 writes it: arguments in which tensors are objects of their own."""
    args = tuple(_decoded(a, reader, where) for a in node.get("args", ()))
    kwargs = {k: _decoded(v, reader, where) for k, v in node.get("kwargs", {}).items()}
    return args, {k: v for k, v in kwargs.items() if v is not None}


def _decoded(value: Any, reader: Reader, where: str) -> Any:
    if isinstance(value, list):
        return [_decoded(v, reader, where) for v in value]
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        return _history(value.get("config", {}).get("keras_history"), reader, where)
    if isinstance(value, dict) and value.get("class_name") in _VALUES:
        return _VALUES[value["class_name"]](value.get("config") or {})
    if isinstance(value, dict) and "class_name" in value:
        raise reader.refuse(
            where, "tensors and plain values for arguments", str(value["class_name"]), "re-save it"
        )
    if isinstance(value, dict):
        return {k: _decoded(v, reader, where) for k, v in value.items()}
    return value


_VALUES: Mapping[str, Callable[[Config], Any]] = {
    "__slice__": lambda config: slice(config["start"], config["stop"], config["step"]),
    "__ellipsis__": lambda config: Ellipsis,
    "__numpy__": lambda config: Constant(config["value"], config["dtype"]),
    "__tensor__": lambda config: Constant(config["value"], config["dtype"]),
}


def legacy(
    node: Any, names: set[str], recurrent: bool, reader: Reader, where: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A call as Keras 1, 2 and tf.keras write it: a list of ``[layer, call, output, kwargs]``."""
    entries, kwargs = _entries(node, names, reader, where)
    if not kwargs.get("training"):
        kwargs.pop("training", None)
    tensors = [_legacy_value(entry[:3], names) for entry in entries if entry[0] != CONSTANT]
    if len(tensors) == 1:
        return (tensors[0],), kwargs
    if recurrent:
        return (tensors[0],), {**kwargs, "initial_state": tensors[1:]}
    return (tensors,), kwargs


def function_call(
    node: Any, names: set[str], layer: Config, reader: Reader, where: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A call of a TensorFlow function: its first argument, or the members of it, are entries."""
    _, kwargs = _entries(_first_entry(node), names, reader, where)
    return arguments(layer, _first_argument(node, names), kwargs, reader, where)


def _first_entry(node: Any) -> Any:
    """The first entry of a nest; all of them carry the same keywords."""
    while isinstance(node, list) and node and not _is_history(node):
        node = node[0]
    return node


def _first_argument(node: Any, names: set[str]) -> Any:
    if _is_history(node):
        return node[2] if node[0] == CONSTANT else _legacy_value(node[:3], names)
    return [_first_argument(one, names) for one in node] if isinstance(node, list) else node


def _entries(
    node: Any, names: set[str], reader: Reader, where: str
) -> tuple[list[Any], dict[str, Any]]:
    """The ``[layer, call, output, kwargs]`` of a call, and all the kwargs."""
    entries = [node] if _is_history(node) else node
    if not isinstance(entries, list) or not entries or not all(map(_is_history, entries)):
        raise reader.refuse(where, "inbound nodes", repr(node)[:80], "re-save the model")
    kwargs: dict[str, Any] = {}
    for entry in entries:
        extra = entry[3] if len(entry) > 3 and isinstance(entry[3], dict) else {}
        kwargs |= {k: _legacy_value(v, names) for k, v in extra.items() if v is not None}
    return entries, kwargs


def _legacy_value(value: Any, names: set[str]) -> Any:
    if _is_history(value) and value[0] in names:
        return History(value[0], value[1], value[2])
    if isinstance(value, list):
        return [_legacy_value(v, names) for v in value]
    if isinstance(value, dict):
        return {k: _legacy_value(v, names) for k, v in value.items()}
    return value


def _is_history(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and all(type(n) is int for n in value[1:3])
    ) or (isinstance(value, list) and len(value) == 4 and value[0] == CONSTANT)


def _history(value: Any, reader: Reader, where: str) -> History:
    if not _is_history(value):
        raise reader.refuse(where, "[layer, call, output]", repr(value)[:80], "re-save the model")
    return History(value[0], value[1], value[2])


def nest_of_histories(value: Any, reader: Reader, where: str) -> Any:
    """The nest of outputs; a list of one stands for that one, as Keras unpacks it."""
    if _is_history(value):
        return _history(value, reader, where)
    if isinstance(value, dict):
        return {str(k): nest_of_histories(v, reader, where) for k, v in value.items()}
    if not isinstance(value, list) or not value:
        raise reader.refuse(
            where or "config", "lists of [layer, call, output]", repr(value)[:80], "re-save it"
        )
    inner = [nest_of_histories(v, reader, where) for v in value]
    return inner[0] if len(inner) == 1 else inner


def histories_in(value: Any) -> Iterator[History]:
    """Yield the Histories of a nest, in order."""
    if isinstance(value, History):
        yield value
    elif isinstance(value, slice):
        yield from histories_in([value.start, value.stop, value.step])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from histories_in(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from histories_in(item)
