"""torch's format before 1.6: pickles one after the other, then every storage's bytes."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import IO, ClassVar, Self

from lstm_bridge.checkpoints.dtypes import DTYPES
from lstm_bridge.checkpoints.place import Place
from lstm_bridge.checkpoints.probe import Probe
from lstm_bridge.checkpoints.source import Source, Window
from lstm_bridge.checkpoints.torch_pickle import StorageRef, TensorRef, load_pickle
from lstm_bridge.checkpoints.torch_tensors import StorageFile, check_view
from lstm_bridge.checkpoints.torch_tree import flatten
from lstm_bridge.errors import quote

_MAGIC = 0x1950A86A20F9469CFC6C
_MAGIC_BYTES = _MAGIC.to_bytes(10, "little")
_PROTOCOL = 1001
_MAX_PICKLES = 64 << 20
_OTHER_WIDTHS = {
    "ComplexHalf": 4, "ComplexFloat": 8, "ComplexDouble": 16,
    "QInt8": 1, "QUInt8": 1, "QUInt4x2": 1, "QUInt2x4": 1, "QInt32": 4,
}  # fmt: skip


@dataclass(slots=True)
class TorchLegacy(StorageFile):
    """A ``.pt``, ``.pth``, ``.bin`` or ``.th`` that torch 0.4 to 1.5 wrote."""

    format: ClassVar[str] = "torch legacy"
    framework: ClassVar[str] = "torch"
    extensions: ClassVar[tuple[str, ...]] = (".pt", ".pth", ".bin", ".ckpt", ".th", ".pkl")

    source: Source = field(kw_only=True)
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def recognises(cls, probe: Probe) -> bool:
        """Say whether a pickle of torch's magic number stands at the beginning."""
        return probe.head.startswith(b"\x80") and _MAGIC_BYTES in probe.head[:32]

    @classmethod
    def of(cls, probe: Probe) -> Self:
        """Open the file: read the pickles, find every storage, read no tensor."""
        source = probe.source
        place = source.place
        window = Window(source, 0, min(source.size, _MAX_PICKLES))
        stream: IO[bytes] = io.BufferedReader(window)
        _check_preamble(stream, place)
        root, storages = load_pickle(stream, place)
        tree = flatten(root, place)
        keys, _ = load_pickle(stream, place)
        file = cls(source.path, left_out=tree.left_out, source=source)
        file.spans = _spans(source, stream.tell(), keys, storages)
        for name, ref in tree.tensors.items():
            file.views[name] = check_view(name, ref, file._stored(ref), place)
        file.describe()
        file.metadata = {"sections": tree.sections, "values": tree.values, "torchscript": False}
        return file

    def _stored(self, ref: TensorRef) -> int | None:
        if not isinstance(ref.storage, StorageRef) or ref.storage.key not in self.spans:
            return None
        return self.spans[ref.storage.key][1]

    def read_storage(self, key: str, offset: int, out: memoryview) -> None:
        """Fill ``out`` from the storage's place in the file."""
        self.source.read_into(self.spans[key][0] + offset, out)

    def close(self) -> None:
        """Release the file."""
        self.source.close()


def _check_preamble(stream: IO[bytes], place: Place) -> None:
    magic, _ = load_pickle(stream, place)
    protocol, _ = load_pickle(stream, place)
    facts, _ = load_pickle(stream, place)
    if magic != _MAGIC or protocol != _PROTOCOL or not isinstance(facts, dict):
        raise place.container(f"torch's magic number and protocol {_PROTOCOL}", "other numbers")


def _spans(
    source: Source, at: int, keys: object, storages: dict[str, StorageRef]
) -> dict[str, tuple[int, int]]:
    """Return storage key → where its bytes begin, and how many there are."""
    place = source.place
    if not isinstance(keys, list) or len(set(map(repr, keys))) != len(keys):
        raise place.container("a list of unique storage keys", "another object")
    spans = {}
    for key in keys:
        if key not in storages:
            raise place.container("storage keys that the pickle names", quote(key))
        count = int.from_bytes(source.read(at, 8), "little")
        size = count * _width(storages[key], place)
        if at + 8 + size > source.size:
            got = f"{max(0, source.size - at - 8)} left in the file"
            raise place.container(f"{size} bytes for storage {quote(key)}", got)
        spans[key] = (at + 8, size)
        at += 8 + size
    if at != source.size:
        raise place.container("the last storage and nothing after", f"{source.size - at} bytes")
    return spans


def _width(storage: StorageRef, place: Place) -> int:
    """Return the bytes per element, also of dtypes that are only skipped."""
    if storage.dtype is not None:
        return DTYPES[storage.dtype].bits.itemsize
    name = storage.kind.rpartition(".")[2].removesuffix("Storage")
    if name not in _OTHER_WIDTHS:
        raise place.container("a storage class of torch's", quote(storage.kind))
    return _OTHER_WIDTHS[name]
