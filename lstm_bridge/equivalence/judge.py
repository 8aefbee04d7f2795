"""The verdict on one array: ours against the source's own error, both measured from float64.

No fixed tolerance is honest, because a saturated or chaotic model diverges between float32 and
float64 in its own framework too. So three parties: ``err(ours) ≤ 4 · max(err(source), floor)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALLOWED_RATIO = 4.0
"""How many times the source framework's own error ours may be."""

ILL_CONDITIONED = 1e-3
"""Source error beyond which trajectories are not comparable and one-step tests decide."""


_SMALLEST_NORMAL = 2.0**-126
"""Float32's and bfloat16's: from here down, rounding steps get no smaller."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the comparison of one array found.

    Args:
        passed: within the policy, no NaN or infinity out of place.
        ratio: our error over the larger of the source's error and the floor.
        max_abs: our largest absolute error.
        source_error: the source's largest absolute error.
        floor: one rounding step at the oracle's largest value, in the compared dtype, or the
            conditioning if that is larger.
        worst: index of our largest error.
        reason: one line of what failed; empty when passed.
    """

    passed: bool
    ratio: float
    max_abs: float
    source_error: float
    floor: float
    worst: tuple[int, ...]
    reason: str


def judge(
    ours: Any, source: Any, oracle: Any, eps: float = 2.0**-23, conditioning: float = 0.0
) -> Verdict:
    """Judge one array by the three-party rule.

    Args:
        ours: the result under test, any shape.
        source: the source framework's result in the same dtype, same shape.
        oracle: the float64 truth, same shape.
        eps: rounding step of the compared dtype at 1. Default: float32's, 2⁻²³.
        conditioning: how far the truth itself moves when its inputs are rounded, in the arrays' own
            unit: on one small array the source may be right by luck. Default: 0.

    Returns:
        Verdict; a shape mismatch or a NaN or infinity where the source has none fails.
    """
    a, s, o = (np.asarray(v, dtype=np.float64) for v in (ours, source, oracle))
    if not a.shape == s.shape == o.shape:
        return _failed(f"shapes differ: ours {a.shape}, source {s.shape}, oracle {o.shape}")
    if a.size == 0:
        return Verdict(True, 0.0, 0.0, 0.0, 0.0, (), "")
    odd = ~(np.isfinite(a) & np.isfinite(s))
    same = (a == s) | (np.isnan(a) & np.isnan(s))
    if not same[odd].all():
        at = _index(np.argmax(odd & ~same), a.shape)
        return _failed(f"at {at}: ours {a[at]}, source {s[at]}", at)
    clear = ~odd & np.isfinite(o)
    errors = np.where(clear, np.abs(np.where(clear, a, 0) - np.where(clear, o, 0)), 0.0)
    source_error = _largest(s[clear] - o[clear])
    floor = max(eps * max(_largest(o[clear]), _SMALLEST_NORMAL), conditioning)
    max_abs = float(errors.max())
    allowed = max(source_error, floor)
    ratio = max_abs / allowed
    worst = _index(np.argmax(errors), a.shape)
    passed = ratio <= ALLOWED_RATIO
    reason = "" if passed else f"error {max_abs:.3g} at {worst} is {ratio:.1f}x the source's own"
    return Verdict(passed, ratio, max_abs, source_error, floor, worst, reason)


def _failed(reason: str, worst: tuple[int, ...] = ()) -> Verdict:
    inf = float("inf")
    return Verdict(False, inf, inf, 0.0, 0.0, worst, reason)


def _largest(values: NDArray[np.float64]) -> float:
    return float(np.abs(values).max()) if values.size else 0.0


def _index(flat: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(flat), shape))
