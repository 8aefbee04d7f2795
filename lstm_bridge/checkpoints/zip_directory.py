"""A zip's directory, read so that it can mean one thing only.

Every byte of the file must belong to exactly one member, to the directory or to the end record.
What that leaves no room for: data before or after the archive, overlapping members, members that
the directory hides, and a local header that says something else than the directory.
"""

from __future__ import annotations

import re
import stat
import struct
from dataclasses import dataclass
from typing import NamedTuple

from lstm_bridge.checkpoints.place import Place
from lstm_bridge.checkpoints.source import Source
from lstm_bridge.errors import quote

STORED, DEFLATED = 0, 8
MAX_MEMBERS = 100_000
_MAX_DIRECTORY = 64 << 20

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_DESCRIPTOR, _UTF8 = 0x0008, 0x0800
_DRIVE = re.compile(r"[A-Za-z]:")
_SPECIAL = {stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK}


@dataclass(frozen=True, slots=True)
class Member:
    """One file in the archive.

    Args:
        name: its path.
        method: ``STORED`` or ``DEFLATED``.
        size, packed: its length as it is, and in the archive, in bytes.
        crc: CRC-32 of its content.
        start: where its bytes begin in the archive.
    """

    name: str
    method: int
    size: int
    packed: int
    crc: int
    start: int


class _Entry(NamedTuple):
    """A directory entry as it stands."""

    raw_name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    mode: int
    offset: int


class _End(NamedTuple):
    entries: int
    size: int
    offset: int
    stop: int  # where the directory must end


def read_directory(source: Source, place: Place) -> dict[str, Member]:
    """Return name → member, in the file's order of data.

    Raises:
        ContainerError: for any damage or ambiguity.
    """
    end = _end_record(source, place)
    entries = _entries(source, place, end)
    members: dict[str, Member] = {}
    folded: dict[str, str] = {}
    at = 0
    for entry in sorted(entries, key=lambda entry: entry.offset):
        name = _name(entry.raw_name, entry.flags, place)
        _check_entry(entry, place.inside(name))
        other = folded.setdefault(name.rstrip("/").casefold(), name)
        if other is not name:
            if other == name:
                raise place.container("member names that differ", f"{quote(name)} twice")
            got = f"{quote(other)} and {quote(name)}"
            raise place.container("member names that differ in more than case", got)
        at, member = _locate(source, place, entry, name, at)
        if not name.endswith("/"):
            members[name] = member
    if at != end.offset:
        raise place.container("members end to end", f"{end.offset - at} bytes between them")
    return members


def _end_record(source: Source, place: Place) -> _End:
    at = source.size - _END.size
    raw = source.read(max(0, at), _END.size)
    if len(raw) < _END.size or not raw.startswith(b"PK\x05\x06"):
        raise _no_end(source, place)
    _, disk, disk_start, on_disk, count, size, offset, comment = _END.unpack(raw)
    if disk or disk_start or on_disk != count or comment:
        raise place.container("a zip end record of one disk and no comment", "other fields")
    locator = source.read(max(0, at - _LOCATOR64.size), _LOCATOR64.size)
    if locator.startswith(b"PK\x06\x07"):
        wide = _end64(source, place, at - _LOCATOR64.size, locator)
        for short, long, limit in zip(
            (count, size, offset), wide[:3], (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF), strict=True
        ):
            if short not in (long, limit):
                raise place.container("two zip end records that agree", f"{short} and {long}")
        return wide
    return _End(count, size, offset, at)


def _no_end(source: Source, place: Place) -> Exception:
    """Tell a cut archive from one with something behind it."""
    tail = source.read(max(0, source.size - (1 << 16)), 1 << 16)
    found = tail.rfind(b"PK\x05\x06")
    if found < 0 or found + _END.size > len(tail):
        return place.container("a whole zip archive", "one cut short: its end record is missing")
    extra = len(tail) - found - _END.size
    return place.container("a zip archive and nothing after it", f"{extra} bytes after its end")


def _end64(source: Source, place: Place, at: int, locator: bytes) -> _End:
    _, disk, offset, disks = _LOCATOR64.unpack(locator)
    raw = source.read(at - _END64.size, _END64.size) if at >= _END64.size else b""
    if disk or disks != 1 or offset != at - _END64.size or not raw.startswith(b"PK\x06\x06"):
        raise place.container("a zip64 end record before its locator", "none there")
    _, length, _, _, disk, disk_start, on_disk, count, size, start = _END64.unpack(raw)
    if length != _END64.size - 12 or disk or disk_start or on_disk != count:
        raise place.container("a zip64 end record of one disk", "other fields")
    return _End(count, size, start, offset)


def _entries(source: Source, place: Place, end: _End) -> list[_Entry]:
    if end.entries > MAX_MEMBERS:
        raise place.container(f"at most {MAX_MEMBERS} zip members", str(end.entries))
    if end.offset + end.size != end.stop or end.size > _MAX_DIRECTORY:
        got = f"{end.size} bytes at {end.offset} before {end.stop}"
        raise place.container("a zip directory that ends at its end record", got)
    raw = source.read(end.offset, end.size)
    entries, at = [], 0
    for _ in range(end.entries):
        entry, at = _entry(raw, at, place)
        entries.append(entry)
    if at != len(raw):
        raise place.container("a full zip directory", f"{len(raw) - at} bytes left over")
    return entries


