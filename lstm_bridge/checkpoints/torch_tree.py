"""Names for the tensors in an unpickled torch object, and an account of everything else in it.

A tensor's name is its path of dict keys, list positions and attribute names, joined by dots. Whole
pickled modules give the names of their state dict; TorchScript modules those of their attributes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from lstm_bridge.checkpoints.pickle_machine import Global, Opaque
from lstm_bridge.checkpoints.place import Place
from lstm_bridge.checkpoints.torch_pickle import Blocked, StorageRef, TensorRef
from lstm_bridge.errors import quote

_MAX_NODES = 200_000
_MAX_DEPTH = 64
_MAX_PLAIN = 1000
_LEAVES = (TensorRef, Blocked, StorageRef)
_SCALARS = frozenset((str, bytes, int, float, bool, type(None)))
_LIGHTNING = "pytorch-lightning_version"
_DERIVED = {"_flat_weights"}  # what scripted RNNs keep beside their parameters


@dataclass(slots=True)
class Tree:
    """What was found.

    Args:
        tensors: dotted name → tensor.
        left_out: dotted name → why it is no tensor to convert.
        sections: top-level keys whose containers hold tensors.
        values: plain data at the top level.
    """

    tensors: dict[str, TensorRef] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    sections: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)


def flatten(root: Any, place: Place) -> Tree:
    """Return the names of all tensors under ``root``.

    Raises:
        ContainerError: for a tensor that only code could rebuild, or a tree without end.
        TensorError: for two tensors of one name, or a name that is none.
    """
    walk = _Walk(place, _holders(root))
    if isinstance(root, TensorRef | Blocked):
        walk.leaf("tensor", root)
    elif isinstance(root, dict) and not _is_optimizer(root):
        walk.top(root)
    else:
        walk.enter("", root, ())
    return walk.tree


class _Walk:
    """One pass over the tree, along containers that hold tensors."""

    def __init__(self, place: Place, holders: set[int]) -> None:
        self.tree, self._place, self._holders = Tree(), place, holders
        self._nodes = 0
        self._opaque: set[int] = set()

    def top(self, root: dict[Any, Any]) -> None:
        """Walk the top-level dict, telling weights from training state and plain data."""
        lightning = _LIGHTNING in root and "state_dict" in root
        for key, node in root.items():
            name = _spell(key)
            if name is None:
                self.tree.left_out[quote(type(key).__name__)] = "a dict key that is no name"
            elif id(node) not in self._holders:
                self._plain(name, node)
            elif lightning and name != "state_dict":
                self.tree.left_out[name] = "Lightning's training state, not weights"
            else:
                before = len(self.tree.tensors)
                self.enter(name, node, (id(root),))
                if not isinstance(node, _LEAVES) and len(self.tree.tensors) > before:
                    self.tree.sections.append(name)

    def _plain(self, name: str, node: Any) -> None:
        """Keep small plain data as it is; say of the rest what it was."""
        copy = _plain_copy(node)
        if _is_optimizer(node):
            self.tree.left_out[name] = "optimizer state, not weights"
        elif copy is not _TOO_MUCH:
            self.tree.values[name] = copy
        elif makers := _makers(node):
            self.tree.left_out[name] = f"no tensors; kept inert: {', '.join(makers)}"
        else:
            self.tree.left_out[name] = "plain data without tensors"

    def enter(self, path: str, node: Any, above: tuple[int, ...]) -> None:
        """Walk one node that holds tensors."""
        self._nodes += 1
        if self._nodes > _MAX_NODES or len(above) > _MAX_DEPTH:
            got = "more: one that repeats or contains itself"
            raise self._place.container(f"at most {_MAX_NODES} objects, {_MAX_DEPTH} deep", got)
        if isinstance(node, _LEAVES):
            self.leaf(path, node)
        elif id(node) in above:
            self.tree.left_out[path] = "refers back to what contains it"
        elif _is_optimizer(node):
            self.tree.left_out[path or "state"] = "optimizer state, not weights"
        else:
            self._children(path, node, (*above, id(node)))

    def leaf(self, path: str, node: Any) -> None:
        """Record a tensor under its name."""
        if isinstance(node, StorageRef):
            self.tree.left_out[path] = "a bare storage without a shape"
            return
        if isinstance(node, Blocked):
            raise self._in_the_way(path, node.maker, node.why)
        if not path or any(ord(char) < 32 for char in path):
            raise self._place.tensor(path, "a printable name", "an empty one or control characters")
        if path in self.tree.tensors:
            fix = "rename one of the keys that join to this name"
            raise self._place.tensor(path, "one tensor of that name", "two", fix)
        self.tree.tensors[path] = node

    def _children(self, path: str, node: Any, above: tuple[int, ...]) -> None:
        if isinstance(node, Opaque):
            if any(id(arg) in self._holders for arg in node.args):
                raise self._in_the_way(path, node.maker)
            self._say_opaque(path, node, above)
        for key, child in _named_children(node):
            name = _spell(key)
            if name is None:
                self.tree.left_out[path] = f"holds a key of type {type(key).__name__}"
                continue
            below = f"{path}.{name}" if path else name
            if id(child) in self._holders:
                self.enter(below, child, above)
            elif isinstance(child, Opaque):
                self.tree.left_out[below] = f"an object of {quote(_class(child))}, kept inert"

    def _say_opaque(self, path: str, node: Opaque, above: tuple[int, ...]) -> None:
        """Name the outermost object of each path; modules inside modules need no mention."""
        if self._opaque.isdisjoint(above):
            self.tree.left_out[path or "(the whole object)"] = (
                f"an object of {quote(_class(node))}, kept inert; its tensors are read"
            )
        self._opaque.add(id(node))

    def _in_the_way(self, path: str, maker: str, why: str = "something") -> Exception:
        return self._place.container(
            "a tensor that torch's plain rebuild functions make",
            f"{why} made by {quote(maker)}",
            "save a state_dict of plain tensors",
            tensor=path,
        )


def _is_optimizer(node: Any) -> bool:
    return isinstance(node, dict) and "state" in node and "param_groups" in node


def _spell(key: Any) -> str | None:
    if type(key) is bytes:
        return key.decode("utf-8", "backslashreplace")
    return str(key) if type(key) in (str, int) else None


def class_of(root: Any) -> str:
    """Return the class of a pickled object; "" of plain data."""
    return _class(root) if isinstance(root, Opaque) else ""


def _class(node: Opaque) -> str:
    """Return the class an opaque object is of, seeing through protocol 0's helper."""
    if node.args and isinstance(node.args[0], Global) and node.maker.endswith("._reconstructor"):
        return node.args[0].name
    return node.maker


