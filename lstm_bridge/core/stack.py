"""Layers × directions of LSTM, with dropout between layers.

Shape letters: N batch, L length, D input, H hidden, P projection.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from lstm_bridge.core.sequence import run
from lstm_bridge.core.weights import LSTMWeights


def run_stack(
    layers: Sequence[Sequence[LSTMWeights]],
    x: mx.array,
    h0: mx.array | None = None,
    c0: mx.array | None = None,
    *,
    mask: mx.array | None = None,
    dropout: float = 0.0,
) -> tuple[mx.array, mx.array, mx.array]:
    """Run stacked layers; each reads the concatenated directions of the one before.

    Args:
        layers: per layer, the weights of its forward and, if any, its backward direction.
        x: inputs, ``[L, N, D]``.
        h0: initial hidden states, ``[layers·directions, N, P]``, layer by layer. Default: zeros.
        c0: initial cell states, ``[layers·directions, N, H]``. Default: zeros.
        mask: boolean, ``[L, N]``; False steps are skipped by both directions and their outputs are
            zero. Default: None.
        dropout: probability of zeroing an output of every layer but the last. Default: 0.

    Returns:
        Outputs ``[L, N, directions·P]``, last hidden ``[layers·directions, N, P]`` and last cell
        states ``[layers·directions, N, H]``.
    """
    count = sum(map(len, layers))
    h0s, c0s = _each(h0, count), _each(c0, count)
    hs: list[mx.array] = []
    cs: list[mx.array] = []
    for depth, directions in enumerate(layers):
        if depth and dropout > 0:
            x = nn.Dropout(dropout)(x) if dropout < 1 else mx.zeros_like(x)
        outputs = []
        for weights, backward in zip(directions, (False, True), strict=False):
            k = len(hs)
            done = run(
                weights,
                x,
                h0s[k],
                c0s[k],
                reverse=backward,
                mask=mask,
                zero_masked=True,
            )
            outputs.append(done.y)
            hs.append(done.h)
            cs.append(done.c)
        x = outputs[0] if len(outputs) == 1 else mx.concatenate(outputs, axis=-1)
    if count == 1:
        return x, hs[0][None], cs[0][None]
    return x, mx.stack(hs), mx.stack(cs)


def _each(states: mx.array | None, count: int) -> Sequence[mx.array | None]:
    """The initial states one by one; an index would be a gather each."""
    if states is None:
        return [None] * count
    return [s.squeeze(0) for s in mx.split(states, count)] if count > 1 else [states.squeeze(0)]
