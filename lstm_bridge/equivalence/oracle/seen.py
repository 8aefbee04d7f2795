"""What the layers within a whole model were given and returned in an oracle's run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lstm_bridge.equivalence.oracle.around import Array


class Seen(NamedTuple):
    """One layer over one run.

    Args:
        path: dotted place in the model.
        kind: its class's name.
        arrays: what it returned; with several calls stacked along a new first axis.
        inputs: what it was called with; None where that was not once, or not all by position.
        calls: how often it was called.
    """

    path: str
    kind: str
    arrays: tuple[Array, ...]
    inputs: tuple[Any, ...] | None
    calls: int = 1


class Recorder:
    """Collects what layers do, in the order in which their first calls end."""

    def __init__(self) -> None:
        self._calls: dict[str, list[Seen]] = {}

    def add(
        self, path: str, kind: str, arrays: Sequence[Array], inputs: tuple[Any, ...] | None
    ) -> None:
        """Take in one call."""
        self._calls.setdefault(path, []).append(Seen(path, kind, tuple(arrays), inputs))

    def all(self) -> list[Seen]:
        """Return one Seen per layer."""
        return [calls[0] if len(calls) == 1 else _together(calls) for calls in self._calls.values()]


def _together(calls: Sequence[Seen]) -> Seen:
    shapes = {tuple(a.shape for a in call.arrays) for call in calls}
    arrays: tuple[Array, ...] = ()
    if len(shapes) == 1:
        arrays = tuple(np.stack(same) for same in zip(*(c.arrays for c in calls), strict=True))
    return Seen(calls[0].path, calls[0].kind, arrays, None, len(calls))
