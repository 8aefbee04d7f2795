"""Who calls whom in a Keras model's config: the layers' calls, in order, of any Keras since 1.0."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lstm_bridge.converters.keras_layers import RECURRENT, SUPPORTED, is_operation, unsupported
from lstm_bridge.converters.keras_options import Config, Reader
from lstm_bridge.converters.keras_tensorflow import TENSORFLOW, arguments, as_operation
from lstm_bridge.converters.keras_tree import MODELS, layers_of, named

_CONSTANT = "_CONSTANT_VALUE"  # tf.keras's mark of an argument that is no tensor


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


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a layer.

    Args:
        layer: the layer's name.
        index: how-manieth call of that layer it is, as a History counts.
        args: positional arguments: Histories, constants and nests of them.
        kwargs: keyword arguments, likewise.
    """

    layer: str
    index: int
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a model.

    Args:
        name: its layer's name.
        shape: with the batch; None where a size is open.
        dtype: name of its dtype.
        key: under which a dictionary of inputs holds it. Default: "", its name.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Wiring:
    """A model as calls.

    Args:
        inputs: in the order of the model's arguments.
        calls: in an order in which each finds its arguments computed.
        outputs: Histories, in the nest in which the model returns them.
        layers: name → serialized layer, in the file's order.
        functional: whether the model is Functional, not Sequential.
    """

    inputs: tuple[Input, ...]
    calls: tuple[Call, ...]
    outputs: Any
    layers: Mapping[str, Config]
    functional: bool


def wiring(model: Config, reader: Reader, where: str = "") -> Wiring:
    """Return the calls of a serialized Sequential or Functional model.

    Raises:
        ConfigError: a layer outside the table, a cycle, or a call of what is not there.
    """
    layers: dict[str, Config] = {}
    for index, layer in enumerate(layers_of(model, reader)):
        class_name, name = named(layer, reader, index)
        if class_name in TENSORFLOW:
            layer = as_operation(layer, reader, f"{where}{name} (layer {index})")
        if class_name not in SUPPORTED and not is_operation(layer):
            raise unsupported(class_name, reader, f"{where}{name} (layer {index})")
        if class_name == "Merge" and layer["config"].get("layers"):
            raise reader.refuse(
                f"{where}{name} (layer {index})", "a Merge of a Functional model's layers",
                "a Merge that holds whole models", "build it as a Functional model, and save that",
            )  # fmt: skip
        if name in layers:
            raise reader.refuse(where + name, "a name of its own", "a repeat", "re-save the model")
        layers[name] = layer
    if model.get("class_name") == "Sequential":
        return _sequential(model, layers, reader, where)
    return _functional(model, layers, reader, where)


# --- Sequential -------------------------------------------------------------------------------


def _sequential(model: Config, layers: Mapping[str, Config], reader: Reader, where: str) -> Wiring:
    names = [name for name, layer in layers.items() if layer["class_name"] != "InputLayer"]
    shape, dtype = _first_shape(model, layers, reader)
    if shape is None:
        raise reader.refuse(
            where or "config", "a Sequential model with an input shape", "none",
            "build the model before saving it",
        )  # fmt: skip
    start = next((n for n, layer in layers.items() if layer["class_name"] == "InputLayer"), "input")
    previous, calls = History(start, 0, 0), []
    for name in names:
        calls.append(Call(name, 0, (previous,)))
        previous = History(name, 0, None)
    return Wiring((Input(start, shape, dtype),), tuple(calls), previous, layers, False)


def _first_shape(
    model: Config, layers: Mapping[str, Config], reader: Reader
) -> tuple[tuple[int | None, ...] | None, str]:
    """Return the input's shape and dtype, wherever the era keeps them."""
    config = model.get("config")
    built = config.get("build_input_shape") if isinstance(config, dict) else None
    layer: Any = next(iter(layers.values()), {})
    for _ in range(32):
        inner = layer.get("config")
        if layer.get("class_name") in MODELS:
            first = layers_of(layer, reader)[:1]
            if not first:
                break
            layer = first[0]
            continue
        found = _shape_in(inner if isinstance(inner, dict) else {})
        if found is not None:
            return found, _dtype_of(inner)
        inside = inner.get("layer") if isinstance(inner, dict) else None
        if not isinstance(inside, dict):
            break
        layer = inside
    return _as_shape(built), "float32"


