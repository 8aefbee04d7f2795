"""A few recorded steps of a loop over a length, as a loop for any length.

A trace records some steps of such a loop one after the other. Here the steps are laid over each
other: what is the same node in each becomes the body; what a step reads from the one before is
carried; a number that grows evenly follows from the step's own number. The same is done with
another number of steps recorded, and the loop stands only if it comes out the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from lstm_bridge.errors import UnsupportedError
from lstm_bridge.models.graph import Graph, Node, Ref
from lstm_bridge.models.torch.asked import MARKS, ended, stepped
from lstm_bridge.models.torch.clean import parts_of

_STEPPED, _ENDED = MARKS[stepped], MARKS[ended]
_CONSTANT_OPS = ("parameter",)


def rolled(nodes: Sequence[Node], owner: str) -> tuple[Node, ...]:
    """Return the nodes with every recorded loop as one node.

    Args:
        nodes: with the marks of loops in them.
        owner: name of the module, for the message.

    Raises:
        UnsupportedError: steps of a loop that are not alike.
    """
    done: list[Node] = []
    rest = [_in_parts(node, owner) for node in nodes]
    finished = {node.args[0] for node in rest if node.op == _ENDED}
    while rest:
        node = rest.pop(0)
        if node.op != _STEPPED:
            done.append(node)
            continue
        if node.args[0] not in finished:
            continue  # left before its end: as many steps as were taken, whatever the length
        end = next(k for k, n in enumerate(rest) if n.op == _ENDED and n.args[0] == node.args[0])
        before, rest = _rolled(node, rest[:end], rest[end + 1 :], done, owner)
        done += before
    return tuple(done)


def _rolled(
    begin: Node, inside: Sequence[Node], after: Sequence[Node], before: Sequence[Node], owner: str
) -> tuple[list[Node], list[Node]]:
    """Return a loop, whose first step may be of another kind, and what comes after it."""
    try:
        return _Loop(begin, inside, after, before, owner).roll()
    except UnsupportedError as error:
        for peeled in (1, 2):
            try:
                return _Loop(begin, inside, after, before, owner, peeled).roll()
            except UnsupportedError:
                continue
        raise error


def _in_parts(node: Node, owner: str) -> Node:
    if not any(True for _ in parts_of(node)):
        return node
    kwargs = {
        k: Graph(rolled(v.nodes, owner)) if isinstance(v, Graph) else v
        for k, v in node.kwargs.items()
    }
    return Node(node.name, node.op, node.target, node.args, kwargs)


@dataclass
class _Carried:
    """A value that each step takes from the one before.

    Args:
        name: of the body's input.
        first: what the first step takes.
        place: of the node in a step whose value is the next, or its name.
    """

    name: str
    first: Any
    place: int | str


@dataclass
class _Body:
    nodes: list[Node] = field(default_factory=list)
    carried: list[_Carried] = field(default_factory=list)
    collected: list[int] = field(default_factory=list)


class _Loop:
    """One recorded loop.

    Args:
        begin: the mark of its first step.
        inside: the nodes of all steps, with the marks of the later ones.
        after: what comes after the loop, to its output.
        before: what came before it.
        owner: name of the module.
        peeled: how many of the first steps stand for themselves, before the loop. Default: 0.
    """

    def __init__(
        self,
        begin: Node,
        inside: Sequence[Node],
        after: Sequence[Node],
        before: Sequence[Node],
        owner: str,
        peeled: int = 0,
    ) -> None:
        self.owner, self.name = owner, f"loop_{begin.args[0]}"
        self.count, self.after = begin.args[2:], list(after)
        self.hoisted = [n for n in inside if n.op in _CONSTANT_OPS]
        self.steps: list[list[Node]] = [[]]
        for node in inside:
            if node.op == _STEPPED:
                self.steps.append([])
            elif node.op not in _CONSTANT_OPS:
                self.steps[-1].append(node)
        self.peeled = peeled
        self.hoisted += [node for step in self.steps[:peeled] for node in step]
        self.steps = self.steps[peeled:]
        self.recorded = peeled + len(self.steps)
        self.items = {n.name: n.args for n in before if n.op == "item" and len(n.args) == 2}
        self.body = _Body()
        self.added: list[Node] = []
        self.joined_states: list[Node] = []

    def roll(self) -> tuple[list[Node], list[Node]]:
        """Return the nodes up to and with the loop, and those after it that now read from it."""
        width = len(self.steps[0])
        if any(len(step) != width for step in self.steps):
            raise self._refusal("steps of different nodes")
        self.places = {
            node.name: (k, place)
            for k, step in enumerate(self.steps)
            for place, node in enumerate(step)
        }
        for place in range(width):
            self.body.nodes.append(self._folded(place))
        after = self._reading()
        counted = self._counted()
        return [*self.hoisted, *counted, self._node(counted[-1].name)], after

    def _counted(self) -> list[Node]:
        op = "python.steps" if len(self.count) == 3 else "python.len"
        counted = [Node(f"{self.name}.count", op, "", tuple(self.count))]
        if self.peeled:
            args = (Ref(counted[0].name), self.peeled)
            counted.append(Node(f"{self.name}.left", "python.steps_after", "", args))
        return counted

    def _node(self, count: str) -> Node:
        body = self.body
        inputs = [Node(self._step_name(), "input")]
        inputs += [Node(c.name, "input") for c in body.carried]
        results = tuple(Ref(self._local(c.place)) for c in body.carried)
        found = tuple(Ref(self._local(place)) for place in body.collected)
        output = Node("output", "output", "", ((results, found),))
        graph = Graph((*inputs, *self.added, *body.nodes, *self.joined_states, output))
        first = [c.first for c in body.carried]
        return Node(self.name, "loop", "", (Ref(count), first), {"body": graph})

    def _step_name(self) -> str:
        return f"{self.name}.step"

    def _local(self, place: int | str) -> str:
        return place if isinstance(place, str) else self.steps[0][place].name

    # --- the body ------------------------------------------------------------------------------

    def _folded(self, place: int) -> Node:
        """Return one node for the same place in all steps."""
        nodes = [step[place] for step in self.steps]
        if len({(n.op, n.target, tuple(n.kwargs)) for n in nodes}) > 1:
            raise self._refusal(f"steps that call {nodes[0].op} and {nodes[1].op}")
        args = self._fold([n.args for n in nodes])
        kwargs = {k: self._fold([n.kwargs[k] for n in nodes]) for k in nodes[0].kwargs}
        return Node(nodes[0].name, nodes[0].op, nodes[0].target, args, kwargs)

    def _fold(self, values: Sequence[Any]) -> Any:
        """Return what stands for an argument in all steps."""
        later = values[1:]
        if any(isinstance(v, Ref) for v in later):
            return self._fold_refs(values)
        kinds = {type(v) for v in values}
        if values[0] is None and {type(v) for v in later} <= {tuple, list}:
            return self._fold_states(later)
        if len(kinds) > 1:
            raise self._refusal("steps with arguments of different kinds")
        kind = kinds.pop()
        if kind in (tuple, list):
            if len({len(v) for v in values}) > 1:
                raise self._refusal("steps that read lists of different length")
            return kind(self._fold(parts) for parts in zip(*values, strict=True))
        if kind is slice:
            return slice(*(self._fold([getattr(v, n) for v in values]) for n in _LIMITS))
        if kind is dict:
            return {k: self._fold([v[k] for v in values]) for k in values[0]}
        if all(v == values[0] for v in values):
            return values[0]
        if kind is int:
            return self._number(values)
        raise self._refusal(f"steps with the constants {values[0]!r} and {values[1]!r}")

    def _fold_states(self, later: Sequence[Any]) -> Ref:
        """Return several values of the step before, of which the first step has none."""
        found = [[self.places.get(v.node) for v in vs if isinstance(v, Ref)] for vs in later]
        for k, parts in enumerate(found):
            if len(parts) != len(later[0]) or any(p is None or p[0] != k for p in parts):
                raise self._refusal("steps that read different things")
        places = {tuple(p[1] for p in parts if p) for parts in found}
        if len(places) > 1:
            raise self._refusal("steps that read different things")
        name = f"{self.name}.states_{'_'.join(map(str, *places))}"
        if all(node.name != name for node in self.joined_states):
            refs = tuple(Ref(self._local(place)) for place in places.pop())
            self.joined_states.append(Node(name, "python.tuple", "", refs))
        return Ref(self._carry(None, name))

    def _number(self, values: Sequence[int]) -> Ref:
        """Return a number that grows evenly."""
        slope = values[1] - values[0]
        if any(b - a != slope for a, b in pairwise(values)):
            raise self._refusal(f"steps with the numbers {', '.join(map(str, values))}")
        result = self._step_name()
        for op, by, nothing in (("operator.mul", slope, 1), ("operator.add", values[0], 0)):
            if by == nothing:
                continue
            name = f"{self.name}.{op[9:]}_{len(self.added)}"
            self.added.append(Node(name, op, "", (Ref(result), by)))
            result = name
        return Ref(result)

    def _fold_refs(self, values: Sequence[Any]) -> Any:
        later = values[1:]
        if not all(isinstance(v, Ref) for v in later):
            raise self._refusal("steps that read different things")
        found = [self.places.get(v.node) for v in later]
        if all(f is None for f in found):
            return values[0] if all(v == values[0] for v in values) else self._listed(values)
        if any(f is None for f in found) or len({f[1] for f in found if f}) > 1:
            raise self._refusal("steps that read different things")
        lags = {k - f[0] for k, f in enumerate(found, 1) if f}
        place = next(f[1] for f in found if f)
        if lags == {0}:
            return Ref(self._local(place))
        if lags != {1}:
            raise self._refusal("steps that read more than the one before")
        return Ref(self._carry(values[0], place))

    def _listed(self, values: Sequence[Any]) -> Ref:
        """Return the part of an earlier loop's list that belongs to each step."""
        parts = [self.items.get(v.node) if isinstance(v, Ref) else None for v in values]
        known = [p for p in parts if p is not None]
        if len(known) < len(values) or any(p[0] != known[0][0] for p in known):
            raise self._refusal("steps that read different things")
        name = f"{self.name}.item_{len(self.added)}"
        numbers = [p[1] for p in known]
        if numbers[0] > numbers[-1]:  # backwards: counted from the end, wherever that will be
            numbers = [n - self.recorded for n in numbers]
        place = self._number(numbers)
        self.added.append(Node(name, "item", "", (known[0][0], place)))
        return Ref(name)

    def _carry(self, first: Any, place: int | str) -> str:
        for carried in self.body.carried:
            if carried.place == place and carried.first == first:
                return carried.name
        name = f"{self.name}.carried_{len(self.body.carried)}"
        self.body.carried.append(_Carried(name, first, place))
        return name

    # --- what reads from it --------------------------------------------------------------------

    def _reading(self) -> list[Node]:
        """Return the nodes after the loop, reading its results."""
        self.reads: dict[str, Node] = {}
        self.joined: list[Node] = []
        self.joins = 0
        self.in_loop = False
        wanted = [found for node in self.after for found in self._after(node)]
        return [*self._picked(), *wanted]

    def _after(self, node: Node) -> list[Node]:
        """Return a node, and before it the lists that are joined for it."""
        if node.op in (_STEPPED, _ENDED):
            self.in_loop = node.op == _STEPPED
        kwargs = {k: self._part(v) for k, v in node.kwargs.items()}
        args = self._taken(node.args)
        before, self.joined = self.joined, []
        return [*before, Node(node.name, node.op, node.target, args, kwargs)]

    def _part(self, value: Any) -> Any:
        if not isinstance(value, Graph):
            return self._taken(value)
        return Graph(tuple(found for node in value.nodes for found in self._after(node)))

    def _taken(self, value: Any) -> Any:
        """Return an argument after the loop in terms of the loop's results."""
        if isinstance(value, tuple | list):
            run = self._run(value)
            return run if run is not None else type(value)(self._taken(v) for v in value)
        if isinstance(value, slice):
            return slice(*(self._taken(getattr(value, n)) for n in _LIMITS))
        if isinstance(value, Mapping):
            return {k: self._taken(v) for k, v in value.items()}
        if isinstance(value, Ref) and value.node in self.places:
            return self._result(*self.places[value.node])
        return value

    def _result(self, step: int, place: int) -> Ref:
        if self.in_loop:  # perhaps of the same number of steps, each reading its own
            return self._pick(("item", self._collect(place), step))
        if step == len(self.steps) - 1:
            return self._last(place)
        if step < 2:
            return self._pick(("item", self._collect(place), step))
        return self._pick(("item", self._collect(place), step - len(self.steps)))

    def _run(self, values: Sequence[Any]) -> Ref | None:
        """Return a list with a part that holds the same of every step; None for another list."""
        found = [self.places.get(v.node) if isinstance(v, Ref) else None for v in values]
        many = len(self.steps)
        for start in range(len(values) - many + 1):
            run = found[start : start + many]
            if any(f is None for f in run) or len({f[1] for f in run if f}) > 1:
                continue
            order = [f[0] for f in run if f]
            place = next(f[1] for f in run if f)
            if order not in (list(range(many)), list(range(many))[::-1]):
                continue
            whole = self._collect(place)
            if order[0]:
                whole = self._pick(("backwards", whole))
            head = [self._taken(v) for v in values[:start]]
            tail = [self._taken(v) for v in values[start + many :]]
            if not head and not tail:
                return whole
            self.joins += 1
            name = f"{self.name}.chained_{self.joins}"
            self.joined.append(Node(name, "python.chained", "", (head, whole, tail)))
            return Ref(name)
        return None

    def _last(self, place: int) -> Ref:
        for number, carried in enumerate(self.body.carried):
            if carried.place == place:
                return self._pick(("last", number))
        self._carry(None, place)
        return self._pick(("last", len(self.body.carried) - 1))

    def _collect(self, place: int) -> Ref:
        if place not in self.body.collected:
            self.body.collected.append(place)
        return self._pick(("all", self.body.collected.index(place)))

    def _pick(self, what: tuple[Any, ...]) -> Ref:
        key = repr(what)
        if key not in self.reads:
            name = f"{self.name}.{what[0]}_{len(self.reads)}"
            self.reads[key] = Node(name, what[0], "", what[1:])
        return Ref(self.reads[key].name)

    def _picked(self) -> list[Node]:
        """Return the nodes that read the loop's results, whose places are known only at the end."""
        found = []
        for node in self.reads.values():
            if node.op in ("last", "all"):
                (number,) = node.args
                place = number + (len(self.body.carried) if node.op == "all" else 0)
                found.append(Node(node.name, "item", "", (Ref(self.name), place)))
            elif node.op == "item":
                found.append(node)
            else:
                found.append(Node(node.name, f"python.{node.op}", "", node.args))
        return found

    def _refusal(self, got: str) -> UnsupportedError:
        return UnsupportedError(
            f"port a loop over a length in {self.owner}",
            expected="steps that are alike",
            got=got,
            fix="keep time inside an LSTM, or port with partial=True",
        )


_LIMITS = ("start", "stop", "step")
