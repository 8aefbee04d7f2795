"""HDF5's skeleton: superblock and object headers, parsed here and bounded.

The HDF5 library crashes or spins on some damaged metadata, so it is not asked. What h5py writes by
default is all here; what only ``libver="latest"`` writes (dense attributes, new chunk indexes) is
refused by name. After the HDF5 File Format Specification, version 3.0.
"""

from __future__ import annotations

import io
from typing import IO, NamedTuple

from lstm_bridge.checkpoints.place import Place

UNDEFINED = 0xFFFFFFFFFFFFFFFF
LATEST = "write it with h5py's default libver"
_MAX_HEADER = 16 << 20
_MAX_MESSAGES = 100_000
_MASK = 0xFFFFFFFF

DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL = 0x01, 0x02, 0x03, 0x06, 0x07
LAYOUT, FILTERS, ATTRIBUTE, CONTINUATION = 0x08, 0x0B, 0x0C, 0x10
SYMBOL_TABLE, ATTRIBUTE_INFO = 0x11, 0x15
_SHARED = 0x02


class Message(NamedTuple):
    """One message of an object header."""

    kind: int
    flags: int
    body: bytes


class Cursor:
    """Reads little-endian numbers off bytes, and never past their end.

    Args:
        raw: the bytes.
        place: what error messages name.
    """

    def __init__(self, raw: bytes, place: Place) -> None:
        self.raw, self.place, self.at = raw, place, 0

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        found = self.raw[self.at : self.at + count]
        if len(found) != count:
            raise self.place.container(f"{count} more bytes of HDF5 metadata", f"{len(found)}")
        self.at += count
        return found

    def number(self, width: int) -> int:
        """Return the next ``width`` bytes as an unsigned number."""
        return int.from_bytes(self.take(width), "little")

    def expect(self, wanted: bytes, what: str) -> None:
        """Require the next bytes to be ``wanted``."""
        if self.take(len(wanted)) != wanted:
            raise self.place.container(what, "other bytes")

    def until_nul(self) -> bytes:
        """Return the bytes up to the next NUL, which is taken too."""
        stop = self.raw.find(b"\0", self.at)
        if stop < 0:
            raise self.place.container("text that ends", "text without an end")
        found = self.raw[self.at : stop]
        self.at = stop + 1
        return found

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return len(self.raw) - self.at


