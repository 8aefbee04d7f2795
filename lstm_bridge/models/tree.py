"""A tree of modules and arrays under dotted names, and its weights by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map_with_path

from lstm_bridge.checkpoints import open_checkpoint
from lstm_bridge.checkpoints.dtypes import to_mlx
from lstm_bridge.core.arrays import as_array
from lstm_bridge.errors import UsageError
from lstm_bridge.models.graph import descend
from lstm_bridge.models.schema import WEIGHTS


class Ported(nn.Module):
    """A converted checkpoint: recurrent layers and all other tensors under the source's names.

    ``model.encoder.lstm`` is a front-end layer that runs; ``model.fc.weight`` is an array to use.
    Calling the whole calls its one recurrent layer; with several, call them by name.

    Args:
        layers: path → runnable layer.
    """

    def __init__(self, layers: Mapping[str, nn.Module] | None = None) -> None:
        super().__init__()
        self._paths = tuple(layers or ())

    @property
    def layers(self) -> dict[str, nn.Module]:
        """The recurrent layers by path."""
        return {path: descend(self, path) for path in self._paths}

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Call the only recurrent layer.

        Raises:
            UsageError: there are several.
        """
        if len(self._paths) != 1:
            raise UsageError(
                "model(...)",
                expected="a model with one recurrent layer",
                got=f"layers {', '.join(self._paths) or 'none'}",
                fix="call model.layers[path](...), or model.<path>(...)",
            )
        layer: Any = descend(self, self._paths[0])
        return layer(*inputs, **options)

    @staticmethod
    def valid_parameter_filter(module: nn.Module, key: str, value: Any) -> bool:
        """Count a source's own ``_names`` as parameters, but not the private ones of layers."""
        return isinstance(value, dict | list | mx.array) and (
            isinstance(module, Ported) or not key.startswith("_")
        )

    def load_weights(self, file_or_weights: Any, strict: bool = True) -> Ported:
        """Take over the weights of another fine-tune of the same architecture.

        Args:
            file_or_weights: pairs of name and array, a safetensors file, or a folder that
                ``lstm_bridge.save`` or ``convert`` wrote.
            strict: names must be the model's own, all of them. Default: True.

        Raises:
            UsageError: names (when strict) or shapes differ; nothing was changed.
        """
        weights = file_or_weights
        if isinstance(weights, str | PathLike):
            weights = read_arrays(Path(weights)).items()
        take_over(self, weights, strict)
        return self

    def __setattr__(self, key: str, value: Any) -> None:
        if key == "_paths":
            object.__setattr__(self, key, value)
        else:
            super().__setattr__(key, value)


def hang(root: nn.Module, leaves: Iterable[tuple[str, Any]]) -> None:
    """Hang modules and arrays into a tree by their dotted names.

    Raises:
        UsageError: two of them want one place.
    """
    for name, leaf in leaves:
        *parents, last = name.split(".")
        node: Any = root
        for part in parents:
            node = node.setdefault(part, Ported())
        if not isinstance(node, nn.Module) or last in node:
            raise UsageError(
                repr(name), expected="a place of its own in the module tree", got="a taken one"
            )
        node[last] = leaf


def read_arrays(path: Path) -> dict[str, mx.array]:
    """Return all arrays of a weights file, or of the folder it lies in, by name."""
    with open_checkpoint(path / WEIGHTS if path.is_dir() else path) as checkpoint:
        return {
            name: to_mlx(checkpoint.read(name), info.dtype)
            for name, info in checkpoint.tensors.items()
        }


def take_over(module: nn.Module, weights: Iterable[tuple[str, Any]], strict: bool = True) -> None:
    """Replace a module's parameters by name, whatever the names look like.

    MLX's own ``load_weights`` makes lists of names with numbers in them, which a tree by dotted
    names does not have.

    Raises:
        UsageError: names (when strict) or shapes differ; nothing was changed.
    """
    own = dict(tree_flatten(module.parameters()))
    new = {name: as_array(value, name) for name, value in weights}
    missing, extra = sorted(own.keys() - new.keys()), sorted(new.keys() - own.keys())
    if strict and (missing or extra):
        raise UsageError(
            "load_weights",
            expected="the model's own names",
            got="; ".join(_listed("missing", missing) + _listed("unexpected", extra)),
        )
    for name in sorted(new.keys() & own.keys()):
        if new[name].shape != own[name].shape:
            raise UsageError(
                f"load_weights {name!r}",
                expected=f"shape {list(own[name].shape)}",
                got=str(list(new[name].shape)),
            )
    module.update(tree_map_with_path(lambda name, old: new.get(name, old), module.parameters()))


def _listed(kind: str, names: list[str]) -> list[str]:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return [f"{kind} {', '.join(map(repr, names[:5]))}{more}"] if names else []
