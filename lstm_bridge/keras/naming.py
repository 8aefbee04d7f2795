"""Keras's automatic layer names (``lstm``, ``lstm_1``) and the scopes that make weight paths."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_uids: defaultdict[str, int] = defaultdict(int)
_scope: ContextVar[tuple[tuple[str, int], ...]] = ContextVar("keras_name_scope", default=())


def to_snake_case(name: str) -> str:
    """Return Keras's snake case of a class name: ``LSTMCell`` becomes ``lstm_cell``."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def auto_name(class_name: str) -> str:
    """Return the class's snake case, numbered from its second use on."""
    base = to_snake_case(class_name)
    count = _uids[base]
    _uids[base] += 1
    return f"{base}_{count}" if count else base


def reset_uids() -> None:
    """Forget all names handed out, as ``keras.utils.clear_session`` does."""
    _uids.clear()


@contextmanager
def name_scope(name: str, caller: object) -> Iterator[str]:
    """Enter a layer's scope; yields the path of names from the outermost layer.

    Args:
        name: the layer's name.
        caller: the layer; a layer that is already innermost does not repeat its name.
    """
    stack = _scope.get()
    if not stack or stack[-1][1] != id(caller):
        stack = (*stack, (name, id(caller)))
    token = _scope.set(stack)
    try:
        yield "/".join(part for part, _ in stack)
    finally:
        _scope.reset(token)
