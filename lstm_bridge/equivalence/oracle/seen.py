"""What a layer within a whole model was given and returned in an oracle's run."""

from __future__ import annotations

from typing import Any, NamedTuple

from lstm_bridge.equivalence.oracle.around import Array


class Seen(NamedTuple):
    """One layer's first call.

    Args:
        path: dotted place in the model.
        kind: its class's name.
        arrays: what it returned.
        inputs: what it was called with; None where that is not all by position.
    """

    path: str
    kind: str
    arrays: tuple[Array, ...]
    inputs: tuple[Any, ...] | None