def _shape_in(config: Config) -> tuple[int | None, ...] | None:
    for key in ("batch_shape", "batch_input_shape"):
        if (shape := _as_shape(config.get(key))) is not None:
            return shape
    if (shape := _as_shape(config.get("shape") or config.get("input_shape"))) is not None:
        return (config.get("batch_size"), *shape)
    if isinstance(config.get("input_dim"), int) and "input_length" in config:
        return (None, config["input_length"], config["input_dim"])
    return None


def _as_shape(value: Any) -> tuple[int | None, ...] | None:
    if isinstance(value, dict):  # tf.keras's TensorShape
        value = value.get("items") or value.get("config")
    if not isinstance(value, list | tuple) or not value:
        return None
    if any(n is not None and (type(n) is not int or n <= 0) for n in value):
        return None
    return tuple(value)


def _dtype_of(config: Config) -> str:
    value = config.get("dtype") or config.get("input_dtype") or "float32"
    if isinstance(value, dict):
        value = value.get("config", {}).get("name") or "float32"
    return str(value)


# --- Functional -------------------------------------------------------------------------------


def _functional(model: Config, layers: Mapping[str, Config], reader: Reader, where: str) -> Wiring:
    config = model["config"]
    inputs = []
    nest = _nest_of_histories(config.get("input_layers"), reader, where)
    keys = sorted(nest) if isinstance(nest, Mapping) else []
    nest = [nest[key] for key in keys] or nest
    for k, history in enumerate(histories_in(nest)):
        layer = layers.get(history.layer)
        shape = None if layer is None else _shape_in(layer["config"])
        if layer is None or shape is None:
            raise reader.refuse(
                where + history.layer, "an InputLayer with its shape", "none", "re-save the model"
            )
        key = keys[k] if len(keys) > k else ""
        inputs.append(Input(history.layer, shape, _dtype_of(layer["config"]), key))
    outputs = _nest_of_histories(config.get("output_layers"), reader, where)
    calls = _all_calls(layers, reader, where)
    calls, outputs = _counted_from_0(layers, calls, outputs, reader)
    ordered = _ordered(calls, {i.name for i in inputs}, reader, where)
    known = {(c.layer, c.index) for c in ordered} | {(i.name, 0) for i in inputs}
    for history in histories_in(outputs):
        if (history.layer, history.call) not in known:
            raise reader.refuse(
                f"{where}output_layers", "outputs of its calls", str(history), "re-save the model"
            )
    return Wiring(tuple(inputs), tuple(ordered), outputs, layers, True)


def _all_calls(layers: Mapping[str, Config], reader: Reader, where: str) -> list[Call]:
    calls = []
    for name, layer in layers.items():
        if layer["class_name"] == "InputLayer":
            continue
        nodes = layer.get("inbound_nodes")
        if not isinstance(nodes, list):
            raise reader.refuse(where + name, "its calls", repr(nodes)[:80], "re-save the model")
        for index, node in enumerate(nodes):
            place = f"{where}{name}"
            if isinstance(node, dict):
                args, kwargs = _modern(node, reader, place)
            elif "tf" in layer:
                args, kwargs = _function_call(node, set(layers), layer, reader, place)
            else:
                recurrent = layer["class_name"] in RECURRENT
                args, kwargs = _legacy(node, set(layers), recurrent, reader, place)
            calls.append(Call(name, index, args, kwargs))
    return calls


