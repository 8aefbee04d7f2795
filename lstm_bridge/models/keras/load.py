"""Keras files as running models: a whole file, or an architecture and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from lstm_bridge.checkpoints import open_checkpoint
from lstm_bridge.checkpoints.base import Checkpoint
from lstm_bridge.checkpoints.dtypes import to_mlx
from lstm_bridge.checkpoints.strict_json import JsonError, parse
from lstm_bridge.converters.keras_merge import without_merged_models
from lstm_bridge.converters.keras_options import Reader
from lstm_bridge.converters.recipe import Recipe, evaluate, sources
from lstm_bridge.errors import ConfigError, TensorError, UsageError
from lstm_bridge.models.keras.build import build
from lstm_bridge.models.keras.runtime import KerasModel
from lstm_bridge.models.keras.weights import find_weights
from lstm_bridge.models.source import Pathish
from lstm_bridge.models.tree import take_over

_NEWEST = "3"


def load_model(path: Pathish) -> KerasModel:
    """Load a whole Keras model: a ``.keras`` archive or a full ``.h5``, of any Keras since 1.0.

    Args:
        path: the file.

    Returns:
        The model, ready to run.

    Raises:
        ConfigError: the file has no architecture, or one with a layer that is not supported.
        RefusedInput: the file is damaged, or architecture and weights disagree.
        FileSystemError: it cannot be read.
    """
    with open_checkpoint(Path(path)) as checkpoint:
        config = serialized_model(checkpoint)
        model = build(config, reader_of(checkpoint))
        _remember(model, config, reader_of(checkpoint).version)
        _fill(model, checkpoint)
    return model


def model_from_json(text: str) -> KerasModel:
    """Build a model from what ``model.to_json()`` gave; its weights are random until loaded.

    Args:
        text: the JSON, of any Keras since 1.0.

    Raises:
        ConfigError: it is no model, or one with a layer that is not supported.
    """
    try:
        config = parse(text.encode())
    except JsonError as error:
        raise ConfigError(
            "model_from_json", expected=error.expected, got=error.got, fix="pass to_json()'s text"
        ) from error
    config = _checked(config, "model_from_json")
    version = str(config.get("keras_version") or _era(config))
    model = build(config, Reader("model_from_json", version))
    _remember(model, config, version)
    return model


def load_keras_weights(model: KerasModel, path: Pathish) -> None:
    """Load a Keras weights file, of any era, into a model made from a Keras config.

    Raises:
        UsageError: the model was not made from a Keras config.
        RefusedInput: the file is damaged or of another architecture.
    """
    with open_checkpoint(Path(path)) as checkpoint:
        _fill(model, checkpoint)


def serialized_model(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the architecture that a Keras file holds; ConfigError if there is none."""
    if "layout" not in checkpoint.metadata:
        raise ConfigError(
            checkpoint.path,
            expected="a whole Keras model, or a folder that convert wrote",
            got=f"weights without an architecture ({checkpoint.format})",
            fix="convert the file and load the folder; lstm_bridge.port takes torch modules whole",
        )
    return _checked(checkpoint.metadata.get("config"), str(checkpoint.path))


def reader_of(checkpoint: Checkpoint) -> Reader:
    """Return the reader of a file's options."""
    return Reader(str(checkpoint.path), str(checkpoint.metadata.get("keras_version") or _NEWEST))


def structure_of(
    checkpoint: Checkpoint, config: Mapping[str, Any] | None = None
) -> tuple[KerasModel, dict[str, Recipe], list[str]]:
    """Return the model of a Keras file without its numbers, and how each of them is made.

    Args:
        checkpoint: the open file.
        config: the architecture of a weights-only file. Default: None, the file's own.

    Returns:
        The model; parameter → recipe; the tensors that are no weights of it.

    Raises:
        RefusedInput: there is no architecture, one that is not supported, or other weights.
    """
    described = _checked(config, "config") if config else serialized_model(checkpoint)
    version = str(checkpoint.metadata.get("keras_version") or described.get("keras_version") or "")
    reader = Reader(str(checkpoint.path), version or _NEWEST)
    model = build(described, reader)
    _remember(model, described, reader.version)
    return model, *find_weights(model, described, checkpoint)


def arrays_of(model: KerasModel, config: Mapping[str, Any], checkpoint: Checkpoint) -> Any:
    """Return each parameter's array.

    Raises:
        TensorError: a tensor is float64, which would lose digits unsaid.
    """
    recipes, _ = find_weights(model, config, checkpoint)
    arrays: dict[str, mx.array] = {}
    for name, recipe in recipes.items():
        origin = next(sources(recipe))
        code = checkpoint.tensors[origin].dtype
        if code == "F64":
            raise TensorError(
                checkpoint.path,
                tensor=origin,
                expected="float32 or narrower, since MLX has float64 on the CPU only",
                got="float64",
                fix="convert it with --allow-downcast, and load what that writes",
            )
        arrays[name] = to_mlx(evaluate(recipe, checkpoint.read), code)
    return arrays


def _fill(model: KerasModel, checkpoint: Checkpoint) -> None:
    config = model._options.get("keras", {}).get("config")
    if config is None:
        raise UsageError(
            "load_weights",
            expected="a model that a Keras config made",
            got="one that was loaded from a converted folder",
            fix="load its own model.safetensors, or convert the Keras file",
        )
    if "layout" not in checkpoint.metadata:
        raise ConfigError(
            checkpoint.path, expected="a Keras file", got=checkpoint.format, fix="check the path"
        )
    arrays = arrays_of(model, config, checkpoint)
    own = dict(tree_flatten(model.parameters()))
    take_over(model, [(n, a.reshape(own[n].shape).astype(own[n].dtype)) for n, a in arrays.items()])


def _remember(model: KerasModel, config: Mapping[str, Any], version: str) -> None:
    model._options["keras"] = {"version": version, "config": config}


def _checked(config: Any, file: str) -> dict[str, Any]:
    if isinstance(config, list):  # a bare Sequential
        config = {"class_name": "Sequential", "config": config}
    if isinstance(config, dict) and isinstance(config.get("config"), dict | list):
        inner = config["config"]
        if config.get("class_name") in ("Sequential", "Functional", "Model"):
            made: dict[str, Any] = without_merged_models(config, Reader(file, _NEWEST))
            return made
        if isinstance(inner, dict) and "layers" in inner and "output_layers" in inner:
            return {**config, "class_name": "Functional"}
    raise ConfigError(
        file,
        expected="the config of a Sequential or Functional model",
        got=str(config.get("class_name"))[:80] if isinstance(config, dict) else "none",
        fix="pass the architecture's JSON to model_from_json, and the file to load_weights",
    )


def _era(config: Mapping[str, Any]) -> str:
    """Tell the era of a JSON that names no version: modules came with Keras 3, units with 2."""
    if config.get("module") or config.get("registered_name"):
        return "3"
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else inner
    old = any(
        isinstance(layer, dict) and {"output_dim", "nb_filter"} & set(layer.get("config") or ())
        and layer.get("class_name") != "Embedding"
        for layer in layers or ()
    )  # fmt: skip
    return "1" if old else "2"
