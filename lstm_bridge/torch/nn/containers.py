"""``torch.nn``'s containers: their children's names are torch's, ``0``, ``1``, … or the keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import mlx.nn

from lstm_bridge.core.arrays import as_array
from lstm_bridge.torch.nn.module import Module


class _List(Module):
    """Children under the names ``0``, ``1``, …"""

    def _put(self, values: Iterable[Any]) -> None:
        for value in values:
            self[str(len(self))] = value

    def __getitem__(self, index: Any) -> Any:
        """Return a child by place, a container of several by slice, or by name."""
        if isinstance(index, str):
            return super().__getitem__(index)
        values = list(self.values())
        return (
            type(self)(*self._arguments(values[index]))
            if isinstance(index, slice)
            else values[index]
        )

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self.values()))

    def _arguments(self, values: list[Any]) -> tuple[Any, ...]:
        return (values,)

    def append(self, value: Any) -> _List:
        """Add a child at the end; return self."""
        self._put([value])
        return self


class Sequential(_List):
    """Modules called one after the other.

    Args:
        args: the modules, or one mapping of names to them.

    Source: torch.nn.Sequential 2.13.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__()
        if (
            len(args) == 1
            and isinstance(args[0], Mapping)
            and not isinstance(args[0], mlx.nn.Module)
        ):
            for name, module in args[0].items():
                self[name] = module
        else:
            self._put(args)

    def forward(self, input: Any) -> Any:  # noqa: A002
        """Return the last module's output."""
        for module in self:
            input = module(input)  # noqa: A001
        return input

    def _arguments(self, values: list[Any]) -> tuple[Any, ...]:
        return tuple(values)


class ModuleList(_List):
    """A list of modules.

    Args:
        modules: the first of them. Default: none.

    Source: torch.nn.ModuleList 2.13.
    """

    def __init__(self, modules: Iterable[Any] | None = None) -> None:
        super().__init__()
        self._put(modules or ())


class ParameterList(_List):
    """A list of parameters.

    Args:
        values: the first of them, arrays. Default: none.

    Source: torch.nn.ParameterList 2.13.
    """

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        self._put(as_array(value, "torch.nn.ParameterList values") for value in values or ())


class ModuleDict(Module):
    """A dictionary of modules.

    Args:
        modules: the first of them by name. Default: none.

    Source: torch.nn.ModuleDict 2.13.
    """

    def __init__(self, modules: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        for name, module in dict(modules or {}).items():
            self[name] = module


class ParameterDict(Module):
    """A dictionary of parameters.

    Args:
        parameters: the first of them by name, arrays. Default: none.

    Source: torch.nn.ParameterDict 2.13.
    """

    def __init__(self, parameters: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        for name, value in dict(parameters or {}).items():
            self[name] = as_array(value, "torch.nn.ParameterDict parameters")
