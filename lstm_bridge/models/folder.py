"""The converted folder as a running module, and a running model as a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from lstm_bridge import __version__
from lstm_bridge.checkpoints.dtypes import from_mlx
from lstm_bridge.checkpoints.safetensors_writer import write_safetensors
from lstm_bridge.converters.plan import DIALECTS
from lstm_bridge.errors import BridgeError, FileSystemError, UsageError
from lstm_bridge.models.atomic import new_folder
from lstm_bridge.models.classes import make
from lstm_bridge.models.described import describe_tree, load_tree
from lstm_bridge.models.keras.load import load_model
from lstm_bridge.models.schema import (
    FORMAT,
    FORMAT_VERSION,
    MARK,
    WEIGHTS,
    check_present,
    names_of,
    read_config,
    refuse,
)
from lstm_bridge.models.source import Pathish
from lstm_bridge.models.torch.model import TorchModel  # noqa: F401  adds itself to MODELS
from lstm_bridge.models.tree import Ported, hang, read_arrays, take_over
from lstm_bridge.models.whole import MODELS, Model

__all__ = ["Ported", "load", "new_layer", "save"]


def load(folder: Pathish) -> Any:
    """Load a converted folder, or a whole Keras model; neither torch nor Keras is needed.

    Args:
        folder: what ``lstm_bridge.convert`` or ``lstm_bridge.save`` wrote; or a ``.keras`` archive
            or full ``.h5`` of any Keras since 1.0.

    Returns:
        A ``Model`` that runs as a whole when the folder describes one; the layer itself when the
        source was one layer's state dict; otherwise a ``Ported`` tree whose sub-modules and
        parameters carry the source's names.

    Raises:
        ConfigError: ``config.json`` is damaged, of another version, or contradicts the weights.
        RefusedInput: ``model.safetensors`` is damaged.
        FileSystemError: the folder cannot be read.
    """
    folder = Path(folder)
    if folder.is_file():
        return load_model(folder)
    if not folder.is_dir():
        raise FileSystemError(
            str(folder), expected="a folder that convert wrote", got="none", fix="check the path"
        )
    config = read_config(folder)
    arrays = read_arrays(folder)
    if "graph" in config:
        return whole_of(folder, config, arrays)
    if "modules" in config:
        try:
            return load_tree(config, arrays)
        except _NO_MODEL as error:
            raise refuse(folder, "modules", _MODEL, str(error)) from error
    layers = {}
    for entry in config["layers"]:
        layers[entry["path"]] = _build(folder, entry, arrays)
    if "" in layers and not arrays:
        return layers[""]
    root = Ported(layers)
    try:
        hang(root, [*layers.items(), *arrays.items()])
    except UsageError as error:
        raise refuse(folder, error.subject, error.expected, error.got) from error
    return root


def whole_of(folder: Path, config: Mapping[str, Any], arrays: Mapping[str, mx.array]) -> Model:
    """Return the whole model that a folder describes, with the given numbers.

    Raises:
        ConfigError: description and numbers make no model.
    """
    try:
        return MODELS[config["model"]].from_description(config, arrays)
    except _NO_MODEL as error:
        raise refuse(folder, "modules", _MODEL, str(error)) from error


_NO_MODEL = (BridgeError, TypeError, ValueError, KeyError, AttributeError)
_MODEL = "a description and weights that make a model"


def _build(folder: Path, entry: dict[str, Any], arrays: dict[str, mx.array]) -> nn.Module:
    """Make one layer and take its arrays out of ``arrays``."""
    check_present(folder, entry, arrays)
    weights = {p: arrays.pop(name) for p, name in names_of(entry).items()}
    try:
        layer = new_layer(entry["class"], entry["options"], weights)
        take_over(layer, weights.items())
    except (BridgeError, TypeError, ValueError) as error:
        expected = f"options and weights that make a {entry['class']}"
        raise refuse(folder, entry["path"], expected, str(error)) from error
    return layer.eval()


def new_layer(kind: str, options: Mapping[str, Any], weights: Mapping[str, mx.array]) -> nn.Module:
    """Make a front-end layer of the given class and options, ready to take the weights.

    Args:
        kind: class path below ``lstm_bridge``, e.g. ``"torch.nn.LSTM"``.
        options: its constructor arguments.
        weights: its parameters, from which a Keras layer learns its input width.
    """
    if not kind.startswith("keras."):
        return make(kind, options, None)
    first = next(w for n, w in weights.items() if n.endswith(_FIRST_KERNEL))
    return make(kind, options, {"input_shape": (None, None, first.shape[0])})


_FIRST_KERNEL = ("cell.kernel", "cells.0.kernel")


def save(model: nn.Module, folder: Pathish, *, force: bool = False) -> None:
    """Write a model to a folder that ``lstm_bridge.load`` reads, free of torch and Keras.

    A whole model comes back as such, and a single layer as that layer. Of any other module the
    layers of this package and all further arrays are stored under their names, and come back as a
    tree of them: what a class of one's own does with its layers is code. The class itself takes
    the weights with ``model.load_weights(f"{folder}/model.safetensors")``.

    Args:
        model: a whole model, a layer, a partly ported tree, or a module with layers in it.
        folder: the folder to make.
        force: replace a converted model that stands there. Default: False.

    Raises:
        UsageError: there is no layer of this package in it.
        FileSystemError: the folder exists or cannot be written.
    """
    whole = isinstance(model, Model)
    described = model.describe() if whole else describe_tree(model)
    head = {"format": FORMAT, "version": FORMAT_VERSION, "lstm_bridge": __version__}
    layers = layer_entries(model) if whole else []
    config = {**head, **described, "layers": layers}
    arrays = {name: from_mlx(array) for name, array in tree_flatten(model.parameters())}
    with new_folder(Path(folder), force=force) as scratch:
        entries = {n: (code, bits.shape, bits) for n, (bits, code) in arrays.items()}
        write_safetensors(scratch / WEIGHTS, entries, {"format": "mlx"})
        text = json.dumps(config, indent=1, sort_keys=True, ensure_ascii=True)
        (scratch / MARK).write_text(text + "\n", encoding="utf-8")


def layer_entries(model: Model) -> list[dict[str, Any]]:
    """Return the recurrent layers in the form of a folder without a graph."""
    kinds = {kind for dialect in DIALECTS.values() for kind in dialect.kinds}
    return [
        {
            "path": part.path,
            "class": part.kind,
            "options": dict(part.options),
            "parameters": sorted(name for name, _ in tree_flatten(part.module.parameters())),
            "rules": [],
        }
        for part in model.parts
        if part.kind in kinds
    ]
