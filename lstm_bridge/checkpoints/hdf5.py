"""HDF5 as far as weights need it: every link, layout, filter and size is checked before a read.

Only hard links are followed, so nothing outside the file is ever opened; shapes are believed only
as far as the bytes in the file reach.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from io import RawIOBase
from typing import IO, Any

import h5py
import numpy as np

from lstm_bridge.checkpoints.base import Array, TensorInfo
from lstm_bridge.checkpoints.dtypes import DTYPES
from lstm_bridge.checkpoints.hdf5_chunks import FILTERS, chunk_facts, read_chunks
from lstm_bridge.checkpoints.place import Place
from lstm_bridge.errors import quote

MAX_DEPTH = 32
MAX_OBJECTS = 100_000
_MAX_RANK = 8
_MAX_DIMENSION = 2**31 - 1
_MAX_ATTRIBUTE = 16 << 20

_t = h5py.h5t
_TYPES = (
    *((t, "F16") for t in (_t.IEEE_F16LE, _t.IEEE_F16BE)),
    *((t, "F32") for t in (_t.IEEE_F32LE, _t.IEEE_F32BE)),
    *((t, "F64") for t in (_t.IEEE_F64LE, _t.IEEE_F64BE)),
    *((t, "I8") for t in (_t.STD_I8LE, _t.STD_I8BE)),
    *((t, "I16") for t in (_t.STD_I16LE, _t.STD_I16BE)),
    *((t, "I32") for t in (_t.STD_I32LE, _t.STD_I32BE)),
    *((t, "I64") for t in (_t.STD_I64LE, _t.STD_I64BE)),
    *((t, "U8") for t in (_t.STD_U8LE, _t.STD_U8BE)),
    *((t, "U16") for t in (_t.STD_U16LE, _t.STD_U16BE)),
    *((t, "U32") for t in (_t.STD_U32LE, _t.STD_U32BE)),
    *((t, "U64") for t in (_t.STD_U64LE, _t.STD_U64BE)),
)
_LINKS = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "an external link"}
_CLASSES = {_t.VLEN: "variable-length", _t.COMPOUND: "compound", _t.REFERENCE: "reference"}


@dataclass(frozen=True, slots=True)
class Dataset:
    """A checked dataset.

    Args:
        info: shape, dtype and (as ``stored_as``) the address shared by hard links to it.
        chunked: whether its bytes are filtered chunks, unpacked here and not by HDF5.
    """

    info: TensorInfo
    chunked: bool


class Hdf5File:
    """A checked HDF5 file.

    Args:
        stream: its bytes, seekable; closed with this object.
        size: how many there are.
        place: what error messages name.

    Attributes:
        datasets: path without the leading slash → ``Dataset``.
        groups: paths of all groups, parents first; ``""`` is the root.

    Raises:
        ContainerError: for damage, or a link, layout, filter or type that is not read.
        TensorError: for a dataset whose shape its bytes do not bear out.
    """

    def __init__(self, stream: IO[bytes] | RawIOBase, size: int, place: Place) -> None:
        self._stream, self._size, self._place = stream, size, place
        self.datasets: dict[str, Dataset] = {}
        self.groups: list[str] = []
        self._objects = 0
        with place.guarded("an HDF5 file"):
            self._file = h5py.File(stream, "r")
        with place.guarded("an HDF5 file"):
            self._walk(self._file.id, "", ())

    def close(self) -> None:
        """Release the file."""
        try:
            self._file.close()
        finally:
            self._stream.close()

    def read(self, path: str) -> Array:
        """Return one dataset: C-contiguous, native byte order."""
        dataset = self.datasets[path]
        dtype = DTYPES[dataset.info.dtype].bits.newbyteorder("=")
        out = np.empty(dataset.info.shape, dtype)
        if not out.size:
            return out
        with self._place.guarded("the data of an HDF5 dataset"):
            node = self._file[path]
            if dataset.chunked:
                read_chunks(node.id, out, self._place, path)
            elif dataset.info.dtype == "BF16":
                node.read_direct(out.view("V2"))
            else:
                node.read_direct(out)
        return out

    def text(self, path: str, name: str) -> str | None:
        """Return a text attribute of a group or dataset; ``None`` if there is none."""
        value = self._attribute(path, name)
        if value is None or (isinstance(value, list) and len(value) != 1):
            return None
        return value if isinstance(value, str) else value[0]

    def texts(self, path: str, name: str) -> list[str] | None:
        """Return an attribute of many texts, put together where Keras split it into pieces."""
        value = self._attribute(path, name)
        if value is None:
            pieces = list(self._pieces(path, name))
            return [text for piece in pieces for text in piece] if pieces else None
        return [value] if isinstance(value, str) else value

    def _pieces(self, path: str, name: str) -> Iterator[list[str]]:
        for number in range(MAX_OBJECTS):
            piece = self._attribute(path, f"{name}{number}")
            if not isinstance(piece, list):
                return
            yield piece

    def _attribute(self, path: str, name: str) -> str | list[str] | None:
        place = self._place.inside(f"{path or '/'}@{name}")
        with place.guarded("an HDF5 attribute"):
            node = self._file[path or "/"]
            if not h5py.h5a.exists(node.id, name.encode()):
                return None
            facts = h5py.h5a.open(node.id, name.encode())
            width = facts.get_type().get_size()
            if math.prod(facts.shape) * width > min(_MAX_ATTRIBUTE, self._size):
                raise place.container("an attribute inside the file", f"shape {facts.shape}")
            return _decode(node.attrs[name], place)

    # -- the walk -------------------------------------------------------------------------------

    def _walk(self, group: Any, path: str, above: tuple[int, ...]) -> None:
        if len(above) > MAX_DEPTH:
            raise self._place.container(f"groups at most {MAX_DEPTH} deep", "deeper ones")
        address = h5py.h5o.get_info(group).addr
        if address in above:
            raise self._place.inside(path).container("a tree of groups", "a hard-link cycle")
        self.groups.append(path)
        self._objects += group.get_num_objs()
        if self._objects > MAX_OBJECTS:
            raise self._place.container(f"at most {MAX_OBJECTS} HDF5 objects", "more")
        for raw in sorted(group):
            name = raw.decode("utf-8")
            below = f"{path}/{name}" if path else name
            self._follow(group, raw, below, (*above, address))

    def _follow(self, group: Any, raw: bytes, path: str, above: tuple[int, ...]) -> None:
        place = self._place.inside(path)
        link = group.links.get_info(raw).type
        if link != h5py.h5l.TYPE_HARD:
            got = _LINKS.get(link, "a user-defined link")
            raise place.container("data inside the file", got, "save it without links")
        kind = h5py.h5o.get_info(group, raw).type
        if kind == h5py.h5o.TYPE_GROUP:
            self._walk(h5py.h5g.open(group, raw), path, above)
        elif kind == h5py.h5o.TYPE_DATASET:
            self.datasets[path] = self._dataset(h5py.h5d.open(group, raw), path)
        else:
            raise place.container("groups and datasets", "a named datatype")

    def _dataset(self, node: Any, path: str) -> Dataset:
        # The layout comes first: asking a virtual dataset for its shape may open other files.
        plan = node.get_create_plist()
        layout = plan.get_layout()
        place = self._place.inside(path)
        if layout == h5py.h5d.VIRTUAL:
            raise place.container("data inside the file", "a virtual dataset")
        if layout == h5py.h5d.CONTIGUOUS and plan.get_external_count():
            raise place.container("data inside the file", "external storage")
        shape = self._shape(node, path)
        code = self._code(node, path)
        info = TensorInfo(shape, code, f"@{h5py.h5o.get_info(node).addr}")
        self._check_bytes(node, plan, path, info)
        return Dataset(info, layout == h5py.h5d.CHUNKED)

    def _shape(self, node: Any, path: str) -> tuple[int, ...]:
        space = node.get_space()
        if space.get_simple_extent_type() not in (h5py.h5s.SCALAR, h5py.h5s.SIMPLE):
            raise self._place.tensor(path, "a shape", "a null dataspace")
        shape: tuple[int, ...] = space.get_simple_extent_dims()
        if len(shape) > _MAX_RANK or any(not 0 <= size <= _MAX_DIMENSION for size in shape):
            expected = f"at most {_MAX_RANK} dimensions up to {_MAX_DIMENSION}"
            raise self._place.tensor(path, expected, quote(shape))
        return shape

    def _code(self, node: Any, path: str) -> str:
        kind = node.get_type()
        for known, code in _TYPES:
            if kind.equal(known):
                return code
        if kind.get_class() == _t.OPAQUE and kind.get_size() == 2:
            if _is_bfloat16(node):
                return "BF16"
        elif kind.get_class() == _t.ENUM and kind.get_size() == 1 and kind.dtype == np.bool_:
            return "BOOL"
        got = f"an HDF5 {_CLASSES.get(kind.get_class(), quote(kind.dtype))} type"
        fix = "store plain numbers"
        raise self._place.tensor(path, f"one of {', '.join(DTYPES)}", got, fix)

    def _check_bytes(self, node: Any, plan: Any, path: str, info: TensorInfo) -> None:
        """Check the declared size against the bytes that the file has for it."""
        nbytes = math.prod(info.shape) * DTYPES[info.dtype].bits.itemsize
        if not nbytes:
            return
        layout, stored = plan.get_layout(), node.get_storage_size()
        if layout == h5py.h5d.CHUNKED:
            self._check_filters(plan, path)
            chunk_facts(node, plan, nbytes, self._place, path)
        elif stored != nbytes:
            raise self._place.tensor(path, f"{nbytes} bytes of data", f"{stored} in the file")
        elif layout == h5py.h5d.CONTIGUOUS:
            first = node.get_offset()
            if first is None or first + nbytes > self._size:
                got = f"{nbytes} bytes at {first} of {self._size}"
                raise self._place.tensor(path, "data inside the file", got)

    def _check_filters(self, plan: Any, path: str) -> None:
        for index in range(plan.get_nfilters()):
            number = plan.get_filter(index)[0]
            if number not in FILTERS:
                got = f"filter {number}"
                fix = "store it without compression"
                raise self._place.inside(path).container("gzip or no compression", got, fix)


def _is_bfloat16(node: Any) -> bool:
    """Say whether Keras marked these two opaque bytes as a bfloat16."""
    if not h5py.h5a.exists(node, b"dtype"):
        return False
    value = h5py.Dataset(node).attrs["dtype"]
    return value in ("bfloat16", b"bfloat16")


def _decode(value: Any, place: Place) -> str | list[str] | None:
    """Return text or a list of texts; ``None`` for numbers, an empty list for empty arrays."""
    if isinstance(value, np.ndarray):
        if value.ndim > 1:
            raise place.container("a list of names", f"shape {value.shape}")
        found = [_decode(item, place) for item in value.tolist()]
        return [one for one in found if isinstance(one, str)] if len(value) else []
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return str(value) if isinstance(value, str) else None
