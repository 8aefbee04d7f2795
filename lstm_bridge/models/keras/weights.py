"""Which arrays of a Keras file, of any era, are which weights of the model its config makes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from lstm_bridge.checkpoints.base import Checkpoint
from lstm_bridge.converters.keras_options import Config
from lstm_bridge.converters.keras_tree import snake
from lstm_bridge.converters.recipe import (
    Apply,
    Entry,
    Recipe,
    Shape,
    Source,
    shape_of,
)
from lstm_bridge.errors import SemanticError
from lstm_bridge.keras.layers.state import StateHolder, flat
from lstm_bridge.models.keras.over_time import TimeDistributedModel
from lstm_bridge.models.keras.runtime import KerasModel

_DEPENDENCIES = "_layer_checkpoint_dependencies"  # Keras 2.13–2.15's word for "layers"
_RANDOM_STATE = re.compile(r"(?:.*/)?(?:seed_generator|random_generator)[^/]*/vars/\d+")
_CONVOLUTIONS = ("Conv1D", "Conv2D", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTMCell")


class Slot(NamedTuple):
    """One weight of the model.

    Args:
        name: full name of the parameter.
        shape: its shape.
        trainable: whether Keras lists it among the trainable weights.
        vars_path: its place in a file of numbered variables.
        owner: class of the layer or cell that holds it.
        source_class: class of the layer in the file (CuDNNLSTM for an LSTM).
    """

    name: str
    shape: Shape
    trainable: bool
    vars_path: str
    owner: str
    source_class: str


def find_weights(
    model: KerasModel, config: Config, checkpoint: Checkpoint
) -> tuple[dict[str, Recipe], list[str]]:
    """Return how each parameter is made from the file's tensors, and which tensors are not used.

    Args:
        model: built from the config.
        config: the serialized model.
        checkpoint: the open weights file.

    Raises:
        SemanticError: weights and model disagree.
    """
    metadata = checkpoint.metadata
    facts = {name: Entry(info.shape, info.dtype) for name, info in checkpoint.tensors.items()}
    finder = _Finder(str(checkpoint.path), facts, metadata)
    slots = slots_of(model, config)
    recipes = finder.numbered(slots) if metadata["layout"] == "vars" else finder.legacy(
        model, slots
    )  # fmt: skip
    used = {name for recipe in recipes.values() for name in _sources(recipe)}
    left = [n for n in facts if n not in used and not _RANDOM_STATE.fullmatch(n)]
    if left:
        raise finder.refuse(left[0], "only weights of the model's layers", "one of no layer")
    return recipes, [n for n in facts if n not in used]


def _sources(recipe: Recipe) -> Iterator[str]:
    if isinstance(recipe, Source):
        yield recipe.name
    else:
        for operand in recipe.operands:
            yield from _sources(operand)


# --- the model's weights, in Keras's order ------------------------------------------------------


def slots_of(model: KerasModel, config: Config) -> list[Slot]:
    """Return the weights of a model in Keras's order, each with its place in a numbered file."""
    return list(_slots(model, config, "", ""))


def _slots(model: KerasModel, config: Config, name: str, path: str) -> Iterator[Slot]:
    """Yield the weights of a model layer by layer, own ones first."""
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else inner
    modules = {part.path: part.module for part in model.parts}
    counters: dict[str, int] = {}
    for index, layer in enumerate(layers or ()):
        base = snake(layer["class_name"])
        count = counters.get(base, 0)
        counters[base] = count + 1
        own = layer["config"].get("name") if isinstance(layer["config"], dict) else None
        key = str(own or layer.get("name") or f"layer_{index}")
        if key not in modules:
            continue
        here = f"{path}layers/{base}" + (f"_{count}" if count else "")
        module = modules[key]
        if isinstance(module, KerasModel):
            yield from _model_slots(module, layer, f"{name}{key}", here)
        else:
            yield from _layer_slots(module, f"{name}{key}", here, layer)


def _model_slots(model: KerasModel, config: Config, name: str, path: str) -> Iterator[Slot]:
    """Yield the weights of a nested model, through the TimeDistributed that it may stand in."""
    while isinstance(model, TimeDistributedModel):
        model, config = model.layer, config["config"]["layer"]
        name, path = f"{name}.layer", f"{path}/layer"
    yield from _slots(model, config, f"{name}.", f"{path}/")


def _layer_slots(layer: Any, name: str, path: str, config: Any) -> Iterator[Slot]:
    """Yield the weights of a layer, then those of the layers it holds."""
    inner = config.get("config", {}) if isinstance(config, dict) else {}
    source_class = str(config.get("class_name")) if isinstance(config, dict) else ""
    for index, variable in enumerate(layer._own_variables()):
        yield Slot(
            f"{name}.{variable.key}",
            tuple(variable.shape),
            variable.trainable and layer.trainable,
            f"{path}/vars/{index}",
            type(layer).__name__,
            source_class,
        )
    for key, value in layer.items():
        if isinstance(value, StateHolder):
            told = _told(inner, key, source_class)
            yield from _layer_slots(value, f"{name}.{key}", f"{path}/{key}", told)
        elif isinstance(value, list):
            yield from _member_slots(value, f"{name}.{key}", f"{path}/{key}")


def _told(inner: Any, key: str, source_class: str) -> Any:
    """The serialized form of a layer inside another: a CuDNNLSTM's cell is one of its own."""
    key = "layer" if key == "forward_layer" else key
    if isinstance(inner, dict) and key == "backward_layer":
        return inner.get("backward_layer") or inner.get("layer") or {}
    if isinstance(inner, dict) and isinstance(inner.get(key), dict):
        return inner[key]
    return {"class_name": source_class}


