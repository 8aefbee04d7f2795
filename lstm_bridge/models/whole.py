"""A whole model: a tree of modules under the source's names, and the graph that runs them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

import mlx.core as mx
import mlx.nn as nn

from lstm_bridge.errors import UsageError
from lstm_bridge.models.classes import find_class, make
from lstm_bridge.models.graph import Graph, descend, execute
from lstm_bridge.models.operations import OPERATIONS
from lstm_bridge.models.quantize import quantize_again, quantized_places
from lstm_bridge.models.tree import Ported, hang, take_over

_FLOW = ("input", "output", "branch", "loop")


class Part(NamedTuple):
    """One sub-module of a model, with what makes it again.

    Args:
        path: dotted place in the model.
        kind: class path below ``lstm_bridge`` (``"torch.nn.Linear"``), or ``KIND`` of a Model.
        options: constructor arguments, plain data; for Keras the layer's config.
        module: the module itself.
        build: a Keras layer's build config. Default: None.
    """

    path: str
    kind: str
    options: Mapping[str, Any]
    module: nn.Module
    build: Mapping[str, Any] | None = None


class Model(Ported):
    """A model that runs as a whole: ``model(x)``, or ``model(x, y)`` with several inputs.

    Sub-modules and arrays lie under the source's own names. It trains with ``mlx.optimizers``,
    quantizes with ``mlx.nn.quantize``, and is saved with ``lstm_bridge.save``.

    Args:
        parts: the sub-modules that the graph calls, in any order.
        graph: what happens to the inputs.
        arrays: parameters and constants of no sub-module, by dotted name. Default: none.
        options: further constructor arguments of a sub-class, as plain data. Default: none.

    Raises:
        UsageError: a node of the graph points at nothing, or two names collide.
    """

    KIND: ClassVar[str] = "models.Model"

    def __init__(
        self,
        parts: Iterable[Part],
        graph: Graph,
        arrays: Mapping[str, mx.array] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        parts = tuple(parts)
        super().__init__({part.path: part.module for part in parts})
        object.__setattr__(self, "_parts", parts)
        object.__setattr__(self, "_graph", graph)
        object.__setattr__(self, "_options", dict(options or {}))
        hang(self, [*((p.path, p.module) for p in parts), *(arrays or {}).items()])
        graph.check()
        self._check_targets()

    def _check_targets(self) -> None:
        called = {part.path for part in self._parts}
        for node in self._graph.walk():
            if node.op == "module":
                found = node.target in called
            elif node.op == "parameter":
                found = isinstance(_find(self, node.target), mx.array)
            else:
                found = node.op in _FLOW or node.op in OPERATIONS
            if not found:
                raise UsageError(
                    f"node {node.name!r}",
                    expected="a sub-module, an array or an operation of this release",
                    got=f"{node.op} {node.target!r}",
                )

    @property
    def graph(self) -> Graph:
        """What happens to the inputs, as data."""
        return self._graph  # type: ignore[no-any-return]

    @property
    def parts(self) -> tuple[Part, ...]:
        """The sub-modules that the graph calls, with what makes them again."""
        return tuple(part._replace(module=descend(self, part.path)) for part in self._parts)

    @property
    def layers(self) -> Any:
        """The sub-modules by path; a sub-module of this name comes first, as in the source."""
        return self["layers"] if "layers" in self else super().layers

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Run the graph.

        Args:
            inputs: arrays (or what the first modules take), in the order of the graph's inputs.
            named: the same by name.

        Raises:
            UsageError: an input is missing, or one too many.
        """
        return execute(self._graph, self, OPERATIONS, self._bound(inputs, named))

    def _bound(self, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> dict[str, Any]:
        names = self._graph.inputs
        defaults = {
            node.name: node.args[0]
            for node in self._graph.nodes
            if node.op == "input" and node.args
        }
        values = defaults | dict(zip(names, inputs, strict=False)) | dict(named)
        wrong = [name for name in names if name not in values]
        wrong += [name for name in named if name not in names]
        if wrong or len(inputs) > len(names):
            raise UsageError(
                "model(...)",
                expected=f"inputs {', '.join(names)}",
                got=f"{len(inputs)} and {', '.join(named) or 'none'} by name",
            )
        return values

    # --- as plain data -------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """Return what makes the model again, without its numbers, as plain data."""
        return {
            "model": self.KIND,
            "options": dict(self._options),
            "modules": [entry_of(part) for part in self.parts],
            "graph": self._graph.to_json(),
            "quantized": quantized_places(self),
        }

    @classmethod
    def from_description(
        cls, description: Mapping[str, Any], arrays: Mapping[str, mx.array]
    ) -> Model:
        """Return the model that ``describe`` described.

        Args:
            description: plain data, checked by the caller.
            arrays: all its numbers by name.

        Raises:
            UsageError: the description or the arrays do not make a model.
        """
        model = cls.blank(description, arrays)
        quantize_again(model, description.get("quantized", ()))
        take_over(model, arrays.items())
        return model.eval()  # type: ignore[no-any-return]

    @classmethod
    def blank(cls, description: Mapping[str, Any], arrays: Mapping[str, mx.array]) -> Model:
        """Return the described model before its layers have their numbers."""
        parts = [part_of(entry, arrays) for entry in description["modules"]]
        owned = tuple(f"{part.path}." for part in parts)
        rest = {name: array for name, array in arrays.items() if not name.startswith(owned)}
        graph = Graph.from_json(description["graph"])
        return cls(parts, graph, rest, description.get("options"))


MODELS: dict[str, type[Model]] = {Model.KIND: Model}
"""Kinds of whole models; one is also a sub-module of another. Sub-classes add themselves."""


def _find(module: nn.Module, path: str) -> Any:
    try:
        return descend(module, path)
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def entry_of(part: Part) -> dict[str, Any]:
    """Return a sub-module as plain data, without its numbers."""
    entry: dict[str, Any] = {"path": part.path, "class": part.kind, "options": dict(part.options)}
    if part.build is not None:
        entry["build"] = dict(part.build)
    if isinstance(part.module, Model):
        entry["options"] = part.module.describe()
    return entry


def part_of(entry: Mapping[str, Any], arrays: Mapping[str, mx.array]) -> Part:
    """Return the sub-module that ``entry_of`` described.

    Args:
        entry: plain data.
        arrays: the numbers around it by name, of which a model within takes its own.

    Raises:
        UsageError: it is of a class that is not known.
    """
    path, kind, options = str(entry["path"]), str(entry["class"]), dict(entry["options"])
    build = entry.get("build")
    if kind in MODELS:
        prefix = f"{path}." if path else ""
        own = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
        return Part(path, kind, {}, MODELS[kind].blank(options, own))
    if find_class(kind) is None:
        raise UsageError(
            f"module {path!r}", expected="a class of this release's front-ends", got=repr(kind)
        )
    return Part(path, kind, options, make(kind, options, build), build)
