"""``torch.nn.utils.rnn``: batches of sequences of unequal length, padded and packed.

N batch, T steps of the longest sequence, ``*`` any number of further axes.

Source: torch.nn.utils.rnn 2.13.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import mlx.core as mx

from lstm_bridge.core.arrays import as_array
from lstm_bridge.core.sequence import mask_from_lengths
from lstm_bridge.errors import CallError, ShapeError, UsageError
from lstm_bridge.torch.nn.utils.packed import (
    PackedSequence,
    integers,
    invert_permutation,
    pack_steps,
    pad_steps,
)

__all__ = [
    "PackedSequence",
    "invert_permutation",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]


def pack_padded_sequence(
    input: Any,  # noqa: A002  torch's own name
    lengths: Any,
    batch_first: bool = False,
    enforce_sorted: bool = True,
) -> PackedSequence:
    """Drop the padding of a padded batch.

    Args:
        input: ``[T, N, *]``, or ``[N, T, *]`` with batch_first.
        lengths: steps of each sequence, N positive integers.
        batch_first: which of the two layouts. Default: False.
        enforce_sorted: the lengths must already decrease; otherwise the batch is sorted, and the
            result knows the way back. Default: True.

    Raises:
        ShapeError: the lengths do not describe the input.
        CallError: the lengths are not sorted although they must be.
    """
    batch = as_array(input, "pack_padded_sequence input")
    if batch.ndim < 2 or not batch.size:
        raise ShapeError(
            "pack_padded_sequence input",
            expected="2 dimensions or more, none empty",
            got=str(list(batch.shape)),
        )
    batch = batch.swapaxes(0, 1) if batch_first else batch
    steps = _checked_lengths(lengths, batch)
    order = None
    if not enforce_sorted:
        ranked = sorted(range(len(steps)), key=lambda n: -steps[n])
        order, steps = mx.array(ranked, mx.int64), [steps[n] for n in ranked]
        batch = batch[:, order]
    elif any(a < b for a, b in pairwise(steps)):
        raise CallError(
            "pack_padded_sequence lengths",
            expected="decreasing order when enforce_sorted is True",
            got=str(steps),
            fix="pass enforce_sorted=False",
        )
    T = steps[0]
    mask = mask_from_lengths(mx.array(steps), T)
    data = pack_steps(batch[:T], mask, sum(steps))
    return PackedSequence(data, mask.sum(axis=1).astype(mx.int64), order)


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[mx.array, mx.array]:
    """Pad a packed batch, in the caller's own order of sequences.

    Args:
        sequence: packed batch.
        batch_first: return ``[N, T, *]`` instead of ``[T, N, *]``. Default: False.
        padding_value: value of the padding. Default: 0.
        total_length: steps of the result, T or more. Default: T.

    Returns:
        The padded batch and the lengths, ``[N]`` int64.

    Raises:
        UsageError: ``total_length`` is less than T.
        ShapeError: the sequence's batch sizes do not describe its data.
    """
    data, batch_sizes, _, back = PackedSequence(*sequence)
    T = len(batch_sizes)
    if total_length is not None and total_length < T:
        raise UsageError(
            "pad_packed_sequence total_length",
            expected=f"at least {T}, the length of the longest sequence",
            got=str(total_length),
        )
    batch, mask = pad_steps(data, batch_sizes, padding_value, total_length)
    lengths = mask.sum(axis=0).astype(mx.int64)
    if back is not None:
        batch, lengths = batch[:, back], lengths[back]
    return (batch.swapaxes(0, 1) if batch_first else batch), lengths


def pad_sequence(
    sequences: Iterable[Any],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> mx.array:
    """Stack sequences of unequal length into one padded batch.

    Args:
        sequences: arrays ``[length, *]``, alike in their further axes.
        batch_first: return ``[N, T, *]`` instead of ``[T, N, *]``. Default: False.
        padding_value: value of the padding. Default: 0.
        padding_side: "right" or "left". Default: "right".

    Returns:
        The batch, in the first sequence's dtype.

    Raises:
        CallError: no sequences at all, or an unknown side.
        ShapeError: the further axes differ.
    """
    if padding_side not in ("right", "left"):
        raise CallError(
            "pad_sequence padding_side", expected="'right' or 'left'", got=repr(padding_side)
        )
    rows = _sequences(sequences, "pad_sequence")
    T = max(len(row) for row in rows)
    padded = [_pad(row.astype(rows[0].dtype), T, padding_value, padding_side) for row in rows]
    return mx.stack(padded, axis=0 if batch_first else 1)


def unpad_sequence(
    padded_sequences: Any, lengths: Any, batch_first: bool = False
) -> list[mx.array]:
    """Split a padded batch into its sequences.

    Unlike torch, which transposes its argument in place, this changes nothing.

    Args:
        padded_sequences: ``[T, N, *]``, or ``[N, T, *]`` with batch_first.
        lengths: steps of each sequence, N integers.
        batch_first: which of the two layouts. Default: False.

    Returns:
        N arrays ``[length, *]``.

    Raises:
        ShapeError: not one length for each sequence.
    """
    batch = as_array(padded_sequences, "unpad_sequence padded_sequences")
    batch = batch if batch_first else batch.swapaxes(0, 1)
    steps = integers(as_array(lengths, "unpad_sequence lengths"))
    if len(steps) != len(batch):
        raise ShapeError(
            "unpad_sequence lengths", expected=f"{len(batch)} lengths", got=str(len(steps))
        )
    return [row[: max(0, n)] for row, n in zip(batch, steps, strict=True)]


def pack_sequence(sequences: Sequence[Any], enforce_sorted: bool = True) -> PackedSequence:
    """Pack sequences of unequal length.

    Args:
        sequences: arrays ``[length, *]``, alike in their further axes, none empty.
        enforce_sorted: they must already come in the order of decreasing length; otherwise they
            are sorted, and the result knows the way back. Default: True.

    Raises:
        ShapeError: an empty sequence, or further axes that differ.
        CallError: not sorted although they must be, or no sequences at all.
    """
    rows = _sequences(sequences, "pack_sequence")
    lengths = [len(row) for row in rows]
    return pack_padded_sequence(pad_sequence(rows), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[mx.array]:
    """Split a packed batch into its sequences ``[length, *]``, in the caller's own order."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)