def _entry(raw: bytes, at: int, place: Place) -> tuple[_Entry, int]:
    fields = raw[at : at + _CENTRAL.size]
    if len(fields) < _CENTRAL.size or not fields.startswith(b"PK\x01\x02"):
        raise place.container("a zip directory entry", f"other bytes at {at} of the directory")
    (_, _, _, flags, method, _, _, crc, packed, size, *lengths, disk, _, external, offset) = (
        _CENTRAL.unpack(fields)
    )
    name_at = at + _CENTRAL.size
    extra_at = name_at + lengths[0]
    stop = extra_at + lengths[1] + lengths[2]
    if stop > len(raw) or disk:
        raise place.container("a zip directory entry", "one that runs past the directory")
    wide = _wide_fields(raw[extra_at : extra_at + lengths[1]], (size, packed, offset), place)
    size, packed, offset = wide
    name = raw[name_at:extra_at]
    return _Entry(name, flags, method, crc, packed, size, external >> 16, offset), stop


def _wide_fields(extra: bytes, fields: tuple[int, ...], place: Place) -> tuple[int, ...]:
    """Take from the zip64 extra field what the 32-bit fields are too small for."""
    wide = b""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 1:
            wide = extra[4 : 4 + length]
        extra = extra[4 + length :]
    found = []
    for field in fields:
        if field == 0xFFFFFFFF:
            if len(wide) < 8:
                raise place.container("a zip64 extra field", "none or too short a one")
            field, wide = int.from_bytes(wide[:8], "little"), wide[8:]
        found.append(field)
    return tuple(found)


def _name(raw: bytes, flags: int, place: Place) -> str:
    try:
        name = raw.decode("utf-8" if flags & _UTF8 else "cp437")
    except UnicodeDecodeError:
        raise place.container("member names in UTF-8", quote(raw)) from None
    parts = name.rstrip("/").split("/")
    absolute = not name or name.startswith("/") or _DRIVE.match(name)
    if absolute or "\\" in name or ".." in parts or any(ord(char) < 32 for char in name):
        raise place.container("a relative member path inside the archive", quote(name))
    return name


def _check_entry(entry: _Entry, place: Place) -> None:
    if entry.flags & _ENCRYPTED:
        raise place.container("a member in the clear", "an encrypted one", "decrypt it first")
    if stat.S_IFMT(entry.mode) in _SPECIAL:
        raise place.container("a plain file", "a link or device member", "store the file itself")
    if entry.method not in (STORED, DEFLATED):
        got = f"compression method {entry.method}"
        raise place.container("a stored or deflated member", got, "store it uncompressed")
    if entry.method == STORED and entry.size != entry.packed:
        raise place.container(f"{entry.size} stored bytes", f"{entry.packed}")


def _locate(source: Source, place: Place, entry: _Entry, name: str, at: int) -> tuple[int, Member]:
    """Check the local header against the directory; return where the member ends, and it."""
    here = place.inside(name)
    if entry.offset < at:
        raise here.container(f"a member at {at} or later", f"one at {entry.offset} that overlaps")
    if entry.offset > at:
        what = "before the first member" if at == 0 else "between two members"
        raise here.container("members end to end", f"{entry.offset - at} bytes {what}")
    start = _data_start(source, here, entry)
    stop = start + entry.packed
    member = Member(name, entry.method, entry.size, entry.packed, entry.crc, start)
    if entry.flags & _DESCRIPTOR:
        stop += _descriptor(source.read(stop, 24), entry, here)
    if stop > source.size:
        raise here.container(f"{entry.packed} bytes in the file", "a member past its end")
    return stop, member


def _data_start(source: Source, here: Place, entry: _Entry) -> int:
    raw = source.read(entry.offset, _LOCAL.size)
    if len(raw) < _LOCAL.size or not raw.startswith(b"PK\x03\x04"):
        raise here.container("a local header", f"other bytes at {entry.offset}")
    _, _, flags, method, _, _, crc, packed, size, name_size, extra_size = _LOCAL.unpack(raw)
    tail = source.read(entry.offset + _LOCAL.size, name_size + extra_size)
    size, packed = _wide_fields(tail[name_size:], (size, packed), here)
    local = (tail[:name_size], flags, method, crc, packed, size)
    if flags & _DESCRIPTOR and (crc, packed, size) == (0, 0, 0):
        local = (*local[:3], entry.crc, entry.packed, entry.size)
    if local != (*entry[:3], entry.crc, entry.packed, entry.size):
        raise here.container("a local header as in the directory", "another one")
    start: int = entry.offset + _LOCAL.size + name_size + extra_size
    return start


def _descriptor(raw: bytes, entry: _Entry, here: Place) -> int:
    """Return the length of the data descriptor, in whichever of its four spellings it is."""
    for layout, limit in (("<LLL", 0xFFFFFFFF), ("<LQQ", 1 << 63)):
        for sign in (b"PK\x07\x08", b""):
            if max(entry.packed, entry.size) > limit:
                continue
            wanted = sign + struct.pack(layout, entry.crc, entry.packed, entry.size)
            if raw.startswith(wanted):
                return len(wanted)
    raise here.container("a data descriptor as in the directory", "another one")
