"""The packed sequence, and the way between it and a padded, time-major batch.

N batch, T steps of the longest sequence, S rows of all sequences together.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import mlx.core as mx

from lstm_bridge.core.arrays import as_array
from lstm_bridge.errors import ShapeError
from lstm_bridge.torch.dtypes import requested_dtype


class _Fields(NamedTuple):
    data: mx.array
    batch_sizes: mx.array
    sorted_indices: mx.array | None
    unsorted_indices: mx.array | None


class PackedSequence(_Fields):
    """Sequences of unequal length, step by step, without padding.

    For sequences ``abc`` and ``x`` the data are ``axbc`` and the batch sizes ``[2, 1, 1]``.

    Args:
        data: ``[S, *]``; or ``(data, batch_sizes)`` with no second argument.
        batch_sizes: how many sequences reach each step, ``[T]`` integers, never increasing.
        sorted_indices: ``[N]``, which sequence of the caller's stands at each place. Default: None,
            the caller's order is kept.
        unsorted_indices: its inverse. Default: computed.

    Source: torch.nn.utils.rnn.PackedSequence 2.13.
    """

    __slots__ = ()

    def __new__(
        cls,
        data: Any,
        batch_sizes: Any = None,
        sorted_indices: Any = None,
        unsorted_indices: Any = None,
    ) -> PackedSequence:
        """Convert all four to MLX arrays."""
        if batch_sizes is None:
            data, batch_sizes = data
        order = _indices(sorted_indices, "sorted_indices")
        back = _indices(unsorted_indices, "unsorted_indices")
        return super().__new__(
            cls,
            as_array(data, "PackedSequence data"),
            as_array(batch_sizes, "PackedSequence batch_sizes", mx.int64),
            order,
            invert_permutation(order) if back is None else back,
        )

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """Return this sequence with its data in the dtype that is asked for, if any.

        Args:
            args: torch's forms: a dtype, a device, a device and a dtype, or an array.
            kwargs: the same by name. A device has no effect here, because MLX arrays live in
                memory that all its devices share.
        """
        dtype = requested_dtype(args, kwargs)
        if dtype is None or dtype == self.data.dtype:
            return self
        return PackedSequence(self.data.astype(dtype), *self[1:])

    def cpu(self) -> PackedSequence:
        """Return self: MLX arrays live in memory that all its devices share."""
        return self

    def cuda(self) -> PackedSequence:
        """Return self: MLX arrays live in memory that all its devices share."""
        return self

    def pin_memory(self) -> PackedSequence:
        """Return self: MLX arrays live in memory that all its devices share."""
        return self

    @property
    def is_cuda(self) -> bool:
        """False: MLX arrays belong to no device."""
        return False

    def is_pinned(self) -> bool:
        """False: MLX arrays belong to no device."""
        return False

    def double(self) -> PackedSequence:
        """Return this sequence with float64 data."""
        return self.to(mx.float64)

    def float(self) -> PackedSequence:
        """Return this sequence with float32 data."""
        return self.to(mx.float32)

    def half(self) -> PackedSequence:
        """Return this sequence with float16 data."""
        return self.to(mx.float16)

    def long(self) -> PackedSequence:
        """Return this sequence with int64 data."""
        return self.to(mx.int64)

    def int(self) -> PackedSequence:
        """Return this sequence with int32 data."""
        return self.to(mx.int32)

    def short(self) -> PackedSequence:
        """Return this sequence with int16 data."""
        return self.to(mx.int16)

    def char(self) -> PackedSequence:
        """Return this sequence with int8 data."""
        return self.to(mx.int8)

    def byte(self) -> PackedSequence:
        """Return this sequence with uint8 data."""
        return self.to(mx.uint8)


def invert_permutation(permutation: Any) -> mx.array | None:
    """Return the inverse of a permutation of ``0 … N−1``; None stays None."""
    order = _indices(permutation, "permutation")
    return None if order is None else mx.argsort(order).astype(mx.int64)


def pad_steps(
    data: mx.array, batch_sizes: mx.array, padding: float = 0.0, total: int | None = None
) -> tuple[mx.array, mx.array]:
    """Lay packed rows out as a padded, time-major batch.

    Args:
        data: ``[S, *]``.
        batch_sizes: ``[T]``.
        padding: value of what no row fills. Default: 0.
        total: steps of the result. Default: T.

    Returns:
        The batch ``[total, N, *]`` in the order of decreasing length, and the boolean mask
        ``[total, N]`` of what the rows fill.

    Raises:
        ShapeError: the batch sizes do not describe the data.
    """
    sizes = integers(batch_sizes)
    falling = all(a >= b > 0 for a, b in pairwise([*sizes, *sizes[-1:]]))
    if not sizes or not falling or sum(sizes) != len(data):
        raise ShapeError(
            "PackedSequence batch_sizes",
            expected=f"positive, never increasing sizes that add up to {len(data)} rows",
            got=f"{sizes[:8]}{'…' if len(sizes) > 8 else ''}",
        )
    spare = 0 if total is None else total - len(sizes)
    mask = mx.arange(sizes[0])[None, :] < mx.pad(batch_sizes, (0, spare))[:, None]
    wide = mask.reshape(*mask.shape, *[1] * (data.ndim - 1))
    fill = mx.array(padding).astype(data.dtype)
    return mx.where(wide, data[mx.maximum(_places(mask), 0)], fill), mask


def pack_steps(batch: mx.array, mask: mx.array, rows: int) -> mx.array:
    """Collect the rows that the mask marks: ``[T, N, *] -> [rows, *]``, step by step.

    Args:
        batch: padded, time-major batch, ``[T, N, *]``.
        mask: boolean, ``[T, N]``, True in ``rows`` places.
        rows: how many rows there are.
    """
    # One spare slot at the end takes all the padding.
    slots = mx.where(mask, _places(mask), rows).reshape(-1)
    source = mx.zeros(rows + 1, mx.int32)
    source[slots] = mx.arange(mask.size, dtype=mx.int32)
    return batch.reshape(-1, *batch.shape[2:])[source[:rows]]


def integers(array: mx.array) -> list[int]:
    """Return a vector of numbers as Python integers, cut towards zero as torch does."""
    values: Any = array.reshape(-1).tolist()
    return [int(value) for value in values]


def _places(mask: mx.array) -> mx.array:
    """Row number in the packed data of every marked place of ``[T, N]``."""
    return mx.cumsum(mask.reshape(-1).astype(mx.int32)).reshape(mask.shape) - 1


def _indices(value: Any, name: str) -> mx.array | None:
    return None if value is None else as_array(value, f"PackedSequence {name}", mx.int64)
