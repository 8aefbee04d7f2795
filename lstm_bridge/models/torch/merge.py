"""One graph for training and evaluation, from the two that a torch module traces to."""

from __future__ import annotations

from typing import Any, NamedTuple

from lstm_bridge.errors import UnsupportedError
from lstm_bridge.models.graph import Graph, Node, Ref
from lstm_bridge.models.torch.mode import EvalOnly, Mode
from lstm_bridge.models.whole import Part

_MODE = "_lstm_bridge_mode"


class Merged(NamedTuple):
    """A graph for both modes, with the modules that it needs for that."""

    graph: Graph
    parts: tuple[Part, ...] = ()


def in_both_modes(evaluating: Graph, training: Graph | UnsupportedError) -> Merged:
    """Return one graph that does what each of two does in its mode.

    Where they differ only in flags that are True while training, the flags become the mode itself;
    otherwise the mode chooses between them.

    Args:
        evaluating: the graph in eval mode.
        training: the graph in training mode, or why there is none: then the model refuses to train.
    """
    if isinstance(training, UnsupportedError):
        reason = str(training)
        part = Part(_MODE, "models.torch.mode.EvalOnly", {"reason": reason}, EvalOnly(reason))
        return Merged(Graph((Node(_MODE, "module", _MODE), *evaluating.nodes)), (part,))
    if evaluating == training:
        return Merged(evaluating)
    part = Part(_MODE, "models.torch.mode.Mode", {}, Mode())
    asked = Node(_MODE, "module", _MODE)
    merged = _merged_graph(evaluating, training)
    if merged is not None:
        return Merged(Graph((asked, *merged.nodes)), (part,))
    inputs, yes = _without_inputs(training)
    _, no = _without_inputs(evaluating)
    branch = Node("_lstm_bridge_branch", "branch", "", (Ref(_MODE),), {"yes": yes, "no": no})
    output = Node("output", "output", "", (Ref(branch.name),))
    return Merged(Graph((asked, *inputs, branch, output)), (part,))


def _without_inputs(graph: Graph) -> tuple[list[Node], Graph]:
    inputs = [node for node in graph.nodes if node.op == "input"]
    return inputs, Graph(tuple(node for node in graph.nodes if node.op != "input"))


def _merged_graph(a: Graph, b: Graph) -> Graph | None:
    """Return a graph that stands for both; None if none can."""
    if len(a.nodes) != len(b.nodes):
        return None
    nodes = [_merged(x, y) for x, y in zip(a.nodes, b.nodes, strict=True)]
    known = tuple(node for node in nodes if node is not None)
    return Graph(known) if len(known) == len(nodes) else None


def _merged(a: Node, b: Node) -> Node | None:
    """Return a node that stands for both; None if none can."""
    if (a.name, a.op, a.target, a.kwargs.keys()) != (b.name, b.op, b.target, b.kwargs.keys()):
        return None
    if len(a.args) != len(b.args):
        return None
    args = [_flag(x, y) for x, y in zip(a.args, b.args, strict=True)]
    kwargs = {k: _flag(a.kwargs[k], b.kwargs[k]) for k in a.kwargs}
    if any(value is _DIFFERENT for value in (*args, *kwargs.values())):
        return None
    return Node(a.name, a.op, a.target, tuple(args), kwargs)


_DIFFERENT = object()


def _flag(x: Any, y: Any) -> Any:
    if type(x) is type(y) and x == y:
        return x
    if isinstance(x, Graph) and isinstance(y, Graph):
        merged = _merged_graph(x, y)
        return _DIFFERENT if merged is None else merged
    return Ref(_MODE) if (x, y) == (False, True) else _DIFFERENT
