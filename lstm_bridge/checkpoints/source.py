"""A regular file opened for reading by position: nothing else of the file system is touched."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from lstm_bridge.checkpoints.place import Place
from lstm_bridge.errors import FileSystemError, printable

CHUNK = 1 << 20
"""Bytes that streaming work (checksums, inflation, hashing) holds at a time."""

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFSOCK: "a socket",
}


class Source:
    """A checkpoint file held open, read by offset, refused when it changes meanwhile.

    Args:
        path: the file; symbolic links are followed.

    Raises:
        FileSystemError: if it is missing, unreadable or no regular file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.place = Place(path)
        self._handle = self._open()
        self._seen = self._stamp()
        self.size = self._seen[0]

    def _open(self) -> io.FileIO:
        """Open without ever blocking on a FIFO: look first, and look again once open."""
        try:
            self._require_regular(os.stat(self.path).st_mode)
            handle = open(self.path, "rb", buffering=0, opener=_without_blocking)  # noqa: SIM115
        except FileSystemError:
            raise
        except OSError as error:
            self._fail("a readable file", _reason(error))
        except ValueError as error:  # a NUL byte in the name
            self._fail("a usable path", str(error))
        self._require_regular(os.fstat(handle.fileno()).st_mode)
        return handle

    def _require_regular(self, mode: int) -> None:
        if not stat.S_ISREG(mode):
            kind = _KINDS.get(stat.S_IFMT(mode), "no regular file")
            self._fail("a regular file", kind, "give the path of a checkpoint file")

    def _fail(self, expected: str, got: str, fix: str = "check the path") -> NoReturn:
        raise FileSystemError(printable(self.path), expected=expected, got=got, fix=fix) from None

    def _stamp(self) -> tuple[int, int, int, int]:
        facts = os.fstat(self._handle.fileno())
        return facts.st_size, facts.st_mtime_ns, facts.st_ino, facts.st_dev

    def read_into(self, offset: int, out: memoryview) -> None:
        """Fill ``out`` with the bytes from ``offset`` on.

        Args:
            offset: position in the file, in bytes.
            out: a writable, C-contiguous view of bytes.

        Raises:
            FileSystemError: if the file ends early or was changed since it was opened.
        """
        try:
            self._handle.seek(offset)
            done = 0
            while done < len(out):
                got = self._handle.readinto(out[done:])
                if not got:
                    break
                done += got
        except OSError as error:
            self._fail("a readable file", _reason(error))
        if done < len(out) or self._stamp() != self._seen:
            self._fail("a file at rest", "one that changed while it was read", "try again")

    def filling(
        self, offset: int, count: int, buffers: Iterator[memoryview]
    ) -> Iterator[memoryview]:
        """Yield ``count`` bytes from ``offset`` on, in the buffers given."""
        done = 0
        while done < count:
            part = next(buffers)[: count - done]
            self.read_into(offset + done, part)
            done += len(part)
            yield part

    def read(self, offset: int, count: int) -> bytes:
        """Return ``count`` bytes from ``offset`` on, or as many as the file has."""
        buffer = bytearray(max(0, min(count, self.size - offset)))
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def close(self) -> None:
        """Release the file."""
        self._handle.close()


class Window(io.RawIOBase):
    """A part of a source as a read-only file object.

    Args:
        source: the open file.
        start: where the part begins, in bytes.
        size: how long it is, in bytes.
    """

    def __init__(self, source: Source, start: int, size: int) -> None:
        super().__init__()
        self._source, self._start, self._size, self._at = source, start, size, 0

    def readable(self) -> bool:
        """Say that reading works."""
        return True

    def seekable(self) -> bool:
        """Say that seeking works."""
        return True

    def tell(self) -> int:
        """Return the position from the part's beginning."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to ``offset`` from the beginning, the position or the end."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("a position before the beginning")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill ``buffer`` as far as the part goes; return the number of bytes."""
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self._size - self._at))
        self._source.read_into(self._start + self._at, view[:count])
        self._at += count
        return count


def _without_blocking(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return "nothing at that path"
    return error.strerror or str(error)
