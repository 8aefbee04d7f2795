"""Keras 1's one layer for all merging, as the layers and the one operation that do the same."""

from __future__ import annotations

from typing import Any

from lstm_bridge.converters.keras_options import Config, Reader

_MODES = {
    "sum": "Add", "mul": "Multiply", "ave": "Average", "max": "Maximum", "concat": "Concatenate",
    "dot": "Dot",
}  # fmt: skip


def merge(config: Config, reader: Reader, where: str) -> tuple[str, dict[str, Any]]:
    """Return the Keras 3 class and arguments of a ``Merge``; a mode that is code is refused."""
    mode = config.get("mode")
    if mode not in _MODES or config.get("mode_type", "raw") != "raw":
        known = f"a mode of {', '.join(_MODES)}, cos"
        raise reader.refuse(where, known, repr(mode)[:80], "custom code is not run")
    options: dict[str, Any] = {"name": config["name"]} if config.get("name") else {}
    if mode == "concat":
        options["axis"] = config.get("concat_axis", -1)
    if mode == "dot":
        options["axes"] = _dot_axes(config)
    return _MODES[mode], options


def _dot_axes(config: Config) -> Any:
    """The axes; the first releases wrote a list for each."""
    axes = config.get("dot_axes", -1)
    several = isinstance(axes, list)
    return [a[0] if isinstance(a, list) and a else a for a in axes] if several else axes


def as_cosine(layer: Config, reader: Reader, where: str) -> Config:
    """Return a ``Merge`` by cosine as an operation of the graph, since no layer is one.

    Raises:
        ConfigError: it is of other axes than the last of two lists of vectors.
    """
    axes = _dot_axes(layer["config"])
    if axes not in (1, -1, [1, 1], [-1, -1]):
        fix = "build it of dot products"
        raise reader.refuse(where, "dot_axes=1, of vectors", repr(axes)[:80], fix)
    changed = {"class_name": "CosineMerge", "module": "keras.src.ops.keras1"}
    return {**layer, **changed, "config": {"name": layer["config"].get("name")}}