def _checked_lengths(lengths: Any, batch: mx.array) -> list[int]:
    """Return the lengths as integers that fit the time-major batch."""
    array = as_array(lengths, "pack_padded_sequence lengths")
    T, N = batch.shape[:2]
    if array.shape != (N,):
        raise ShapeError(
            "pack_padded_sequence lengths",
            expected=f"{N} lengths, one for each sequence of the batch",
            got=f"shape {list(array.shape)}",
        )
    steps = integers(array)
    if not all(0 < n <= T for n in steps):
        raise ShapeError(
            "pack_padded_sequence lengths", expected=f"each from 1 to {T}", got=str(steps)
        )
    return steps


def _sequences(sequences: Iterable[Any], owner: str) -> list[mx.array]:
    if not isinstance(sequences, Iterable):
        raise CallError(
            f"{owner} sequences", expected="an iterable of arrays", got=type(sequences).__name__
        )
    rows = [as_array(row, f"{owner} sequences") for row in sequences]
    if not rows:
        raise CallError(f"{owner} sequences", expected="one sequence or more", got="none")
    for row in rows:
        if not row.ndim or row.shape[1:] != rows[0].shape[1:]:
            raise ShapeError(
                f"{owner} sequences",
                expected=f"[length, {', '.join(map(str, rows[0].shape[1:]))}] like the first",
                got=str(list(row.shape)),
            )
    return rows


def _pad(row: mx.array, T: int, value: float, side: str) -> mx.array:
    spare = T - len(row)
    before, after = (0, spare) if side == "right" else (spare, 0)
    fill = mx.array(value).astype(row.dtype)
    return mx.pad(row, [(before, after), *[(0, 0)] * (row.ndim - 1)], constant_values=fill)
