"""HDF5 as far as weights need it: a tree of groups and plain number arrays, checked before a read.

Only hard links are followed, so nothing outside the file is ever opened; shapes are believed only
as far as the bytes in the file reach.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import IO, NamedTuple

import numpy as np

from lstm_bridge.checkpoints.base import Array, TensorInfo
from lstm_bridge.checkpoints.dtypes import DTYPES
from lstm_bridge.checkpoints.hdf5_chunks import Chunks, read_chunks, read_filters, read_index
from lstm_bridge.checkpoints.hdf5_format import (
    ATTRIBUTE,
    ATTRIBUTE_INFO,
    DATASPACE,
    DATATYPE,
    EXTERNAL,
    FILTERS,
    LATEST,
    LAYOUT,
    UNDEFINED,
    Cursor,
    Hdf5Bytes,
    Message,
)
from lstm_bridge.checkpoints.hdf5_links import read_links
from lstm_bridge.checkpoints.hdf5_types import Attribute, Datatype, read_shape
from lstm_bridge.checkpoints.place import Place

MAX_DEPTH = 32
MAX_OBJECTS = 20_000
_COMPACT, _CONTIGUOUS, _CHUNKED, _VIRTUAL = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class Dataset:
    """A checked dataset.

    Args:
        info: shape, dtype and (as ``stored_as``) the address shared by hard links to it.
        swapped: whether it is big-endian.
        where: its bytes, their address, or its chunks.
    """

    info: TensorInfo
    swapped: bool
    where: bytes | int | Chunks


class _Node(NamedTuple):
    """An object in the file: a group's links, or a dataset; and its attributes."""

    links: dict[str, int] | None
    dataset: Dataset | None
    attributes: dict[str, Attribute]


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

    def __init__(self, stream: IO[bytes] | io.RawIOBase, size: int, place: Place) -> None:
        self._place = place
        self._data = Hdf5Bytes(stream, size, place)
        self.datasets: dict[str, Dataset] = {}
        self.groups: list[str] = []
        self._attributes: dict[str, dict[str, Attribute]] = {}
        self._nodes: dict[int, _Node] = {}  # by address: hard links may lead to one often
        self._walk(self._data.root, "", ())

    def close(self) -> None:
        """Release the file."""
        self._data.close()

    def read(self, path: str) -> Array:
        """Return one dataset: C-contiguous, native byte order."""
        dataset = self.datasets[path]
        dtype = DTYPES[dataset.info.dtype].bits
        out = np.empty(dataset.info.shape, dtype.newbyteorder(">") if dataset.swapped else dtype)
        if isinstance(dataset.where, Chunks):
            read_chunks(self._data, dataset.where, out, self._place.inside(path))
        elif isinstance(dataset.where, bytes):
            out = np.frombuffer(dataset.where, out.dtype).reshape(out.shape).copy()
        elif out.size:
            self._data.read_into(dataset.where, out.reshape(-1).view(np.uint8).data)
        return out.astype(dtype.newbyteorder("="), copy=False)

    def text(self, path: str, name: str) -> str | None:
        """Return a text attribute of a group or dataset; ``None`` if there is none."""
        found = self._texts(path, name)
        return found[0][0] if found is not None and len(found[0]) == 1 else None

    def texts(self, path: str, name: str) -> list[str] | None:
        """Return an attribute of many texts, put together where Keras split it into pieces."""
        found = self._texts(path, name)
        if found is not None:
            return found[0]
        pieces: list[str] = []
        number = 0
        while (piece := self._texts(path, f"{name}{number}")) is not None:
            pieces += piece[0]
            number += 1
        return pieces if number else None

    def _texts(self, path: str, name: str) -> tuple[list[str], bool] | None:
        attribute = self._attributes.get(path, {}).get(name)
        return attribute.texts(self._data) if attribute is not None else None

    # -- the walk -------------------------------------------------------------------------------

    def _walk(self, address: int, path: str, above: tuple[int, ...]) -> None:
        place = self._place.inside(path) if path else self._place
        if len(above) > MAX_DEPTH:
            raise place.container(f"groups at most {MAX_DEPTH} deep", "deeper ones")
        if address in above:
            raise place.container("a tree of groups", "a hard-link cycle")
        if len(self.groups) + len(self.datasets) >= MAX_OBJECTS:
            raise place.container(f"at most {MAX_OBJECTS} HDF5 objects", "more")
        if address not in self._nodes:
            self._nodes[address] = self._node(address, path, place)
        links, dataset, self._attributes[path] = self._nodes[address]
        if dataset is not None:
            self.datasets[path] = dataset
        if links is not None:
            self.groups.append(path)
            for name, target in links.items():
                self._walk(target, f"{path}/{name}" if path else name, (*above, address))

    def _node(self, address: int, path: str, place: Place) -> _Node:
        messages = self._data.messages(address)
        links = read_links(self._data, messages, place)
        attributes = self._read_attributes(messages, place)
        if links is not None:
            return _Node(links, None, attributes)
        return _Node(None, self._dataset(messages, path, address, attributes), attributes)

    def _read_attributes(self, messages: list[Message], place: Place) -> dict[str, Attribute]:
        found: dict[str, Attribute] = {}
        for message in messages:
            if message.kind == ATTRIBUTE:
                attribute = Attribute(message.body, place)
                found[attribute.name] = attribute
            elif message.kind == ATTRIBUTE_INFO:
                cursor = Cursor(message.body, place)
                cursor.take(1)
                cursor.take(2 if cursor.number(1) & 1 else 0)
                if cursor.number(8) != UNDEFINED:
                    raise place.container("attributes in the header", "dense attributes", LATEST)
        return found

    def _dataset(
        self, messages: list[Message], path: str, address: int, attributes: dict[str, Attribute]
    ) -> Dataset:
        place = self._place.inside(path)
        bodies: dict[int, bytes] = {}
        for message in messages:
            if message.kind == EXTERNAL:
                raise place.container("data inside the file", "external storage")
            if message.kind in bodies and message.kind in (DATASPACE, DATATYPE, LAYOUT, FILTERS):
                raise place.container("one shape, type and layout", "two")
            bodies[message.kind] = message.body
        if not {DATASPACE, DATATYPE, LAYOUT} <= set(bodies):
            raise place.container("a group or a dataset", "another object")
        layout = Cursor(bodies[LAYOUT], place)
        version, kind = layout.number(1), layout.number(1)
        if kind == _VIRTUAL:
            raise place.container("data inside the file", "a virtual dataset")
        if version not in (3, 4) or kind not in (_COMPACT, _CONTIGUOUS, _CHUNKED):
            raise place.container("a data layout of version 3", f"{version}, class {kind}", LATEST)
        if version == 4 and kind == _CHUNKED:
            raise place.container("chunks in a version 1 B-tree", "a newer index", LATEST)
        datatype = Datatype(bodies[DATATYPE], place)
        shape = read_shape(bodies[DATASPACE], place)
        if shape is None:
            raise self._place.tensor(path, "a shape", "a null dataspace")
        code = self._code(datatype, path, attributes.get("dtype"))
        where = self._where(layout, kind, shape, datatype.size, bodies.get(FILTERS), path)
        return Dataset(TensorInfo(shape, code, f"@{address}"), datatype.swapped, where)

    def _code(self, datatype: Datatype, path: str, mark: Attribute | None) -> str:
        if datatype.code is not None:
            return datatype.code
        if datatype.is_pair_of_bytes and mark is not None:
            marked = mark.texts(self._data)
            if marked is not None and marked[0] == ["bfloat16"]:
                return "BF16"
        fix = "store plain numbers"
        raise self._place.tensor(path, f"one of {', '.join(DTYPES)}", datatype.name, fix)

    def _where(
        self,
        layout: Cursor,
        kind: int,
        shape: tuple[int, ...],
        width: int,
        filters: bytes | None,
        path: str,
    ) -> bytes | int | Chunks:
        """Find the data, and check the declared size against the bytes that are there."""
        nbytes = math.prod(shape) * width
        if kind == _CHUNKED:
            return self._chunked(layout, shape, width, filters, path)
        if kind == _COMPACT:
            stored = layout.number(2)
            found: bytes | int = layout.take(stored)
        else:
            address, stored = layout.number(8), layout.number(8)
            found = 0 if nbytes == 0 else address
            if nbytes and address + nbytes > self._data.size:
                none = address == UNDEFINED
                got = "none" if none else f"{nbytes} bytes at {address} of {self._data.size}"
                raise self._place.tensor(path, "data inside the file", got)
        if stored != nbytes or filters is not None:
            raise self._place.tensor(path, f"{nbytes} plain bytes of data", f"{stored}")
        return found

    def _chunked(
        self,
        layout: Cursor,
        shape: tuple[int, ...],
        width: int,
        filters: bytes | None,
        path: str,
    ) -> Chunks:
        place = self._place.inside(path)
        rank, tree = layout.number(1), layout.number(8)
        *chunk, element = [layout.number(4) for _ in range(rank)] or [0]
        if len(chunk) != len(shape) or element != width:
            raise place.container(f"chunks of {len(shape)} dimensions", f"{len(chunk)}")
        steps = () if filters is None else read_filters(filters, place)
        if 0 in shape:
            return Chunks(tuple(chunk), steps, ())
        if tree == UNDEFINED:
            raise self._place.tensor(path, "data inside the file", "none")
        return read_index(self._data, tree, shape, tuple(chunk), width, steps, place)
