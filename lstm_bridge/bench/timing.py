"""Fair timing on a noisy machine: all sides take turns, and medians and ratios are what counts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import median
from typing import NamedTuple

from lstm_bridge.bench.peers import Work

_SLOW, _LEAST = 5.0, 3
_PAUSE = 0.002
_LONGEST_PAUSE = 0.05
_TURN = 0.01  # seconds of timed calls in one turn, of ten calls at most


class Timing(NamedTuple):
    """Seconds per call."""

    median: float
    minimum: float
    calls: int


def interleaved(
    sides: Mapping[str, Work], budget: float, slow: float = _SLOW, least: int = _LEAST
) -> dict[str, Timing]:
    """Time all sides in turns until their share of the budget is spent.

    A turn waits until the worker threads of the side before have gone to sleep, makes untimed calls
    until its own are awake and its caches warm, and then times some.

    Args:
        sides: name → work.
        budget: seconds for each side; at most two hundred calls are timed, and one alone where a
            call is slow.
        slow: seconds beyond which a call is. Default: 5.
        least: calls that are timed whatever they take. Default: 3.

    Returns:
        Name → timing, in the order given.
    """
    # The first call compiles, allocates and starts threads: it counts for slow sides only.
    first = {name: _timed(work) for name, work in sides.items()}
    samples: dict[str, list[float]] = {name: [] for name in sides}
    once = {name for name in sides if first[name] > slow}

    def wants(name: str) -> bool:
        return not samples[name] if name in once else _wants_more(samples[name], budget, least)

    while any(map(wants, sides)):
        for name, work in sides.items():
            if wants(name):
                samples[name] += _turn(work, name in once)
    return {name: Timing(median(t), min(t), len(t)) for name, t in samples.items()}


def _turn(work: Work, once: bool) -> list[float]:
    _wait_for_idle_workers()
    if once:
        return [_timed(work)]
    warming = _timed(work)
    while warming < _PAUSE:
        warming += _timed(work)
    taken = [_timed(work)]
    while sum(taken) < _TURN and len(taken) < 10:
        taken.append(_timed(work))
    return taken


def _wait_for_idle_workers() -> None:
    """Sleep until this process uses no processor: OpenMP's workers spin for long after a call."""
    until = time.perf_counter() + _LONGEST_PAUSE
    while time.perf_counter() < until:
        used, started = time.process_time(), time.perf_counter()
        time.sleep(_PAUSE)
        if time.process_time() - used < 0.2 * (time.perf_counter() - started):
            return


def _timed(work: Work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _wants_more(taken: list[float], budget: float, least: int) -> bool:
    return len(taken) < least or (len(taken) < 200 and 2 * sum(taken) < budget)
