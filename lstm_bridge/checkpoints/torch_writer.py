"""Writes a torch zip that plain ``torch.load(weights_only=True)`` reads, without torch."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import numpy as np

from lstm_bridge.checkpoints.base import Array
from lstm_bridge.checkpoints.dtypes import DTYPES

Entry = tuple[str, tuple[int, ...], Callable[[], Array | Iterator[memoryview]]]

ROOT = "archive"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # one date for all files: the same content gives the same bytes


def write_torch(
    target: Path, entries: Iterable[tuple[str, Entry]], note: Callable[[], bytes]
) -> None:
    """Write a state dict as a torch zip, holding one tensor at a time.

    Args:
        target: the file to write.
        entries: name with (dtype code, shape, function that makes the array, or its bytes block by
            block).
        note: called once all arrays are written; kept beside them as ``.data/lstm_bridge.json``.
    """
    pairs = list(entries)
    with ZipFile(target, "w", ZIP_STORED) as archive:
        _member(archive, "data.pkl", _pickled(pairs))
        _member(archive, "byteorder", b"little")
        for number, (_, entry) in enumerate(pairs):
            _put(archive, f"data/{number}", entry)
        _member(archive, "version", b"3\n")
        _member(archive, ".data/lstm_bridge.json", note())


def _put(archive: ZipFile, name: str, entry: Entry) -> None:
    dtype, shape, make = entry
    made, kind = make(), DTYPES[dtype].bits
    if not isinstance(made, Iterator):
        flat = np.ascontiguousarray(made, kind).reshape(-1)
        made = iter((flat.view(np.uint8).data,))
    _blocks(archive, name, made, math.prod(shape) * kind.itemsize)


def _member(archive: ZipFile, name: str, data: bytes) -> None:
    _blocks(archive, name, (data,), len(data))


def _blocks(archive: ZipFile, name: str, blocks: Iterable[bytes | memoryview], size: int) -> None:
    info = ZipInfo(f"{ROOT}/{name}", _EPOCH)
    info.external_attr = 0o600 << 16
    with archive.open(info, "w", force_zip64=size >= 1 << 31) as member:
        for block in blocks:
            member.write(block)


# The pickle that torch.save itself writes for a state dict, opcode by opcode: a dict of calls of
# torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks).


def _pickled(pairs: list[tuple[str, Entry]]) -> bytes:
    items = b"".join(
        _text(name) + _tensor(number, dtype, shape)
        for number, (name, (dtype, shape, _)) in enumerate(pairs)
    )
    return b"\x80\x02" + b"}" + b"(" + items + b"u" + b"."


def _tensor(number: int, dtype: str, shape: tuple[int, ...]) -> bytes:
    count = int(np.prod(shape, dtype=np.int64))
    strides = [int(np.prod(shape[k + 1 :], dtype=np.int64)) for k in range(len(shape))]
    storage = (
        b"("
        + _text("storage")
        + f"ctorch\n{DTYPES[dtype].torch}Storage\n".encode()
        + _text(str(number))
        + _text("cpu")
        + _integer(count)
        + b"tQ"
    )
    hooks = b"ccollections\nOrderedDict\n)R"
    arguments = storage + _integer(0) + _integers(shape) + _integers(strides) + b"\x89" + hooks
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def _text(value: str) -> bytes:
    raw = value.encode("utf-8")
    return b"X" + struct.pack("<I", len(raw)) + raw


def _integers(values: Iterable[int]) -> bytes:
    return b"(" + b"".join(map(_integer, values)) + b"t"


def _integer(value: int) -> bytes:
    if value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(9, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw
