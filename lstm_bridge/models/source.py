"""A checkpoint file with its plan: the common first step of inspect, convert and verify."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from mlx.utils import tree_flatten

from lstm_bridge.checkpoints import open_checkpoint
from lstm_bridge.checkpoints.base import Array, Checkpoint
from lstm_bridge.converters.layer import FoundLayer, Tensors
from lstm_bridge.converters.plan import DIALECTS, Plan, make_plan
from lstm_bridge.converters.recipe import Entry, Recipe, Source, evaluate
from lstm_bridge.errors import BridgeError
from lstm_bridge.models.choices import (
    NOTHING_CHOSEN,
    Choices,
    Pathish,
    check_choices,
    check_folder,
)
from lstm_bridge.models.directory import index_in, is_converted
from lstm_bridge.models.json_file import read_object
from lstm_bridge.models.schema import WEIGHTS, check_present, names_of, read_config
from lstm_bridge.models.torch.script import is_script, script_structure
from lstm_bridge.models.whole import Model

__all__ = [
    "NOTHING_CHOSEN",
    "Choices",
    "Pathish",
    "SourceLayer",
    "entries",
    "opened",
    "read_layers",
]


class SourceLayer(NamedTuple):
    """One layer of a source file, its arrays read and in the layout of its front-end."""

    path: str
    kind: str
    options: dict[str, Any]
    params: dict[str, Array]


@contextmanager
def opened(file: Pathish, choices: Choices) -> Iterator[tuple[Checkpoint, Plan]]:
    """Open a checkpoint and plan its conversion from the header alone.

    Raises:
        RefusedInput: the container, the config or a layer cannot be taken.
        FileSystemError: the file cannot be read.
    """
    path = Path(file)
    if is_converted(path):
        check_folder(choices)
        with open_checkpoint(path / WEIGHTS) as checkpoint:
            yield checkpoint, _narrowed(_plan_of_folder(path, checkpoint), choices)
        return
    with open_checkpoint(index_in(path) or path) as checkpoint:
        plan = _plan_of_record(checkpoint) if is_script(checkpoint) and not choices.ignore else None
        if plan is None:
            plan = make_plan(_tensors(checkpoint, choices), choices.ignore)
        check_choices(checkpoint, plan, choices)
        yield checkpoint, _narrowed(plan, choices)


def _narrowed(plan: Plan, choices: Choices) -> Plan:
    return plan if choices.prefix is None else plan.only(choices.prefix)


def _plan_of_record(checkpoint: Checkpoint) -> Plan | None:
    """Plan a recorded module by its record; None where that cannot be followed."""
    try:
        model, recipes = script_structure(checkpoint)
    except BridgeError:
        return None
    layers = layers_in(model, recipes)
    used = {layer.name_of(p) for layer in layers for p in layer.parameters}
    passed = {name: name for name in checkpoint.tensors if name not in used}
    return Plan(tuple(layers), passed, {}, {}, {}, ())


def layers_in(model: Model, recipes: Mapping[str, Recipe]) -> list[FoundLayer]:
    """Return the recurrent layers of a whole model, in order of their paths."""
    kinds = {kind for dialect in DIALECTS.values() for kind in dialect.kinds}
    found = []
    for part in sorted(model.parts, key=lambda part: part.path):
        if part.kind in kinds:
            own = [name for name, _ in tree_flatten(part.module.parameters())]
            made = {name: recipes[f"{part.path}.{name}"] for name in own}
            found.append(FoundLayer(part.path, part.kind, part.options, made))
    return found


def _plan_of_folder(folder: Path, checkpoint: Checkpoint) -> Plan:
    """Plan a converted folder by its own config: nothing has to be found out again."""
    layers = []
    for entry in read_config(folder)["layers"]:
        check_present(folder, entry, checkpoint.tensors)
        parameters = {p: Source(name) for p, name in names_of(entry).items()}
        layers.append(FoundLayer(entry["path"], entry["class"], entry["options"], parameters))
    used = {layer.name_of(p) for layer in layers for p in layer.parameters}
    passed = {name: name for name in checkpoint.tensors if name not in used}
    return Plan(tuple(layers), passed, {}, {}, {}, ())


def entries(checkpoint: Checkpoint) -> dict[str, Entry]:
    """Return the header facts in the form that converters work on."""
    return {name: Entry(info.shape, info.dtype) for name, info in checkpoint.tensors.items()}


def _tensors(checkpoint: Checkpoint, choices: Choices) -> Tensors:
    metadata = dict(checkpoint.metadata)
    if choices.config is not None:
        described = read_object(Path(choices.config))
        metadata["config"] = described
        metadata["keras_version"] = metadata.get("keras_version") or described.get("keras_version")
    return Tensors(str(checkpoint.path), entries(checkpoint), metadata, choices.assume)


def read_layers(file: Pathish, choices: Choices = NOTHING_CHOSEN) -> list[SourceLayer]:
    """Read every layer of a source file, float64 and bfloat16 bits as they are stored.

    Args:
        file: the checkpoint.
        choices: see Choices. Default: nothing chosen.

    Returns:
        Layers in the file's order.

    Raises:
        RefusedInput: something in the file does not convert.
    """
    with opened(file, choices) as (checkpoint, plan):
        plan.require(str(file))
        return [
            SourceLayer(
                layer.path,
                layer.kind,
                dict(layer.options),
                {name: evaluate(r, checkpoint.read) for name, r in layer.parameters.items()},
            )
            for layer in plan.layers
        ]
