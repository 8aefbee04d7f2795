"""An LSTM over time: hoisted input projection, initial state, reverse, lengths, masks.

Shape letters: N batch, L length, D input, H hidden, P projection. Time-major throughout, so that
one step is a contiguous slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import mlx.core as mx

from lstm_bridge.core import lstm, native
from lstm_bridge.core.activations import Activation
from lstm_bridge.core.recurrence import steps
from lstm_bridge.core.unroll import advance, rearranges, unroll
from lstm_bridge.core.weights import LSTMWeights


class Trajectory(NamedTuple):
    """What an LSTM did: outputs at the input's own time positions, and the last states."""

    y: mx.array  # [L, N, P]
    h: mx.array  # [N, P]
    c: mx.array  # [N, H]
    cs: mx.array | None  # [L, N, H], when asked for


class Dropout(NamedTuple):
    """Scaled keep-masks that hold for a whole sequence (None drops nothing)."""

    x: mx.array | None = None  # [N, D], or [4, N, D] for one mask per gate
    h: mx.array | None = None  # [4, N, P], one mask per gate


def run(
    weights: LSTMWeights,
    x: mx.array,
    h: mx.array | None = None,
    c: mx.array | None = None,
    *,
    reverse: bool = False,
    mask: mx.array | None = None,
    zero_masked: bool = False,
    dropout: Dropout = Dropout(),
    activation: Activation = mx.tanh,
    recurrent_activation: Activation = mx.sigmoid,
    cells: bool = False,
) -> Trajectory:
    """Run one layer in one direction over a batch of sequences.

    Args:
        weights: canonical weights.
        x: inputs, ``[L, N, D]``.
        h: initial hidden state, ``[N, P]``. Default: zeros.
        c: initial cell state, ``[N, H]``. Default: zeros.
        reverse: start at the last step. Outputs keep the input's time positions. Default: False.
        mask: boolean, ``[L, N]``; where False the step carries h and c unchanged. Default: None.
        zero_masked: masked outputs are zero instead of repeating the output before. Default: False.
        dropout: keep-masks for the input and the hidden state. Default: none.
        activation: of the candidate and of the cell. Default: tanh.
        recurrent_activation: of the three gates. Default: sigmoid.
        cells: also return every step's cell state. Default: False.

    Returns:
        Trajectory of outputs and final states.
    """
    classic = activation is mx.tanh and recurrent_activation is mx.sigmoid
    if classic and dropout.h is None and not _per_gate(dropout.x):
        dropped = x if dropout.x is None else x * dropout.x
        done = native.lstm(
            weights,
            dropped,
            h,
            c,
            reverse=reverse,
            mask=mask,
            zero_masked=zero_masked,
            cells=cells,
        )
        if done is not None:
            return Trajectory(done[0], done[1], done[2], done[3] if cells else None)
    undisturbed = mask is None and dropout.x is None and dropout.h is None and weights.Wp is None
    if len(x) and classic and undisturbed:
        return _run_plain(weights, x, h, c, reverse, cells)
    return _run_steps(
        weights,
        x,
        h,
        c,
        reverse,
        mask,
        zero_masked,
        dropout,
        activation,
        recurrent_activation,
        cells,
    )


def only_step(
    x: mx.array,
    Wx: mx.array,
    Wh: mx.array,
    biases: Sequence[mx.array | None],
    h: mx.array | None,
    c: mx.array | None,
) -> tuple[mx.array, mx.array] | None:
    """Advance one step of one layer, or return None where anything needs a closer look.

    Where there is one step alone, Python and views take longer than its numbers.

    Args:
        x: input, ``[N, D]``.
        Wx: input weights, ``[4H, D]``.
        Wh: recurrent weights, ``[4H, H]``.
        biases: any number of ``[4H]`` or None.
        h: previous hidden state, ``[N, H]``, or None for zeros.
        c: previous cell state, ``[N, H]``, or None for zeros.

    Returns:
        The next h and c.
    """
    rows, H = Wx.shape[0], Wx.shape[0] // 4
    bias, dtype = None, x.dtype
    fits = Wx.shape == (rows, x.shape[-1]) and Wh.shape == (rows, H)
    fits = fits and Wx.dtype == dtype and Wh.dtype == dtype
    for s in (h, c):
        fits = fits and (s is None or (s.shape == (x.shape[0], H) and s.dtype == dtype))
    for b in biases:
        fits = fits and (b is None or (b.shape == (rows,) and b.dtype == dtype))
        if fits and b is not None:
            bias = b if bias is None else bias + b
    if not fits:
        return None
    # Where the kernel serves it has taken the whole step: it need not be asked for this product.
    return advance(x @ Wx.T if bias is None else mx.addmm(bias, x, Wx.T), h, c, Wh)


