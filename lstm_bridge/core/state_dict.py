"""torch's state-dict verbs for mlx modules: arrays by dotted name, every name reported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_unflatten

from lstm_bridge.core.arrays import as_array
from lstm_bridge.errors import UsageError


class IncompatibleKeys(NamedTuple):
    """The names that did not meet, as torch reports them."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class StateDictError(UsageError, RuntimeError):
    """A state dict does not fit the module (torch raises RuntimeError for it)."""


class StateDictModule(nn.Module):
    """An mlx module that also answers to torch's ``state_dict`` and ``load_state_dict``."""

    def state_dict(self) -> dict[str, mx.array]:
        """Return every parameter and buffer by its dotted name."""
        return state_dict(self)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True
    ) -> IncompatibleKeys:
        """Copy arrays into the module by name, in the module's own dtypes.

        Args:
            state_dict: dotted names to mx, NumPy or DLPack arrays.
            strict: missing or unexpected names are an error. Default: True.

        Returns:
            The missing and the unexpected names, sorted.

        Raises:
            StateDictError: names (when strict) or shapes do not match; nothing was changed.
        """
        return load_state_dict(self, state_dict, strict=strict)


def state_dict(module: nn.Module) -> dict[str, mx.array]:
    """Return every parameter and buffer of ``module`` by its dotted name."""
    flat: dict[str, mx.array] = tree_flatten(module.parameters(), destination={})
    return flat


def load_state_dict(
    module: nn.Module, state: Mapping[str, Any], *, strict: bool = True
) -> IncompatibleKeys:
    """Copy ``state`` into ``module`` by name; see :meth:`StateDictModule.load_state_dict`."""
    own = state_dict(module)
    report = IncompatibleKeys(sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys()))
    problems = _describe(report) if strict else []
    new = {name: as_array(state[name], name) for name in own if name in state}
    problems += [
        f"{name} of shape {list(new[name].shape)} where the module has {list(own[name].shape)}"
        for name in new
        if new[name].shape != own[name].shape
    ]
    if problems:
        raise StateDictError(
            f"state dict for {type(module).__name__}",
            expected=f"{len(own)} arrays named and shaped like the module's",
            got="; ".join(problems),
        )
    cast = {name: array.astype(own[name].dtype) for name, array in new.items()}
    module.update(tree_unflatten(list(cast.items())) if cast else {})
    return report


def _describe(report: IncompatibleKeys) -> list[str]:
    """Return one phrase per kind of mismatched name."""
    kinds = {"missing": report.missing_keys, "unexpected": report.unexpected_keys}
    return [f"{kind} {', '.join(names)}" for kind, names in kinds.items() if names]
