"""Chunked HDF5 data: its index, and its filters undone under a budget."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lstm_bridge.checkpoints.base import Array
from lstm_bridge.checkpoints.hdf5_format import Cursor, Hdf5Bytes
from lstm_bridge.checkpoints.place import Place

DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3
_FREE_INFLATION = 64 << 20
_MAX_RATIO = 200
_MAX_CHUNKS = 100_000
_FREE_CHUNK = 4 << 20


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk in the file.

    Args:
        offset: its first element in the dataset.
        address: where its bytes are.
        size: how many there are.
        mask: which filters it skipped, as bits.
    """

    offset: tuple[int, ...]
    address: int
    size: int
    mask: int


@dataclass(frozen=True, slots=True)
class Chunks:
    """A chunked dataset's checked index.

    Args:
        shape: of one chunk.
        filters: filter numbers, in the order that writing applied them.
        chunks: all of them.
    """

    shape: tuple[int, ...]
    filters: tuple[int, ...]
    chunks: tuple[Chunk, ...]


def read_filters(body: bytes, place: Place) -> tuple[int, ...]:
    """Return the filters of a pipeline message.

    Raises:
        ContainerError: for a filter that is not undone here.
    """
    cursor = Cursor(body, place)
    version, count = cursor.number(1), cursor.number(1)
    if version not in (1, 2):
        raise place.container("a filter pipeline of version 1 or 2", f"{version}")
    cursor.take(6 if version == 1 else 0)
    return tuple(_filter(cursor, version, place) for _ in range(count))


