"""A Keras file's own config and arrays as the oracle takes them, apart from the converters.

A file of Keras 2 or 3: a ``.keras`` archive or a full ``.h5``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lstm_bridge.checkpoints import open_checkpoint
from lstm_bridge.equivalence.bits import decoded
from lstm_bridge.equivalence.oracle.keras_model import KerasOracle
from lstm_bridge.equivalence.oracle.keras_wiring import is_model, name_of
from lstm_bridge.errors import UnsupportedError

Array = NDArray[Any]
Config = Mapping[str, Any]

_CELL = ("kernel", "recurrent_kernel", "bias")
_ROLES: dict[str, tuple[str, ...]] = {
    "BatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "LayerNormalization": ("gamma", "beta"),
    "Embedding": ("embeddings",),
    "PReLU": ("alpha",),
    "SeparableConv1D": ("depthwise_kernel", "pointwise_kernel", "bias"),
    "Normalization": ("mean", "variance", "count"),
    "Attention": ("scale", "concat_score_weight"),
    "AdditiveAttention": ("scale",),
    "Dense": ("kernel", "bias"),
    "Conv1D": ("kernel", "bias"),
    "Conv2D": ("kernel", "bias"),
}
"""Class → its weights in the order in which Keras makes them."""

_MERGING = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate")
_RECURRENT = ("LSTM", "GRU", "SimpleRNN", "ConvLSTM1D", "ConvLSTM2D")


class KerasFile(NamedTuple):
    """A whole Keras file.

    Args:
        oracle: the model in NumPy.
        arrays: its weights as they are stored, by the oracle's names.
        keras2_slope: whether it is of Keras 2 and has its hard_sigmoid, which Keras 3 runs with
            another slope.
    """

    oracle: KerasOracle
    arrays: Mapping[str, Array]
    keras2_slope: bool


def read_keras(file: Path) -> KerasFile:
    """Read a whole Keras file.

    Raises:
        UnsupportedError: the file has no architecture of Keras 2 or 3, or a layer without oracle.
        RefusedInput: it cannot be read.
    """
    with open_checkpoint(file) as checkpoint:
        facts = checkpoint.metadata
        version = str(facts.get("keras_version") or "3")
        model = facts.get("config")
        if not isinstance(model, Mapping) or version.startswith("1"):
            raise UnsupportedError(
                f"oracle of {file.name}",
                expected="the architecture of a Keras 2 or 3 model",
                got="none" if model is None else f"one of Keras {version}",
            )
        model = model if version.startswith("3") else _modern(model)
        layout = _numbered if facts.get("layout") == "vars" else _named
        places = dict(layout(model, facts))
        arrays = {name: np.asarray(checkpoint.read(path)) for name, path in places.items()}
    floats = {name: v.astype(np.float32) for name, v in decoded(arrays).items()}
    return KerasFile(KerasOracle(model, floats), arrays, _has_old_slope(model))


def _has_old_slope(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_old_slope(v) for v in value.values())
    if isinstance(value, list | tuple):
        return any(_has_old_slope(v) for v in value)
    return bool(value == "hard_sigmoid_keras2")


def _layers(model: Config) -> list[Config]:
    config = model["config"]
    return list(config if isinstance(config, list) else config["layers"])


# --- Keras 3: groups of numbered variables -----------------------------------------------------


def _numbered(
    model: Config, facts: Mapping[str, Any], group: str = "", start: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield the oracle's name of each weight with its place in the file."""
    names: Mapping[str, str] = facts["names"]
    for layer in _layers(model):
        name = name_of(layer)
        below = f"{group}layers/"
        own = [g for g, n in names.items() if n == name and g.startswith(below)]
        found = [g for g in own if "/" not in g.removeprefix(below)]
        if not found:
            continue
        if is_model(layer):
            yield from _numbered(layer, facts, f"{found[0]}/", f"{start}{name}.")
        else:
            yield from _weights(layer, facts, found[0], f"{start}{name}.")


def _weights(
    layer: Config, facts: Mapping[str, Any], group: str, start: str
) -> Iterator[tuple[str, str]]:
    """The weights of one layer and of all that it wraps."""
    inner = layer["config"].get("layer")
    if layer["class_name"] == "TimeDistributed" and is_model(inner):
        yield from _numbered(inner, facts, f"{group}/layer/", f"{start}layer.")
        return
    for owner, paths in facts["weight_names"].items():
        if owner != group and not owner.startswith(f"{group}/"):
            continue
        inside = owner.removeprefix(group).strip("/").replace("/", ".")
        inside = _cells_by_number(layer, inside)
        prefix = f"{start}{inside}." if inside else start
        for role, path in zip(_roles(layer, inside), paths, strict=False):
            yield f"{prefix}{role}", path


