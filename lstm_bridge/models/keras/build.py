"""From a Keras config to the module tree and graph that run it; its numbers come later."""

from __future__ import annotations

import itertools
from typing import Any

from lstm_bridge.converters.keras_arguments import Constant, History
from lstm_bridge.converters.keras_calls import Call, Wiring, wiring
from lstm_bridge.converters.keras_layers import is_operation, layer_config, unsupported
from lstm_bridge.converters.keras_options import Config, Reader
from lstm_bridge.converters.keras_tree import MODELS as MODEL_CLASSES
from lstm_bridge.errors import BridgeError, ConfigError, UsageError
from lstm_bridge.keras.layers import call_spec
from lstm_bridge.models.classes import make
from lstm_bridge.models.graph import Graph, Node, Ref
from lstm_bridge.models.keras import older
from lstm_bridge.models.keras.operations import KERAS_OPERATIONS, constant, inferred_shape
from lstm_bridge.models.keras.over_time import TimeDistributedModel
from lstm_bridge.models.keras.runtime import KerasModel
from lstm_bridge.models.keras.shapes import (
    bare,
    by_argument,
    is_several,
    mapped,
    nth,
    output_shapes,
    plain_shapes,
    standing,
)
from lstm_bridge.models.keras.sizes import Sizes, holds
from lstm_bridge.models.whole import MODELS as MODEL_KINDS
from lstm_bridge.models.whole import Part

_MAX_DEPTH = 32


def build(model: Config, reader: Reader, where: str = "", depth: int = 0) -> KerasModel:
    """Return the module that a serialized model describes, its weights not yet loaded.

    Args:
        model: ``{"class_name": …, "config": …}`` of any era.
        reader: reads the options of one file.
        where: place of a nested model, for refusals.
        depth: how many models are around this one.

    Raises:
        ConfigError: a layer or option that is not supported, or a graph that does not run.
    """
    if depth > _MAX_DEPTH:
        raise reader.refuse(where, f"models nested {_MAX_DEPTH} deep at most", "more", "flatten it")
    wires = wiring(model, reader, where)
    check_layers(wires, reader, where)
    builder = _Builder(wires, reader, where, depth)
    for call in wires.calls:
        builder.add(call)
    return builder.finish(_name_of(model))


def check_layers(wires: Wiring, reader: Reader, where: str) -> None:
    """Refuse what is not supported in any layer before anything is made."""
    for name, layer in wires.layers.items():
        if is_operation(layer):
            operation_of(layer, reader, where + name)
        elif layer["class_name"] == "TimeDistributed" and holds_model(layer):
            continue  # its layers are checked when it is built
        elif layer["class_name"] not in (*MODEL_CLASSES, "InputLayer"):
            layer_config(layer, reader, where + name)


def holds_model(layer: Config) -> bool:
    """Say whether a TimeDistributed has a whole model inside, however deep."""
    inner: Any = layer
    for _ in range(_MAX_DEPTH):
        config = inner.get("config") if isinstance(inner, dict) else None
        inner = config.get("layer") if isinstance(config, dict) else None
        if not isinstance(inner, dict) or inner.get("class_name") != "TimeDistributed":
            break
    return isinstance(inner, dict) and inner.get("class_name") in MODEL_CLASSES


def operation_of(layer: Config, reader: Reader, where: str) -> str:
    """Return the graph's name of a ``keras.ops`` function; ConfigError if it has none."""
    name = f"keras.{layer['class_name']}"
    if name not in KERAS_OPERATIONS:
        raise unsupported(str(layer["class_name"]), reader, where)
    return name


def _name_of(model: Config) -> str:
    config = model.get("config")
    return str(config.get("name") or "model") if isinstance(config, dict) else "model"


