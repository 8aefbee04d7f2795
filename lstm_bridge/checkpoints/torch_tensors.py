"""A torch tensor's view of its storage: checked against the bytes there, then read in C order."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lstm_bridge.checkpoints.base import Array, Checkpoint, TensorInfo
from lstm_bridge.checkpoints.dtypes import DTYPES
from lstm_bridge.checkpoints.place import Place
from lstm_bridge.checkpoints.torch_pickle import StorageRef, TensorRef
from lstm_bridge.errors import quote

MAX_DIMENSION = 2**31 - 1
MAX_RANK = 8
_MAX_STEP = 2**62
_FREE_EXPANSION = 1 << 20
_GATHER = 4 << 20


@dataclass(frozen=True, slots=True)
class View:
    """A checked tensor: everything in elements of ``dtype``.

    Args:
        key: the storage's name in the file.
        dtype: safetensors code of the elements.
        start: the first element, counted from the storage's beginning.
        shape, stride: of the tensor.
    """

    key: str
    dtype: str
    start: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def span(self) -> int:
        """How many elements of the storage lie between its first and last, both counted."""
        return span(self.shape, self.stride)


def span(shape: Sequence[int], stride: Sequence[int]) -> int:
    """Return the number of storage elements from a view's first to its last."""
    if 0 in shape:
        return 0
    return 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))


def check_view(name: str, ref: TensorRef, stored: int | None, place: Place) -> View:
    """Return the view that a tensor is.

    Args:
        name: the tensor, for messages.
        ref: what the pickle says.
        stored: how many bytes the file has for the storage; ``None`` if it has no such storage.
        place: the pickle.

    Raises:
        TensorError: if it does not fit in its storage, or cannot be read without a cast.
    """
    storage = _check_storage(name, ref, stored, place)
    code = ref.dtype or storage.dtype
    width = DTYPES[code].bits.itemsize  # type: ignore[index]
    shape = _check_numbers(name, "size", ref.size, place, MAX_DIMENSION)
    stride = _check_numbers(name, "stride", ref.stride, place)
    (offset,) = _check_numbers(name, "offset", [ref.offset], place)
    if len(shape) != len(stride):
        raise place.tensor(name, f"{len(shape)} strides", str(len(stride)))
    first, length = storage.view or (0, storage.numel)
    length = length * DTYPES[storage.dtype].bits.itemsize // width  # type: ignore[index]
    stop = offset + span(shape, stride)
    if stop > length:
        raise place.tensor(
            name, f"a view inside a storage of {length} elements", f"one up to {stop}"
        )
    count = math.prod(shape)
    if count > max(_FREE_EXPANSION, length):
        got = f"{count} elements over a storage of {length}"
        raise place.tensor(name, "a view that expands little", got, "save a contiguous tensor")
    return View(storage.key, str(code), first + offset, shape, stride)


def _check_storage(name: str, ref: TensorRef, stored: int | None, place: Place) -> StorageRef:
    storage = ref.storage
    if not isinstance(storage, StorageRef):
        raise place.tensor(name, "a storage", f"a {quote(type(storage).__name__)}")
    if storage.location == "meta":
        raise place.tensor(name, "data", "a meta tensor, which has none", "save the real model")
    if storage.dtype is None:
        got = quote(storage.kind)
        raise place.tensor(name, "a real, integer or bool dtype", got, "cast it before saving")
    if stored is None:
        raise place.tensor(name, "its storage in the file", f"no storage {quote(storage.key)}")
    needed = storage.numel * DTYPES[storage.dtype].bits.itemsize
    if storage.numel < 0 or needed != stored:
        raise place.tensor(name, f"a storage of {needed} bytes", f"{stored}")
    first, length = storage.view or (0, storage.numel)
    if first < 0 or length < 0 or first + length > storage.numel:
        raise place.tensor(name, f"a view of {storage.numel} elements", f"{first}+{length}")
    return storage


def _check_numbers(
    name: str, what: str, numbers: Any, place: Place, limit: int = _MAX_STEP
) -> tuple[int, ...]:
    if not isinstance(numbers, list | tuple) or len(numbers) > MAX_RANK:
        raise place.tensor(name, f"{what} of at most {MAX_RANK} numbers", "another")
    for number in numbers:
        if type(number) is not int or not 0 <= number <= limit:
            got = quote(number) if type(number) is int else f"a {type(number).__name__}"
            raise place.tensor(name, f"{what} from 0 to {limit}", got)
    return tuple(numbers)


@dataclass(slots=True)
class StorageFile(Checkpoint):
    """A checkpoint whose tensors are views of storages.

    Attributes:
        views: name → checked view.
        swapped: whether the file's byte order is big-endian.
    """

    views: dict[str, View] = field(default_factory=dict)
    swapped: bool = False

    @abstractmethod
    def read_storage(self, key: str, offset: int, out: memoryview) -> None:
        """Fill ``out`` with a storage's bytes from ``offset`` on."""

    def describe(self) -> None:
        """Fill ``tensors`` from ``views``: equal ranges of one storage are shared memory."""
        self.tensors = {name: _info(view) for name, view in self.views.items()}

    def read(self, name: str) -> Array:
        """Return one tensor: C-contiguous, native byte order, bfloat16 as its uint16 bits."""
        view = self.views[name]
        dtype = DTYPES[view.dtype].bits
        out = np.empty(view.shape, dtype)
        self._gather(view.key, out, view.start, view.stride)
        if self.swapped:
            out = out.byteswap(inplace=True)
        return out.astype(dtype.newbyteorder("="), copy=False)

    def _gather(self, key: str, out: Array, start: int, stride: tuple[int, ...]) -> None:
        """Copy a strided view into ``out``, holding at most about as much again."""
        width, length = out.itemsize, span(out.shape, stride)
        if length == out.size and _is_c_order(out.shape, stride) and out.flags.c_contiguous:
            self.read_storage(key, start * width, _bytes_of(out))
        elif length * width <= max(_GATHER, 2 * out.nbytes):
            flat = np.empty(length, out.dtype)
            self.read_storage(key, start * width, _bytes_of(flat))
            steps = [step * width for step in stride]
            out[...] = np.lib.stride_tricks.as_strided(flat, out.shape, steps, writeable=False)
        else:
            axis = max(range(out.ndim), key=lambda k: stride[k] if out.shape[k] > 1 else -1)
            for index in range(out.shape[axis]):
                part = out[(slice(None),) * axis + (slice(index, index + 1),)]
                self._gather(key, part, start + index * stride[axis], stride)


def is_plain(view: View) -> bool:
    """Say whether a view begins with its storage and goes through it without a gap."""
    return (
        view.start == 0
        and view.span == math.prod(view.shape)
        and _is_c_order(view.shape, view.stride)
    )


def _is_c_order(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    step = 1
    for size, have in zip(reversed(shape), reversed(stride), strict=True):
        if size != 1 and have != step:
            return False
        step *= size
    return True


def _bytes_of(array: Array) -> memoryview:
    """Return a contiguous array's memory, zero-size and zero-rank arrays included."""
    return memoryview(array.reshape(-1).view(np.uint8).data) if array.size else memoryview(b"")


def _info(view: View) -> TensorInfo:
    width = DTYPES[view.dtype].bits.itemsize
    first = view.start * width
    where = f"{view.key}[{first}:{first + view.span * width}]"
    return TensorInfo(view.shape, view.dtype, where)
