"""Every front-end class takes what its original takes; what differs is said in its notes."""

from __future__ import annotations

import inspect
import runpy
from importlib import import_module
from pathlib import Path
from typing import Any, get_overloads

import pytest

GENERATE = runpy.run_path(str(Path(__file__).resolve().parents[2] / "docs" / "generate.py"))
CLASSES: dict[str, type] = {
    path: layer
    for path, layer in GENERATE["front_end_classes"]().items()
    if inspect.signature(layer).parameters
}


def notes_of(layer: type) -> dict[str, str]:
    return getattr(layer, "ARGUMENT_NOTES", {})


def original_of(path: str) -> type:
    module, _, name = path.removeprefix("lstm_bridge.").rpartition(".")
    return getattr(import_module(module), name)  # type: ignore[no-any-return]


def parameters_of(layer: type) -> dict[str, inspect.Parameter]:
    """Return the constructor's parameters, of its first overload where it is overloaded."""
    init: Any = layer.__init__
    signature = inspect.signature(next(iter(get_overloads(init)), init))
    return {name: p for name, p in signature.parameters.items() if name != "self"}


def differences(ours: type, original: type) -> list[str]:
    """Return what, outside the notes, is missing, extra, moved or has another default."""
    own, theirs, notes = parameters_of(ours), parameters_of(original), notes_of(ours)
    names = [name for name in theirs if name not in notes]
    if names != [name for name in own if name not in notes]:
        return [f"arguments {list(own)} instead of {list(theirs)}"]
    return [
        f"{name}={own[name].default!r} instead of {theirs[name].default!r}"
        for name in names
        if own[name].default != theirs[name].default or own[name].kind != theirs[name].kind
    ]


def takes_anything(layer: type) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in parameters_of(layer).values())


def known_arguments(layer: type) -> set[str]:
    """Return the constructor's arguments, the call's, and those of methods as ``method.name``."""
    known = set(parameters_of(layer))
    for name, method in inspect.getmembers(layer, inspect.isfunction):
        prefix = "" if name in ("__call__", "forward") else f"{name}."
        known |= {prefix + argument for argument in inspect.signature(method).parameters}
    return known


@pytest.mark.parametrize("path", CLASSES)
def test_arguments_and_defaults_are_the_originals(path: str) -> None:
    assert differences(CLASSES[path], original_of(path)) == []


@pytest.mark.parametrize("path", CLASSES)
def test_notes_are_about_arguments_that_exist(path: str) -> None:
    layer = CLASSES[path]
    assert takes_anything(layer) or set(notes_of(layer)) <= known_arguments(layer)


def test_a_missing_argument_and_another_default_are_caught() -> None:
    class Original:
        def __init__(self, units: int, bias: bool = True) -> None: ...

    class Without:
        def __init__(self, units: int) -> None: ...

    class Otherwise:
        def __init__(self, units: int, bias: bool = False) -> None: ...

    assert differences(Original, Original) == []
    assert differences(Without, Original)
    assert differences(Otherwise, Original) == ["bias=False instead of True"]
