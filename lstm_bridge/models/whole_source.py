"""The whole model that a source describes: its structure, and how each of its arrays is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mlx.utils import tree_flatten

from lstm_bridge.checkpoints.base import Checkpoint
from lstm_bridge.converters.layer import FoundLayer
from lstm_bridge.converters.recipe import Recipe, Source
from lstm_bridge.errors import BridgeError, UsageError
from lstm_bridge.models.blank import blank_arrays, filled
from lstm_bridge.models.content import Content
from lstm_bridge.models.directory import is_converted
from lstm_bridge.models.folder import whole_of
from lstm_bridge.models.json_file import read_object
from lstm_bridge.models.keras.back import architecture_of, places_of
from lstm_bridge.models.keras.load import structure_of
from lstm_bridge.models.keras.runtime import KerasModel
from lstm_bridge.models.quantize import quantize
from lstm_bridge.models.schema import read_config
from lstm_bridge.models.source import NOTHING_CHOSEN, Choices, opened
from lstm_bridge.models.torch.model import TorchModel
from lstm_bridge.models.torch.script import is_script, script_structure
from lstm_bridge.models.whole import Model


class WholeSource(NamedTuple):
    """A model whose numbers are not read yet.

    Args:
        model: the structure; its arrays are placeholders that hold no memory.
        recipes: parameter → how it is made from the source's tensors.
        left_out: what the source holds besides → why it is left out.
    """

    model: Model
    recipes: Mapping[str, Recipe]
    left_out: Mapping[str, str]


def whole_source(path: Path, checkpoint: Checkpoint, config: Any = None) -> WholeSource | str:
    """Return the whole model that a source describes, or why it describes none.

    Args:
        path: the source: a file, or a folder that convert or save wrote.
        checkpoint: the same, open.
        config: architecture of a weights-only Keras file. Default: None.
    """
    try:
        if is_converted(path):
            return _of_folder(path, checkpoint)
        if checkpoint.framework == "keras":
            model, recipes, unused = structure_of(checkpoint, config)
            left_out = dict.fromkeys(unused, "random state, not weights")
            return WholeSource(model, recipes, left_out)
        if is_script(checkpoint):
            return WholeSource(*script_structure(checkpoint), {})
    except BridgeError as error:
        return str(error)
    return "the file holds weights, and not what is done with them"


def load_whole(path: Path, choices: Choices = NOTHING_CHOSEN) -> Model:
    """Return the whole model that a source describes, with its numbers.

    Args:
        path: a file, or a folder.
        choices: the architecture of a weights-only file. Default: nothing chosen.

    Raises:
        UsageError: it describes none.
        RefusedInput: it is damaged.
    """
    with opened(path, choices) as (checkpoint, _):
        config = read_object(Path(choices.config)) if choices.config is not None else None
        found = whole_source(path, checkpoint, config)
        if isinstance(found, str):
            raise UsageError("source", expected="one that describes a whole model", got=found)
        filled(found.model, found.recipes, checkpoint)
        return found.model


def _of_folder(folder: Path, checkpoint: Checkpoint) -> WholeSource | str:
    config = read_config(folder)
    if "graph" not in config:
        return "the folder holds layers, and not what is done with them"
    model = whole_of(folder, config, blank_arrays(checkpoint.tensors))
    return WholeSource(model, {name: Source(name) for name in checkpoint.tensors}, {})


def content_of(whole: WholeSource, layers: Sequence[FoundLayer], bits: int | None) -> Content:
    """Return what a folder of the model holds.

    Args:
        whole: the model.
        layers: the recurrent layers in it.
        bits: of a quantized number; None to leave all numbers as they are.

    Raises:
        UsageError: nothing in the model quantizes, or it is quantized already.
    """
    recipes, more = dict(whole.recipes), {}
    shapes = {n: tuple(a.shape) for n, a in tree_flatten(whole.model.parameters())}
    packed: Mapping[str, Any] = {}
    if bits is not None:
        refuse_quantized(whole.model.describe(), "quantize")
        done = quantize(whole.model, bits)
        packed = done.packed
        for weight in done.weights.values():
            recipe = recipes.pop(weight)
            recipes |= {name: recipe for name, made in packed.items() if made.weight == weight}
        more = {"unquantized": done.kept}
    description = {**whole.model.describe(), **more}
    layers = [one for one in layers if all(one.name_of(p) in recipes for p in one.parameters)]
    layers.sort(key=lambda layer: layer.path)
    return Content(recipes, layers, whole.left_out, (), description, shapes, packed)


def content_for(whole: WholeSource, to: str, suffix: str) -> Content | None:
    """Return what a file for the model's own framework holds; None if it is of another one.

    Args:
        whole: the model.
        to: the framework.
        suffix: of the file.

    Raises:
        UsageError: the model is quantized.
        UnsupportedError: there is no way back for it.
    """
    model = whole.model
    if not isinstance(model, {"torch": TorchModel, "keras": KerasModel}.get(to, ())):
        return None
    refuse_quantized(model.describe(), f"--to {to}")
    if isinstance(model, TorchModel):
        recipes = {new: whole.recipes[name] for new, name in model.state_names().items()}
        return Content(recipes, (), whole.left_out)
    shapes = {n: tuple(a.shape) for n, a in tree_flatten(model.parameters())}
    architecture = architecture_of(model) if suffix == ".keras" else {}
    return Content(
        whole.recipes, (), whole.left_out, shapes=shapes, places=places_of(model),
        architecture=architecture,
    )  # fmt: skip


def refuse_quantized(description: Mapping[str, Any], what: str) -> None:
    """Refuse a model that is quantized already.

    Raises:
        UsageError: it is.
    """
    if description.get("quantized"):
        bits = description["quantized"][0]["bits"]
        raise UsageError(
            what,
            expected="a model in full precision",
            got=f"one whose layers are quantized to {bits} bits",
            fix="convert the source itself",
        )
