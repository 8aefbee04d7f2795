"""One graph for training and evaluation, from the two that a torch module traces to."""

from __future__ import annotations

from typing import Any, NamedTuple

from lstm_bridge.models.graph import Graph, Node, Ref
from lstm_bridge.models.torch.mode import EvalOnly, Mode
from lstm_bridge.models.whole import Part

_MODE = "_lstm_bridge_mode"


class Merged(NamedTuple):
    """A graph for both modes, with the modules that it needs for that."""

    graph: Graph
    parts: tuple[Part, ...] = ()


def in_both_modes(evaluating: Graph, training: Graph) -> Merged:
    """Return one graph that does what each of two does in its mode.

    Where they differ only in flags that are True while training, the flags become the mode itself.
    Otherwise the graph for evaluation is taken, and refuses to train.
    """
    if evaluating == training:
        return Merged(evaluating)
    nodes = [_merged(a, b) for a, b in zip(evaluating.nodes, training.nodes, strict=False)]
    same_length = len(evaluating.nodes) == len(training.nodes)
    if same_length and all(node is not None for node in nodes):
        known = [node for node in nodes if node is not None]
        part = Part(_MODE, "models.torch.mode.Mode", {}, Mode())
        return Merged(Graph((Node(_MODE, "module", _MODE), *known)), (part,))
    reason = "lines of forward that do something else while training"
    guard = EvalOnly(reason)
    part = Part(_MODE, "models.torch.mode.EvalOnly", {"reason": reason}, guard)
    return Merged(Graph((Node(_MODE, "module", _MODE), *evaluating.nodes)), (part,))


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
    return Ref(_MODE) if (x, y) == (False, True) else _DIFFERENT
