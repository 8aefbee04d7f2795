"""Small source files of every dialect, and every way to convert them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lstm_bridge.checkpoints.safetensors_writer import write_safetensors
from lstm_bridge.equivalence.proof.pairs import Array, Options, Pair
from lstm_bridge.models.convert import convert
from lstm_bridge.models.schema import FORMAT, FORMAT_VERSION, MARK, WEIGHTS


def write_source(folder: Path, pair: Pair, params: Mapping[str, Array], options: Options) -> Path:
    """Write a layer as a converted folder, which says all of it and is a source itself.

    Args:
        folder: to make.
        pair: the class.
        params: its parameters.
        options: its constructor arguments.

    Returns:
        The folder.
    """
    folder.mkdir()
    entries = {
        f"layer.{name}": ("F32", value.shape, partial(_identity, value))
        for name, value in params.items()
    }
    write_safetensors(folder / WEIGHTS, entries, {"format": "mlx"})
    layer = {
        "path": "layer",
        "class": pair.kind,
        "options": ({"name": "layer"} if pair.kind.startswith("keras.") else {}) | dict(options),
        "parameters": sorted(params),
    }
    config = {"format": FORMAT, "version": FORMAT_VERSION, "layers": [layer]}
    (folder / MARK).write_text(json.dumps(config), encoding="utf-8")
    return folder


def _identity(value: Array) -> Array:
    return value


def _converted(ending: str, how: Mapping[str, Any]) -> Callable[[Path, Path], Path]:
    def run(source: Path, target: Path) -> Path:
        made = target.with_name(target.name + ending)
        convert(source, made, **how)
        return made

    return run


TARGETS: dict[str, Callable[[Path, Path], Path]] = {
    "a folder": _converted("", {}),
    "stock MLX layers": _converted("", {"layout": "mlx"}),
    "a torch file": _converted(".safetensors", {"to": "torch"}),
    "a Keras file": _converted(".keras", {"to": "keras"}),
    "an MLX file": _converted(".mlx.safetensors", {"to": "mlx"}),
}
"""Every way to convert: name → function of source and target that returns what was written."""
