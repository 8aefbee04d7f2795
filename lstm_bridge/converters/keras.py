"""Keras's dialect: ``kernel [D,4H]``, ``recurrent_kernel [H,4H]``, ``bias [4H]``, gates i f g o.

Shape letters: D input, H hidden. A layer's class, activations and options come from the model's
config where the file holds one; a weights-only file is read by its names, with the defaults of the
version that wrote it, and the report says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lstm_bridge.converters.keras_groups import Group, groups_of, layer_of, pass_name
from lstm_bridge.converters.keras_merge import without_merged_models
from lstm_bridge.converters.keras_options import Reader
from lstm_bridge.converters.keras_tree import MERGE_MODES, Cell, Leaf, Tree, walk
from lstm_bridge.converters.layer import FLAG, NAME, Dialect, Found, FoundLayer, Open, Slot, Tensors
from lstm_bridge.converters.recipe import Apply, Recipe, Source, shape_of
from lstm_bridge.errors import ConfigError, RefusedInput, SemanticError

SLOTS = (
    Slot("kernel", "Wx", "transpose"),
    Slot("recurrent_kernel", "Wh", "transpose"),
    Slot("bias", "bias_x", "copy"),
)

_VARS_VERSION = "3"
"""What wrote a ``.weights.h5``, which names no version: numbered variables came with Keras 3."""

_KERAS_1_GATES = ("i", "f", "c", "o")
_KERAS_1 = {"kernel": "W", "recurrent_kernel": "U", "bias": "b"}
_CUDNN = {"kernel": "cudnn kernel", "recurrent_kernel": "cudnn recurrent", "bias": "cudnn bias"}


def find(tensors: Tensors) -> Found:
    """Find LSTM layers by the model's config, or by names where there is none."""
    if "layout" not in tensors.metadata:
        return Found()
    version = str(tensors.metadata.get("keras_version") or _VARS_VERSION)
    reader = Reader(tensors.file, version, tensors.assume)
    config = without_merged_models(tensors.metadata.get("config"), reader)
    tree = walk(config, reader) if isinstance(config, dict) else None
    groups = groups_of(tensors)
    leaves = _pair(tree, groups, tensors) if tree else _leaves_by_name(groups, reader)
    found = Found(code=dict(tree.code) if tree else {})
    for leaf, members in leaves:
        if leaf.kind:
            _add(tensors, found, reader, leaf, members)
    used = {name for layer in found.layers for r in layer.parameters.values() for name in _names(r)}
    names = tree.names if tree else {}
    tops = tensors.metadata.get("layer_names", ())
    for source in tensors.entries:
        if source not in used and source not in found.claimed:
            found.renamed[source] = pass_name(source, names, tops)
    return found


def _names(recipe: Recipe) -> list[str]:
    if isinstance(recipe, Source):
        return [recipe.name]
    return [name for operand in recipe.operands for name in _names(operand)]


def _pair(tree: Tree, groups: list[Group], tensors: Tensors) -> list[tuple[Leaf, list[Group]]]:
    """Give each leaf of the config its weight groups."""
    if tensors.metadata["layout"] == "vars":
        by_path = {group.path: group for group in groups}
        found = [
            (leaf, [_at(by_path, cell, leaf, tensors) for cell in leaf.cells])
            for leaf in tree.leaves
        ]
        known = {cell.vars_path for leaf in tree.leaves for cell in leaf.cells}
        for group in groups:
            if group.path not in known:
                raise _further(tensors, group.path, group)
        return found
    queues: dict[str, list[Group]] = {}
    for group in groups:
        queues.setdefault(group.top, []).append(group)
    pairs = []
    for leaf in tree.leaves:
        queue = queues.get(leaf.top, [])
        if len(queue) < len(leaf.cells):
            raise _disagree(tensors, leaf, f"{len(queue)} groups of recurrent weights")
        pairs.append((leaf, [queue.pop(0) for _ in leaf.cells]))
    for top, rest in queues.items():
        if rest:
            raise _further(tensors, top, rest[0])
    return pairs


def _further(tensors: Tensors, member: str, group: Group) -> ConfigError:
    return ConfigError(
        tensors.file,
        member=member,
        expected="as many recurrent layers as the config names",
        got=f"further weights {group.path!r}",
        fix="config and weights are not of the same model",
    )


def _at(by_path: Mapping[str, Group], cell: Cell, leaf: Leaf, tensors: Tensors) -> Group:
    if cell.vars_path not in by_path:
        raise _disagree(tensors, leaf, f"no group {cell.vars_path!r}")
    return by_path[cell.vars_path]


def _disagree(tensors: Tensors, leaf: Leaf, got: str) -> ConfigError:
    return ConfigError(
        tensors.file,
        member=leaf.path,
        expected=f"weights of {len(leaf.cells)} recurrent cell(s)",
        got=got,
        fix="config and weights are not of the same model",
    )


def _leaves_by_name(groups: list[Group], reader: Reader) -> list[tuple[Leaf, list[Group]]]:
    """Make leaves of a weights-only file: one per group, two halves of a Bidirectional together."""
    gathered: dict[str, list[Group]] = {}
    for group in groups:
        gathered.setdefault(layer_of(group).path, []).append(group)
    for halves in gathered.values():
        halves.sort(key=lambda group: layer_of(group).side, reverse=True)  # forward, then backward
    return [(_leaf_by_name(path, found, reader), found) for path, found in gathered.items()]


