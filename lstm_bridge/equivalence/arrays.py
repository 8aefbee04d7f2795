"""One array of three parties: the verdict, and the figures and lines that a report shows of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_bridge.equivalence.judge import ALLOWED_RATIO, Verdict, judge
from lstm_bridge.equivalence.report import ArrayResult, Track
from lstm_bridge.equivalence.ulp import histogram, over_time, ulps

Array = NDArray[Any]

LONGEST = 400
"""Values of a track at most, around the worst place."""


def judge_array(
    name: str, ours: Any, source: Any, oracle: Any, eps: float, axis: int | None
) -> ArrayResult:
    """Judge one array.

    Args:
        name: for the report.
        ours: any shape.
        source: the source's, same shape.
        oracle: the float64 truth, same shape.
        eps: rounding step of the compared dtype at 1.
        axis: of time; None without one.
    """
    verdict = judge(ours, source, oracle, eps)
    if np.shape(ours) != np.shape(oracle) or np.shape(source) != np.shape(oracle):
        none = ulps([], [])
        return ArrayResult(name, verdict, none, none)
    times = over_time(ours, oracle, axis)
    return ArrayResult(
        name,
        verdict,
        ulps(ours, oracle, eps),
        ulps(source, oracle, eps),
        times,
        over_time(source, oracle, axis),
        _first_step(verdict, times, axis),
        histogram(ours, oracle, eps),
        histogram(source, oracle, eps),
        _track(np.asarray(ours), np.asarray(source), verdict.worst, axis),
    )


def _first_step(verdict: Verdict, times: tuple[float, ...], axis: int | None) -> int | None:
    if verdict.passed or axis is None or not times:
        return None
    allowed = ALLOWED_RATIO * max(verdict.source_error, verdict.floor)
    beyond = [t for t, error in enumerate(times) if error > allowed]
    # A misplaced NaN has no error: the verdict points at the first of them in memory.
    odd = [verdict.worst[axis]] if verdict.worst and not np.isfinite(verdict.max_abs) else []
    return min([*odd, *beyond[:1]], default=None)


def _track(ours: Array, source: Array, worst: tuple[int, ...], axis: int | None) -> Track | None:
    if not worst:
        return None
    along = len(worst) - 1 if axis is None else axis % len(worst)
    start = max(0, min(worst[along] - LONGEST // 2, ours.shape[along] - LONGEST))
    index: tuple[Any, ...] = (*worst[:along], slice(start, start + LONGEST), *worst[along + 1 :])
    line = ", ".join(":" if k == along else str(i) for k, i in enumerate(worst))
    a, s = (np.asarray(v[index], np.float64) for v in (ours, source))
    return Track(f"[{line}]", start, tuple(map(float, s)), tuple(map(float, a)))
