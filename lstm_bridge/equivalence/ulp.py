"""Errors counted in units in the last place, and where in time they stand."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


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
    errors = _in_ulps(values, oracle, eps)
    if not errors.size:
        return Ulp(0.0, 0.0, 0.0)
    p50, p999, top = np.quantile(errors, [0.5, 0.999, 1.0])
    return Ulp(float(p50), float(p999), float(top))


def _in_ulps(values: Any, oracle: Any, eps: float) -> NDArray[np.float64]:
    a, o = (np.asarray(v, np.float64).ravel() for v in (values, oracle))
    finite = np.isfinite(a) & np.isfinite(o)
    a, o = a[finite], o[finite]
    # frexp's mantissa is in [1/2, 1), so that 2^(exponent - 1) is the binade's lower end.
    step = eps * np.ldexp(1.0, np.where(o == 0, -126, np.maximum(np.frexp(o)[1] - 1, -126)))
    return np.asarray(np.abs(a - o) / step)


EDGES = (0.5, *(2.0**k for k in range(21)))
"""Upper edges of the histogram's bins, in ULP; one more bin holds what lies above the last."""


def histogram(values: Any, oracle: Any, eps: float = 2.0**-23) -> tuple[int, ...]:
    """Count places by error in ULP, one count per edge of ``EDGES`` and one for above.

    Args:
        values: any shape.
        oracle: the float64 truth, same shape.
        eps: rounding step of the compared dtype at 1. Default: float32's, 2⁻²³.
    """
    bins = np.searchsorted(EDGES, _in_ulps(values, oracle, eps))
    return tuple(int(n) for n in np.bincount(bins, minlength=len(EDGES) + 1))


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
