"""Chunked HDF5 data, unfiltered here: HDF5's own inflation would grow without a bound."""

from __future__ import annotations

import math
import zlib
from itertools import pairwise
from typing import Any

import numpy as np

from lstm_bridge.checkpoints.base import Array
from lstm_bridge.checkpoints.place import Place

DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3
FILTERS = frozenset((DEFLATE, SHUFFLE, FLETCHER32))
_FREE_INFLATION = 64 << 20
_MAX_RATIO = 200
_MAX_CHUNKS = 1_000_000
_FREE_CHUNK = 4 << 20


def chunk_facts(node: Any, plan: Any, nbytes: int, place: Place, path: str) -> None:
    """Check a chunked dataset's declared size against its chunks.

    Args:
        node, plan: the open dataset and its creation properties.
        nbytes: its declared size.
        place: the file.
        path: the dataset, for messages.

    Raises:
        TensorError: if chunks are missing, too many or too large, or inflate too much.
    """
    shape, chunk = node.get_space().get_simple_extent_dims(), plan.get_chunk()
    wanted = math.prod(-(-size // step) for size, step in zip(shape, chunk, strict=True))
    width = nbytes // math.prod(shape)
    if math.prod(chunk) * width > max(_FREE_CHUNK, 2 * nbytes):
        raise place.tensor(path, "chunks no larger than the data", f"chunks of {chunk}")
    if wanted > _MAX_CHUNKS or node.get_num_chunks() != wanted:
        raise place.tensor(path, f"{wanted} chunks of data", f"{node.get_num_chunks()} in the file")
    stored = node.get_storage_size()
    if nbytes > max(_FREE_INFLATION, _MAX_RATIO * stored):
        got = f"{stored} bytes that would become {nbytes}"
        raise place.tensor(path, f"inflation of at most {_MAX_RATIO}-fold", got)


def read_chunks(node: Any, out: Array, place: Place, path: str) -> None:
    """Fill ``out`` from the dataset's chunks, one at a time."""
    plan = node.get_create_plist()
    chunk = plan.get_chunk()
    filters = [plan.get_filter(index)[0] for index in range(plan.get_nfilters())]
    dtype = node.dtype
    limit = math.prod(chunk) * dtype.itemsize
    seen: set[tuple[int, ...]] = set()
    for index in range(node.get_num_chunks()):
        facts = node.get_chunk_info(index)
        if facts.size > 2 * limit + 1024:
            raise place.tensor(path, f"chunks of about {limit} bytes", f"one of {facts.size}")
        seen.add(facts.chunk_offset)
        mask, raw = node.read_direct_chunk(facts.chunk_offset)
        for number in range(len(filters) - 1, -1, -1):
            if not mask & (1 << number):
                raw = _undo(filters[number], bytes(raw), limit, dtype.itemsize, place, path)
        if len(raw) != limit:
            raise place.tensor(path, f"chunks of {limit} bytes", f"one of {len(raw)}")
        _place_chunk(out, np.frombuffer(raw, dtype).reshape(chunk), facts.chunk_offset)
    if len(seen) != node.get_num_chunks():
        raise place.tensor(path, "chunks at different offsets", "two at one")


def _place_chunk(out: Array, part: Array, offset: tuple[int, ...]) -> None:
    """Copy a chunk to its offset; what reaches over the edge is padding."""
    target = tuple(slice(at, at + size) for at, size in zip(offset, part.shape, strict=True))
    room = out[target]
    inside = part[tuple(slice(0, size) for size in room.shape)]
    room[...] = inside.view(np.uint16) if part.dtype.kind == "V" else inside  # V: bfloat16's bits


def _undo(kind: int, raw: bytes, limit: int, width: int, place: Place, path: str) -> bytes:
    if kind == DEFLATE:
        engine = zlib.decompressobj()
        try:
            raw = engine.decompress(raw, limit + 8)  # 8: room for a checksum below
        except zlib.error as error:
            raise place.tensor(path, "deflated bytes", f"damage: {error}") from None
        if not engine.eof:
            raise place.tensor(path, f"chunks of {limit} bytes", "one that is cut or longer")
        return raw
    if kind == SHUFFLE:
        whole = len(raw) - len(raw) % width
        planes = np.frombuffer(raw[:whole], np.uint8).reshape(width, -1)
        return planes.T.tobytes() + raw[whole:]
    if len(raw) < 4 or _fletcher32(raw[:-4]) != int.from_bytes(raw[-4:], "little"):
        raise place.tensor(path, "a chunk with its checksum", "another")
    return raw[:-4]


def _fletcher32(raw: bytes) -> int:
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
