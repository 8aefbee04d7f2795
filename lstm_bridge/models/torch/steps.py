"""The steps of a loop over a length, while it is traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lstm_bridge.models.torch import asked


class Steps:
    """The steps of a loop over a length, of which a few are recorded."""

    def __init__(
        self,
        tracer: Any,
        item: Callable[[int], Any],
        count: tuple[Any, ...],
        limits: tuple[Any, ...] = (),
    ) -> None:
        self.tracer, self.item, self.count, self.limits = tracer, item, count, limits
        self.step = 0
        self.begin: Any = None
        self.name = 0
        tracer.clock += 1
        self.made = tracer.clock

    def __iter__(self) -> Steps:
        return self

    def __reversed__(self) -> Steps:
        """Walk a range backwards.

        Raises:
            TypeError: it is no range with steps of 1, or -1.
        """
        start, stop, step = self.limits or (0, 0, 0)
        if step not in (1, -1):
            raise TypeError("reversed() of a loop over a length")
        found: Steps = self.tracer.loop_over_range(stop - step, start - step, -step)
        return found

    def __len__(self) -> int:
        raise TypeError("len() of a range that is not known yet")

    def __next__(self) -> Any:
        tracer, step = self.tracer, self.step
        follows = tracer.open is not None and tracer.open is not self
        if follows and self.made > tracer.open.began:
            raise tracer._refusal("loops over lengths one after the other", "one inside another")
        self.step += 1
        if step == tracer.length:
            if tracer.open is self:
                tracer.open = None
                self._mark(asked.ended, (self.name,))
            raise StopIteration
        if not follows:
            self._open(step)
        return self.item(step)

    def _open(self, step: int) -> None:
        tracer = self.tracer
        if step == 0:
            tracer.loops += 1
            tracer.clock += 1
            tracer.open, self.name, self.began = self, tracer.loops, tracer.clock
        count = self.count if step == 0 else ()
        mark = self._mark(asked.stepped, (self.name, step, *count))
        self.begin = self.begin or mark

    def _mark(self, function: Any, args: tuple[Any, ...]) -> Any:
        return self.tracer.graph.create_node("call_function", function, args, {})


def slice_length(part: slice) -> int | None:
    """Return how many elements a slice takes of any tuple that is long enough, if that is known."""
    limits = (part.start or 0, part.stop, part.step or 1)
    if not all(isinstance(v, int | None) for v in limits):
        return None
    start, stop, step = limits
    if stop is None:
        return len(range(start, 0, step)) if start < 0 < step else None
    return len(range(start, stop, step)) if (start < 0) == (stop < 0) else None
