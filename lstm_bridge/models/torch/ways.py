"""All ways through a module's forward as one graph.

Where forward asks about ranks, sizes, types or optional arguments, a trace takes one of two ways.
Here every way is traced, and where two part the graph has a branch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lstm_bridge.errors import UnsupportedError
from lstm_bridge.models.graph import Graph, Node, Ref
from lstm_bridge.models.torch.asked import MARKS, decided
from lstm_bridge.models.torch.clean import cleaned, renamed
from lstm_bridge.models.torch.loops import rolled
from lstm_bridge.models.torch.trace import Trace, trace
from lstm_bridge.models.torch.tracer import Constants, Inputs, TooManyWays

_MOST = 96
"""How many ways through a forward are followed."""

Translate = Callable[[Any], Graph]
_MARK = MARKS[decided]


@dataclass
class _Way:
    """What happens from a question on: nodes, or why they could not be had."""

    nodes: tuple[Node, ...] = ()
    failure: UnsupportedError | None = None


def graph_of(
    root: Any, inputs: Inputs, training: bool, constants: Constants, translate: Translate
) -> Graph:
    """Return the graph of a module's forward in one mode.

    Args:
        root: the torch module.
        inputs: what forward is called with.
        training: the mode.
        constants: collects the tensors that are in no module.
        translate: from a torch.fx graph to ours.

    Raises:
        UnsupportedError: naming the line that stops it.
    """
    ways = _Ways(root, inputs, training, constants, translate)
    graph = ways.follow(4)
    if ways.has_loops and graph != ways.follow(5):
        raise UnsupportedError(
            f"port {type(root).__name__}",
            expected="loops over a length whose steps are alike",
            got="one whose steps, or what is made of them, depend on their number",
            fix="keep time inside an LSTM, or port with partial=True",
        )
    graph.check()
    return graph


class _Ways:
    """Traces the ways through one forward and joins them."""

    def __init__(
        self,
        root: Any,
        inputs: Inputs,
        training: bool,
        constants: Constants,
        translate: Translate,
    ) -> None:
        self.root, self.inputs, self.training = root, inputs, training
        self.constants, self.translate = constants, translate
        self.length, self.count, self.has_loops = 4, 0, False

    def follow(self, length: int) -> Graph:
        """Return the graph, from loops of so many recorded steps."""
        self.length, self.count = length, 0
        way = self._from(())
        if way.failure is not None:
            raise way.failure
        return renamed(cleaned(Graph(rolled(way.nodes, type(self.root).__name__))))

    def _from(self, answers: Sequence[bool]) -> _Way:
        """Return the way of these answers to the first questions, all later ones joined."""
        self.count += 1
        if self.count > _MOST:
            raise UnsupportedError(
                f"port {type(self.root).__name__}",
                expected=f"at most {_MOST} ways through forward",
                got="more, by what it asks about its inputs",
                fix="give example_inputs with the optional arguments that are wanted as None",
            )
        found = trace(self.root, self.inputs, self.training, self.constants, answers, self.length)
        self.has_loops |= found.loops
        if isinstance(found.failure, TooManyWays):
            raise found.failure
        way = self._translated(found)
        for place in reversed(range(len(answers), len(found.decisions))):
            taken = [answer for answer, _ in found.decisions[:place]]
            answer, is_optional = found.decisions[place]
            other = self._from([*taken, not answer])
            way = _joined(place, way, other, answer, is_optional)
        return way

    def _translated(self, found: Trace) -> _Way:
        if found.failure is not None:
            return _Way(failure=found.failure)
        try:
            return _Way(self.translate(found.graph).nodes)
        except UnsupportedError as error:
            return _Way(failure=error)


def _joined(place: int, taken: _Way, other: _Way, answer: bool, is_optional: bool) -> _Way:
    """Return both ways from one question on.

    Args:
        place: number of the question.
        taken: the way with the answer, which is the one that the example or the defaults take.
        other: the other way.
        answer: whether the question holds on the taken way.
        is_optional: whether it asks for an optional argument.
    """
    if taken.failure is not None and (is_optional or other.failure is not None):
        return taken
    known = other if taken.failure is not None else taken
    at = [k for k, node in enumerate(known.nodes) if node.op == _MARK][place]
    condition, _ = known.nodes[at].args
    tails = [known.nodes[at + 1 :] if way is known else _tail(way, place) for way in (taken, other)]
    yes, no = tails if answer else tails[::-1]
    if is_optional and (same := _with_none(yes, no)) is not None:
        return _Way((*known.nodes[:at], *same))
    name = f"branch_{place}"
    branch = Node(name, "branch", "", (condition,), {"yes": Graph(yes), "no": Graph(no)})
    return _Way((*known.nodes[:at], branch, Node("output", "output", "", (Ref(name),))))


def _tail(way: _Way, place: int) -> tuple[Node, ...]:
    if way.failure is None:
        at = [k for k, node in enumerate(way.nodes) if node.op == _MARK][place]
        return way.nodes[at + 1 :]
    refusal = Node("refusal", "python.refuse", "", (str(way.failure),))
    return refusal, Node("output", "output", "", (Ref("refusal"),))


def _with_none(none: tuple[Node, ...], given: tuple[Node, ...]) -> tuple[Node, ...] | None:
    """Return the nodes for a given argument if they are those for None with another value in."""
    if len(none) != len(given):
        return None
    for a, b in zip(none, given, strict=True):
        if (a.name, a.op, a.target) != (b.name, b.op, b.target):
            return None
        if not _fits((a.args, dict(a.kwargs)), (b.args, dict(b.kwargs))):
            return None
    return given


def _fits(none: Any, given: Any) -> bool:
    if none is None and isinstance(given, Ref):
        return True
    if type(none) is not type(given):
        return False
    if isinstance(none, tuple | list):
        return len(none) == len(given) and all(map(_fits, none, given))
    if isinstance(none, Mapping):
        return none.keys() == given.keys() and all(_fits(none[k], given[k]) for k in none)
    return bool(none == given)
