"""A Keras model config as a flat list of its recurrent layers, each with where its weights lie.

Keras names a layer three ways: its own name (``lstm_1``), its place in the legacy HDF5 (under its
top-level layer's name), and its place in a Keras 3 file (snake-cased *class* plus a counter).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lstm_bridge.converters.keras_graph import check_graph, code_in
from lstm_bridge.converters.keras_options import Config, Reader, child, serialized

LSTMS = ("LSTM", "CuDNNLSTM")
OTHER_RECURRENT = ("GRU", "CuDNNGRU", "SimpleRNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
MODELS = ("Sequential", "Functional", "Model")
_MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Cell:
    """One weight-bearing cell of a recurrent layer.

    Args:
        prefix: front-end parameter prefix, e.g. ``"forward_layer.cell."``.
        vars_path: its group in a Keras 3 weights file.
        class_name: LSTM, CuDNNLSTM, LSTMCell, or another recurrent class.
        units: H; 0 for cells that are not LSTMs.
        use_bias: whether the cell has a bias.
    """

    prefix: str
    vars_path: str
    class_name: str
    units: int = 0
    use_bias: bool = True


@dataclass(frozen=True, slots=True)
class Leaf:
    """One recurrent layer of a model.

    Args:
        path: dotted place by layer names.
        top: name of the top-level layer it lies in: its group in a legacy HDF5.
        kind: front-end class, or "" for a recurrent layer that is no LSTM.
        options: constructor arguments.
        cells: its cells in the order Keras writes them.
        inputs: D, where the config says it.
    """

    path: str
    top: str
    kind: str
    options: Mapping[str, Any]
    cells: tuple[Cell, ...]
    inputs: int | None = None


@dataclass(slots=True)
class Tree:
    """What a walk over the config found.

    Args:
        leaves: the recurrent layers.
        names: Keras 3 path → dotted path of every layer.
        code: dotted path → why a layer is not read: it is code, or another package's.
    """

    leaves: list[Leaf] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    code: dict[str, str] = field(default_factory=dict)


def walk(model: Config, reader: Reader) -> Tree:
    """Walk a serialized model (``{"class_name": …, "config": …}``)."""
    tree = Tree()
    _walk_model(model, reader, tree, path="", vars_path="", top="", depth=0)
    return tree


def _walk_model(
    model: Config,
    reader: Reader,
    tree: Tree,
    *,
    path: str,
    vars_path: str,
    top: str | None,
    depth: int,
) -> None:
    if depth > _MAX_DEPTH:
        raise reader.refuse(
            "config", f"models nested {_MAX_DEPTH} deep at most", "more", "flatten it"
        )
    counters: dict[str, int] = {}
    layers = layers_of(model, reader)
    pairs = [named(layer, reader, index) for index, layer in enumerate(layers)]
    check_graph(layers, reader)
    for index, (layer, (class_name, name)) in enumerate(zip(layers, pairs, strict=True)):
        base = snake(class_name)
        count = counters.get(base, 0)
        counters[base] = count + 1
        here = f"{vars_path}layers/{base}" + (f"_{count}" if count else "")
        where = f"{path}.{name}" if path else name
        tree.names[here] = where
        if why := code_in(layer, index):
            tree.code[where] = why
        else:
            _walk_layer(layer, reader, tree, where, here, top or name, depth)


def _walk_layer(
    layer: Config, reader: Reader, tree: Tree, where: str, here: str, top: str, depth: int
) -> None:
    class_name = str(layer["class_name"])
    if class_name in MODELS:
        _walk_model(layer, reader, tree, path=where, vars_path=f"{here}/", top=top, depth=depth + 1)
    elif class_name == "TimeDistributed":
        inner = child(layer["config"], "layer", reader, where)
        tree.names[f"{here}/layer"] = f"{where}.layer"
        _walk_layer(inner, reader, tree, f"{where}.layer", f"{here}/layer", top, depth + 1)
    else:
        described = _recurrent(layer, reader, where, here)
        if described is not None:
            kind, options, cells = described
            tree.leaves.append(Leaf(where, top, kind, options, tuple(cells), _width(layer)))


def _width(layer: Config) -> int | None:
    """Return D as Keras 3's build_config, Keras 2's batch_input_shape or Keras 1 says it."""
    config, build = layer["config"], layer.get("build_config")
    shape = build.get("input_shape") if isinstance(build, dict) else None
    shape = shape or config.get("batch_input_shape") or [config.get("input_dim")]
    last = shape[-1] if isinstance(shape, list) and shape else None
    return last if type(last) is int else None


Described = tuple[str, dict[str, Any], list[Cell]]


def _recurrent(layer: Config, reader: Reader, where: str, here: str) -> Described | None:
    """Describe a recurrent layer by its front-end class, options and cells; None if it is none."""
    class_name, config = str(layer["class_name"]), layer["config"]
    if class_name in LSTMS:
        options = reader.lstm(class_name, config, where)
        cell = Cell(
            "cell.", f"{here}/cell", class_name, options["units"], options.get("use_bias", True)
        )
        return "keras.layers.LSTM", options, [cell]
    if class_name in OTHER_RECURRENT:
        return "", {}, [Cell("", f"{here}/cell", class_name)]
    if class_name == "RNN":
        return _rnn(config, reader, where, here)
    if class_name == "Bidirectional":
        return _bidirectional(config, reader, where, here)
    return None


def _rnn(config: Config, reader: Reader, where: str, here: str) -> Described:
    """An RNN over an LSTMCell, or over StackedRNNCells of them."""
    cell = child(config, "cell", reader, where)
    serialized, cells = _cell(cell, reader, where, "cell.", f"{here}/cell")
    kept = reader.known({k: v for k, v in config.items() if k != "cell"}, where, _RNN_OPTIONS)
    is_lstm = all(c.class_name == "LSTMCell" for c in cells)
    return "keras.layers.RNN" if is_lstm else "", {**kept, "cell": serialized}, cells


_RNN_OPTIONS = {
    *("name", "trainable", "dtype", "return_sequences", "return_state", "go_backwards"),
    *("stateful", "unroll", "zero_output_for_mask"),
}


def _cell(
    cell: Config, reader: Reader, where: str, prefix: str, here: str
) -> tuple[dict[str, Any], list[Cell]]:
    class_name = str(cell["class_name"])
    if class_name == "LSTMCell":
        options = reader.lstm(class_name, cell["config"], where)
        made = Cell(prefix, here, class_name, options["units"], options.get("use_bias", True))
        return {"class_name": class_name, "config": options}, [made]
    if class_name != "StackedRNNCells":
        return dict(cell), [Cell(prefix, here, class_name)]
    members = cell["config"].get("cells")
    if not isinstance(members, list) or not members:
        raise reader.refuse(where, "a list of cells", repr(members)[:80], "re-save the model")
    counters: dict[str, int] = {}
    configs: list[Config] = []
    cells: list[Cell] = []
    own = {k: v for k, v in cell["config"].items() if k != "cells"}
    reader.known(own, where, ("name", "trainable", "dtype"))
    for k, member in enumerate(members):
        base = snake(str(serialized(member, reader, f"{where}.cells[{k}]")["class_name"]))
        count = counters.get(base, 0)
        counters[base] = count + 1
        inner = f"{here}/cells/{base}" + (f"_{count}" if count else "")
        config, inside = _cell(member, reader, where, f"{prefix}cells.{k}.", inner)
        configs.append(config)
        cells += inside
    return {"class_name": class_name, "config": {"cells": configs}}, cells


def _bidirectional(config: Config, reader: Reader, where: str, here: str) -> Described | None:
    """A Bidirectional over an LSTM (or an RNN of LSTMCells); None around anything else."""
    own = {k: v for k, v in config.items() if k not in _BIDIRECTIONAL_PARTS}
    options: dict[str, Any] = {"merge_mode": config.get("merge_mode", "concat")}
    if options["merge_mode"] not in MERGE_MODES:
        expected, got = f"one of {MERGE_MODES}", repr(options["merge_mode"])[:80]
        raise reader.refuse(f"{where}.merge_mode", expected, got, "the config is damaged")
    options |= reader.known(own, where, ("name", "trainable", "dtype"))
    cells: list[Cell] = []
    forward = child(config, "layer", reader, where)
    other = child(config, "backward_layer", reader, where) if config.get("backward_layer") else None
    sides = {"forward_layer": forward, "backward_layer": other or forward}
    kinds = set()
    for side, layer in sides.items():
        described = _recurrent(layer, reader, f"{where}.{side}", f"{here}/{side}")
        if described is None:
            return None
        kind, inner, made = described
        kinds.add(kind)
        cells += [_with_prefix(cell, f"{side}.") for cell in made]
        key = "layer" if side == "forward_layer" else side
        if key == "layer" or config.get("backward_layer"):
            options[key] = {"class_name": kind.rpartition(".")[2], "config": inner}
    return "" if "" in kinds else "keras.layers.Bidirectional", options, cells


MERGE_MODES = ("concat", "sum", "mul", "ave", None)
_BIDIRECTIONAL_PARTS = ("layer", "backward_layer", "merge_mode")


def _with_prefix(cell: Cell, prefix: str) -> Cell:
    return Cell(prefix + cell.prefix, cell.vars_path, cell.class_name, cell.units, cell.use_bias)


def layers_of(model: Config, reader: Reader) -> list[Config]:
    """Return the serialized layers; a Sequential of Keras 1 and 2 is a bare list."""
    config = model.get("config")
    layers = config.get("layers") if isinstance(config, dict) else config
    if not isinstance(layers, list):
        raise reader.refuse(
            "config",
            "a Sequential or Functional model with its layers",
            f"{model.get('class_name')!r} without a layer list"[:80],
            "a subclassed model keeps its layers in code: save its weights alone (.weights.h5)",
        )
    return layers


def named(layer: Any, reader: Reader, index: int) -> tuple[str, str]:
    """Return the class and the name of a serialized layer."""
    # A nested Sequential of Keras 1 and 2 has a bare list for its config.
    config = layer.get("config") if isinstance(layer, dict) else None
    bare = isinstance(config, list) and layer.get("class_name") in MODELS
    if not (bare or isinstance(config, dict)) or not isinstance(layer.get("class_name"), str):
        raise reader.refuse(
            f"config.layers[{index}]", "a serialized layer", repr(layer)[:80], "re-save it"
        )
    own = config.get("name") if isinstance(config, dict) else None
    name = own or layer.get("name") or f"layer_{index}"
    if not isinstance(name, str):
        raise reader.refuse(
            f"config.layers[{index}].name", "a string", repr(name)[:80], "re-save it"
        )
    return layer["class_name"], name


def snake(name: str) -> str:
    """Return Keras's snake case of a class name: ``TimeDistributed`` → ``time_distributed``."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
