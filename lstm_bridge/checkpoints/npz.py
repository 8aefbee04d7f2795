"""NumPy's ``.npz`` and ``.npy``: an own header check, and never a pickled object."""

from __future__ import annotations

import ast
import math
import re
import warnings
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from lstm_bridge.checkpoints.base import Array, Checkpoint, TensorInfo
from lstm_bridge.checkpoints.dtypes import DTYPES
from lstm_bridge.checkpoints.place import Place
from lstm_bridge.checkpoints.probe import Probe
from lstm_bridge.checkpoints.source import Source
from lstm_bridge.checkpoints.torch_tensors import MAX_DIMENSION, MAX_RANK
from lstm_bridge.checkpoints.zip_archive import ZipArchive
from lstm_bridge.errors import quote

NPY_MAGIC = b"\x93NUMPY"
_MAX_HEADER = 10_000
_PREFIX = 12
_DESCR = re.compile(r"([<>|=]?)([biufV][0-9]{1,2}|\?)")
_CODES = {one.bits.str[1:]: code for code, one in DTYPES.items() if code != "BF16"} | {
    "V2": "BF16",  # how MLX and ml_dtypes write bfloat16
    "?": "BOOL",
}


class NpyHeader(NamedTuple):
    """What an npy header says.

    Args:
        info: shape and dtype.
        start: where the data begins, in bytes.
        swapped: whether it is big-endian.
        fortran: whether the first axis varies fastest.
    """

    info: TensorInfo
    start: int
    swapped: bool
    fortran: bool


def parse_header(head: bytes, size: int, name: str, place: Place) -> NpyHeader:
    """Return what the header of an npy file says, checked against the file's length.

    Args:
        head: the file's beginning.
        size: the file's length in bytes.
        name: the array's name, for messages.
        place: the file or member.

    Raises:
        HeaderError: for a header that breaks the format's rules.
        TensorError: for an object array, or a dtype that is not read.
    """
    wide = head[6:7] in (b"\x02", b"\x03")
    if not head.startswith(NPY_MAGIC) or head[6:8] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise place.header("npy version 1, 2 or 3", quote(head[:8]), tensor=name)
    first = _PREFIX if wide else 10
    length = int.from_bytes(head[8:first], "little")
    if length > _MAX_HEADER or first + length > len(head):
        expected = f"a header of at most {min(_MAX_HEADER, size - first)} bytes"
        raise place.header(expected, f"{length}", tensor=name)
    fields = _fields(head[first : first + length], name, place)
    swapped, code = _code(fields["descr"], name, place)
    info = TensorInfo(_shape(fields["shape"], name, place), code)
    needed, start = math.prod(info.shape) * DTYPES[code].bits.itemsize, first + length
    if size - start != needed:
        raise place.header(f"{needed} bytes of data", f"{size - start}", tensor=name)
    return NpyHeader(info, start, swapped, fields["fortran_order"])


def _fields(raw: bytes, name: str, place: Place) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the parser's remarks on odd literals
            fields = ast.literal_eval(raw.decode("utf-8").strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        raise place.header("a Python dict of literals", quote(raw[:40]), tensor=name) from None
    wanted = {"descr", "fortran_order", "shape"}
    if not isinstance(fields, dict) or set(fields) != wanted:
        raise place.header("exactly descr, fortran_order and shape", quote(fields), tensor=name)
    if type(fields["fortran_order"]) is not bool:
        got = quote(fields["fortran_order"])
        raise place.header("fortran_order of True or False", got, tensor=name)
    return fields


def _code(descr: Any, name: str, place: Place) -> tuple[bool, str]:
    match = _DESCR.fullmatch(descr) if isinstance(descr, str) else None
    code = _CODES.get(match[2]) if match else None
    if match is None or code is None:
        got = "pickled objects" if isinstance(descr, str) and "O" in descr else quote(descr)
        fix = "save plain number arrays"
        raise place.tensor(name, f"one of {', '.join(DTYPES)}", f"dtype {got}", fix)
    return match[1] == ">", code


def _shape(shape: Any, name: str, place: Place) -> tuple[int, ...]:
    good = isinstance(shape, tuple) and len(shape) <= MAX_RANK
    if not good or any(type(one) is not int or not 0 <= one <= MAX_DIMENSION for one in shape):
        expected = f"at most {MAX_RANK} dimensions up to {MAX_DIMENSION}"
        raise place.header(expected, quote(shape), tensor=name)
    return tuple(shape)


def _finish(raw: Array, header: NpyHeader) -> Array:
    """Return the raw bytes as a C-contiguous array in native order."""
    info = header.info
    array = raw.view(DTYPES[info.dtype].bits)
    if header.swapped:
        array = array.byteswap()
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if header.fortran:
        return np.ascontiguousarray(array.reshape(info.shape[::-1]).T)
    return array.reshape(info.shape)


@dataclass(slots=True)
class NpzFile(Checkpoint):
    """A ``.npz`` file, compressed or not."""

    format: ClassVar[str] = "npz"
    framework: ClassVar[str] = ""
    extensions: ClassVar[tuple[str, ...]] = (".npz",)

    archive: ZipArchive = field(kw_only=True)
    headers: dict[str, NpyHeader] = field(default_factory=dict)

    @classmethod
    def recognises(cls, probe: Probe) -> bool:
        """Say whether the zip holds npy members and nothing else."""
        return bool(probe.members) and all(name.endswith(".npy") for name in probe.members)

    @classmethod
    def of(cls, probe: Probe) -> Self:
        """Open the archive: read the headers only."""
        archive = probe.archive
        if archive is None:
            raise TypeError("not a zip")
        file = cls(probe.source.path, archive=archive)
        for member, facts in archive.members.items():
            name = member.removesuffix(".npy")
            head = archive.peek(member, _PREFIX + _MAX_HEADER)
            place = archive.place.inside(member)
            file.headers[name] = parse_header(head, facts.size, name, place)
        file.tensors = {name: header.info for name, header in file.headers.items()}
        return file

    def read(self, name: str) -> Array:
        """Return one tensor: C-contiguous, native byte order, bfloat16 as its uint16 bits."""
        header, member = self.headers[name], name + ".npy"
        raw = np.empty(self.archive.members[member].size - header.start, np.uint8)
        self.archive.read_into(member, header.start, raw.data)
        return _finish(raw, header)

    def close(self) -> None:
        """Release the file."""
        self.archive.source.close()


@dataclass(slots=True)
class NpyFile(Checkpoint):
    """A ``.npy`` file: one tensor, named array."""

    format: ClassVar[str] = "npy"
    framework: ClassVar[str] = ""
    extensions: ClassVar[tuple[str, ...]] = (".npy",)

    source: Source = field(kw_only=True)
    header: NpyHeader = field(kw_only=True)

    @classmethod
    def recognises(cls, probe: Probe) -> bool:
        """Say whether the npy magic stands at the beginning."""
        return probe.head.startswith(NPY_MAGIC)

    @classmethod
    def of(cls, probe: Probe) -> Self:
        """Open the file: read the header only."""
        source = probe.source
        head = source.read(0, _PREFIX + _MAX_HEADER)
        header = parse_header(head, source.size, "array", source.place)
        return cls(source.path, {"array": header.info}, source=source, header=header)

    def read(self, name: str) -> Array:
        """Return the tensor: C-contiguous, native byte order, bfloat16 as its uint16 bits."""
        raw = np.empty(self.source.size - self.header.start, np.uint8)
        self.source.read_into(self.header.start, raw.data)
        return _finish(raw, self.header)

    def close(self) -> None:
        """Release the file."""
        self.source.close()
