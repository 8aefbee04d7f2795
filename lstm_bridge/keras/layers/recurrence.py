"""Cells over time: whole sequences at once where a cell can, step by step where it cannot.

Shape letters: N batch, L length, D input, H output. Time-major throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map

from lstm_bridge.core.recurrence import steps

Step = Callable[[mx.array, Any], tuple[mx.array, Any]]


def step_by_step(
    step: Step,
    x: mx.array,
    states: Any,
    *,
    reverse: bool,
    mask: mx.array | None,
    zero_masked: bool,
) -> tuple[mx.array, Any]:
    """Run any cell over a sequence.

    Args:
        step: ``(x_t, states) -> (output_t, states)``.
        x: inputs, ``[L, N, ...]``, L at least 1.
        states: a nest of arrays.
        reverse: start at the last step.
        mask: boolean, ``[L, N]``; where False states are carried and the output repeats the one
            before (zeros at first).
        zero_masked: masked outputs are zero instead.

    Returns:
        Outputs ``[L, N, H]`` at the input's time positions, and the last states.
    """
    L, xs = x.shape[0], steps(x)
    outputs: list[Any] = [None] * L
    before: mx.array | None = None
    for t in reversed(range(L)) if reverse else range(L):
        output, new_states = step(xs[t], states)
        if mask is None:
            states = new_states
        else:
            keep = mask[t]
            instead = mx.zeros_like(output) if zero_masked or before is None else before
            output = where_rows(keep, output, instead)
            states = tree_map(lambda new, old, k=keep: where_rows(k, new, old), new_states, states)
        before = outputs[t] = output
    return mx.stack(outputs), states


def where_rows(keep: mx.array, yes: mx.array, no: mx.array) -> mx.array:
    """Choose rows: ``keep [N]`` decides for ``[N, ...]``."""
    return mx.where(keep.reshape(-1, *[1] * (yes.ndim - 1)), yes, no)
