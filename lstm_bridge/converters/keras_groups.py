"""Keras weight files as groups: the arrays of one cell, under Keras's modern role names.

Three spellings: Keras 1's ``lstm_1_W_i`` (twelve arrays, or three without a gate letter), the
legacy ``lstm_1/lstm_cell/kernel:0``, and Keras 3's numbered ``layers/lstm/cell/vars/0``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from lstm_bridge.converters.layer import Tensors
from lstm_bridge.converters.recipe import Entry, Shape

_KERAS_1 = re.compile(r"(?P<layer>.+)_(?P<role>[WUb])(?:_(?P<gate>[ifco]))?")
_KERAS_1_ROLES = {"W": "kernel", "U": "recurrent_kernel", "b": "bias"}
_LEGACY = ("kernel", "recurrent_kernel", "bias")
_DEPENDENCIES = "_layer_checkpoint_dependencies"  # Keras 2.13–2.15's word for "layers"


@dataclass(slots=True)
class Group:
    """The tensors of one recurrent cell.

    Args:
        path: where they lie, without the file's own prefix.
        top: top-level layer in a legacy file; the path itself elsewhere.
        members: role (``kernel``, ``recurrent_kernel_i`` …) → source tensor.
        shapes: role → shape.
    """

    path: str
    top: str
    members: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)

    def source(self, role: str) -> str:
        """Return the source tensor of a role, or of its first gate."""
        return self.members.get(role) or self.members[f"{role}_i"]


class Place(NamedTuple):
    """Where a group stands in the module tree: its layer, and the side of a Bidirectional."""

    path: str
    side: str


def groups_of(tensors: Tensors) -> list[Group]:
    """Return the recurrent cells' groups in the file's own order."""
    if tensors.metadata["layout"] == "vars":
        return _vars_groups(tensors.entries)
    return _legacy_groups(tensors)


def _vars_groups(entries: Mapping[str, Entry]) -> list[Group]:
    """Groups ``…/vars/{0,1,2}`` whose second array is recurrent: as wide as the first."""
    groups: dict[str, Group] = {}
    for name, entry in entries.items():
        path, _, index = name.rpartition("/vars/")
        path = path.replace(_DEPENDENCIES, "layers")
        if index.isdigit() and int(index) < len(_LEGACY) and path:
            group = groups.setdefault(path, Group(path, path))
            group.members[_LEGACY[int(index)]] = name
            group.shapes[_LEGACY[int(index)]] = entry.shape
    return [group for group in groups.values() if _is_recurrent(group)]


def _is_recurrent(group: Group) -> bool:
    kernel, recurrent = (group.shapes.get(role, ()) for role in _LEGACY[:2])
    named = re.search(r"(?:^|/)(?:cell|[a-z_]*(?:lstm|gru|rnn)[a-z_]*(?:_\d+)?)$", group.path)
    return bool(named) and len(kernel) >= 2 and len(recurrent) == len(kernel)


def _legacy_groups(tensors: Tensors) -> list[Group]:
    groups: dict[tuple[str, str], Group] = {}
    for top, names in tensors.metadata["weight_names"].items():
        for name in names:
            path, role = _legacy_role(name)
            if role and name in tensors.entries:
                group = groups.setdefault((top, path), Group(path, top))
                group.members[role] = name
                group.shapes[role] = tensors.entries[name].shape
    recurrent = {"recurrent_kernel", "recurrent_kernel_i", "recurrent_kernel_z"}
    return [_with_joined(group) for group in groups.values() if recurrent & set(group.members)]


def _legacy_role(name: str) -> tuple[str, str]:
    """Return (group path, role) of a legacy weight name; the role is "" if it is none of ours."""
    parent, _, leaf = name.rpartition("/")
    leaf = leaf.partition(":")[0]
    if leaf in _LEGACY:
        return parent, leaf
    old = _KERAS_1.fullmatch(leaf)
    if old is None:
        return parent, ""
    role = _KERAS_1_ROLES[old["role"]]
    return f"{parent}/{old['layer']}", f"{role}_{old['gate']}" if old["gate"] else role


def _with_joined(group: Group) -> Group:
    """Give Keras 1's per-gate arrays the shape that they will have together."""
    for role in _LEGACY:
        gate = group.shapes.get(f"{role}_i")
        if gate is not None and role not in group.shapes:
            group.shapes[role] = (*gate[:-1], 4 * gate[-1])
    return group


_SIDE = re.compile(r"(forward|backward)_(?:layer$|.*(?:lstm|rnn|gru).*)")


def layer_of(group: Group) -> Place:
    """Return the layer that a group of a config-less file belongs to."""
    parts = [p for p in group.path.split("/") if p not in ("model_weights", "layers")]
    side = ""
    kept: list[str] = []
    for part in parts:
        match = _SIDE.fullmatch(part)
        if match:
            side = f"{match[1]}_layer"
            break
        if not kept or kept[-1] != part:
            kept.append(part)
    # A cell of its own stands for its layer; one of StackedRNNCells' stands for itself.
    cell = not side and re.fullmatch(r"(?:lstm_)?cell(?:_\d+)?", kept[-1])
    if cell and len(kept) > 1 and kept[-2] not in ("cells", "stacked_rnn_cells"):
        kept.pop()
    return Place(".".join(kept), side)


def pass_name(source: str, names: Mapping[str, str], layer_names: Sequence[str]) -> str:
    """Return the dotted name under which an unconverted tensor is kept.

    Args:
        source: the dataset's path.
        names: Keras 3 group path → dotted layer path, from the config.
        layer_names: top-level layers of a legacy file.
    """
    path = source.replace(_DEPENDENCIES, "layers").partition(":")[0]
    known = max((p for p in names if path.startswith(f"{p}/")), key=len, default="")
    if known:
        return names[known] + path[len(known) :].replace("/", ".")
    *parts, leaf = [part for part in path.split("/") if part != "model_weights"]
    if parts and parts[0] in layer_names:
        # Keras repeats the layer's name, sometimes behind the model's: begin at the last.
        parts = parts[len(parts) - 1 - parts[::-1].index(parts[0]) :]
    return ".".join([*parts, leaf])
