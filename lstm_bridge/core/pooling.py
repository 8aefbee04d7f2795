"""The largest of each window of channels-last arrays: who computes it.

On a Linux CPU the fused kernel, as in ``affine``. Shape letters: N batch, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import mlx.core as mx

from lstm_bridge.core.native.ops import DENSE_SERVES, Inputs, Operation


class Pools(NamedTuple):
    """How windows lie over the spatial axes; one number for each axis.

    Args:
        windows: elements of a window.
        strides: step of the window.
        dilations: distance between a window's elements.
        before: places in front of the axis, which count for nothing.
        counts: how many windows there are.
    """

    windows: Sequence[int]
    strides: Sequence[int]
    dilations: Sequence[int]
    before: Sequence[int]
    counts: Sequence[int]


def max_pool(x: mx.array, pools: Pools) -> mx.array:
    """Return the largest of each window; of equal ones the first has the gradient.

    Args:
        x: ``[N, *spatial, C]``.
        pools: how the windows lie.

    Returns:
        ``[N, *counts, C]``.
    """
    y = _fused(x, pools) if DENSE_SERVES else None
    return _plain(x, pools) if y is None else y


def _fused(x: mx.array, pools: Pools) -> mx.array | None:
    rank = x.ndim - 2
    if rank not in (1, 2):
        return None
    missing = (1, 1, 1, 0, 1)
    settings = [
        float(size)
        for sizes, other in zip(pools, missing, strict=True)
        for size in (*sizes, other)[:2]
    ]
    done = _POOLING.fused((mx.expand_dims(x, 2) if rank == 1 else x,), settings)
    if done is None:
        return None
    return mx.squeeze(done[0], 2) if rank == 1 else done[0]


def _plain(x: mx.array, pools: Pools) -> mx.array:
    axes = list(zip(*pools, x.shape[1:-1], strict=True))
    reach = [(count - 1) * s + (k - 1) * d + 1 for k, s, d, _, count, _ in axes]
    pads = [
        (before, max(0, reach[axis] - L - before))
        for axis, (_, _, _, before, _, L) in enumerate(axes)
    ]
    if any(low or high for low, high in pads):
        low = mx.array(float("-inf")).astype(x.dtype)
        x = mx.pad(x, [(0, 0), *pads, (0, 0)], constant_values=low)
    best: mx.array | None = None
    for offset in product(*(range(k) for k in pools.windows)):
        starts = [place * d for place, d in zip(offset, pools.dilations, strict=True)]
        part = x[
            (
                slice(None),
                *(
                    slice(start, start + (count - 1) * s + 1, s)
                    for start, s, count in zip(starts, pools.strides, pools.counts, strict=True)
                ),
            )
        ]
        best = part if best is None else mx.maximum(part, best)
    assert best is not None
    return best


def _composed(inputs: Inputs, settings: Sequence[float]) -> list[mx.array]:
    x = inputs[0]
    assert x is not None
    sizes = [int(k) for k in settings]
    return [_plain(x, Pools(*(sizes[k : k + 2] for k in range(0, 10, 2))))]


_POOLING = Operation("LSTMBridgePooling", _composed)
