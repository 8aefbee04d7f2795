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


class StateDictModule(mlx.nn.Module):
    """An :class:`mlx.nn.Module` that also has torch's two state-dict methods.

    Source: torch.nn.Module 2.13.
    """

    def update(self, parameters: Any, strict: bool = True) -> StateDictModule:
        """Replace parameters as MLX does; children named ``0``, ``1``, … may come as a list."""
        super().update(numbered(parameters, self), strict)
        return self

    def update_modules(self, modules: Any, strict: bool = True) -> StateDictModule:
        """Replace modules as MLX does; children named ``0``, ``1``, … may come as a list."""
        super().update_modules(numbered(modules, self), strict)
        return self

    def state_dict(
        self,
        *,
        destination: dict[str, mx.array] | None = None,
        prefix: str = "",
        keep_vars: bool = False,
    ) -> dict[str, mx.array]:
        """Return all parameters and buffers by their dotted names, in the order they were made.

        Args:
            destination: dictionary to add to. Default: a new one.
            prefix: put in front of every name. Default: none.
            keep_vars: no effect here, because an MLX array carries no gradient history to keep.

        Returns:
            The dictionary.
        """
        found = {} if destination is None else destination
        found.update((prefix + name, array) for name, array in tree_flatten(self.parameters()))
        return found

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Take over parameters and buffers by name; on error nothing is changed.

        Args:
            state_dict: names to mx.array, NumPy array or anything with DLPack.
            strict: missing and unexpected names are errors. Default: True.
            assign: keep the arrays' own dtypes instead of casting to the module's. Default: False.

        Returns:
            Named tuple of ``missing_keys`` and ``unexpected_keys``.

        Raises:
            ArgumentTypeError: ``state_dict`` is no mapping.
            CallError: names (when strict) or shapes do not fit.
        """
        if not isinstance(state_dict, Mapping):
            raise ArgumentTypeError(
                "load_state_dict state_dict", expected="a mapping", got=type(state_dict).__name__
            )
        own = StateDictModule.state_dict(self)
        report = IncompatibleKeys(
            [name for name in own if name not in state_dict],
            [name for name in state_dict if name not in own],
        )
        loaded, complaints = _fitting(own, state_dict, assign)
        if strict:
            missing = _listed("Missing", report.missing_keys)
            complaints = [*missing, *_listed("Unexpected", report.unexpected_keys), *complaints]
        if complaints:
            raise CallError(
                f"Error(s) in loading state_dict for {type(self).__name__}",
                expected="the module's own names and shapes",
                got=" ".join(complaints),
                fix="strict=False sets aside missing and unexpected keys",
            )
        if loaded:
            self.update(tree_unflatten(list(loaded.items())))
        return report


def numbered(tree: Any, like: Any) -> Any:
    """Return a tree of parameters whose lists are dictionaries wherever those of ``like`` are.

    MLX makes lists of names that are numbers (``tree_unflatten``); torch's containers have such
    names.
    """
    if isinstance(tree, list) and isinstance(like, dict):
        tree = {str(k): value for k, value in enumerate(tree) if not _is_nothing(value)}
    if isinstance(tree, dict) and isinstance(like, dict) and not isinstance(tree, mlx.nn.Module):
        return {k: numbered(v, dict.get(like, k)) for k, v in tree.items()}
    if isinstance(tree, list) and isinstance(like, list):
        return [numbered(v, part) for v, part in zip(tree, like, strict=False)]
    return tree


def _is_nothing(value: Any) -> bool:
    """Whether a value is what MLX puts into the gaps between numbers."""
    return isinstance(value, dict) and not value and not isinstance(value, mlx.nn.Module)


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