class Hdf5Bytes:
    """The file's bytes by address, and what every HDF5 file begins with.

    Args:
        stream: the bytes, seekable.
        size: how many there are.
        place: what error messages name.
    """

    def __init__(self, stream: IO[bytes] | io.RawIOBase, size: int, place: Place) -> None:
        self._stream, self.size, self.place = stream, size, place
        self.root = self._superblock()

    def cursor(self, address: int, count: int) -> Cursor:
        """Return a cursor over ``count`` bytes at ``address``."""
        if count > _MAX_HEADER:
            raise self.place.container(f"HDF5 metadata of at most {_MAX_HEADER} bytes", f"{count}")
        raw = bytearray(count)
        self.read_into(address, memoryview(raw))
        return Cursor(bytes(raw), self.place)

    def read_into(self, address: int, out: memoryview) -> None:
        """Fill ``out`` from ``address`` on."""
        if address + len(out) > self.size:
            got = f"{len(out)} bytes at {address} of {self.size}"
            raise self.place.container("HDF5 data inside the file", got)
        self._stream.seek(address)
        done = 0
        while done < len(out):
            got_bytes = self._stream.read(min(len(out) - done, 1 << 20)) or b""
            if not got_bytes:
                raise self.place.container("HDF5 data inside the file", "an early end")
            out[done : done + len(got_bytes)] = got_bytes
            done += len(got_bytes)

    def close(self) -> None:
        """Release the bytes."""
        self._stream.close()

    def _superblock(self) -> int:
        """Check the superblock; return the root group's address."""
        cursor = self.cursor(0, min(self.size, 96))
        cursor.expect(b"\x89HDF\r\n\x1a\n", "HDF5's magic")
        version = cursor.number(1)
        if version in (0, 1):
            cursor.expect(b"\0\0\0\0", "HDF5 with structures of version 0")
            self._check_widths(cursor)
            cursor.take(1 + 2 + 2 + 4 + (4 if version else 0))
            base, _, end, _ = (cursor.number(8) for _ in range(4))
            cursor.take(8)
        elif version in (2, 3):
            self._check_widths(cursor)
            cursor.take(1)
            base, _, end = (cursor.number(8) for _ in range(3))
        else:
            raise self.place.container("an HDF5 superblock of version 0 to 3", f"{version}")
        root = cursor.number(8)
        if version >= 2:
            check_sum(cursor.raw[: cursor.at + 4], self.place)
        if base or end != self.size:
            got = f"one of {self.size}" if end != self.size else f"data from {base} on"
            raise self.place.container(f"an HDF5 file of {end} bytes", got)
        return root

    def _check_widths(self, cursor: Cursor) -> None:
        widths = (cursor.number(1), cursor.number(1))
        if widths != (8, 8):
            raise self.place.container("HDF5 addresses of 8 bytes", f"widths {widths}")

    def messages(self, address: int) -> list[Message]:
        """Return the messages of the object at ``address``."""
        start = self.cursor(address, min(16, max(0, self.size - address)))
        if start.raw.startswith(b"OHDR"):
            found = self._new_messages(address)
        else:
            found = self._old_messages(address, start)
        for message in found:
            if message.flags & _SHARED and message.kind in (DATATYPE, DATASPACE, FILTERS, LAYOUT):
                raise self.place.container("an object's own type and shape", "shared ones")
        return found

    def _old_messages(self, address: int, start: Cursor) -> list[Message]:
        if start.number(1) != 1:
            raise self.place.container("an HDF5 object header", f"other bytes at {address}")
        start.take(1)
        count, _, size = start.number(2), start.number(4), start.number(4)
        blocks, found, seen = [(address + 16, size)], list[Message](), set[int]()
        while blocks and len(found) <= count:
            at, length = blocks.pop(0)
            if at in seen:
                raise self.place.container("object header blocks that differ", "one twice")
            seen.add(at)
            cursor = self.cursor(at, length)
            while cursor.left >= 8 and len(found) <= count:
                kind, width, flags = cursor.number(2), cursor.number(2), cursor.number(1)
                cursor.take(3)
                found.append(Message(kind, flags, cursor.take(width)))
                blocks += self._continued(found[-1])
        if len(found) != count:
            raise self.place.container(f"{count} header messages", f"{len(found)}")
        return found

    def _new_messages(self, address: int) -> list[Message]:
        cursor = self.cursor(address, min(_MAX_HEADER, self.size - address, 64))
        cursor.expect(b"OHDR\x02", "an object header of version 2")
        flags = cursor.number(1)
        cursor.take((16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0))
        size = cursor.number(1 << (flags & 3))
        blocks = [(address, cursor.at, size + cursor.at + 4)]
        found: list[Message] = []
        seen: set[int] = set()
        while blocks:
            at, skip, length = blocks.pop(0)
            if at in seen or len(found) > _MAX_MESSAGES:
                raise self.place.container("object header blocks that differ", "one twice")
            seen.add(at)
            block = self.cursor(at, length)
            check_sum(block.raw, self.place)
            if at != address:
                block.expect(b"OCHK", "a continued object header")
            block.take(skip)
            head = 6 if flags & 4 else 4
            while block.left - 4 >= head:
                kind, width, marks = block.number(1), block.number(2), block.number(1)
                block.take(head - 4)
                found.append(Message(kind, marks, block.take(width)))
                blocks += [(where, 0, long) for where, long in self._continued(found[-1])]
        return found

    def _continued(self, message: Message) -> list[tuple[int, int]]:
        if message.kind != CONTINUATION:
            return []
        cursor = Cursor(message.body, self.place)
        return [(cursor.number(8), cursor.number(8))]


def check_sum(raw: bytes, place: Place) -> None:
    """Require the last four bytes to be the checksum of those before."""
    if lookup3(raw[:-4]) != int.from_bytes(raw[-4:], "little"):
        raise place.container("HDF5 metadata with its checksum", "another checksum")


def lookup3(raw: bytes) -> int:
    """Return Bob Jenkins's lookup3 hash, which HDF5 uses as a checksum."""
    a = b = c = (0xDEADBEEF + len(raw)) & _MASK
    blocks = max(0, -(-len(raw) // 12) - 1)
    for at in range(0, blocks * 12, 12):
        a, b, c = _add(raw, at, a, b, c)
        a = (a - c & _MASK) ^ _turn(c, 4)
        c = c + b & _MASK
        b = (b - a & _MASK) ^ _turn(a, 6)
        a = a + c & _MASK
        c = (c - b & _MASK) ^ _turn(b, 8)
        b = b + a & _MASK
        a = (a - c & _MASK) ^ _turn(c, 16)
        c = c + b & _MASK
        b = (b - a & _MASK) ^ _turn(a, 19)
        a = a + c & _MASK
        c = (c - b & _MASK) ^ _turn(b, 4)
        b = b + a & _MASK
    if not raw:
        return c
    a, b, c = _add(raw, blocks * 12, a, b, c)
    for which, by in ((2, 14), (0, 11), (1, 25), (2, 16), (0, 4), (1, 14), (2, 24)):
        words = [a, b, c]
        other = words[(which + 2) % 3]
        words[which] = ((words[which] ^ other) - _turn(other, by)) & _MASK
        a, b, c = words
    return c


def _add(raw: bytes, at: int, a: int, b: int, c: int) -> tuple[int, int, int]:
    words = (int.from_bytes(raw[at + i : at + i + 4], "little") for i in (0, 4, 8))
    first, second, third = words
    return (a + first) & _MASK, (b + second) & _MASK, (c + third) & _MASK


def _turn(word: int, by: int) -> int:
    return (word << by | word >> (32 - by)) & _MASK
