"""HDF5's dense groups: link messages in a fractal heap, found through a version 2 B-tree.

h5py makes them by default as soon as a name is not ASCII and a group has more than eight members.
"""

from __future__ import annotations

from collections.abc import Iterator

from lstm_bridge.checkpoints.hdf5_format import UNDEFINED, Cursor, Hdf5Bytes, check_sum, lookup3
from lstm_bridge.checkpoints.place import Place

_LINK_NAMES = 5
_MAX_RECORDS = 100_000
_MAX_DEPTH = 8
_MAX_BLOCK = 1 << 20


def dense_links(data: Hdf5Bytes, heap: int, tree: int, place: Place) -> Iterator[tuple[int, bytes]]:
    """Yield hash and link message of every member of a dense group.

    Args:
        data: the file.
        heap, tree: where the fractal heap and the index of names begin.
        place: the group.

    Raises:
        ContainerError: for damage.
    """
    if tree == UNDEFINED:
        raise place.container("an index of a dense group's names", "none")
    links = _Heap(data, heap, place)
    for record in _Index(data, tree, place).records():
        yield int.from_bytes(record[:4], "little"), links.get(record[4:])


def name_hash(name: bytes) -> int:
    """Return the hash under which the index has a name."""
    return lookup3(name)


class _Index:
    """A version 2 B-tree of link names."""

    def __init__(self, data: Hdf5Bytes, address: int, place: Place) -> None:
        self._data, self._place = data, place
        head = data.cursor(address, 38)
        check_sum(head.raw, place)
        head.expect(b"BTHD\0" + bytes([_LINK_NAMES]), "an index of link names")
        self._node, self._width, self._depth = head.number(4), head.number(2), head.number(2)
        head.take(2)
        self._root, self._count, self._total = head.number(8), head.number(2), head.number(8)
        if self._depth > _MAX_DEPTH or self._total > _MAX_RECORDS or self._width < 11:
            raise place.container(f"at most {_MAX_RECORDS} links", f"{self._total}")

    def records(self) -> list[bytes]:
        """Return all records, in the index's order."""
        found = self._walk(self._root, self._count, self._depth) if self._total else []
        if len(found) != self._total:
            raise self._place.container(f"{self._total} links", f"{len(found)}")
        return found

    def _pointer_widths(self) -> list[tuple[int, int]]:
        """Return per depth above the leaves the widths of a child's two record counts."""
        most = (self._node - 10) // self._width
        each, total = _bytes_for(most), most
        widths = [(each, 0)]
        for _ in range(1, self._depth):
            pointer = 8 + sum(widths[-1])
            here = (self._node - 10 - pointer) // (self._width + pointer)
            total = (here + 1) * total + here
            widths.append((each, _bytes_for(total)))
        return widths

    def _walk(self, address: int, count: int, depth: int) -> list[bytes]:
        each, total = self._pointer_widths()[depth - 1] if depth else (0, 0)
        pointers = (count + 1) * (8 + each + total) if depth else 0
        node = self._data.cursor(address, 6 + count * self._width + pointers + 4)
        check_sum(node.raw, self._place)
        sign = b"BTIN" if depth else b"BTLF"
        node.expect(sign + b"\0" + bytes([_LINK_NAMES]), "a node of link names")
        records = [node.take(self._width) for _ in range(count)]
        if not depth:
            return records
        found: list[bytes] = []
        for number in range(count + 1):
            child, held = node.number(8), node.number(each)
            node.take(total)
            found += self._walk(child, held, depth - 1)
            found += records[number : number + 1]
            if len(found) > self._total:
                raise self._place.container(f"{self._total} links", "more")
        return found


def _bytes_for(count: int) -> int:
    return max(count.bit_length() - 1, 0) // 8 + 1


class _Heap:
    """A fractal heap's managed objects; the unfiltered, small ones that links are."""

    def __init__(self, data: Hdf5Bytes, address: int, place: Place) -> None:
        self._data, self._place, self._address = data, place, address
        head = data.cursor(address, 146)
        check_sum(head.raw, place)
        head.expect(b"FRHP\0", "a fractal heap")
        self._id_width, filters = head.number(2), head.number(2)
        self._summed = bool(head.number(1) & 2)
        head.take(4 + 12 * 8)
        self._columns, self._start, self._largest = head.number(2), head.number(8), head.number(8)
        self._offset_width = -(-head.number(2) // 8)
        head.take(2)
        self._root, self._rows = head.number(8), head.number(2)
        sane = self._columns and self._start and self._largest <= _MAX_BLOCK and self._rows <= 64
        if filters or not sane or self._start > self._largest:
            raise place.container("an unfiltered heap of links", "another")
        self._blocks: dict[int, bytes] = {}

    def get(self, identity: bytes) -> bytes:
        """Return the object of a heap ID."""
        cursor = Cursor(identity[: self._id_width], self._place)
        if cursor.number(1) & 0xF0:
            raise self._place.container("a managed heap object", "a huge or tiny one")
        offset = cursor.number(self._offset_width)
        length = cursor.number(cursor.left)
        if self._rows:
            block, first = self._find(self._root, self._rows, 0, offset)
        else:
            block, first = self._direct(self._root, self._start, 0), 0
        found = block[offset - first : offset - first + length]
        if len(found) != length:
            raise self._place.container("a heap object inside its block", "one past it")
        return found

    def _size_of_row(self, row: int) -> int:
        return self._start << max(row - 1, 0)

    def _find(self, address: int, rows: int, base: int, offset: int) -> tuple[bytes, int]:
        """Return the direct block that holds a heap offset, and the block's own offset."""
        head = 5 + 8 + self._offset_width
        table = self._data.cursor(address, head + 8 * rows * self._columns + 4)
        check_sum(table.raw, self._place)
        table.expect(b"FHIB\0", "an indirect heap block")
        table.take(8 + self._offset_width)
        for row in range(rows):
            size = self._size_of_row(row)
            for _ in range(self._columns):
                child = table.number(8)
                if base <= offset < base + size:
                    if child == UNDEFINED:
                        raise self._place.container("a heap block", "none at that offset")
                    if size <= self._largest:
                        return self._direct(child, size, base), base
                    below = (size // (self._start * self._columns)).bit_length()
                    return self._find(child, below, base, offset)
                base += size
        raise self._place.container("a heap offset inside the heap", f"{offset}")

    def _direct(self, address: int, size: int, base: int) -> bytes:
        if address in self._blocks:
            return self._blocks[address]
        block = self._data.cursor(address, size)
        block.expect(b"FHDB\0", "a direct heap block")
        owner, where = block.number(8), block.number(self._offset_width)
        if (owner, where) != (self._address, base):
            raise self._place.container("a heap block of this heap", "another's")
        if self._summed:
            stored, at = block.number(4), block.at
            blank = block.raw[: at - 4] + bytes(4) + block.raw[at:]
            if lookup3(blank) != stored:
                raise self._place.container("a heap block with its checksum", "another checksum")
        self._blocks[address] = block.raw
        return block.raw
