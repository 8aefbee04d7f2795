"""A module's parameters as torch's state dict and back, with torch's report of what is amiss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn
from mlx.utils import tree_flatten, tree_unflatten

from lstm_bridge.core.arrays import as_array
from lstm_bridge.errors import ArgumentTypeError, CallError, UsageError


class IncompatibleKeys(NamedTuple):
    """What ``load_state_dict(strict=False)`` left aside.

    Args:
        missing_keys: names in the module that the state dict lacks.
        unexpected_keys: names in the state dict that the module lacks.
    """

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return (
            f"_IncompatibleKeys(missing_keys={self.missing_keys!r}, "
            f"unexpected_keys={self.unexpected_keys!r})"
        )


def state_dict(
    module: mlx.nn.Module, destination: dict[str, mx.array], prefix: str
) -> dict[str, mx.array]:
    """Add the module's parameters to ``destination`` under their dotted names; return it."""
    destination.update((prefix + name, array) for name, array in tree_flatten(module.parameters()))
    return destination


def load_state_dict(
    module: mlx.nn.Module, source: Mapping[str, Any], strict: bool, assign: bool
) -> IncompatibleKeys:
    """Replace the module's parameters by those of the same names; on error none is replaced.

    Raises:
        ArgumentTypeError: ``source`` is no mapping.
        CallError: names (when strict) or shapes do not fit; one clause for each kind, as in torch.
    """
    if not isinstance(source, Mapping):
        raise ArgumentTypeError(
            "load_state_dict state_dict", expected="a mapping", got=type(source).__name__
        )
    own = state_dict(module, {}, "")
    report = IncompatibleKeys(
        [name for name in own if name not in source], [name for name in source if name not in own]
    )
    loaded, complaints = _fitting(own, source, assign)
    if strict:
        complaints = [*_listed("Missing", report.missing_keys),
                      *_listed("Unexpected", report.unexpected_keys), *complaints]  # fmt: skip
    if complaints:
        raise CallError(
            f"Error(s) in loading state_dict for {type(module).__name__}",
            expected="the module's own names and shapes",
            got=" ".join(complaints),
            fix="strict=False sets aside missing and unexpected keys",
        )
    module.update(tree_unflatten(list(loaded.items())))
    return report


def _fitting(
    own: Mapping[str, mx.array], source: Mapping[str, Any], assign: bool
) -> tuple[dict[str, mx.array], list[str]]:
    """Split what both sides name into arrays to take over and complaints."""
    loaded: dict[str, mx.array] = {}
    complaints: list[str] = []
    for name in (n for n in own if n in source):
        try:
            array = as_array(source[name], name, None if assign else own[name].dtype)
        except UsageError as error:
            complaints.append(f"{name}: expected {error.expected}, got {error.got}.")
            continue
        if array.shape == own[name].shape:
            loaded[name] = array
        else:
            complaints.append(
                f"size mismatch for {name}: copying a param with shape {list(array.shape)} from "
                f"checkpoint, the shape in current model is {list(own[name].shape)}."
            )
    return loaded, complaints


def _listed(kind: str, names: Iterable[str]) -> list[str]:
    quoted = ", ".join(f'"{name}"' for name in names)
    return [f"{kind} key(s) in state_dict: {quoted}."] if quoted else []
