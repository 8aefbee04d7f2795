"""torch's packed sequences in NumPy. Source: torch 2.13.

Shape letters: N batch, L length, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from lstm_bridge.equivalence.oracle.around import Array


class Packed(NamedTuple):
    """Rows of several lengths, step after step, the longest first.

    Args:
        data: ``[sum of lengths, D]``.
        batch_sizes: rows at every step.
        sorted_indices: where each packed row stood; None where rows came in order.
        unsorted_indices: the way back.
    """

    data: Array
    batch_sizes: Array
    sorted_indices: Array | None = None
    unsorted_indices: Array | None = None


def lengths_of(packed: Packed) -> Array:
    """Return the lengths of the packed rows, the longest first."""
    sizes = np.asarray(packed.batch_sizes)
    rows = int(sizes[0])
    return np.asarray([(sizes > k).sum() for k in range(rows)])


def padded_rows(packed: Packed) -> Array:
    """Return the rows in packed order, ``[N, L, D]``, zeros after their ends."""
    sizes = [int(n) for n in packed.batch_sizes]
    out = np.zeros((sizes[0], len(sizes), *packed.data.shape[1:]), packed.data.dtype)
    at = 0
    for t, n in enumerate(sizes):
        out[:n, t] = packed.data[at : at + n]
        at += n
    return out


def packed_like(rows: Array, packed: Packed) -> Packed:
    """Return rows ``[N, L, D]`` in packed order with the lengths of another."""
    parts = [rows[: int(n), t] for t, n in enumerate(packed.batch_sizes)]
    return packed._replace(data=np.concatenate(parts))


def pack_padded_sequence(
    input: Array,  # noqa: A002
    lengths: Any,
    batch_first: bool = False,
    enforce_sorted: bool = True,
) -> Packed:
    """Pack rows that are padded."""
    rows = input if batch_first else input.swapaxes(0, 1)
    count = np.asarray(lengths).astype(np.int64)
    order = None if enforce_sorted else np.argsort(-count, kind="stable")
    if order is not None:
        rows, count = rows[order], count[order]
    sizes = np.asarray([(count > t).sum() for t in range(int(count[0]))])
    made = Packed(np.zeros(0), sizes, order, invert_permutation(order))
    return packed_like(rows, made)


def pack_sequence(sequences: Sequence[Array], enforce_sorted: bool = True) -> Packed:
    """Pack arrays of several lengths."""
    lengths = [len(s) for s in sequences]
    return pack_padded_sequence(pad_sequence(sequences, True), lengths, True, enforce_sorted)


def pad_packed_sequence(
    sequence: Packed,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Array, Array]:
    """Return padded rows in their first order, and their lengths."""
    rows, lengths = padded_rows(sequence), lengths_of(sequence)
    if total_length is not None:
        more = [(0, 0), (0, total_length - rows.shape[1])] + [(0, 0)] * (rows.ndim - 2)
        rows = np.pad(rows, more)
    beyond = np.arange(rows.shape[1])[None] >= lengths[:, None]
    rows[beyond] = padding_value
    if sequence.unsorted_indices is not None:
        rows, lengths = rows[sequence.unsorted_indices], lengths[sequence.unsorted_indices]
    return (rows if batch_first else rows.swapaxes(0, 1)), lengths


def pad_sequence(
    sequences: Sequence[Array],
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Array:
    """Return arrays of several lengths as rows of one."""
    longest = max(len(s) for s in sequences)
    shape = (len(sequences), longest, *sequences[0].shape[1:])
    out = np.full(shape, padding_value, sequences[0].dtype)
    for row, s in zip(out, sequences, strict=True):
        if padding_side == "left":
            row[longest - len(s) :] = s
        else:
            row[: len(s)] = s
    return out if batch_first else out.swapaxes(0, 1)


def unpad_sequence(padded_sequences: Array, lengths: Any, batch_first: bool = False) -> list[Array]:
    """Return the rows without their padding."""
    rows = padded_sequences if batch_first else padded_sequences.swapaxes(0, 1)
    return [row[: int(n)] for row, n in zip(rows, np.asarray(lengths), strict=True)]


def unpack_sequence(packed_sequences: Packed) -> list[Array]:
    """Return the rows of a packed sequence."""
    return unpad_sequence(*pad_packed_sequence(packed_sequences, True), batch_first=True)


def invert_permutation(permutation: Array | None) -> Array | None:
    """Return the way back."""
    return None if permutation is None else np.argsort(permutation)


PACKING: dict[str, Callable[..., Any]] = {
    "PackedSequence": Packed,
    **{
        f.__name__: f
        for f in (
            invert_permutation,
            pack_padded_sequence,
            pack_sequence,
            pad_packed_sequence,
            pad_sequence,
            unpack_sequence,
            unpad_sequence,
        )
    },
}
"""Name in torch.nn.utils.rnn → function."""
