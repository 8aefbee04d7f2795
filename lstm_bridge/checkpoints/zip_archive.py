"""The members of a checked zip: read by range where stored, inflated under a budget where not."""

from __future__ import annotations

import io
import tempfile
import zlib
from collections.abc import Iterator
from typing import IO

from lstm_bridge.checkpoints.source import CHUNK, Source, Window
from lstm_bridge.checkpoints.zip_directory import STORED, Member, read_directory

_FREE_INFLATION = 64 << 20
_MAX_RATIO = 200


class ZipArchive:
    """A zip archive whose directory has been checked.

    Args:
        source: the open file.

    Attributes:
        members: name → ``Member``; folders left out.

    Raises:
        ContainerError: for a damaged, ambiguous or hostile directory.
    """

    def __init__(self, source: Source) -> None:
        self.source, self.place = source, source.place
        self.members = read_directory(source, self.place)
        self._sound: set[str] = set()
        self._check_total()

    def _check_total(self) -> None:
        total = sum(member.size for member in self.members.values() if member.method != STORED)
        limit = max(_FREE_INFLATION, _MAX_RATIO * self.source.size)
        if total > limit:
            raise self.place.container(f"at most {limit} bytes once inflated", str(total))

    def read(self, name: str, limit: int) -> bytes:
        """Return a whole small member.

        Args:
            name: the member.
            limit: the most bytes it may have.

        Raises:
            ContainerError: if it is longer, or damaged.
        """
        member = self.members[name]
        if member.size > limit:
            raise self.place.inside(name).container(f"at most {limit} bytes", f"{member.size}")
        out = bytearray(member.size)
        self.read_into(name, 0, memoryview(out))
        return bytes(out)

    def peek(self, name: str, count: int) -> bytes:
        """Return the first bytes of a member, its checksum not yet checked."""
        member = self.members[name]
        if member.method == STORED:
            return self.source.read(member.start, min(count, member.size))
        found = b""
        for chunk in self._inflated(member):
            found += chunk[: count - len(found)]
            if len(found) == count:
                break
        return found

    def read_into(self, name: str, offset: int, out: memoryview) -> None:
        """Fill ``out`` with the member's bytes from ``offset`` on; the checksum is always checked.

        Raises:
            ContainerError: if the member is damaged.
        """
        member = self.members[name]
        if member.method != STORED:
            self._inflate_into(member, offset, out)
        elif len(out) == member.size:
            self.source.read_into(member.start, out)
            self._check_crc(member, zlib.crc32(out))
        else:
            self._verify(member)
            self.source.read_into(member.start + offset, out)

    def filling(self, name: str, buffers: Iterator[memoryview]) -> Iterator[memoryview]:
        """Yield a stored member's bytes in the buffers given; its checksum is checked at the end.

        Raises:
            ContainerError: if the member is damaged.
        """
        member, crc = self.members[name], 0
        for part in self.source.filling(member.start, member.size, buffers):
            crc = zlib.crc32(part, crc)
            yield part
        self._check_crc(member, crc)

    def is_stored(self, name: str) -> bool:
        """Say whether a member's bytes lie in the file as they are."""
        return self.members[name].method == STORED

    def open(self, name: str) -> IO[bytes] | io.RawIOBase:
        """Return the member as a seekable file, its checksum checked.

        A deflated member is unpacked to an anonymous temporary file.
        """
        member = self.members[name]
        if member.method == STORED:
            self._verify(member)
            return Window(self.source, member.start, member.size)
        unpacked = tempfile.TemporaryFile()  # noqa: SIM115  (the caller closes it)
        try:
            for chunk in self._inflated(member):
                unpacked.write(chunk)
        except BaseException:
            unpacked.close()
            raise
        unpacked.seek(0, io.SEEK_SET)
        return unpacked

    def _verify(self, member: Member) -> None:
        """Check a stored member's checksum once, a chunk at a time."""
        if member.name in self._sound:
            return
        crc = 0
        for at in range(0, member.size, CHUNK):
            crc = zlib.crc32(self.source.read(member.start + at, min(CHUNK, member.size - at)), crc)
        self._check_crc(member, crc)

    def _check_crc(self, member: Member, crc: int) -> None:
        if crc != member.crc:
            raise self.place.inside(member.name).container(
                f"content with CRC {member.crc:08x}", f"{crc:08x}"
            )
        self._sound.add(member.name)

    def _inflate_into(self, member: Member, offset: int, out: memoryview) -> None:
        at = 0
        for chunk in self._inflated(member):
            first, last = max(offset - at, 0), min(offset + len(out) - at, len(chunk))
            if first < last:
                begin = at + first - offset
                out[begin : begin + last - first] = chunk[first:last]
            at += len(chunk)

    def _inflated(self, member: Member) -> Iterator[bytes]:
        """Yield the member's content in chunks; never more of it than the directory declares."""
        place = self.place.inside(member.name)
        if member.size > max(_FREE_INFLATION, _MAX_RATIO * member.packed):
            got = f"{member.packed} bytes that would become {member.size}"
            raise place.container(f"inflation of at most {_MAX_RATIO}-fold", got)
        crc = made = 0
        for chunk in self._raw_inflated(member):
            made += len(chunk)
            if made > member.size:
                raise place.container(f"{member.size} bytes once inflated", "more")
            crc = zlib.crc32(chunk, crc)
            yield chunk
        if made != member.size:
            raise place.container(f"{member.size} bytes once inflated", str(made))
        self._check_crc(member, crc)

    def _raw_inflated(self, member: Member) -> Iterator[bytes]:
        place = self.place.inside(member.name)
        engine = zlib.decompressobj(-zlib.MAX_WBITS)
        for at in range(0, member.packed, CHUNK):
            raw = self.source.read(member.start + at, min(CHUNK, member.packed - at))
            while raw and not engine.eof:
                try:
                    yield engine.decompress(raw, CHUNK)
                except zlib.error as error:
                    raise place.container("deflated bytes", f"damage: {error}") from None
                raw = engine.unconsumed_tail
            if engine.eof and (raw or engine.unused_data or at + CHUNK < member.packed):
                raise place.container("a deflated stream and nothing after it", "a tail")
        yield engine.flush()
        if not engine.eof:
            raise place.container("a whole deflated stream", "one cut short")
