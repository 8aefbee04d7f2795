"""safetensors: an own header check (other loaders take overlaps and holes), a streaming writer."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np

from lstm_bridge.checkpoints.base import Array, Checkpoint, Filling, TensorInfo
from lstm_bridge.checkpoints.dtypes import DTYPES
from lstm_bridge.checkpoints.place import Place
from lstm_bridge.checkpoints.probe import Probe
from lstm_bridge.checkpoints.source import Source
from lstm_bridge.checkpoints.strict_json import MAX_BYTES, JsonError, parse
from lstm_bridge.checkpoints.torch_tensors import MAX_DIMENSION, MAX_RANK
from lstm_bridge.errors import quote

_FIELDS = {"dtype", "shape", "data_offsets"}


@dataclass(slots=True)
class SafetensorsFile(Checkpoint):
    """One ``.safetensors`` file."""

    format: ClassVar[str] = "safetensors"
    framework: ClassVar[str] = ""
    extensions: ClassVar[tuple[str, ...]] = (".safetensors",)

    source: Source = field(kw_only=True)
    starts: dict[str, int] = field(default_factory=dict)

    @classmethod
    def recognises(cls, probe: Probe) -> bool:
        """Say whether a header's length and its opening brace stand at the beginning."""
        return probe.head[8:9] == b"{" or probe.source.path.suffix == ".safetensors"

    @classmethod
    def of(cls, probe: Probe) -> Self:
        """Open the file: check the whole header, read no tensor."""
        source = probe.source
        place = source.place
        base, header = _header(source, place)
        metadata = _metadata(header.pop("__metadata__", {}), place)
        file = cls(source.path, metadata=metadata, source=source)
        at = 0
        tensors = {name: _entry(name, fields, place) for name, fields in header.items()}
        spans = sorted((*span, name) for name, (_, span) in tensors.items())
        for begin, end, name in spans:
            if begin != at:
                what = "an overlap" if begin < at else "a hole"
                raise place.header(f"data from byte {at} on", f"{what}: {begin}", tensor=name)
            at = end
            file.starts[name] = base + begin
        if base + at != source.size:
            what = "past the end of the file" if base + at > source.size else "trailing bytes"
            got = f"{what}: {source.size - base} bytes of data"
            raise place.header(f"{at} bytes of data", got)
        file.tensors = {name: info for name, (info, _) in tensors.items()}
        return file

    def read(self, name: str) -> Array:
        """Return one tensor; exactly its bytes are read."""
        info = self.tensors[name]
        dtype = DTYPES[info.dtype].bits
        raw = np.empty(math.prod(info.shape) * dtype.itemsize, np.uint8)
        self.source.read_into(self.starts[name], raw.data)
        array = raw.view(dtype).reshape(info.shape)
        return array.astype(dtype.newbyteorder("="), copy=False)

    def blocks(self, name: str) -> Filling | None:
        """Return what reads one tensor block by block; exactly its bytes are read."""
        if sys.byteorder != "little":
            return None
        info = self.tensors[name]
        count = math.prod(info.shape) * DTYPES[info.dtype].bits.itemsize
        return partial(self.source.filling, self.starts[name], count)

    def close(self) -> None:
        """Release the file."""
        self.source.close()


def _header(source: Source, place: Place) -> tuple[int, dict[str, Any]]:
    """Return where the data begins, and the parsed header."""
    if source.size < 8:
        raise place.header("at least 8 bytes", f"{source.size}")
    length = int.from_bytes(source.read(0, 8), "little")
    if length > min(source.size - 8, MAX_BYTES):
        limit = min(source.size - 8, MAX_BYTES)
        raise place.header(f"a header of at most {limit} bytes", f"{length}")
    raw = source.read(8, length)
    if not raw.startswith(b"{"):
        raise place.header("a header that starts with {", quote(raw[:8]))
    try:
        header = parse(raw)
    except JsonError as error:
        raise place.header(error.expected, error.got) from None
    return 8 + length, header


def _metadata(found: Any, place: Place) -> dict[str, str]:
    if found is None:  # what MLX itself writes when there is no metadata
        return {}
    if not isinstance(found, dict) or not all(type(value) is str for value in found.values()):
        raise place.header("__metadata__ of strings", "other values")
    return found


def _entry(name: str, fields: Any, place: Place) -> tuple[TensorInfo, tuple[int, int]]:
    """Check one tensor's header entry against itself."""
    if not name or any(ord(char) < 32 or ord(char) == 127 for char in name):
        got = "an empty one or control characters"
        raise place.header("a printable tensor name", got, tensor=name)
    if not isinstance(fields, dict) or set(fields) != _FIELDS:
        got = quote(", ".join(sorted(fields)) if isinstance(fields, dict) else fields)
        raise place.header("exactly dtype, shape and data_offsets", got, tensor=name)
    code = fields["dtype"]
    if code not in DTYPES if isinstance(code, str) else True:
        fix = "cast it before saving"
        raise place.tensor(name, f"one of {', '.join(DTYPES)}", f"dtype {quote(code)}", fix)
    shape = _numbers(name, "shape", fields["shape"], MAX_RANK, MAX_DIMENSION, place)
    offsets = _numbers(name, "data_offsets", fields["data_offsets"], 2, 2**63, place)
    size = math.prod(shape) * DTYPES[code].bits.itemsize
    if size > 2**63:
        raise place.header("a size that 64 bits can hold", f"shape {list(shape)}", tensor=name)
    if len(offsets) != 2 or offsets[1] < offsets[0] or offsets[1] - offsets[0] != size:
        got = f"data_offsets {list(offsets)}"
        raise place.header(f"two offsets {size} bytes apart", got, tensor=name)
    return TensorInfo(shape, code), (offsets[0], offsets[1])


def _numbers(
    name: str, what: str, found: Any, count: int, limit: int, place: Place
) -> tuple[int, ...]:
    if not isinstance(found, list) or len(found) > count:
        raise place.header(f"{what} of at most {count} integers", quote(found), tensor=name)
    for number in found:
        if type(number) is not int or not 0 <= number <= limit:
            got = quote(number)
            raise place.header(f"{what} of integers from 0 to {limit}", got, tensor=name)
    return tuple(found)
