"""Any tree of this package's layers as plain data, and back: layers, partly ported and own models.

What a class of the user's own does with its layers is code, and is not stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from lstm_bridge.errors import UsageError
from lstm_bridge.models.options import layer_kind, options_of
from lstm_bridge.models.quantize import quantize_again, quantized_places
from lstm_bridge.models.tree import Ported, hang, take_over
from lstm_bridge.models.whole import Model, Part, entry_of, part_of


def describe_tree(root: nn.Module) -> dict[str, Any]:
    """Return what makes the layers of a tree again, without their numbers.

    Raises:
        UsageError: there is no layer of this package in it, or one that does not tell its options.
    """
    own = _whole_kind(root)
    found = list(_outermost(root)) if own is None else [(root, "", own)]
    if not found:
        raise UsageError(
            "save", expected="a model with layers of this package", got=type(root).__name__,
            fix="save its arrays with save_weights, as MLX does",
        )  # fmt: skip
    modules = [entry_of(_part(module, path, kind)) for module, path, kind in found]
    why = getattr(root, "unported", {})
    return {"modules": modules, "quantized": quantized_places(root), "left_out": dict(why)}


def _whole_kind(module: nn.Module) -> str | None:
    return module.KIND if isinstance(module, Model) else layer_kind(module)


def _outermost(root: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """Yield the layers and models of a tree that are in no other."""
    inside: list[str] = []
    for path, module in sorted(root.named_modules(), key=lambda item: item[0]):
        kind = _whole_kind(module) if path else None
        if kind is None or path.startswith(tuple(f"{outer}." for outer in inside)):
            continue
        inside.append(path)
        yield module, path, kind


def _part(module: nn.Module, path: str, kind: str) -> Part:
    if isinstance(module, Model):
        return Part(path, kind, {}, module)
    options, build = options_of(module, kind)
    return Part(path, kind, options, module, build)


def load_tree(config: Mapping[str, Any], arrays: Mapping[str, mx.array]) -> nn.Module:
    """Return the tree that ``describe_tree`` described.

    Args:
        config: the description, its form checked.
        arrays: all numbers by name.

    Raises:
        UsageError: description and numbers make no tree.
    """
    parts = [part_of(entry, arrays) for entry in config["modules"]]
    alone = len(parts) == 1 and not parts[0].path
    owned = tuple(f"{part.path}." for part in parts)
    root: nn.Module = parts[0].module if alone else Ported({p.path: p.module for p in parts})
    if not alone:
        loose = {n: a for n, a in arrays.items() if not n.startswith(owned)}
        hang(root, [*((p.path, p.module) for p in parts), *loose.items()])
    root = quantize_again(root, config.get("quantized", ()))
    take_over(root, arrays.items())
    return root.eval()
