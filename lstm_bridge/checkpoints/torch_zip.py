"""torch's zip format (1.6 and later): state dicts, nested ones, whole modules, TorchScript."""

from __future__ import annotations

import io
import math
import re
import sys
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, Self

from lstm_bridge.checkpoints.base import Filling
from lstm_bridge.checkpoints.dtypes import DTYPES
from lstm_bridge.checkpoints.place import Place
from lstm_bridge.checkpoints.probe import Probe
from lstm_bridge.checkpoints.torch_pickle import StorageRef, TensorRef, load_pickle
from lstm_bridge.checkpoints.torch_tensors import StorageFile, check_view, is_plain
from lstm_bridge.checkpoints.torch_tree import class_of, flatten
from lstm_bridge.checkpoints.zip_archive import ZipArchive
from lstm_bridge.errors import quote

_MAX_PICKLE = 64 << 20
_MAX_CODE = 8 << 20
_NEWEST = 10  # torch's kMaxSupportedFileFormatVersion
_KEY = re.compile(r"[A-Za-z0-9_.-]+")
_PICKLE = "/data.pkl"


@dataclass(slots=True)
class TorchZip(StorageFile):
    """A ``.pt``, ``.pth``, ``.bin`` or ``.ckpt`` that torch 1.6 or later wrote."""

    format: ClassVar[str] = "torch zip"
    framework: ClassVar[str] = "torch"
    extensions: ClassVar[tuple[str, ...]] = (".pt", ".pth", ".bin", ".ckpt", ".th", ".pkl")

    archive: ZipArchive = field(kw_only=True)
    root: str = field(kw_only=True)

    @classmethod
    def recognises(cls, probe: Probe) -> bool:
        """Say whether the file is a zip with a ``data.pkl`` in its only folder."""
        return any(name.endswith(_PICKLE) and name.count("/") == 1 for name in probe.members)

    @classmethod
    def of(cls, probe: Probe) -> Self:
        """Open the file: read the pickle, check every tensor's view, read no tensor."""
        archive = probe.archive
        if archive is None:
            raise TypeError("not a zip")
        root = _root(archive)
        name = root + _PICKLE
        place = archive.place.inside(name)
        stream = io.BytesIO(archive.read(name, _MAX_PICKLE))
        root_object, _ = load_pickle(stream, place)
        tree = flatten(root_object, place)
        if left := len(stream.getvalue()) - stream.tell():
            raise place.container("a pickle and nothing after it", f"{left} bytes after it")
        file = cls(probe.source.path, left_out=tree.left_out, archive=archive, root=root)
        file.swapped = _is_big_endian(archive, root)
        _check_version(archive, root)
        for tensor, ref in tree.tensors.items():
            file.views[tensor] = check_view(tensor, ref, file._stored(tensor, ref, place), place)
        file.describe()
        file.metadata = {
            "sections": tree.sections,
            "values": tree.values,
            "torchscript": any(name.startswith(f"{root}/code/") for name in archive.members),
            "class": class_of(root_object),
        }
        return file

    def code(self, name: str) -> str:
        """Return the text of a TorchScript source file, to be read and never run.

        Args:
            name: its path below ``code/``.

        Raises:
            ContainerError: there is none, it is too long, or no text.
        """
        member = f"{self.root}/code/{name}"
        if member not in self.archive.members:
            raise self.archive.place.container(f"a member {quote(member)}", "none")
        try:
            return self.archive.read(member, _MAX_CODE).decode("utf-8")
        except UnicodeDecodeError:
            raise self.archive.place.inside(member).container("text", "other bytes") from None

    def constants(self) -> list[str]:
        """Return the names of a TorchScript archive's constants, which are tensors from now on.

        Raises:
            ContainerError: the archive's list of them is damaged.
            TensorError: one of them is.
        """
        name = f"{self.root}/constants.pkl"
        if name not in self.archive.members:
            return []
        place = self.archive.place.inside(name)
        found, _ = load_pickle(io.BytesIO(self.archive.read(name, _MAX_PICKLE)), place)
        if not isinstance(found, list | tuple):
            raise place.container("a list of constants", type(found).__name__)
        names = []
        for index, ref in enumerate(found):
            one = f"_constant_{index}"
            if not isinstance(ref, TensorRef) or one in self.views:
                raise place.container("tensors as constants", type(ref).__name__)
            view = check_view(one, ref, self._stored(one, ref, place, "constants"), place)
            self.views[one] = replace(view, key=f"constants/{view.key}")
            names.append(one)
        self.describe()
        return names

    def _stored(self, name: str, ref: TensorRef, place: Place, folder: str = "data") -> int | None:
        """Return the length of the storage's member."""
        if not isinstance(ref.storage, StorageRef):
            return None
        key = ref.storage.key
        if not _KEY.fullmatch(key) or key in (".", ".."):
            raise place.tensor(name, "a storage key of letters and digits", quote(key))
        member = self.archive.members.get(f"{self.root}/{folder}/{key}")
        return None if member is None else member.size

    def read_storage(self, key: str, offset: int, out: memoryview) -> None:
        """Fill ``out`` from the storage's member."""
        self.archive.read_into(self._member(key), offset, out)

    def blocks(self, name: str) -> Filling | None:
        """Return what reads one tensor block by block, if it is all of a stored member."""
        view = self.views[name]
        member = self._member(view.key)
        width = DTYPES[view.dtype].bits.itemsize
        whole = math.prod(view.shape) * width == self.archive.members[member].size
        if self.swapped or sys.byteorder != "little" or not whole or not is_plain(view):
            return None
        stored = self.archive.is_stored(member)
        return partial(self.archive.filling, member) if stored else None

    def _member(self, key: str) -> str:
        # A key of the pickle's own has no slash: a key with one is among the constants.
        return f"{self.root}/{key if '/' in key else f'data/{key}'}"

    def close(self) -> None:
        """Release the file."""
        self.archive.source.close()


def _root(archive: ZipArchive) -> str:
    """Return the folder that everything is in."""
    roots = {name.partition("/")[0] for name in archive.members}
    if len(roots) != 1:
        raise archive.place.container("one folder in a torch zip", f"{len(roots)}")
    return roots.pop()


def _check_version(archive: ZipArchive, root: str) -> None:
    places = (f"{root}/version", f"{root}/.data/version")  # the second from version 10 on
    name = next((place for place in places if place in archive.members), places[0])
    version = archive.read(name, 16).strip() if name in archive.members else b""
    if not version.isdigit() or not 1 <= int(version) <= _NEWEST:
        expected = f"torch's file version from 1 to {_NEWEST}"
        raise archive.place.inside(name).container(expected, quote(version))


def _is_big_endian(archive: ZipArchive, root: str) -> bool:
    name = f"{root}/byteorder"
    order = archive.read(name, 16) if name in archive.members else b"little"
    if order not in (b"little", b"big"):
        raise archive.place.inside(name).container("'little' or 'big'", quote(order))
    return order == b"big"
