"""Errors counted in units in the last place, and where in time they stand."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Ulp(NamedTuple):
    """Error in units in the last place of the oracle's own value: median, 99.9 %, largest."""

    p50: float
    p999: float
    max: float


def ulps(values: Any, oracle: Any, eps: float = 2.0**-23) -> Ulp:
    """Count the errors of ``values`` in rounding steps of the compared dtype.

    Args:
        values: any shape.
        oracle: the float64 truth, same shape.
        eps: rounding step of the compared dtype at 1. Default: float32's, 2⁻²³.

    Returns:
        Ulp over all places where both are finite; zeros where there are none.
    """
    a, o = (np.asarray(v, np.float64).ravel() for v in (values, oracle))
    finite = np.isfinite(a) & np.isfinite(o)
    a, o = a[finite], o[finite]
    if not a.size:
        return Ulp(0.0, 0.0, 0.0)
    # frexp's mantissa is in [1/2, 1), so that 2^(exponent - 1) is the binade's lower end.
    step = eps * np.ldexp(1.0, np.where(o == 0, -126, np.maximum(np.frexp(o)[1] - 1, -126)))
    p50, p999, top = np.quantile(np.abs(a - o) / step, [0.5, 0.999, 1.0])
    return Ulp(float(p50), float(p999), float(top))


def over_time(values: Any, oracle: Any, axis: int | None) -> tuple[float, ...]:
    """Return the largest error at every time step; nothing without a time axis."""
    if axis is None:
        return ()
    a, o = (np.moveaxis(np.asarray(v, np.float64), axis, 0) for v in (values, oracle))
    if a.shape != o.shape:
        return ()
    clear = np.isfinite(a) & np.isfinite(o)
    error = np.abs(np.where(clear, a, 0) - np.where(clear, o, 0)).reshape(len(a), -1)
    return tuple(float(e) for e in error.max(axis=1, initial=0.0))
