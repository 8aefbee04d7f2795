"""Who calls whom in a Keras model's config: the layers' calls, in order, of any Keras since 1.0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lstm_bridge.converters.keras_arguments import (
    Constant,
    History,
    function_call,
    histories_in,
    legacy,
    modern,
    nest_of_histories,
)
from lstm_bridge.converters.keras_layers import RECURRENT, SUPPORTED, is_operation, unsupported
from lstm_bridge.converters.keras_merge_modes import as_cosine
from lstm_bridge.converters.keras_options import Config, Reader
from lstm_bridge.converters.keras_tensorflow import TENSORFLOW, as_operation
from lstm_bridge.converters.keras_tree import MODELS, layers_of, named


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
        if class_name == "Merge" and layer["config"].get("mode") == "cos":
            layer = as_cosine(layer, reader, f"{where}{name} (layer {index})")
        if name in layers:
            raise reader.refuse(where + name, "a name of its own", "a repeat", "re-save the model")
        layers[name] = layer
    if model.get("class_name") == "Sequential":
        return _sequential(model, layers, reader, where)
    return _functional(model, layers, reader, where)


# --- Sequential -------------------------------------------------------------------------------


def _sequential(model: Config, layers: Mapping[str, Config], reader: Reader, where: str) -> Wiring:
    names = [name for name, layer in layers.items() if layer["class_name"] != "InputLayer"]
    shape, dtype = first_shape(model, layers, reader)
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


def first_shape(
    model: Config, layers: Mapping[str, Config], reader: Reader
) -> tuple[tuple[int | None, ...] | None, str]:
    """Return a Sequential model's input shape and dtype, wherever the era keeps them."""
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
    nest = nest_of_histories(config.get("input_layers"), reader, where)
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
    outputs = nest_of_histories(config.get("output_layers"), reader, where)
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
                args, kwargs = modern(node, reader, place)
            elif "tf" in layer:
                args, kwargs = function_call(node, set(layers), layer, reader, place)
            else:
                recurrent = layer["class_name"] in RECURRENT
                args, kwargs = legacy(node, set(layers), recurrent, reader, place)
            calls.append(Call(name, index, args, kwargs))
    return calls


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
    if isinstance(value, slice):
        return slice(*(_recounted(v, first) for v in (value.start, value.stop, value.step)))
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
