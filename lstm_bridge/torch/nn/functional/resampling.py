"""``torch.nn.functional.interpolate``: more or fewer places along the axes behind the channels.

Source: torch.nn.functional 2.13.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from lstm_bridge.errors import UnsupportedError, UsageError


def interpolate(
    input: mx.array,  # noqa: A002
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> mx.array:
    """Return ``[N, C, …]`` with other lengths of the last axes.

    Args:
        input: ``[N, C, …]``.
        size: the new lengths, one for all or one each. Default: None.
        scale_factor: factors of the lengths, in place of ``size``. Default: None.
        mode: "nearest", "nearest-exact", "linear" or "bilinear". Default: "nearest".
        align_corners: the ends of both lie upon each other. Default: None, they do not.
        recompute_scale_factor: positions follow from the new lengths. Default: None, from the
            factors where they are given.
        antialias: refused.

    Raises:
        UnsupportedError: another mode, or smoothing.
    """
    if antialias or mode not in ("nearest", "nearest-exact", "linear", "bilinear"):
        raise UnsupportedError(
            "interpolate",
            expected="mode nearest, nearest-exact, linear or bilinear without antialias",
            got=f"mode {mode!r}, antialias {antialias}",
        )
    if (size is None) == (scale_factor is None):
        raise UsageError("interpolate", expected="size or scale_factor", got="both or none")
    count = input.ndim - 2
    factors: list[Any] = [None] * count if scale_factor is None else _each(scale_factor, count)
    lengths = input.shape[2:]
    new = (
        [math.floor(n * f) for n, f in zip(lengths, factors, strict=True)]
        if size is None
        else _each(size, count)
    )
    y = input
    for k in range(count):
        step = lengths[k] / new[k]
        if factors[k] is not None and not recompute_scale_factor:
            step = 1 / factors[k]
        axis = k + 2
        if mode.startswith("nearest"):
            y = _nearest(y, axis, int(new[k]), step, 0.5 if mode == "nearest-exact" else 0.0)
        else:
            y = _linear(y, axis, int(new[k]), step, bool(align_corners))
    return y


def _each(value: Any, count: int) -> list[Any]:
    return list(value) if isinstance(value, Sequence) else [value] * count


def _nearest(x: mx.array, axis: int, new: int, step: float, shift: float) -> mx.array:
    last = x.shape[axis] - 1
    places = [min(last, math.floor((k + shift) * step)) for k in range(new)]
    return mx.take(x, mx.array(places), axis=axis)


def _linear(x: mx.array, axis: int, new: int, step: float, align: bool) -> mx.array:
    last = x.shape[axis] - 1
    if align:
        places = [k * last / max(1, new - 1) for k in range(new)]
    else:
        places = [max(0.0, (k + 0.5) * step - 0.5) for k in range(new)]
    low = [min(last, math.floor(p)) for p in places]
    high = [min(last, k + 1) for k in low]
    shape = [-1 if k == axis else 1 for k in range(x.ndim)]
    part = mx.array([p - k for p, k in zip(places, low, strict=True)]).astype(x.dtype)
    part = part.reshape(shape)
    below, above = (mx.take(x, mx.array(k), axis=axis) for k in (low, high))
    return below * (1 - part) + above * part
