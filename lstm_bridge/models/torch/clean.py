"""A graph without nodes that nothing reads, its names counted anew."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from lstm_bridge.models.graph import Graph, Node, Ref

_IMPURE = ("python.assert", "python.refuse", "torch.item")
_KEPT = ("input", "output", "module")


def cleaned(graph: Graph) -> Graph:
    """Return the graph without calls of functions whose value nothing reads."""
    used = {name for node in graph.nodes for name in node.refs()}
    while True:
        nodes = tuple(node for node in graph.nodes if _is_kept(node, used))
        now = {name for node in nodes for name in node.refs()}
        if len(nodes) == len(graph.nodes) and now == used:
            break
        graph, used = Graph(nodes), now
    nodes = tuple(_with_parts(node, cleaned) for node in graph.nodes)
    return Graph(nodes)


def _is_kept(node: Node, used: set[str]) -> bool:
    # Random numbers that nothing reads are not drawn; a layer may keep statistics.
    return node.name in used or node.op in (*_KEPT, *_IMPURE)


def renamed(graph: Graph) -> Graph:
    """Return the graph with names that follow from its order alone."""
    return _Names().renamed(graph, {})


class _Names:
    def __init__(self) -> None:
        self.taken: dict[str, int] = {}

    def renamed(self, graph: Graph, outer: dict[str, str]) -> Graph:
        names = dict(outer)
        nodes = []
        for node in graph.nodes:
            args = replaced(node.args, lambda ref: Ref(names.get(ref.node, ref.node)))
            kwargs = {
                k: self.renamed(v, names)
                if isinstance(v, Graph)
                else replaced(v, lambda ref: Ref(names.get(ref.node, ref.node)))
                for k, v in node.kwargs.items()
            }
            names[node.name] = self._fresh(node)
            nodes.append(Node(names[node.name], node.op, node.target, args, kwargs))
        return Graph(tuple(nodes))

    def _fresh(self, node: Node) -> str:
        if node.op == "input":
            self.taken[node.name] = 0
            return node.name
        base = re.sub(r"_\d+$", "", node.name)
        count = self.taken.get(base, -1) + 1
        self.taken[base] = count
        name = f"{base}_{count}" if count else base
        return self._fresh(node) if count and name in self.taken else name


def replaced(value: Any, of_ref: Callable[[Ref], Any]) -> Any:
    """Return an argument with its references replaced, those inside of graphs too."""
    if isinstance(value, Ref):
        return of_ref(value)
    if isinstance(value, tuple | list):
        return type(value)(replaced(v, of_ref) for v in value)
    if isinstance(value, slice):
        return slice(*(replaced(v, of_ref) for v in (value.start, value.stop, value.step)))
    if isinstance(value, dict):
        return {k: replaced(v, of_ref) for k, v in value.items()}
    if isinstance(value, Graph):
        return Graph(tuple(node_replaced(node, of_ref) for node in value.nodes))
    return value


def node_replaced(node: Node, of_ref: Callable[[Ref], Any]) -> Node:
    """Return a node with the references in its arguments replaced."""
    kwargs = {k: replaced(v, of_ref) for k, v in node.kwargs.items()}
    return Node(node.name, node.op, node.target, replaced(node.args, of_ref), kwargs)


def _with_parts(node: Node, change: Callable[[Graph], Graph]) -> Node:
    kwargs = {k: change(v) if isinstance(v, Graph) else v for k, v in node.kwargs.items()}
    return Node(node.name, node.op, node.target, node.args, kwargs)


def parts_of(node: Node) -> Iterator[Graph]:
    """Yield the graphs that are parts of a node."""
    yield from (v for v in node.kwargs.values() if isinstance(v, Graph))
