"""Fair timing on a noisy machine: all sides take turns, and medians and ratios are what counts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import median
from typing import NamedTuple

from lstm_bridge.bench.peers import Work

_SLOW = 5.0
_PAUSE = 0.002  # lets the spinning workers of the side before go to sleep


class Timing(NamedTuple):
    """Seconds per call."""

    median: float
    minimum: float
    calls: int


def interleaved(sides: Mapping[str, Work], budget: float) -> dict[str, Timing]:
    """Time all sides in turns until their share of the budget is spent.

    Args:
        sides: name → work.
        budget: seconds for each side; at least three calls are timed, at most two hundred, and
            one alone where a call takes longer than five seconds.

    Returns:
        Name → timing, in the order given.
    """
    # The first call compiles, allocates and starts threads: it counts for slow sides only.
    first = {name: _timed(work) for name, work in sides.items()}
    samples: dict[str, list[float]] = {name: [] for name in sides}
    while any(_wants(samples[name], first[name], budget) for name in sides):
        for name, work in sides.items():
            if not _wants(samples[name], first[name], budget):
                continue
            time.sleep(_PAUSE)
            if first[name] < _SLOW:
                work()  # warms the caches that the side before has filled
            samples[name].append(_timed(work))
    return {name: Timing(median(t), min(t), len(t)) for name, t in samples.items()}


def _timed(work: Work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _wants(taken: list[float], first: float, budget: float) -> bool:
    if first > _SLOW:
        return not taken
    return len(taken) < 3 or (len(taken) < 200 and 2 * sum(taken) < budget)