def _member_slots(members: list[Any], name: str, path: str) -> Iterator[Slot]:
    counters: dict[str, int] = {}
    for k, member in enumerate(m for m in flat(members) if isinstance(m, StateHolder)):
        base = snake(type(member).__name__)
        count = counters.get(base, 0)
        counters[base] = count + 1
        here = f"{path}/{base}" + (f"_{count}" if count else "")
        yield from _layer_slots(member, f"{name}.{k}", here, {})


# --- the file's arrays --------------------------------------------------------------------------


class _Finder:
    """Pairs weights with a file's tensors."""

    def __init__(self, file: str, facts: Mapping[str, Entry], metadata: Mapping[str, Any]) -> None:
        self._file, self._facts, self._metadata = file, facts, metadata

    def refuse(self, tensor: str, expected: str, got: str) -> SemanticError:
        return SemanticError(
            self._file,
            tensor=tensor,
            expected=expected,
            got=got,
            fix="config and weights are not of the same model",
        )

    def numbered(self, slots: list[Slot]) -> dict[str, Recipe]:
        """Pair by place: ``layers/dense/vars/0``."""
        by_path = {_plain_path(name): name for name in self._facts}
        recipes = {}
        for slot in slots:
            name = by_path.get(slot.vars_path)
            if name is None:
                raise self.refuse(slot.vars_path, f"the weight {slot.name}", "none")
            recipes[slot.name] = self._fitted(slot, Source(name), name)
        return recipes

    def legacy(self, model: KerasModel, slots: list[Slot]) -> dict[str, Recipe]:
        """Pair by order within each top-level layer: trainable weights first."""
        queues = {top: self._joined(names) for top, names in self._metadata["weight_names"].items()}
        recipes: dict[str, Recipe] = {}
        for part in model.parts:
            own = [s for s in slots if s.name.startswith(f"{part.path}.")]
            own.sort(key=lambda slot: not slot.trainable)
            queue = queues.get(part.path, [])
            if len(queue) != len(own):
                raise self.refuse(part.path, f"{len(own)} weights", str(len(queue)))
            for slot, (name, recipe) in zip(own, queue, strict=True):
                recipes[slot.name] = self._fitted(slot, recipe, name)
        return recipes

    def _joined(self, names: list[str]) -> list[tuple[str, Recipe]]:
        """Put Keras 1's arrays per gate together: ``lstm_1_W_i`` and three more are a kernel."""
        found: dict[str, tuple[str, list[str]]] = {}
        for name in names:
            gate = _GATE.fullmatch(name.rpartition("/")[2].partition(":")[0])
            key = f"{gate['layer']}_{gate['role']}" if gate else name
            found.setdefault(key, (name, []))[1].append(name)
        joined: list[tuple[str, Recipe]] = []
        for first, members in found.values():
            if len(members) == 1:
                joined.append((first, Source(first)))
                continue
            ordered = sorted(members, key=_gate_rank)
            joined.append((first, Apply("join gates", tuple(Source(m) for m in ordered))))
        return joined

    def _fitted(self, slot: Slot, recipe: Recipe, name: str) -> Recipe:
        """Return the recipe whose result has the slot's shape, as the era stores such a weight."""
        role = slot.name.rpartition(".")[2]
        stored = _LEGACY_NAME.fullmatch(name.rpartition("/")[2])
        if stored and not _same_role(stored[1], role):
            raise self.refuse(name, f"the {role} of {slot.name.rpartition('.')[0]}", "another one")
        for operation in self._operations(slot, role, recipe):
            recipe = Apply(operation, (recipe,))
        shape = shape_of(recipe, self._facts)
        if shape != slot.shape and math.prod(shape) == 1 == math.prod(slot.shape):
            return recipe
        if shape != slot.shape:
            raise self.refuse(name, f"{slot.name} of shape {list(slot.shape)}", str(list(shape)))
        return recipe

    def _operations(self, slot: Slot, role: str, recipe: Recipe) -> Iterator[str]:
        if slot.source_class in ("CuDNNLSTM", "CuDNNGRU"):
            gates = "" if slot.source_class == "CuDNNLSTM" else "gru "
            yield _CUDNN[role].replace("cudnn ", f"cudnn {gates}")
        if slot.owner not in _CONVOLUTIONS or "kernel" not in role:
            return
        shape = shape_of(recipe, self._facts)
        if len(shape) == 4 and len(slot.shape) == 3 and shape[1] == 1:
            yield "drop second axis"
        elif (
            len(shape) == 4
            and shape != slot.shape
            and (*shape[2:], shape[1], shape[0]) == slot.shape
        ):
            yield "channels last"
        if self._metadata.get("backend") == "theano":
            yield "flip windows"


_CUDNN = {"kernel": "cudnn kernel", "recurrent_kernel": "cudnn recurrent", "bias": "cudnn bias"}
_GATE = re.compile(r"(?P<layer>.+)_(?P<role>[WUb])_(?P<gate>[ifcozrh])")
_LEGACY_NAME = re.compile(
    r"([a-z_]*(?:kernel|bias|gamma|beta|mean|variance|embeddings|alpha))(?::0)?"
)
_GATE_RANK = "ifcozrh"


def _gate_rank(name: str) -> int:
    gate = _GATE.fullmatch(name.rpartition("/")[2].partition(":")[0])
    return _GATE_RANK.index(gate["gate"]) if gate else 0


def _same_role(stored: str, role: str) -> bool:
    return stored == role or stored.endswith(f"_{role}") or role.endswith(stored)


def _plain_path(name: str) -> str:
    """A dataset's path in the words of Keras 3."""
    return re.sub(r"/_(\w+_dense)/", r"/\1/", name.replace(_DEPENDENCIES, "layers"))
