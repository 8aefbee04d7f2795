"""A whole model as data: nodes in order of execution, and the module that runs them.

A graph is what a Keras config or a torch.fx trace becomes, and what ``config.json`` holds: names,
operations and constants, never code. ``{"node": "x"}`` stands for the value of node ``x``; lists,
tuples (``{"tuple": [...]}``), slices (``{"slice": [a, b, c]}``) and plain constants stand for
themselves. The graphs of a ``"branch"`` and a ``"loop"`` (``{"graph": [...]}``) read the values of
the nodes before them, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.nn as nn

from lstm_bridge.errors import UsageError

Operation = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Ref:
    """The value of another node."""

    node: str


@dataclass(frozen=True, slots=True)
class Node:
    """One step of a model.

    Args:
        name: unique in its graph.
        op: ``"input"``, ``"output"``, ``"module"`` (call a sub-module), ``"parameter"`` (an array
            of the module tree), ``"branch"`` (the output of one of two graphs, ``yes`` and ``no``,
            as ``args[0]`` holds or not), ``"loop"`` (see ``run_loop``) or the name of a function
            in ``OPERATIONS``.
        target: path of the sub-module or array, for ``"module"`` and ``"parameter"``.
        args: positional arguments: constants, Refs and containers of them.
        kwargs: keyword arguments, likewise.
    """

    name: str
    op: str
    target: str = ""
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def refs(self) -> Iterator[str]:
        """Yield the names of the nodes this one reads."""
        yield from _refs((self.args, dict(self.kwargs)))


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes in order of execution; the last is the output."""

    nodes: tuple[Node, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the input nodes, in the order of the call's arguments."""
        return tuple(node.name for node in self.nodes if node.op == "input")

    def walk(self) -> Iterator[Node]:
        """Yield all nodes, those of branches and loops too."""
        for node in self.nodes:
            yield node
            for inner in node.kwargs.values():
                if isinstance(inner, Graph):
                    yield from inner.walk()

    def to_json(self) -> list[dict[str, Any]]:
        """Return the graph as plain data."""
        return [
            {
                "name": node.name,
                "op": node.op,
                "target": node.target,
                "args": [encode(a) for a in node.args],
                "kwargs": {k: encode(v) for k, v in node.kwargs.items()},
            }
            for node in self.nodes
        ]

    @classmethod
    def from_json(cls, nodes: Sequence[Mapping[str, Any]]) -> Graph:
        """Return the graph that ``to_json`` described.

        Raises:
            UsageError: a node reads one that does not come before it.
        """
        graph = cls(tuple(_node(n) for n in nodes))
        graph.check()
        return graph

    def check(self, before: Iterable[str] = ()) -> None:
        """Refuse a graph that cannot run from its first node to its last.

        Args:
            before: names of the nodes outside that it may read, if it is a part of another.

        Raises:
            UsageError: naming the node and what it lacks.
        """
        seen = set(before)
        for node in self.nodes:
            for inner in node.kwargs.values():
                if isinstance(inner, Graph):
                    inner.check(seen)
            missing = [name for name in node.refs() if name not in seen]
            if missing or node.name in seen:
                raise UsageError(
                    f"node {node.name!r}",
                    expected="a name of its own, and nodes before it to read",
                    got=f"{missing[0]!r}, which comes later or never" if missing else "a repeat",
                )
            seen.add(node.name)
        if not self.nodes or self.nodes[-1].op != "output":
            raise UsageError("graph", expected="an output as its last node", got="none")


def _node(entry: Mapping[str, Any]) -> Node:
    return Node(
        str(entry["name"]),
        str(entry["op"]),
        str(entry.get("target", "")),
        tuple(decode(a) for a in entry.get("args", ())),
        {str(k): decode(v) for k, v in entry.get("kwargs", {}).items()},
    )


def encode(value: Any) -> Any:
    """Return a node's argument as plain data."""
    if isinstance(value, Ref):
        return {"node": value.node}
    if isinstance(value, Graph):
        return {"graph": value.to_json()}
    if isinstance(value, tuple):
        return {"tuple": [encode(v) for v in value]}
    if isinstance(value, slice):
        return {"slice": [encode(v) for v in (value.start, value.stop, value.step)]}
    if value is Ellipsis:
        return {"ellipsis": True}
    if isinstance(value, list):
        return [encode(v) for v in value]
    if isinstance(value, Mapping):
        return {"dict": {str(k): encode(v) for k, v in value.items()}}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise UsageError(
        "graph constant", expected="a number, text, None or a container", got=type(value).__name__
    )


_TAGGED: dict[str, Callable[[Any], Any]] = {
    "node": lambda v: Ref(str(v)),
    "tuple": lambda v: tuple(decode(x) for x in v),
    "slice": lambda v: slice(*(decode(x) for x in v)),
    "ellipsis": lambda v: Ellipsis,
    "float": lambda v: float(str(v)),
    "dict": lambda v: {k: decode(x) for k, x in v.items()},
    "graph": lambda v: Graph(tuple(_node(n) for n in v)),
}


def decode(value: Any) -> Any:
    """Return the argument that ``encode`` described."""
    if isinstance(value, list):
        return [decode(v) for v in value]
    if isinstance(value, dict):
        (tag, inner), *more = value.items()
        if more or tag not in _TAGGED:
            raise UsageError("graph", expected=f"one of {', '.join(_TAGGED)}", got=repr(tag))
        return _TAGGED[tag](inner)
    return value


def resolve(value: Any, values: Mapping[str, Any]) -> Any:
    """Return an argument with every Ref replaced by its value."""
    if isinstance(value, Ref):
        return values[value.node]
    if isinstance(value, tuple | list):
        return type(value)(resolve(v, values) for v in value)
    if isinstance(value, slice):
        return slice(*(resolve(v, values) for v in (value.start, value.stop, value.step)))
    if isinstance(value, Mapping):
        return {k: resolve(v, values) for k, v in value.items()}
    return value


def _refs(value: Any) -> Iterator[str]:
    if isinstance(value, Ref):
        yield value.node
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from _refs(inner)
    elif isinstance(value, slice):
        yield from _refs((value.start, value.stop, value.step))
    elif isinstance(value, Mapping):
        yield from _refs(tuple(value.values()))
    elif isinstance(value, Graph):
        own = {node.name for node in value.nodes}
        yield from (name for node in value.nodes for name in node.refs() if name not in own)


def execute(
    graph: Graph,
    root: nn.Module,
    operations: Mapping[str, Operation],
    inputs: Mapping[str, Any],
) -> Any:
    """Run a graph.

    Args:
        graph: what to run.
        root: the module tree that ``"module"`` and ``"parameter"`` nodes point into.
        operations: function name → function, for all other nodes.
        inputs: input node → value; for a part of another graph, the values around it too.

    Returns:
        The value of the output node's only argument.
    """
    values: dict[str, Any] = dict(inputs)
    for node in graph.nodes:
        if node.op == "input":
            continue
        args = [values[a.node] if type(a) is Ref else resolve(a, values) for a in node.args]
        kwargs = resolve(node.kwargs, values) if node.kwargs else node.kwargs
        if node.op == "output":
            return args[0]
        if node.op == "module":
            values[node.name] = descend(root, node.target)(*args, **kwargs)
        elif node.op == "parameter":
            values[node.name] = descend(root, node.target)
        elif node.op == "branch":
            way = node.kwargs["yes" if args[0] else "no"]
            values[node.name] = execute(way, root, operations, values)
        elif node.op == "loop":
            values[node.name] = run_loop(node, root, operations, values)
        else:
            values[node.name] = operations[node.op](*args, **kwargs)
    raise UsageError("graph", expected="an output as its last node", got="none")


def run_loop(
    node: Node, root: nn.Module, operations: Mapping[str, Operation], values: Mapping[str, Any]
) -> list[Any]:
    """Run a loop.

    Args:
        node: ``args`` are the number of steps and a list of first values; the graph ``body`` takes
            the number of the step and the values, and gives a tuple of their next values and a
            tuple of what to collect.
        root: as for ``execute``.
        operations: as for ``execute``.
        values: what the nodes before the loop gave.

    Returns:
        The last values, then a list for each thing collected.

    Raises:
        UsageError: no step at all, where a value comes out of the steps only.
    """
    steps, carried = resolve(node.args, values)
    body = node.kwargs["body"]
    if steps < 1 and any(value is None for value in carried):
        raise UsageError("model input", expected="a length of at least 1", got=str(steps))
    collected: list[list[Any]] = [[] for _ in body.nodes[-1].args[0][1]]
    for step in range(steps):
        inputs = {**values, **dict(zip(body.inputs, (step, *carried), strict=True))}
        carried, found = execute(body, root, operations, inputs)
        for kept, value in zip(collected, found, strict=True):
            kept.append(value)
    return [*carried, *collected]


def descend(module: Any, path: str) -> Any:
    """Return the sub-module or array at a dotted path; the module itself for an empty one."""
    for part in path.split(".") if path else ():
        module = module[int(part)] if isinstance(module, list) else module[part]
    return module
