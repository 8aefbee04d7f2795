"""Who calls whom in a Keras model, read from its config alone. Source: keras 3.15 and tf.keras 2.

Written from the format, apart from the converters' own reading: an oracle that shared it would
agree with any mistake in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from lstm_bridge.equivalence.oracle.keras_operations import constant
from lstm_bridge.errors import UnsupportedError

MODELS = ("Sequential", "Functional", "Model")
"""Classes that hold layers."""


class Tensor(NamedTuple):
    """What a layer returned: its name, which of its calls, which of the outputs."""

    layer: str
    call: int
    output: int


class Call(NamedTuple):
    """One call of a layer; arguments are Tensors, constants and nests of them."""

    layer: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class Input(NamedTuple):
    """An input of a model: name, shape with the batch, dtype."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


class Wiring(NamedTuple):
    """A model's layers by name, its inputs, the calls by layer and number, and its outputs."""

    layers: Mapping[str, Mapping[str, Any]]
    inputs: tuple[Input, ...]
    calls: Mapping[tuple[str, int], Call]
    outputs: Any


def is_model(layer: Mapping[str, Any]) -> bool:
    """Say whether a serialised layer is a model of its own."""
    return layer.get("class_name") in MODELS


def name_of(layer: Mapping[str, Any]) -> str:
    """Return a serialised layer's name."""
    return str(layer.get("name") or layer["config"]["name"])


def wiring(model: Mapping[str, Any]) -> Wiring:
    """Read a serialised Sequential or Functional model.

    Raises:
        UnsupportedError: it is none, or one without an input's shape.
    """
    config = model["config"]
    listed = config if isinstance(config, list) else config.get("layers", ())
    layers = {name_of(layer): layer for layer in listed}
    if model.get("class_name") == "Sequential":
        return _chain(layers, config)
    if "output_layers" not in config:
        raise UnsupportedError(
            "oracle of a Keras model",
            expected="a Sequential or Functional one",
            got=str(model.get("class_name")),
        )
    inputs = tuple(_input(layers[t.layer]) for t in _tensors(_nest(config["input_layers"])))
    calls: dict[tuple[str, int], Call] = {}
    for name, layer in layers.items():
        for k, node in enumerate(layer.get("inbound_nodes") or ()):
            calls[name, k] = Call(name, *_arguments(node, layers))
    outputs = _nest(config["output_layers"])
    return Wiring(layers, inputs, _numbered(calls, outputs, layers), outputs)


def _chain(layers: Mapping[str, Any], config: Any) -> Wiring:
    own = [n for n, layer in layers.items() if layer["class_name"] != "InputLayer"]
    first = next(iter(layers.values()))
    found = _input(first) if first["class_name"] == "InputLayer" else _first_input(first)
    if found is None and isinstance(config, Mapping) and config.get("build_input_shape"):
        found = Input("input", tuple(config["build_input_shape"]), "float32")
    if found is None:
        raise UnsupportedError("oracle of a Keras model", expected="an input's shape", got="none")
    last, calls = Tensor(found.name, 0, 0), {}
    for name in own:
        calls[name, 0] = Call(name, (last,), {})
        last = Tensor(name, 0, 0)
    return Wiring(layers, (found,), calls, last)


def _first_input(layer: Any) -> Input | None:
    """The input that a Sequential's first layer names, itself or in what it wraps."""
    while isinstance(layer, Mapping):
        config = layer["config"]
        if is_model(layer):
            inner = config if isinstance(config, list) else config["layers"]
            layer = inner[0]
            continue
        if config.get("batch_input_shape") or config.get("batch_shape"):
            return _input(layer)._replace(name="input")
        layer = config.get("layer")
    return None


def _input(layer: Mapping[str, Any]) -> Input:
    config = layer["config"]
    shape = config.get("batch_shape") or config.get("batch_input_shape") or config.get("shape")
    dtype = config.get("dtype") or "float32"
    if isinstance(dtype, Mapping):
        dtype = dtype.get("config", {}).get("name", "float32")
    return Input(name_of(layer), tuple(shape), str(dtype))


def _arguments(node: Any, layers: Mapping[str, Any]) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    if isinstance(node, Mapping):  # Keras 3
        args = tuple(decoded(a) for a in node.get("args", ()))
        named = {k: decoded(v) for k, v in node.get("kwargs", {}).items()}
        return args, {k: v for k, v in named.items() if v is not None and k != "training"}
    entries = [node] if _is_history(node) else list(node)
    kwargs: dict[str, Any] = {}
    for entry in entries:
        extra = entry[3] if len(entry) > 3 else {}
        kwargs |= {k: _old(v, layers) for k, v in extra.items() if v is not None}
    kwargs.pop("training", None)
    tensors = [Tensor(*entry[:3]) for entry in entries]
    return ((tensors[0],) if len(tensors) == 1 else (tensors,)), kwargs


def _is_history(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) in (3, 4)
        and isinstance(value[0], str)
        and all(isinstance(v, int) for v in value[1:3])
    )


def _old(value: Any, layers: Mapping[str, Any]) -> Any:
    if _is_history(value) and value[0] in layers:
        return Tensor(*value[:3])
    return [_old(v, layers) for v in value] if isinstance(value, list) else value


def decoded(value: Any) -> Any:
    """Return an argument that Keras 3 wrote as an object."""
    if isinstance(value, Mapping):
        if value.get("class_name") == "__keras_tensor__":
            return Tensor(*value["config"]["keras_history"][:3])
        if value.get("class_name") == "__tuple__":
            return tuple(decoded(v) for v in value["items"])
        if value.get("class_name") in ("__numpy__", "__tensor__"):
            return constant(value["config"]["value"], value["config"]["dtype"])
        if value.get("class_name") == "__ellipsis__":
            return Ellipsis
        if value.get("class_name") == "__slice__" or set(value) == {"start", "stop", "step"}:
            inner = value.get("config", value)
            return slice(inner["start"], inner["stop"], inner["step"])
        return {k: decoded(v) for k, v in value.items()}
    return [decoded(v) for v in value] if isinstance(value, list) else value


def _nest(value: Any) -> Any:
    """Tensors in the nest in which a model takes or returns them; a list of one is that one."""
    if _is_history(value):
        return Tensor(*value[:3])
    if isinstance(value, Mapping):
        return {k: _nest(v) for k, v in value.items()}
    made = [_nest(v) for v in value]
    return made[0] if len(made) == 1 else made


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _numbered(
    calls: Mapping[tuple[str, int], Call], outputs: Any, layers: Mapping[str, Any]
) -> dict[tuple[str, int], Call]:
    """The calls by the numbers that are used of them.

    A model within the model was called once before, on its own inputs, and most releases count
    that call without listing it.
    """
    used: dict[str, int] = {}
    for tensor in _tensors([[c.args, dict(c.kwargs)] for c in calls.values()] + [outputs]):
        used[tensor.layer] = max(used.get(tensor.layer, 0), tensor.call)
    count = {name: sum(layer == name for layer, _ in calls) for name in layers}
    shift = {n: max(0, used.get(n, 0) - count[n] + 1) if is_model(layers[n]) else 0 for n in layers}
    return {(name, k + shift[name]): call for (name, k), call in calls.items()}
