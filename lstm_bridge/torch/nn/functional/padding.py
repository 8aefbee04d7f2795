"""``torch.nn.functional.pad`` in all its modes.

Source: torch.nn.functional 2.13.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mlx.core as mx

from lstm_bridge.errors import ShapeError, UsageError


def pad(
    input: mx.array,  # noqa: A002
    pad: Sequence[int],
    mode: str = "constant",
    value: float | None = None,
) -> mx.array:
    """Widen the last axes.

    Args:
        input: any shape.
        pad: before and after of the last axis, then of the one before, and so on; negative sizes
            cut (with "constant").
        mode: "constant", "reflect", "replicate" or "circular". Default: "constant".
        value: of the constant. Default: 0.

    Raises:
        UsageError: an unknown mode, or an odd number of sizes.
        ShapeError: an axis too short for its padding.
    """
    sizes = [int(size) for size in pad]
    if len(sizes) % 2 or len(sizes) > 2 * input.ndim:
        raise UsageError("pad sizes", expected="a pair for each axis at most", got=str(sizes))
    if mode not in ("constant", *_EDGES):
        raise UsageError(
            "pad mode", expected=f"'constant' or one of {', '.join(_EDGES)}", got=repr(mode)
        )
    x = input
    for k in range(len(sizes) // 2):
        low, high = sizes[2 * k : 2 * k + 2]
        axis = x.ndim - 1 - k
        if mode == "constant":
            x = _constant(x, axis, low, high, 0.0 if value is None else value)
        else:
            x = mx.take(x, _EDGES[mode](x.shape[axis], low, high), axis=axis)
    return x


def _constant(x: mx.array, axis: int, low: int, high: int, value: float) -> mx.array:
    kept = [slice(None)] * x.ndim
    kept[axis] = slice(max(0, -low), x.shape[axis] - max(0, -high))
    widths = [(0, 0)] * x.ndim
    widths[axis] = (max(0, low), max(0, high))
    return mx.pad(x[tuple(kept)], widths, constant_values=mx.array(value).astype(x.dtype))


def _reflected(L: int, low: int, high: int) -> mx.array:
    if max(low, high) >= L:
        raise ShapeError("pad reflect", expected=f"sizes less than {L}", got=f"{low}, {high}")
    return mx.array([abs(k) if k < L else 2 * (L - 1) - k for k in range(-low, L + high)])


def _replicated(L: int, low: int, high: int) -> mx.array:
    return mx.array([min(max(k, 0), L - 1) for k in range(-low, L + high)])


def _circular(L: int, low: int, high: int) -> mx.array:
    if max(low, high) > L:
        raise ShapeError("pad circular", expected=f"sizes up to {L}", got=f"{low}, {high}")
    return mx.array([k % L for k in range(-low, L + high)])


_EDGES: dict[str, Callable[[int, int, int], mx.array]] = {
    "reflect": _reflected,
    "replicate": _replicated,
    "circular": _circular,
}