def _cells_by_number(layer: Config, inside: str) -> str:
    """``cell.cells.lstm_cell_1`` as ``cell.cells.1``: stacked cells are grouped by class."""
    before, marker, name = inside.partition("cells.")
    if not marker:
        return inside
    cells = layer["config"].get("cell", layer)["config"]["cells"]
    counts: dict[str, int] = {}
    for k, cell in enumerate(cells):
        snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", cell["class_name"])
        snake = snake.lower()
        number = counts.get(snake, 0)
        counts[snake] = number + 1
        if name == (f"{snake}_{number}" if number else snake):
            return f"{before}cells.{k}"
    raise UnsupportedError("oracle of stacked cells", expected="a known group", got=repr(name))


def _roles(layer: Config, inside: str) -> list[str]:
    """Names of the weights in one group of a layer."""
    config, cls = layer["config"], layer["class_name"]
    if "cell" in inside.split("."):
        return list(_CELL)
    if inside.endswith("_dense"):  # of MultiHeadAttention
        return ["kernel", "bias"]
    if inside == "layer":
        return _roles(config["layer"], "")
    if cls not in _ROLES:
        raise UnsupportedError("oracle of a Keras file", expected="known weights", got=cls)
    left = {"gamma": "scale", "beta": "center", "bias": "use_bias"}
    switches = {r: config.get(left[r], True) for r in _ROLES[cls] if r in left}
    if cls in ("Attention", "AdditiveAttention"):
        switches = {"scale": config.get("use_scale", cls == "AdditiveAttention")}
    return [r for r in _ROLES[cls] if switches.get(r, True)]


# --- HDF5 of whole models: names of layers and weights -----------------------------------------


def _named(model: Config, facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    weights: Mapping[str, list[str]] = facts["weight_names"]
    for layer in _layers(model):
        name = name_of(layer)
        yield from _of_layer(layer, weights.get(name, []), f"{name}.")


def _of_layer(layer: Config, paths: list[str], start: str) -> Iterator[tuple[str, str]]:
    if is_model(layer):
        for inner in _layers(layer):
            own = name_of(inner)
            yield from _of_layer(inner, [p for p in paths if own in p.split("/")], f"{start}{own}.")
        return
    config, cls = layer["config"], layer["class_name"]
    if cls == "TimeDistributed":
        yield from _of_layer(config["layer"], paths, f"{start}layer.")
        return
    cell = -1
    for path in paths:
        *parents, role = path.removesuffix(":0").split("/")
        cell += role == "kernel"
        yield f"{start}{_inside(layer, parents, cell)}{role}", path


def _inside(layer: Config, parents: list[str], cell: int) -> str:
    """Where in its layer a weight belongs."""
    config, cls = layer["config"], layer["class_name"]
    if cls in _RECURRENT:
        return "cell."
    if cls == "Bidirectional":
        side = "backward" if any(p.startswith("backward") for p in parents) else "forward"
        return f"{side}_layer.cell."
    if cls == "MultiHeadAttention":
        return f"{parents[-1].removeprefix('attention_')}_dense."
    if cls == "RNN":
        several = "cells" in config["cell"]["config"]
        return f"cell.cells.{cell}." if several else "cell."
    return ""


# --- Keras 2's configs in Keras 3's terms ------------------------------------------------------


def _modern(value: Any) -> Any:
    """Options of Keras 2 that mean something else in Keras 3, or have another name there."""
    if isinstance(value, list):
        return [_modern(v) for v in value]
    if not isinstance(value, Mapping):
        return value
    made = {k: _modern(v) for k, v in value.items()}
    for key in ("activation", "recurrent_activation"):
        if made.get(key) == "hard_sigmoid":
            made[key] = "hard_sigmoid_keras2"
    config = made.get("config")
    if isinstance(config, dict):
        cls = made.get("class_name")
        if cls in ("GRU", "GRUCell"):
            config.setdefault("reset_after", False)
        if cls == "LeakyReLU" and "alpha" in config:
            config["negative_slope"] = float(config["alpha"])
        if cls in _MERGING:
            config["masks"] = "all"  # must say that a step counts; in Keras 3, any of them
        if config.get("time_major"):
            raise UnsupportedError("oracle of a Keras file", expected="batch first", got=str(cls))
    return made