def _named_children(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield key and child; of a pickled torch module, exactly what its state dict has."""
    if isinstance(node, dict):
        yield from node.items()
    elif isinstance(node, list | tuple):
        yield from enumerate(node)
    elif isinstance(node, Opaque):
        state = node.state
        if isinstance(state, dict) and "_parameters" in state and "_modules" in state:
            yield from _module_children(state)
        elif isinstance(state, dict):
            yield from ((key, child) for key, child in state.items() if key not in _DERIVED)
        elif state is not None:
            yield "state", state
        yield from node.entries.items()
        yield from enumerate(node.items)


def _module_children(state: dict[Any, Any]) -> Iterator[tuple[Any, Any]]:
    hidden = state.get("_non_persistent_buffers_set")
    hidden = hidden if isinstance(hidden, list) else []
    for part in ("_parameters", "_buffers", "_modules"):
        table = state.get(part)
        if isinstance(table, Opaque):
            table = table.entries
        if isinstance(table, dict):
            yield from ((k, v) for k, v in table.items() if part != "_buffers" or k not in hidden)


def _all_children(node: Any) -> list[Any]:
    """Return what a container holds, scalars left out: long lists of them are common."""
    found: Iterable[Any] = ()
    if isinstance(node, dict):
        found = node.values()
    elif isinstance(node, list | tuple):
        found = node
    elif isinstance(node, Opaque):
        found = [*node.args, node.state, *node.items, *node.entries.values()]
    return [child for child in found if type(child) not in _SCALARS]


def _holders(root: Any) -> set[int]:
    """Return the ids of all objects from which a tensor can be reached; no recursion, no repeats.

    Ids stay valid: everything reachable is kept alive by the root.
    """
    above: dict[int, list[int]] = {id(root): []}
    todo, found = [root], []
    while todo:
        node = todo.pop()
        if isinstance(node, _LEAVES):
            found.append(id(node))
        for child in _all_children(node):
            if id(child) in above:
                above[id(child)].append(id(node))
            else:
                above[id(child)] = [id(node)]
                todo.append(child)
    holders: set[int] = set()
    while found:
        one = found.pop()
        if one not in holders:
            holders.add(one)
            found.extend(above[one])
    return holders


def _makers(node: Any) -> list[str]:
    """Return the globals in a subtree, each once, at most five of them spelled out."""
    seen, names, todo = {id(node)}, dict[str, None](), [node]
    while todo:
        one = todo.pop()
        if isinstance(one, Opaque):
            names[_class(one)] = None
        elif isinstance(one, Global):
            names[one.name] = None
        for child in _all_children(one):
            if id(child) not in seen:
                seen.add(id(child))
                todo.append(child)
    shown = [quote(name) for name in sorted(names)]
    return shown if len(shown) <= 5 else [*shown[:5], f"and {len(shown) - 5} more"]


_TOO_MUCH = object()


def _plain_copy(node: Any) -> Any:
    """Return small plain data as it is, or ``_TOO_MUCH``."""
    budget = [_MAX_PLAIN]

    def copy(one: Any, depth: int) -> Any:
        budget[0] -= 1
        if budget[0] < 0 or depth > _MAX_DEPTH:
            raise OverflowError
        if (
            one is None
            or type(one) in (bool, int, float)
            or (type(one) is str and len(one) <= _MAX_PLAIN)
        ):
            return one
        if isinstance(one, dict) and all(type(key) in (str, int) for key in one):
            return {str(key): copy(value, depth + 1) for key, value in one.items()}
        if isinstance(one, list | tuple):
            return [copy(value, depth + 1) for value in one]
        raise OverflowError

    try:
        return copy(node, 0)
    except OverflowError:
        return _TOO_MUCH
