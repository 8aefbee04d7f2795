"""Any cell with a single state over time, and layers × directions of it.

Shape letters: N batch, L length, H hidden. Time-major, so that one step is a contiguous slice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import mlx.core as mx
import mlx.nn as nn

Step = Callable[[mx.array, mx.array], mx.array]
"""``(the input's part at t, h_{t-1}) -> h_t``."""

AXES = 3
"""Of a batch of sequences; a single step has fewer."""

SPAN = 64  # parts of one split: MLX keeps with each of them a list of the others


class Direction(Protocol):
    """One direction of one layer: inputs and the first state to outputs and the last state."""

    def __call__(
        self,
        x: mx.array,
        h: mx.array | None,
        *,
        reverse: bool,
        mask: mx.array | None,
        zero_masked: bool,
    ) -> tuple[mx.array, mx.array]:
        """Run it; the options are those of ``run``."""


def run(
    step: Step,
    zx: mx.array,
    h: mx.array,
    *,
    reverse: bool = False,
    mask: mx.array | None = None,
    zero_masked: bool = False,
) -> tuple[mx.array, mx.array]:
    """Run one cell over a batch of sequences.

    Args:
        step: the cell.
        zx: the input's part of the gates at every step, ``[L, N, ·]``.
        h: state before the first step, ``[N, H]``.
        reverse: start at the last step. Outputs keep the input's time positions. Default: False.
        mask: boolean, ``[L, N]``; where False the step carries h unchanged. Default: None.
        zero_masked: masked outputs are zero instead of repeating the output before. Default: False.

    Returns:
        Outputs ``[L, N, H]`` and the last state ``[N, H]``.
    """
    L, zxs = len(zx), steps(zx)
    y = mx.zeros_like(h)
    ys: list[mx.array] = [y] * L
    for t in reversed(range(L)) if reverse else range(L):
        h_next = step(zxs[t], h)
        if mask is None:
            h = y = h_next
        else:
            keep = mask[t][:, None]
            y = mx.where(keep, h_next, mx.zeros_like(y) if zero_masked else y)
            h = mx.where(keep, h_next, h)
        ys[t] = y
    return (mx.stack(ys) if ys else mx.zeros((0, *h.shape), h.dtype)), h


def run_layers(
    layers: Sequence[Sequence[Direction]],
    x: mx.array,
    h0: mx.array | None = None,
    *,
    mask: mx.array | None = None,
    dropout: float = 0.0,
) -> tuple[mx.array, mx.array]:
    """Run stacked layers; each reads the concatenated directions of the one before.

    Args:
        layers: per layer, its forward and, if any, its backward direction.
        x: inputs, ``[L, N, D]``, L ≥ 1.
        h0: initial states, ``[layers·directions, N, H]``, layer by layer. Default: zeros.
        mask: boolean, ``[L, N]``; False steps are skipped by both directions and their outputs are
            zero. Default: None.
        dropout: probability of zeroing an output of every layer but the last. Default: 0.

    Returns:
        Outputs ``[L, N, directions·H]`` and last states ``[layers·directions, N, H]``.
    """
    hs: list[mx.array] = []
    starts: Sequence[mx.array | None] = (
        steps(h0) if h0 is not None else [None] * sum(map(len, layers))
    )
    for depth, directions in enumerate(layers):
        if depth and dropout > 0:
            x = nn.Dropout(dropout)(x) if dropout < 1 else mx.zeros_like(x)
        outputs = []
        for direction, backward in zip(directions, (False, True), strict=False):
            y, h = direction(x, starts[len(hs)], reverse=backward, mask=mask, zero_masked=True)
            outputs.append(y)
            hs.append(h)
        x = outputs[0] if len(outputs) == 1 else mx.concatenate(outputs, axis=-1)
    return x, mx.stack(hs)


def steps(a: mx.array) -> list[mx.array]:
    """Return every step of ``[L, ...]``.

    The gradient of an index is as large as all of a: of one for each step it would be quadratic in
    L, and MLX 0.32 ends the process where the batch is empty. That of a split is one concatenation.
    """
    if not len(a):
        return []
    spans = mx.split(a, list(range(SPAN, len(a), SPAN)))
    return [mx.squeeze(one, 0) for span in spans for one in mx.split(span, len(span))]


def start(h: mx.array | None, zx: mx.array, H: int) -> mx.array:
    """Return the state before the first step, ``[N, H]``, that hangs on the step's input part.

    MLX 0.32's addmm fails under vmap unless all its operands are mapped.
    """
    zeros = mx.where(mx.array(False), mx.stop_gradient(zx[..., :H]), 0)
    return zeros if h is None else h + zeros