def _leaf_by_name(path: str, groups: list[Group], reader: Reader) -> Leaf:
    cells, lstm = [], True
    for group in groups:
        rows = group.shapes["recurrent_kernel"]
        lstm = lstm and len(rows) == 2 and rows[1] == 4 * rows[0]
        cudnn = group.shapes.get("bias") == (8 * rows[0],)
        name = "CuDNNLSTM" if cudnn else "LSTM"
        side = layer_of(group).side
        prefix = f"{side}.cell." if side else "cell."
        cells.append(Cell(prefix, group.path, name, rows[0], "bias" in group.shapes))
    if not lstm:
        return Leaf(path, groups[0].top, "", {}, tuple(cells))
    stated = {key: value for key, value in reader.assume.items() if key in ASSUMABLE}
    merge_mode = stated.pop("merge_mode", "concat")
    config: dict[str, Any] = {"units": cells[0].units, "use_bias": cells[0].use_bias}
    options = reader.lstm(cells[0].class_name, config | stated, path)
    said = ", ".join(f"{key}={value}" for key, value in stated.items()) or "nothing"
    reader.note(
        path,
        f"no config in the file: {said} stated by the caller, Keras {reader.version}'s defaults "
        f"assumed for the rest (recurrent_activation={options['recurrent_activation']}); "
        "--assume and --config change it",
    )
    if cells[0].prefix == "cell.":
        return Leaf(path, groups[0].top, "keras.layers.LSTM", options, tuple(cells))
    layer = {"class_name": "LSTM", "config": options}
    bidirectional = {"layer": layer, "merge_mode": merge_mode}
    return Leaf(path, groups[0].top, "keras.layers.Bidirectional", bidirectional, tuple(cells))


ASSUMABLE = {
    "activation": NAME,
    "recurrent_activation": NAME,
    "return_sequences": FLAG,
    "return_state": FLAG,
    "go_backwards": FLAG,
    "merge_mode": Open(f"one of {MERGE_MODES}", lambda value: value in MERGE_MODES),
}
"""Options that a weights-only file does not hold and a caller may state."""


def _add(tensors: Tensors, found: Found, reader: Reader, leaf: Leaf, groups: list[Group]) -> None:
    """Turn a leaf and its groups into a layer, or record why not."""
    parameters: dict[str, Recipe] = {}
    rules = reader.rules(leaf.path)
    try:
        for cell, group in zip(leaf.cells, groups, strict=True):
            recipes = _recipes(cell, group)
            _check(tensors, cell, group, recipes, leaf.inputs)
            parameters |= {cell.prefix + name: recipe for name, recipe in recipes.items()}
            if cell.class_name == "CuDNNLSTM":
                rules.append("cuDNN biases summed")
    except RefusedInput as refusal:
        found.refused[leaf.path] = refusal
        for group in groups:
            found.claimed.update(dict.fromkeys(group.members.values(), leaf.path))
        return
    found.layers.append(FoundLayer(leaf.path, leaf.kind, leaf.options, parameters, tuple(rules)))


def _recipes(cell: Cell, group: Group) -> dict[str, Recipe]:
    """Return how ``kernel``, ``recurrent_kernel`` and ``bias`` are made from a group's tensors."""
    recipes: dict[str, Recipe] = {}
    for slot in SLOTS:
        name = slot.parameter
        if name in group.members:
            recipe: Recipe = Source(group.members[name])
            if cell.class_name == "CuDNNLSTM":
                recipe = Apply(_CUDNN[name], (recipe,))
            recipes[name] = recipe
        elif f"{name}_i" in group.members:
            gates = (Source(group.members[f"{name}_{gate}"]) for gate in _KERAS_1_GATES)
            recipes[name] = Apply("join gates", tuple(gates))
    return recipes


def _check(
    tensors: Tensors,
    cell: Cell,
    group: Group,
    recipes: Mapping[str, Recipe],
    inputs: int | None,
) -> None:
    """Compare the weights with the config: D, H, bias, and each shape."""
    entries = dict(tensors.entries)
    shapes = {name: shape_of(recipe, entries) for name, recipe in recipes.items()}
    D = shapes["kernel"][0] if shapes.get("kernel") else 0
    if inputs is not None and ("cells." not in cell.prefix or "cells.0." in cell.prefix):
        D = inputs
    H = cell.units
    wanted: dict[str, tuple[int, ...]] = {"kernel": (D, 4 * H), "recurrent_kernel": (H, 4 * H)}
    if cell.use_bias:
        wanted["bias"] = (4 * H,)
    for name in [*wanted, *(n for n in shapes if n not in wanted)]:
        expected, got = wanted.get(name), shapes.get(name)
        if expected == got and 0 not in (got or ()):
            continue
        raise SemanticError(
            tensors.file,
            tensor=next(iter(group.members.values())) if got is None else group.source(name),
            expected=f"{name} of shape {list(expected)}" if expected else f"no {name}",
            got=_say(name, got, H),
            fix="config and weights disagree, or this is no LSTM",
        )


def _say(name: str, shape: tuple[int, ...] | None, H: int) -> str:
    if shape is None:
        return f"no {name}"
    columns = shape[-1] if shape else 0
    other = {3 * H: " (3H: looks like a GRU)", H: " (H: looks like a SimpleRNN)"}
    return f"{list(shape)}{other.get(columns, '')}"


KINDS = ("keras.layers.LSTM", "keras.layers.RNN", "keras.layers.Bidirectional")

DIALECT = Dialect("keras", KINDS, ASSUMABLE, SLOTS, find)
