"""What a file shows before it is opened as a checkpoint, and the interface of a format."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Protocol

from lstm_bridge.checkpoints.base import Checkpoint
from lstm_bridge.checkpoints.source import Source, Window
from lstm_bridge.checkpoints.zip_archive import ZipArchive

if TYPE_CHECKING:
    from lstm_bridge.checkpoints.hdf5 import Hdf5File

ZIP_MAGIC = b"PK\x03\x04"
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_HEAD = 512


class Probe:
    """An open file with what its first bytes and, for a zip, its directory say.

    Args:
        source: the open file; the format that recognises it takes it over.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.head = source.read(0, _HEAD)

    @cached_property
    def archive(self) -> ZipArchive | None:
        """The zip archive that the file is, checked; ``None`` for any other file."""
        return ZipArchive(self.source) if self.head.startswith(ZIP_MAGIC) else None

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the zip's members; none for any other file."""
        return tuple(self.archive.members) if self.archive else ()

    @cached_property
    def hdf5(self) -> Hdf5File | None:
        """The HDF5 file that the file is, checked; ``None`` for any other file."""
        if not self.head.startswith(HDF5_MAGIC):
            return None
        from lstm_bridge.checkpoints.hdf5 import Hdf5File

        whole = Window(self.source, 0, self.source.size)
        return Hdf5File(whole, self.source.size, self.source.place)

    def close(self) -> None:
        """Release everything, when no format has taken the file over."""
        if file := self.__dict__.get("hdf5"):
            file.close()
        self.source.close()


class Format(Protocol):
    """What ``open_checkpoint`` asks of a format: a ``Checkpoint`` class with two class methods."""

    format: ClassVar[str]
    extensions: ClassVar[tuple[str, ...]]

    @classmethod
    def recognises(cls, probe: Probe) -> bool:
        """Say whether the file's content, not its name, is of this format."""

    @classmethod
    def of(cls, probe: Probe) -> Checkpoint:
        """Open the recognised file."""