def _modern(node: Config, reader: Reader, where: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
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


def _legacy(
    node: Any, names: set[str], recurrent: bool, reader: Reader, where: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A call as Keras 1, 2 and tf.keras write it: a list of ``[layer, call, output, kwargs]``."""
    entries, kwargs = _entries(node, names, reader, where)
    if not kwargs.get("training"):
        kwargs.pop("training", None)
    tensors = [_legacy_value(entry[:3], names) for entry in entries if entry[0] != _CONSTANT]
    if len(tensors) == 1:
        return (tensors[0],), kwargs
    if recurrent:
        return (tensors[0],), {**kwargs, "initial_state": tensors[1:]}
    return (tensors,), kwargs


def _function_call(
    node: Any, names: set[str], layer: Config, reader: Reader, where: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A call of a TensorFlow function: its first argument, or the members of it, are entries."""
    entries, kwargs = _entries(node, names, reader, where)
    first = [e[2] if e[0] == _CONSTANT else _legacy_value(e[:3], names) for e in entries]
    return arguments(layer, first[0] if _is_history(node) else first, kwargs, reader, where)


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
    return value


def _is_history(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and all(type(n) is int for n in value[1:3])
    ) or (isinstance(value, list) and len(value) == 4 and value[0] == _CONSTANT)


def _history(value: Any, reader: Reader, where: str) -> History:
    if not _is_history(value):
        raise reader.refuse(where, "[layer, call, output]", repr(value)[:80], "re-save the model")
    return History(value[0], value[1], value[2])


def _nest_of_histories(value: Any, reader: Reader, where: str) -> Any:
    """The nest of outputs; a list of one stands for that one, as Keras unpacks it."""
    if _is_history(value):
        return _history(value, reader, where)
    if isinstance(value, dict):
        return {str(k): _nest_of_histories(v, reader, where) for k, v in value.items()}
    if not isinstance(value, list) or not value:
        raise reader.refuse(
            where or "config", "lists of [layer, call, output]", repr(value)[:80], "re-save it"
        )
    inner = [_nest_of_histories(v, reader, where) for v in value]
    return inner[0] if len(inner) == 1 else inner


def histories_in(value: Any) -> Iterator[History]:
    """Yield the Histories of a nest, in order."""
    if isinstance(value, History):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from histories_in(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from histories_in(item)


def _counted_from_0(
    layers: Mapping[str, Config], calls: list[Call], outputs: Any, reader: Reader
) -> tuple[list[Call], Any]:
    """Return calls and outputs whose Histories count each layer's calls in the file from 0.

    A nested model has been called once, on its own inputs, before anything calls it; releases
    differ in whether they count that call, and Keras 3 counts it among the outputs only.
    """
    arguments = [[c.args, dict(c.kwargs)] for c in calls]
    modern = reader.major >= 3
    inside = _first_calls(layers, calls, arguments if modern else [arguments, outputs], reader)
    outside = _first_calls(layers, calls, outputs, reader, among_outputs=True) if modern else inside
    recounted = [
        Call(c.layer, c.index, _recounted(c.args, inside), _recounted(dict(c.kwargs), inside))
        for c in calls
    ]
    return recounted, _recounted(outputs, outside)


def _first_calls(
    layers: Mapping[str, Config],
    calls: list[Call],
    nest: Any,
    reader: Reader,
    among_outputs: bool = False,
) -> dict[str, int]:
    """Return the number of each nested model's first call in the file, as a nest counts it."""
    first = {}
    for name, layer in layers.items():
        found = {h.call for h in histories_in(nest) if h.layer == name}
        if layer["class_name"] not in MODELS or 0 in found or not found:
            continue
        sequential = layer["class_name"] == "Sequential"
        beyond = max(found) >= sum(call.layer == name for call in calls)
        by_release = among_outputs and not sequential if reader.major >= 3 else True
        if beyond or by_release:
            first[name] = 1
    return first


def _recounted(value: Any, first: Mapping[str, int]) -> Any:
    if isinstance(value, History):
        return value._replace(call=value.call - first.get(value.layer, 0))
    if isinstance(value, Constant):
        return value
    if isinstance(value, list | tuple):
        return type(value)(_recounted(v, first) for v in value)
    if isinstance(value, Mapping):
        return {k: _recounted(v, first) for k, v in value.items()}
    return value


def _ordered(calls: list[Call], inputs: set[str], reader: Reader, where: str) -> list[Call]:
    """Return the calls so that each finds its arguments computed."""
    done = {(name, 0) for name in inputs}
    waiting, ordered = list(calls), []
    while waiting:
        ready: list[Call] = []
        later: list[Call] = []
        for call in waiting:
            needs = {(h.layer, h.call) for h in histories_in([call.args, dict(call.kwargs)])}
            (ready if needs <= done else later).append(call)
            if needs <= done:
                done.add((call.layer, call.index))
        if not ready:
            raise reader.refuse(
                f"{where}{later[0].layer}",
                "calls that lead from the inputs to the outputs",
                "a circle, or a call of what is not there",
                "the config is damaged",
            )
        ordered += ready
        waiting = later
    return ordered
