"""Keras 1's ``Merge`` of whole models, as which a Sequential may begin, as a Functional model.

Such a Sequential has one input per model it merges, and its file lists their layers side by side,
as that of a Functional model does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from lstm_bridge.converters.keras_calls import first_shape
from lstm_bridge.converters.keras_options import Config, Reader
from lstm_bridge.converters.keras_tree import MODELS, layers_of, named

_MAX_DEPTH = 32


class _Flat(NamedTuple):
    """A model's layers with their calls, its inputs, and its output: ``[layer, call, output]``."""

    layers: list[dict[str, Any]]
    inputs: list[Any]
    output: list[Any]


def without_merged_models(model: Any, reader: Reader, depth: int = 0) -> Any:
    """Return a model in which every Sequential that begins with a Merge is a Functional one.

    Args:
        model: serialized, of any era; what is no model is returned as it is.
        reader: for refusals.
        depth: how many models are around this one.

    Raises:
        ConfigError: the Merge holds something else than models.
    """
    if (
        depth > _MAX_DEPTH
        or not isinstance(model, Mapping)
        or model.get("class_name") not in MODELS
    ):
        return model
    if _begins_with_merge(model):
        flat = _flat(model, reader, depth)
        config = {
            "name": _name(model) or "sequential",
            "layers": flat.layers,
            "input_layers": flat.inputs,
            "output_layers": [flat.output],
        }
        model = {**model, "class_name": "Model", "config": config}
    return _with_layers(model, reader, depth)


def _with_layers(model: Config, reader: Reader, depth: int) -> Config:
    """The same with its nested models converted."""
    config = model.get("config")
    listed = config.get("layers") if isinstance(config, Mapping) else config
    if not isinstance(listed, list):
        return model
    if model["class_name"] == "Sequential" and listed and _begins_with_merge(listed[0]):
        expected = "a Sequential that begins with a layer or a Merge itself"
        got = "one that begins with a model of several inputs"
        raise reader.refuse(named(listed[0], reader, 0)[1], expected, got, "build it Functional")
    layers = [without_merged_models(layer, reader, depth + 1) for layer in listed]
    inner = {**config, "layers": layers} if isinstance(config, Mapping) else layers
    return {**model, "config": inner}


def _begins_with_merge(model: Any) -> bool:
    if not isinstance(model, Mapping):
        return False
    config = model.get("config")
    layers = config.get("layers") if isinstance(config, Mapping) else config
    first = layers[0] if isinstance(layers, list) and layers else None
    if model.get("class_name") != "Sequential" or not isinstance(first, Mapping):
        return False
    inner = first.get("config")
    return first.get("class_name") == "Merge" and isinstance(inner, Mapping) and "layers" in inner


def _name(model: Config) -> Any:
    config = model.get("config")
    return config.get("name") if isinstance(config, Mapping) else None


def _flat(model: Config, reader: Reader, depth: int) -> _Flat:
    """The layers of a model that is merged, or begins with a Merge."""
    if depth > _MAX_DEPTH:
        raise reader.refuse("Merge", f"models nested {_MAX_DEPTH} deep at most", "more", "flatten")
    if model.get("class_name") != "Sequential":
        return _functional(model, reader)
    chain = layers_of(model, reader)
    if _begins_with_merge(model):
        start, chain = _merged(chain[0], reader, depth), chain[1:]
    else:
        start = _start(model, reader)
        chain = chain[1:] if chain[0]["class_name"] == "InputLayer" else chain
    layers, last = list(start.layers), start.output
    for index, layer in enumerate(chain):
        name = named(layer, reader, index)[1]
        layers.append({**layer, "name": name, "inbound_nodes": [[last]]})
        last = [name, 0, 0]
    return _Flat(layers, start.inputs, last)


def _merged(layer: Config, reader: Reader, depth: int) -> _Flat:
    """A Merge after the models that it holds."""
    name = named(layer, reader, 0)[1]
    members = layer["config"]["layers"]
    if not isinstance(members, list) or len(members) < 2:
        raise reader.refuse(name, "a Merge of two models or more", repr(members)[:80], "re-save it")
    layers: list[dict[str, Any]] = []
    inputs: list[Any] = []
    outputs = []
    for k, member in enumerate(members):
        if not isinstance(member, Mapping) or member.get("class_name") not in MODELS:
            got = repr(member.get("class_name") if isinstance(member, Mapping) else member)[:80]
            raise reader.refuse(f"{name}.layers[{k}]", "a Sequential or Model", got, "re-save it")
        flat = _flat(member, reader, depth + 1)
        layers += flat.layers
        inputs += [one for one in flat.inputs if one not in inputs]
        outputs.append(flat.output)
    config = {key: value for key, value in layer["config"].items() if key != "layers"}
    own = {**layer, "name": name, "config": config, "inbound_nodes": [outputs]}
    return _Flat([*layers, own], inputs, [name, 0, 0])


def _start(model: Config, reader: Reader) -> _Flat:
    """The input of a Sequential, which only its first layer's config tells of."""
    layers = layers_of(model, reader)
    name = named(layers[0], reader, 0)[1] if layers else "Sequential"
    shape, dtype = first_shape(model, dict(zip([name], layers, strict=False)), reader)
    if shape is None:
        raise reader.refuse(name, "an input shape", "none", "build the model before saving it")
    if layers[0]["class_name"] != "InputLayer":
        name = f"{name}_input"
    config = {"name": name, "batch_input_shape": list(shape), "input_dtype": dtype, "sparse": False}
    made = {"class_name": "InputLayer", "name": name, "config": config, "inbound_nodes": []}
    return _Flat([made], [[name, 0, 0]], [name, 0, 0])


def _functional(model: Config, reader: Reader) -> _Flat:
    """A Functional model; what is merged of it is the first of its outputs."""
    config = model.get("config")
    inputs, outputs = _ends(config, "input_layers"), _ends(config, "output_layers")
    if not inputs or not outputs:
        raise reader.refuse("Merge", "a model with inputs and outputs", "one without", "re-save it")
    layers = [
        {**layer, "name": named(layer, reader, k)[1]}
        for k, layer in enumerate(layers_of(model, reader))
    ]
    return _Flat(layers, inputs, outputs[0])


def _ends(config: Any, key: str) -> list[Any]:
    found = config.get(key) if isinstance(config, Mapping) else None
    return list(found) if isinstance(found, list) else []
