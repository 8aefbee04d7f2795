"""A converted folder as a running module: the tree mirrors the source's names."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from lstm_bridge.checkpoints import open_checkpoint
from lstm_bridge.checkpoints.dtypes import to_mlx
from lstm_bridge.errors import BridgeError, FileSystemError, UsageError
from lstm_bridge.models.graph import descend
from lstm_bridge.models.schema import WEIGHTS, check_present, names_of, read_config, refuse
from lstm_bridge.models.source import Pathish


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

    def __setattr__(self, key: str, value: Any) -> None:
        if key == "_paths":
            object.__setattr__(self, key, value)
        else:
            super().__setattr__(key, value)


def load(folder: Pathish) -> nn.Module:
    """Load a converted folder; neither torch nor Keras is needed.

    Args:
        folder: what ``lstm_bridge.convert`` wrote.

    Returns:
        The layer itself when the source was one layer's state dict; otherwise a ``Ported`` tree
        whose sub-modules and parameters carry the source's names.

    Raises:
        ConfigError: ``config.json`` is damaged, of another version, or contradicts the weights.
        RefusedInput: ``model.safetensors`` is damaged.
        FileSystemError: the folder cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileSystemError(
            str(folder), expected="a folder that convert wrote", got="none", fix="check the path"
        )
    config = read_config(folder)
    with open_checkpoint(folder / WEIGHTS) as checkpoint:
        arrays = {
            name: to_mlx(checkpoint.read(name), info.dtype)
            for name, info in checkpoint.tensors.items()
        }
    layers = {}
    for entry in config["layers"]:
        layers[entry["path"]] = _build(folder, entry, arrays)
    if "" in layers and not arrays:
        return layers[""]
    return _tree(folder, layers, arrays)


def _build(folder: Path, entry: dict[str, Any], arrays: dict[str, mx.array]) -> nn.Module:
    """Make one layer and take its arrays out of ``arrays``."""
    check_present(folder, entry, arrays)
    weights = {p: arrays.pop(name) for p, name in names_of(entry).items()}
    try:
        layer = new_layer(entry["class"], entry["options"], weights)
        layer.load_weights(list(weights.items()), strict=True)
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
    module, _, name = kind.rpartition(".")
    cls = getattr(import_module(f"lstm_bridge.{module}"), name)
    if not kind.startswith("keras."):
        return cls(**options)
    layer = cls.from_config(dict(options))
    first = next(w for n, w in weights.items() if n.endswith(_FIRST_KERNEL))
    layer.build((None, None, first.shape[0]))
    return layer


_FIRST_KERNEL = ("cell.kernel", "cells.0.kernel")


def _tree(
    folder: Path, layers: Mapping[str, nn.Module], arrays: Mapping[str, mx.array]
) -> nn.Module:
    """Hang layers and loose arrays into a tree by their dotted names."""
    root = Ported(layers)
    for name, leaf in [*layers.items(), *arrays.items()]:
        *parents, last = name.split(".")
        node: Any = root
        for part in parents:
            node = node.setdefault(part, Ported())
        if not isinstance(node, nn.Module) or last in node:
            raise refuse(folder, name, "a place of its own in the module tree", "a taken one")
        node[last] = leaf
    return root
