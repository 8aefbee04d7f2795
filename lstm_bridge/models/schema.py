"""The converted folder: its two files, and ``config.json`` checked before anything relies on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lstm_bridge.converters.plan import DIALECTS
from lstm_bridge.errors import ConfigError
from lstm_bridge.models.json_file import read_object

FORMAT, FORMAT_VERSION = "lstm_bridge", 1
MARK, WEIGHTS = "config.json", "model.safetensors"

_MODULE = {"path": str, "class": str, "options": dict}
_LAYER = {**_MODULE, "parameters": list}
_NODE = {"name": str, "op": str}


def read_config(folder: Path) -> dict[str, Any]:
    """Return a folder's ``config.json``.

    Raises:
        ConfigError: it is not one this version can read.
        FileSystemError: it cannot be read.
    """
    config = read_object(folder / MARK)
    if config.get("format") != FORMAT or config.get("version") != FORMAT_VERSION:
        raise refuse(
            folder,
            None,
            f"format {FORMAT!r} version {FORMAT_VERSION}",
            f"{config.get('format')!r} version {config.get('version')!r}",
        )
    layers = config.get("layers")
    if not isinstance(layers, list) or not all(_is_layer(entry) for entry in layers):
        raise refuse(
            folder, None, "layers, each with path, class, options and parameters", "something else"
        )
    for entry in layers:
        if not any(entry["class"] in dialect.kinds for dialect in DIALECTS.values()):
            raise refuse(
                folder,
                entry["path"],
                "a class of this release's front-ends",
                repr(entry["class"]),
            )
    if "graph" in config:
        _check_whole(folder, config)
    elif "modules" in config:
        _check_entries(folder, config, "modules", _MODULE)
    return config


def _check_whole(folder: Path, config: dict[str, Any]) -> None:
    """Refuse a whole model whose description has parts of the wrong form."""
    if not isinstance(config.get("model"), str):
        raise refuse(folder, "model", "the kind of model", repr(config.get("model"))[:80])
    for key, form in (("modules", _MODULE), ("graph", _NODE)):
        _check_entries(folder, config, key, form)


def _check_entries(
    folder: Path, config: dict[str, Any], key: str, form: Mapping[str, type]
) -> None:
    entries = config.get(key)
    if not isinstance(entries, list) or not all(_has(entry, form) for entry in entries):
        raise refuse(folder, key, f"a list of objects with {', '.join(form)}", "something else")


def _has(entry: Any, form: Mapping[str, type]) -> bool:
    return isinstance(entry, dict) and all(isinstance(entry.get(k), t) for k, t in form.items())


def _is_layer(entry: Any) -> bool:
    return _has(entry, _LAYER) and all(isinstance(p, str) for p in entry["parameters"])


def names_of(entry: dict[str, Any]) -> dict[str, str]:
    """Return a layer entry's parameter → tensor name."""
    prefix = f"{entry['path']}." if entry["path"] else ""
    return {parameter: prefix + parameter for parameter in entry["parameters"]}


def check_present(folder: Path, entry: dict[str, Any], present: Any) -> None:
    """Refuse a layer entry whose tensors the weights file lacks.

    Raises:
        ConfigError: naming the first that is missing.
    """
    for name in names_of(entry).values():
        if name not in present:
            raise refuse(folder, entry["path"], f"tensor {name!r} in {WEIGHTS}", "none")


def refuse(folder: Path, member: str | None, expected: str, got: str) -> ConfigError:
    """Return the refusal of a converted folder."""
    return ConfigError(
        folder / MARK,
        member=member,
        expected=expected,
        got=got,
        fix="convert the source again with this release",
    )