class _Builder:
    """Makes layers as calls come to them, and keeps the shapes of what they return."""

    def __init__(self, wires: Wiring, reader: Reader, where: str, depth: int) -> None:
        self._wires, self._reader, self._where, self._depth = wires, reader, where, depth
        self._parts: dict[str, Part] = {}
        self._shapes: dict[tuple[str, int], Any] = {(i.name, 0): i.shape for i in wires.inputs}
        self._nodes = [Node(_node_name(i.name, 0), "input") for i in wires.inputs]
        self._added: set[str] = set()

    def add(self, call: Call) -> None:
        """Add one call: its layer, if this is the first, and its node."""
        place = self._where + call.layer
        try:
            args, kwargs = self._shaped(call.args), self._shaped(dict(call.kwargs))
            if is_operation(self._wires.layers[call.layer]):
                self._add_operation(call, args, kwargs)
                return
            if holds(Sizes, [args, kwargs]):
                raise UsageError("a layer", expected="arrays", got="sizes of arrays")
            if call.layer not in self._parts:
                self._parts[call.layer] = self._part(call.layer, args, kwargs)
            layer: Any = self._parts[call.layer].module
            self._check_keywords(layer, call)
            self._shapes[call.layer, call.index] = output_shapes(layer, args, kwargs)
        except ConfigError:
            raise
        except (BridgeError, TypeError, ValueError, LookupError) as error:
            raise self._reader.refuse(
                place, "options and inputs that make a layer", f"{error}", "the config is damaged"
            ) from error
        refs = tuple(self._referred(a) for a in call.args)
        named = {k: self._referred(v) for k, v in call.kwargs.items()}
        node = _node_name(call.layer, call.index)
        self._nodes.append(Node(node, "module", call.layer, refs, named))

    def _add_operation(self, call: Call, args: Any, kwargs: Any) -> None:
        """Add a function of ``keras.ops``; what its config holds are constant arguments."""
        layer = self._wires.layers[call.layer]
        name = operation_of(layer, self._reader, self._where + call.layer)
        constants = {k: v for k, v in layer["config"].items() if k != "name" and v is not None}
        run = KERAS_OPERATIONS[name]
        self._shapes[call.layer, call.index] = inferred_shape(run, args, {**constants, **kwargs})
        refs = tuple(self._referred(a) for a in call.args)
        named = {k: self._referred(v) for k, v in call.kwargs.items()}
        node = _node_name(call.layer, call.index)
        self._nodes.append(Node(node, name, "", refs, {**constants, **named}))

    def _part(self, name: str, args: Any, kwargs: Any) -> Part:
        layer, place = self._wires.layers[name], self._where + name
        if layer["class_name"] in MODEL_CLASSES:
            inner = build(layer, self._reader, f"{place}.", self._depth + 1)
            return Part(name, KerasModel.KIND, {}, inner)
        if layer["class_name"] == "TimeDistributed" and holds_model(layer):
            return self._over_time(name, layer, place)
        kind, options = layer_config(layer, self._reader, place)
        options["name"] = name.rpartition("/")[2] or "layer"
        early = self._reader.major < 3 and kind in older.__all__
        kind = f"{'models.keras.older' if early else 'keras.layers'}.{kind}"
        made: Any = make(kind, options, None)
        shapes = by_argument(made, "build", args, kwargs)
        if not made.built:
            made.build(**shapes)
        return Part(name, kind, options, made, made.get_build_config())

    def _over_time(self, name: str, layer: Config, place: str) -> Part:
        """A model, or one at every step of another sequence, at every time step."""
        inner = layer["config"]["layer"]
        if inner["class_name"] in MODEL_CLASSES:
            model = build(inner, self._reader, f"{place}.layer.", self._depth + 1)
        else:
            model = self._over_time("layer", inner, f"{place}.layer").module
        made = TimeDistributedModel.around(model, name.rpartition("/")[2])
        return Part(name, TimeDistributedModel.KIND, {}, made)

    def _check_keywords(self, layer: Any, call: Call) -> None:
        if isinstance(layer, KerasModel):
            wrong = [k for k in call.kwargs if k not in ("training", "mask")]
        else:
            known = call_spec.parameters_of(type(layer).call)
            wrong = [k for k in call.kwargs if k not in known and k != "training"]
        if wrong:
            raise self._reader.refuse(
                self._where + call.layer, "arguments that its call takes", wrong[0], "re-save it"
            )

    def _shaped(self, value: Any) -> Any:
        """Put shapes in the place of tensors."""
        if isinstance(value, History):
            shapes = self._shapes[value.layer, value.call]
            return standing(shapes if value.output is None else nth(shapes, value.output))
        if isinstance(value, Constant):
            return constant(*value)
        return mapped(self._shaped, value)

    def _referred(self, value: Any) -> Any:
        """Put references to nodes in the place of tensors; several outputs are picked apart."""
        if isinstance(value, Constant):
            name = self._new_name("constant")
            self._nodes.append(Node(name, "keras.Constant", "", tuple(value)))
            return Ref(name)
        if not isinstance(value, History):
            return mapped(self._referred, value)
        node = _node_name(value.layer, value.call)
        if value.output is None or not is_several(self._shapes[value.layer, value.call]):
            return Ref(node)
        item = f"{node}[{value.output}]"
        if item not in self._added:
            self._added.add(item)
            self._nodes.append(Node(item, "keras.Output", "", (Ref(node), value.output)))
        return Ref(item)

    def _new_name(self, stem: str) -> str:
        """A name that no layer has."""
        taken = {*self._wires.layers, *self._added}
        name = next(n for n in (f"{stem}_{k}" for k in itertools.count()) if n not in taken)
        self._added.add(name)
        return name

    def finish(self, name: str) -> KerasModel:
        """Return the model."""
        if holds(Sizes, self._shaped(self._wires.outputs)):
            expected, fix = "arrays for outputs", "return what is made of the sizes"
            raise self._reader.refuse(self._where + name, expected, "sizes of arrays", fix)
        outputs = self._referred(self._wires.outputs)
        nodes = (*self._nodes, Node("output", "output", "", (outputs,)))
        order = [n for n in self._wires.layers if n in self._parts]
        inputs = [
            {"name": i.name, "shape": list(i.shape), "dtype": i.dtype, "key": i.key or i.name}
            for i in self._wires.inputs
        ]
        shapes = {c.layer: plain_shapes(self._shapes[c.layer, c.index]) for c in self._wires.calls}
        returned = plain_shapes(bare(self._shaped(self._wires.outputs)))
        options = {"name": name, "inputs": inputs, "shapes": shapes, "output_shapes": returned}
        functional = [n for n in self._wires.layers if self._wires.functional or n in self._parts]
        options["layers"] = [{"name": n, "class": self._class_of(n)} for n in functional]
        # Keras 3 lets what a model is told replace what a call was built with; Keras 2 does not.
        options["told_training_holds"] = self._reader.major >= 3
        model = KerasModel([self._parts[n] for n in order], Graph(nodes), None, options)
        return model.eval()  # type: ignore[no-any-return]

    def _class_of(self, name: str) -> str:
        """The class that a summary shows."""
        part = self._parts.get(name)
        if part is None or part.kind in MODEL_KINDS:
            return str(self._wires.layers[name]["class_name"])
        return part.kind.rpartition(".")[2]


def _node_name(layer: str, call: int) -> str:
    return layer if call == 0 else f"{layer}:{call}"