def _filter(cursor: Cursor, version: int, place: Place) -> int:
    number = cursor.number(2)
    if number not in (DEFLATE, SHUFFLE, FLETCHER32):
        fix = "store it without compression"
        raise place.container("gzip or no compression", f"filter {number}", fix)
    name = cursor.number(2) if version == 1 else 0
    cursor.take(2)
    values = cursor.number(2)
    cursor.take(-(-name // 8) * 8 + 4 * (values + (values % 2 if version == 1 else 0)))
    return number


def read_index(
    data: Hdf5Bytes,
    tree: int,
    shape: tuple[int, ...],
    chunk: tuple[int, ...],
    width: int,
    filters: tuple[int, ...],
    place: Place,
) -> Chunks:
    """Return the chunks of a dataset, all of them present and none twice.

    Args:
        data: the file.
        tree: where the index begins.
        shape, chunk: of the dataset, and of one chunk.
        width: bytes per element.
        filters: as ``read_filters`` gives them.
        place: the dataset.

    Raises:
        ContainerError: if the declared size is not borne out by the chunks.
    """
    nbytes, each = math.prod(shape) * width, math.prod(chunk) * width
    if 0 in chunk or each > max(_FREE_CHUNK, 2 * nbytes):
        raise place.container("chunks no larger than the data", f"chunks of {list(chunk)}")
    wanted = math.prod(-(-size // step) for size, step in zip(shape, chunk, strict=True))
    if wanted > _MAX_CHUNKS:
        raise place.container(f"at most {_MAX_CHUNKS} chunks", f"{wanted}")
    found: dict[tuple[int, ...], Chunk] = {}
    for one in _walk(data, tree, len(shape), wanted, place):
        good = all(
            at % step == 0 and at < size
            for at, step, size in zip(one.offset, chunk, shape, strict=True)
        )
        if not good or one.offset in found:
            raise place.container("chunks at different offsets", f"one at {list(one.offset)}")
        if one.address + one.size > data.size or one.size > 2 * each + 1024:
            raise place.container(f"a chunk of about {each} bytes", f"{one.size}")
        found[one.offset] = one
    if len(found) != wanted:
        raise place.container(f"{wanted} chunks of data", f"{len(found)} in the file")
    stored = sum(one.size for one in found.values())
    if nbytes > max(_FREE_INFLATION, _MAX_RATIO * stored):
        got = f"{stored} bytes that would become {nbytes}"
        raise place.container(f"inflation of at most {_MAX_RATIO}-fold", got)
    return Chunks(chunk, filters, tuple(found.values()))


def _walk(data: Hdf5Bytes, tree: int, rank: int, wanted: int, place: Place) -> list[Chunk]:
    """Return the entries of a version 1 B-tree of chunks."""
    found: list[Chunk] = []
    seen: set[int] = set()
    todo = [tree]
    while todo:
        address = todo.pop()
        if address in seen or len(seen) > 2 * wanted + 16:
            raise place.container("a tree of chunks", "a cycle")
        seen.add(address)
        head = data.cursor(address, 24)
        head.expect(b"TREE\x01", "a dataset's B-tree")
        level, count = head.number(1), head.number(2)
        body = data.cursor(address + 24, (16 + 8 * rank + 8) * count)
        for _ in range(count):
            size, mask = body.number(4), body.number(4)
            offset = tuple(body.number(8) for _ in range(rank))
            if body.number(8):
                raise place.container("chunk offsets in whole elements", "others")
            child = body.number(8)
            if level:
                todo.append(child)
            else:
                found.append(Chunk(offset, child, size, mask))
        if len(found) > wanted:
            raise place.container(f"{wanted} chunks of data", "more")
    return found


def read_chunks(data: Hdf5Bytes, index: Chunks, out: Array, place: Place) -> None:
    """Fill ``out`` (raw elements) from its chunks, one at a time."""
    limit = math.prod(index.shape) * out.itemsize
    for one in index.chunks:
        buffer = bytearray(one.size)
        data.read_into(one.address, memoryview(buffer))
        raw = bytes(buffer)
        for number in range(len(index.filters) - 1, -1, -1):
            if not one.mask & (1 << number):
                raw = _undo(index.filters[number], raw, limit, out.itemsize, place)
        if len(raw) != limit:
            raise place.container(f"a chunk of {limit} bytes", f"{len(raw)}")
        part = np.frombuffer(raw, out.dtype).reshape(index.shape)
        target = tuple(
            slice(at, at + size) for at, size in zip(one.offset, part.shape, strict=True)
        )
        room = out[target]
        room[...] = part[tuple(slice(0, size) for size in room.shape)]  # the rest is padding


def _undo(kind: int, raw: bytes, limit: int, width: int, place: Place) -> bytes:
    if kind == DEFLATE:
        engine = zlib.decompressobj()
        try:
            raw = engine.decompress(raw, limit + 8)  # 8: room for a checksum below
        except zlib.error as error:
            raise place.container("deflated bytes", f"damage: {error}") from None
        if not engine.eof:
            raise place.container(f"a chunk of {limit} bytes", "one that is cut or longer")
        return raw
    if kind == SHUFFLE:
        whole = len(raw) - len(raw) % width
        planes = np.frombuffer(raw[:whole], np.uint8).reshape(width, -1)
        return planes.T.tobytes() + raw[whole:]
    if len(raw) < 4 or fletcher32(raw[:-4]) != int.from_bytes(raw[-4:], "little"):
        raise place.container("a chunk with its checksum", "another checksum")
    return raw[:-4]


def fletcher32(raw: bytes) -> int:
    """Return HDF5's Fletcher checksum: sums of big-endian 16-bit words, modulo 65535."""
    words = np.frombuffer(raw + b"\0" * (len(raw) % 2), ">u2").astype(np.uint64)
    first = second = 0
    for at, stop in pairwise([*range(0, len(words), 1 << 15), len(words)]):
        block = words[at:stop]
        weights = np.arange(len(block), 0, -1, dtype=np.uint64)
        second += first * len(block) + int((block * weights).sum())
        first += int(block.sum())
    return _folded(second) << 16 | _folded(first)


def _folded(total: int) -> int:
    """Return what adding with end-around carry gives: 65535 for every non-zero multiple of it."""
    return (total % 65535 or 65535) if total else 0