def _run_steps(
    weights: LSTMWeights,
    x: mx.array,
    h: mx.array | None,
    c: mx.array | None,
    reverse: bool,
    mask: mx.array | None,
    zero_masked: bool,
    dropout: Dropout,
    activation: Activation,
    recurrent_activation: Activation,
    cells: bool,
) -> Trajectory:
    """Run anything, step by step."""
    L = len(x)
    zx = _project_input(x, weights, dropout.x)
    zxs = steps(zx)
    first = zxs[0] if L else mx.zeros(zx.shape[1:], zx.dtype)
    h = lstm.start(h, first, weights.P)
    c = lstm.start(c, first, weights.H)
    y = mx.zeros_like(h)
    ys: list[mx.array] = [y] * L
    cs: list[mx.array] = [c] * L
    for t in reversed(range(L)) if reverse else range(L):
        h_next, c_next = lstm.step(
            zxs[t], h, c, weights, activation, recurrent_activation, dropout.h
        )
        if mask is None:
            h, c, y = h_next, c_next, h_next
        else:
            keep = mask[t][:, None]
            y = mx.where(keep, h_next, mx.zeros_like(y) if zero_masked else y)
            h, c = mx.where(keep, h_next, h), mx.where(keep, c_next, c)
        ys[t], cs[t] = y, c
    return Trajectory(_stack(ys, h), h, c, _stack(cs, c) if cells else None)


def composed(arrays: list[mx.array], flags: list[bool]) -> list[mx.array]:
    """Run what the fused kernel runs, of MLX's own operations: for transformations it has not.

    Args:
        arrays: those that are there of x, Wx, Wh, two biases, Wp, h, c and mask.
        flags: which these are, then reverse and zero_masked.

    Returns:
        y, h, c and all cell states.
    """
    left = iter(arrays)
    x, weights = next(left), LSTMWeights(next(left), next(left))
    bias, bias_h, Wp, h, c, mask = (next(left) if there else None for there in flags[3:9])
    both = bias if bias_h is None else bias_h if bias is None else bias + bias_h
    weights = replace(weights, bias=both, Wp=Wp)
    reverse, zero_masked = flags[9:]
    with native.composing():
        done = run(
            weights, x, h, c, reverse=reverse, mask=mask, zero_masked=zero_masked, cells=True
        )
    return [a for a in done if a is not None]


def _per_gate(keep: mx.array | None) -> bool:
    """Whether an input mask has one part per gate."""
    return keep is not None and keep.ndim != 2


def _run_plain(
    weights: LSTMWeights,
    x: mx.array,
    h: mx.array | None,
    c: mx.array | None,
    reverse: bool,
    cells: bool,
) -> Trajectory:
    """Run what most models run, with the hand-written gradient."""
    if len(x) == 1:
        h, c = advance(lstm.input_part(x.squeeze(0), weights), h, c, weights.Wh)
        return Trajectory(h[None], h, c, c[None] if cells else None)
    order = lstm.CANONICAL
    if rearranges(x.shape[1], len(x), weights, x.dtype):
        weights, order = lstm.sigmoids_first(weights), lstm.SIGMOIDS_FIRST
    zx = lstm.input_part(x, weights)
    done = unroll(zx[::-1] if reverse else zx, h, c, weights.Wh, order)
    step = -1 if reverse else 1
    return Trajectory(done.hs[::step], done.h, done.c, done.cs[::step] if cells else None)


def mask_from_lengths(lengths: mx.array, L: int) -> mx.array:
    """Return the ``[L, N]`` mask that is True at the first ``lengths[n]`` steps of row n."""
    return mx.arange(L)[:, None] < lengths[None, :]


def _project_input(x: mx.array, weights: LSTMWeights, keep: mx.array | None) -> mx.array:
    """All steps' ``x Wx^T + bias`` at once: ``[L, N, D] -> [L, N, 4H]``."""
    if keep is None or not _per_gate(keep):
        return lstm.input_part(x if keep is None else x * keep, weights)
    zx = mx.concatenate(lstm.per_gate(x[None] * keep[:, None], weights.Wx), axis=-1)
    return zx if weights.bias is None else zx + weights.bias


def _stack(steps: list[mx.array], like: mx.array) -> mx.array:
    """Stack over time; an empty sequence gives an empty array of the right width."""
    return mx.stack(steps) if steps else mx.zeros((0, *like.shape), like.dtype)
