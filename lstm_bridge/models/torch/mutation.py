"""In-place changes of a torch.fx graph as new values: MLX arrays are values.

What reads a tensor after it was changed reads the result of the change. That is right as long as
no other name shares the tensor's memory; where one does, the graph is refused.
"""

from __future__ import annotations

import operator
from typing import Any

from lstm_bridge.errors import UnsupportedError
from lstm_bridge.models.torch.asked import with_data
from lstm_bridge.models.torch.names import VIEWS, changes_first, name_of, spelled
from lstm_bridge.models.torch.source import line_of_trace
from lstm_bridge.models.torch.tracer import torch_folder

_PASSING = ("Identity", "Dropout", "Dropout1d", "Dropout2d", "AlphaDropout", "Flatten")
"""Layers that may return their input itself."""


def resolve_changes(graph: Any, modules: dict[str, Any]) -> None:
    """Redirect, in place, what reads a changed tensor to the change's result.

    Args:
        graph: of torch.fx.
        modules: path → module.

    Raises:
        UnsupportedError: a change that another name shares, or of a parameter or buffer.
    """
    nodes = list(graph.nodes)
    for place, node in enumerate(nodes):
        layer = modules.get(node.target) if node.op == "call_module" else None
        if not (changes_first(node) or getattr(layer, "inplace", False)):
            continue
        changed = node.args[0] if node.args else None
        if changed is None or not hasattr(changed, "op"):
            continue
        if isinstance(node.target, type(operator.iadd)) and _is_number(changed):
            continue
        if _is_written_back(node, changed):
            continue
        if _is_data(changed):
            _put_data(graph, node, changed)
            continue
        later = set(nodes[place + 1 :])
        if _is_part(changed, later):
            node, changed = _put_part(graph, node, changed), changed.args[0]
        _check_alone(node, changed, later, modules)
        for user in list(changed.users):
            if user in later and user is not node:
                user.replace_input_with(changed, node)


def _is_written_back(node: Any, changed: Any) -> bool:
    """Whether a node is the middle of ``x[i] op= y``: read, change, and write to the same place."""
    if getattr(changed, "target", None) is not operator.getitem or len(node.users) != 1:
        return False
    (user,) = node.users
    return bool(user.target is operator.setitem and user.args == (*changed.args, node))


def _is_part(changed: Any, later: set[Any]) -> bool:
    """Whether a node is ``x[i]``, read only to be changed: nothing later reads it."""
    is_item = changed.target is operator.getitem and not _is_number(changed)
    return is_item and not set(changed.users) & later


def _put_part(graph: Any, node: Any, changed: Any) -> Any:
    """Write a changed part back to where it is a part of; return the new whole."""
    owner, index = changed.args
    with graph.inserting_after(node):
        new = graph.call_function(operator.setitem, (owner, index, node))
    new.stack_trace = node.stack_trace
    return new


def _is_data(changed: Any) -> bool:
    """Whether a node is ``x.data``, read only to be changed."""
    return changed.target is getattr and changed.args[1] == "data" and len(changed.users) == 1


def _put_data(graph: Any, node: Any, changed: Any) -> None:
    """Give ``x`` the values that ``x.data`` was changed to; its gradient passes as it was."""
    owner = changed.args[0]
    later = set(list(graph.nodes)[list(graph.nodes).index(node) + 1 :])
    with graph.inserting_after(node):
        new = graph.call_function(with_data, (owner, node))
    new.stack_trace = node.stack_trace
    for user in list(owner.users):
        if user in later:
            user.replace_input_with(owner, new)


def _check_alone(node: Any, changed: Any, later: set[Any], modules: dict[str, Any]) -> None:
    """Refuse a change that shows anywhere but in the changed name itself."""
    base = _base(changed, modules)
    what = "" if base.op != "get_attr" else f"a change of {base.target!r} in place"
    for other in _sharing(base, modules):
        made_before = other not in later and other is not node
        if made_before and other is not changed and set(other.users) & later:
            what = "a change in place of a tensor that another name shares"
    if what:
        raise UnsupportedError(
            f"port {spelled(node) if node.op != 'call_module' else node.target} at "
            f"{line_of_trace(node.stack_trace, torch_folder())}",
            expected="results under names of their own",
            got=what,
            fix="write it without the change in place",
        )


def _base(node: Any, modules: dict[str, Any]) -> Any:
    while _is_view(node, modules) and node.args and hasattr(node.args[0], "op"):
        node = node.args[0]
    return node


def _sharing(base: Any, modules: dict[str, Any]) -> list[Any]:
    """Return the nodes that may share a node's memory, itself among them."""
    found = [base]
    for node in found:
        found += [
            user
            for user in node.users
            if _is_view(user, modules) and user.args and user.args[0] is node and user not in found
        ]
    return found


def _is_view(node: Any, modules: dict[str, Any]) -> bool:
    if node.op == "call_module":
        return type(modules.get(node.target)).__name__ in _PASSING
    if node.op not in ("call_function", "call_method") or _is_number(node):
        return False
    return name_of(node) in VIEWS or (changes_first(node) and not _is_number(node))


def _is_number(node: Any) -> bool:
    """Whether a node's value is surely a size or another Python number."""
    if not hasattr(node, "op"):
        return isinstance(node, int | float)
    name = name_of(node) if node.op in ("call_function", "call_method") else None
    if name in ("python.len", "python.int", "python.float", "torch.dim", "torch.numel"):
        return True
    if name == "torch.size":
        return True
    if name == "python.getattr":
        return node.args[1] in ("shape", "ndim")
    if name is not None and name.startswith("operator."):
        return all(_is_number(a) for a in node.args if not isinstance(a, slice))
    return False
