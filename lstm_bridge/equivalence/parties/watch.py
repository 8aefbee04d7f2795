"""What every sub-module of a running model returns, call by call.

A watched object is of its own class still, but for ``__call__``; after the run it is what it was.
That works alike for torch modules, Keras layers and MLX modules, which all are called as objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np

from lstm_bridge.equivalence.parties.base import Array
from lstm_bridge.equivalence.tree import apply, leaves


class Visit(NamedTuple):
    """What a sub-module returned over one run.

    Args:
        path: dotted place in the model.
        kind: its class's name.
        arrays: its outputs' arrays; those of a sub-module called once per time step are stacked
            along a new first axis.
        calls: how often it was called.
        inputs: what it was called with, NumPy arrays in their nesting; None unless it was called
            once, with arrays by position.
    """

    path: str
    kind: str
    arrays: tuple[Array, ...]
    calls: int
    inputs: tuple[Any, ...] | None = None


@contextmanager
def watched(
    parts: Mapping[str, Any], to_numpy: Callable[[Any], Array]
) -> Iterator[Callable[[], list[Visit]]]:
    """Watch sub-modules while the block runs.

    Args:
        parts: path → sub-module; of one that stands at several paths the first counts.
        to_numpy: turns one output array into NumPy.

    Yields:
        A function that returns the visits so far, in the order in which calls first ended.
    """
    seen: dict[str, list[tuple[list[Any], Any]]] = {}
    unique = {id(part): (path, part) for path, part in reversed(list(parts.items()))}

    def visits() -> list[Visit]:
        made = []
        for path, calls in seen.items():
            arrays = [[to_numpy(a) for a in held] for held, _ in calls]
            given = calls[0][1] if len(calls) == 1 else None
            inputs = None if given is None else apply(to_numpy, given)
            kind = type(parts[path]).__name__
            made.append(Visit(path, kind, _together(arrays), len(calls), inputs))
        return made

    with ExitStack() as stack:
        for path, part in unique.values():
            stack.enter_context(_recorded(part, path, seen))
        yield visits


@contextmanager
def _recorded(part: Any, path: str, seen: dict[str, list[tuple[list[Any], Any]]]) -> Iterator[None]:
    cls = type(part)

    def call(self: Any, *args: Any, **named: Any) -> Any:
        outputs = cls.__call__(self, *args, **named)
        # A name, a config or a mask beside the arrays is nothing to compare.
        held = [a for a in leaves(outputs) if hasattr(a, "shape")]
        plain = not named and all(hasattr(a, "shape") for a in leaves(args))
        seen.setdefault(path, []).append((held, args if plain else None))
        return outputs

    disguise = type(cls.__name__, (cls,), {"__call__": call, "__module__": cls.__module__})
    object.__setattr__(part, "__class__", disguise)
    try:
        yield
    finally:
        object.__setattr__(part, "__class__", cls)


def _together(calls: list[list[Array]]) -> tuple[Array, ...]:
    """One array per output; nothing where the calls' outputs do not stack."""
    if len(calls) == 1:
        return tuple(calls[0])
    shapes = {tuple(a.shape for a in held) for held in calls}
    if len(shapes) > 1:
        return ()
    return tuple(np.stack(same) for same in zip(*calls, strict=True))
