"""A torch.fx graph as the graph of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lstm_bridge.errors import UnsupportedError
from lstm_bridge.models.graph import Graph, Node, Ref
from lstm_bridge.models.torch.asked import MARKS
from lstm_bridge.models.torch.mutation import resolve_changes
from lstm_bridge.models.torch.names import misfit, name_of, spelled
from lstm_bridge.models.torch.operations import TORCH_OPERATIONS
from lstm_bridge.models.torch.source import line_of_trace
from lstm_bridge.models.torch.tracer import torch_folder

_WITHOUT_EFFECT = ("device", "inplace", "non_blocking", "pin_memory", "memory_format")
"""Keyword arguments about memory: MLX arrays live in one that all devices share."""


class Translator:
    """Turns the nodes of one torch.fx graph into ours.

    Args:
        modules: path → torch module.
        tied: path of a layer whose weights another layer has → names of the arrays it reads.
    """

    def __init__(self, modules: dict[str, Any], tied: Mapping[str, dict[str, str]]) -> None:
        self.modules, self.tied = modules, tied
        self.names: dict[Any, str] = {}
        self.nodes: list[Node] = []

    def translate(self, graph: Any) -> Graph:
        """Return the graph, with the marks of decisions and loops still in it.

        Raises:
            UnsupportedError: naming the function, method or layer, and the line that calls it.
        """
        resolve_changes(graph, self.modules)
        for node in graph.nodes:
            if node.op == "placeholder":
                self.names[node] = str(node.target)
        for node in graph.nodes:
            getattr(self, f"_{node.op}")(node)
        return Graph(tuple(self.nodes))

    def _placeholder(self, node: Any) -> None:
        self.nodes.append(Node(self.names[node], "input", "", tuple(node.args)))

    def _get_attr(self, node: Any) -> None:
        self._add(node, "parameter", str(node.target))

    def _call_module(self, node: Any) -> None:
        path = str(node.target)
        if path not in self.tied:
            self._add(node, "module", path, node.args, node.kwargs)
            return
        arrays = self.tied[path]
        refs = {}
        for name, target in arrays.items():
            refs[name] = Ref(self._fresh(f"{node.name}_{name}"))
            self.nodes.append(Node(refs[name].node, "parameter", target))
        module = self.modules[path]
        operation = f"functional.{type(module).__name__.lower()}"
        args = [self._argument(node, a) for a in node.args]
        options: dict[str, Any] = dict(refs)
        if getattr(module, "padding_idx", None) is not None:
            options["padding_idx"] = module.padding_idx
        name = self._fresh(node.name)
        self.names[node] = name
        self.nodes.append(Node(name, operation, "", tuple(args), options))

    def _call_function(self, node: Any) -> None:
        if node.target in MARKS:
            self._add(node, MARKS[node.target], "", node.args)
            return
        name = name_of(node)
        if name is None and hasattr(node.target, "_fields"):
            name = "python.tuple"
        if name is None:
            raise self._refusal(node, "an operation that graphs have", spelled(node))
        unset = [k for k in ("out", "generator") if node.kwargs.get(k, 0) is None]
        kwargs = {k: v for k, v in node.kwargs.items() if k not in (*_WITHOUT_EFFECT, *unset)}
        args = tuple(self._argument(node, a) for a in node.args)
        values = {k: self._argument(node, v) for k, v in kwargs.items()}
        wrong = misfit(TORCH_OPERATIONS[name], args, values)
        if wrong:
            raise self._refusal(node, "arguments that are known here", f"{spelled(node)}: {wrong}")
        self._add(node, name, "", node.args, kwargs)

    _call_method = _call_function

    def _output(self, node: Any) -> None:
        self._add(node, "output", "", node.args)

    def _add(self, node: Any, op: str, target: str, args: Any = (), kwargs: Any = None) -> None:
        plain = tuple(self._argument(node, a) for a in args)
        named = {k: self._argument(node, v) for k, v in (kwargs or {}).items()}
        self.names[node] = self._fresh(node.name)
        self.nodes.append(Node(self.names[node], op, target, plain, named))

    def _fresh(self, name: str) -> str:
        taken = {node.name for node in self.nodes} | set(self.names.values())
        while name in taken:
            name += "_"
        return name

    def _argument(self, node: Any, value: Any) -> Any:
        """Return an argument in the graph's terms."""
        if hasattr(value, "op") and value in self.names:
            return Ref(self.names[value])
        if isinstance(value, tuple):
            return tuple(self._argument(node, v) for v in value)
        if isinstance(value, list):
            return [self._argument(node, v) for v in value]
        if isinstance(value, slice):
            parts = (value.start, value.stop, value.step)
            return slice(*(self._argument(node, v) for v in parts))
        if isinstance(value, Mapping):
            return {str(k): self._argument(node, v) for k, v in value.items()}
        return self._constant(node, value)

    def _constant(self, node: Any, value: Any) -> Any:
        kind = type(value).__name__
        if kind == "dtype":
            return str(value).removeprefix("torch.")
        if kind in ("device", "layout", "memory_format"):
            return None
        if value is None or value is Ellipsis or isinstance(value, bool | int | float | str):
            return value
        raise self._refusal(node, "tensors and plain constants", f"a {kind} as an argument")

    def _refusal(self, node: Any, expected: str, got: str) -> UnsupportedError:
        where = line_of_trace(node.stack_trace, torch_folder())
        return UnsupportedError(
            f"port at {where}",
            expected=expected,
            got=got,
            fix="write it with other functions, or port with partial=True",
        )
