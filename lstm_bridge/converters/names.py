"""Dotted tensor names: wrappers taken off, parameters grouped by the layer they belong to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from lstm_bridge.converters.layer import Tensors

_COMPILED = "_orig_mod"  # torch.compile's wrapper, anywhere in the path
_PARALLEL = "module"  # DataParallel's wrapper, in front of every name


def clean(tensors: Tensors) -> dict[str, str]:
    """Return source name → name without the wrappers that are no part of the model.

    Taken off: the one section of the file that holds the state dict (``state_dict``,
    ``model_state_dict``, ``encoder_state_dict`` …), DataParallel's ``module.`` in front of every
    name, and torch.compile's ``_orig_mod.`` anywhere.

    Raises:
        SemanticError: two tensors would end up with the same name.
    """
    parts = {name: name.split(".") for name in tensors.entries}
    lone: dict[str, list[str]] = {}
    sections = tensors.metadata.get("sections", ())
    if len(sections) == 1:  # a tensor beside the state dict (a loss, a step) keeps its name
        lone = {name: path for name, path in parts.items() if len(path) == 1}
        nested = {name: path for name, path in parts.items() if name not in lone}
        parts = _without_first(nested, str(sections[0]))
    parts = {name: [p for p in path if p != _COMPILED] for name, path in parts.items()}
    parts = lone | _without_first(parts, _PARALLEL)
    cleaned: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name, path in parts.items():
        short = ".".join(path)
        if short in taken:
            raise tensors.refuse(
                name,
                "a name of its own once wrappers are taken off",
                f"that of {taken[short]!r}",
                "rename one of them in the source",
            )
        taken[short] = name
        cleaned[name] = short
    return cleaned


def _without_first(parts: dict[str, list[str]], wrapper: str) -> dict[str, list[str]]:
    """Drop ``wrapper`` from the front if every name starts with it and has more to it."""
    if not parts or any(len(path) < 2 or path[0] != wrapper for path in parts.values()):
        return parts
    return {name: path[1:] for name, path in parts.items()}


T = TypeVar("T")


def grouped(
    names: Mapping[str, T], belongs: Callable[[str], bool], depth: int = 1
) -> dict[str, dict[str, T]]:
    """Group parameters by layer.

    Args:
        names: cleaned name → what is known of the parameter.
        belongs: whether the last ``depth`` components, dotted, are a parameter of the layer.
        depth: how many components a parameter's own name has. Default: 1.

    Returns:
        Layer path → parameter name → what is known of it.
    """
    groups: dict[str, dict[str, T]] = {}
    for name, known in names.items():
        parts = name.split(".")
        parameter = ".".join(parts[-depth:])
        if belongs(parameter):
            groups.setdefault(".".join(parts[:-depth]), {})[parameter] = known
    return groups


def inverted(renamed: Mapping[str, str]) -> dict[str, str]:
    """Return cleaned name → source name."""
    return {clean: source for source, clean in renamed.items()}
