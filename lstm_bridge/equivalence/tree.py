"""Nested lists, tuples and dictionaries of arrays, as models take and return them.

None holds no array.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any


def leaves(tree: Any) -> list[Any]:
    """Return the arrays of a nest, depth first."""
    if tree is None:
        return []
    if isinstance(tree, Mapping):
        return leaves(list(tree.values()))
    if isinstance(tree, list | tuple):
        return [leaf for branch in tree for leaf in leaves(branch)]
    return [tree]


def rebuild(tree: Any, new: Sequence[Any]) -> Any:
    """Return ``tree`` with its arrays replaced by ``new``, in the order of ``leaves``."""
    fresh: Iterator[Any] = iter(new)
    return apply(lambda _: next(fresh), tree)


def apply(f: Callable[[Any], Any], tree: Any) -> Any:
    """Return ``tree`` with ``f`` applied to every array; containers stay what they are."""
    if tree is None:
        return None
    if isinstance(tree, Mapping):
        return {key: apply(f, branch) for key, branch in tree.items()}
    if isinstance(tree, list | tuple):
        branches = [apply(f, branch) for branch in tree]
        return branches if isinstance(tree, list) else tuple(branches)
    return f(tree)
