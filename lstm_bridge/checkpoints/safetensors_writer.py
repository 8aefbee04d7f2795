"""Writes safetensors one tensor at a time: the same content always gives the same bytes."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from lstm_bridge.checkpoints.base import Array
from lstm_bridge.checkpoints.dtypes import DTYPES
from lstm_bridge.errors import UsageError, quote

Made = Array | Iterator[memoryview]
"""An array, or its bytes block by block: C order and little-endian."""

Entry = tuple[str, tuple[int, ...], Array | Callable[[], Made]]


class _Planned(NamedTuple):
    name: str
    dtype: str
    shape: tuple[int, ...]
    data: Array | Callable[[], Made]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * DTYPES[self.dtype].bits.itemsize


def write_safetensors(
    target: str | Path | IO[bytes],
    entries: Mapping[str, Entry] | Iterable[tuple[str, Entry]],
    metadata: Mapping[str, str] | None = None,
    seal: Callable[[], Mapping[str, str]] | None = None,
) -> None:
    """Write a safetensors file, holding one tensor at a time.

    Args:
        target: a path (overwritten) or a binary file open for writing.
        entries: name → (dtype code, shape, array or a function that makes it, whole or as blocks
            of its bytes); bfloat16 as its uint16 bits, as ``Checkpoint.read`` gives it.
        metadata: text for the header's ``__metadata__``.
        seal: called once all arrays are written; its text, as long as ``metadata``'s, takes that
            place: digests are known only then, and the header comes first.

    Raises:
        UsageError: for a repeated name, an unknown dtype, or an array unlike its announcement.
    """
    plan = _plan(entries)
    if isinstance(target, str | Path):
        with open(target, "wb") as handle:
            _write(handle, plan, dict(metadata or {}), seal)
    else:
        _write(target, plan, dict(metadata or {}), seal)


def _plan(entries: Mapping[str, Entry] | Iterable[tuple[str, Entry]]) -> list[_Planned]:
    """Order tensors as safetensors does: wide elements first, so each is aligned; then by name."""
    pairs = list(entries.items() if isinstance(entries, Mapping) else entries)
    for name, (dtype, _, _) in pairs:
        if dtype not in DTYPES or name == "__metadata__" or not name:
            raise UsageError(
                f"tensor {quote(name)}",
                expected=f"a name and a dtype of {', '.join(DTYPES)}",
                got=quote(dtype),
            )
    if len({name for name, _ in pairs}) != len(pairs):
        raise UsageError("tensors to write", expected="unique names", got="a repeated one")
    plan = [_Planned(name, dtype, tuple(shape), data) for name, (dtype, shape, data) in pairs]
    return sorted(plan, key=lambda one: (-DTYPES[one.dtype].bits.itemsize, one.dtype, one.name))


def _write(
    handle: IO[bytes],
    plan: list[_Planned],
    metadata: dict[str, str],
    seal: Callable[[], Mapping[str, str]] | None,
) -> None:
    header = _header(plan, metadata)
    handle.write(header)
    for one in plan:
        _put(handle, one)
    if seal is not None:
        sealed = _header(plan, dict(seal()))
        if len(sealed) != len(header):
            raise UsageError(
                "seal", expected=f"a header of {len(header)} bytes", got=f"{len(sealed)}"
            )
        handle.seek(-len(header) - sum(one.nbytes for one in plan), os.SEEK_CUR)
        handle.write(sealed)


def _put(handle: IO[bytes], one: _Planned) -> None:
    made = one.data() if callable(one.data) else one.data
    if not isinstance(made, Iterator):
        handle.write(_bytes(one, made))
        return
    count = 0
    for block in made:
        count += handle.write(block)
    if count != one.nbytes:
        expected, got = f"{one.nbytes} bytes", str(count)
        raise UsageError(f"tensor {quote(one.name)}", expected=expected, got=got)


def _header(plan: list[_Planned], metadata: dict[str, str]) -> bytes:
    header: dict[str, object] = {}
    if metadata:
        header["__metadata__"] = dict(sorted(metadata.items()))
    at = 0
    for one in plan:
        header[one.name] = {
            "dtype": one.dtype,
            "shape": list(one.shape),
            "data_offsets": [at, at + one.nbytes],
        }
        at += one.nbytes
    raw = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    raw += b" " * (-len(raw) % 8)
    return len(raw).to_bytes(8, "little") + raw


def _bytes(one: _Planned, made: Array) -> memoryview:
    """Return the tensor's bytes: C order and little-endian, whatever the array was."""
    array = np.asarray(made)
    wanted = DTYPES[one.dtype].bits
    if array.shape != one.shape or array.dtype.newbyteorder("<") != wanted:
        raise UsageError(
            f"tensor {quote(one.name)}",
            expected=f"{wanted.name} {list(one.shape)}",
            got=f"{array.dtype.name} {list(array.shape)}",
        )
    return np.ascontiguousarray(array, wanted).reshape(-1).view(np.uint8).data
