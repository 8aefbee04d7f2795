"""The members of an HDF5 group: hard links only, in either of the ways groups keep them."""

from __future__ import annotations

from lstm_bridge.checkpoints.hdf5_dense import dense_links, name_hash
from lstm_bridge.checkpoints.hdf5_format import (
    LINK,
    LINK_INFO,
    SYMBOL_TABLE,
    UNDEFINED,
    Cursor,
    Hdf5Bytes,
    Message,
)
from lstm_bridge.checkpoints.place import Place
from lstm_bridge.errors import quote

_MAX_LINKS = 100_000
_HARD, _SOFT, _EXTERNAL = 0, 1, 64
_SYMBOLIC = 2
_NO_FREE_BLOCK = 1
_KINDS = {_SOFT: "a soft link", _EXTERNAL: "an external link"}


def read_links(data: Hdf5Bytes, messages: list[Message], place: Place) -> dict[str, int] | None:
    """Return name → object address; ``None`` if the object is no group.

    Raises:
        ContainerError: for a link to anywhere else, or damage.
    """
    links: dict[str, int] = {}
    group = False
    for message in messages:
        if message.kind == SYMBOL_TABLE:
            group = True
            cursor = Cursor(message.body, place)
            links |= _Table(data, cursor.number(8), cursor.number(8), place).links
        elif message.kind == LINK:
            group = True
            name, address = _link(Cursor(message.body, place), place)
            if name in links:
                raise place.container("links of different names", f"two of {quote(name)}")
            links[name] = address
        elif message.kind == LINK_INFO:
            group = True
            links |= _dense(data, Cursor(message.body, place), place)
    return links if group else None


def _dense(data: Hdf5Bytes, cursor: Cursor, place: Place) -> dict[str, int]:
    """Return the links of a dense group, by name; none if the group is not dense."""
    cursor.take(1)
    if cursor.number(1) & 1:
        cursor.take(8)
    heap, tree = cursor.number(8), cursor.number(8)
    if heap == UNDEFINED:
        return {}
    links: dict[str, int] = {}
    for stored, body in dense_links(data, heap, tree, place):
        name, address = _link(Cursor(body, place), place)
        if name in links or name_hash(name.encode()) != stored:
            raise place.container("links under the hashes of their names", quote(name))
        links[name] = address
    return dict(sorted(links.items()))


def _link(cursor: Cursor, place: Place) -> tuple[str, int]:
    cursor.expect(b"\x01", "a link of version 1")
    flags = cursor.number(1)
    kind = cursor.number(1) if flags & 8 else _HARD
    cursor.take((8 if flags & 4 else 0) + (1 if flags & 16 else 0))
    name = _text(cursor.take(cursor.number(1 << (flags & 3))), place)
    if kind != _HARD:
        raise _elsewhere(place, name, _KINDS.get(kind, "a user-defined link"))
    return name, cursor.number(8)


def _elsewhere(place: Place, name: str, got: str) -> Exception:
    fix = "save it without links"
    return place.inside(name).container("data inside the file", got, fix)


def _text(raw: bytes, place: Place) -> str:
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise place.container("names in UTF-8", quote(raw)) from None
    if not name or name in (".", "..") or "/" in name or any(ord(char) < 32 for char in name):
        raise place.container("printable names without slashes", quote(name))
    return name


class _Table:
    """One symbol table: a B-tree of nodes that point into a heap of names.

    Args:
        data: the file.
        tree, heap: where both begin.
        place: the group.
    """

    def __init__(self, data: Hdf5Bytes, tree: int, heap: int, place: Place) -> None:
        self._data, self._place = data, place
        self.links: dict[str, int] = {}
        self._seen: set[int] = set()
        self._order: list[bytes] = []
        self._names = self._heap(heap)
        self._tree(tree, None)

    def _heap(self, address: int) -> Cursor:
        head = self._data.cursor(address, 32)
        head.expect(b"HEAP\0\0\0\0", "a local heap")
        size, free, at = head.number(8), head.number(8), head.number(8)
        names = self._data.cursor(at, size)
        seen: set[int] = set()
        while free != _NO_FREE_BLOCK:
            names.at = free
            following, length = names.number(8), names.number(8)
            if free in seen or free + length > size or length < 16:
                raise self._place.container("a heap's free blocks inside it", "others")
            seen.add(free)
            free = following
        return names

    def _name(self, offset: int) -> bytes:
        self._names.at = offset
        return self._names.until_nul()

    def _tree(self, address: int, level: int | None) -> None:
        if address in self._seen:
            raise self._place.container("a tree of group nodes", "a cycle")
        self._seen.add(address)
        head = self._data.cursor(address, 24)
        head.expect(b"TREE\0", "a group's B-tree")
        here, count = head.number(1), head.number(2)
        if level is not None and here != level:
            raise self._place.container(f"a B-tree node of level {level}", f"{here}")
        body = self._data.cursor(address + 24, 16 * count + 8)
        low = self._name(body.number(8))
        for _ in range(count):
            child, high = body.number(8), self._name(body.number(8))
            first = len(self._order)
            if here:
                self._tree(child, here - 1)
            else:
                self._node(child)
            inside = self._order[first : first + 1] + self._order[-1:]
            if len(inside) == 2 and not low < inside[0] <= inside[1] <= high:
                raise self._place.container("B-tree keys around their names", "others")
            low = high

    def _node(self, address: int) -> None:
        head = self._data.cursor(address, 8)
        head.expect(b"SNOD\x01", "a symbol table node")
        head.take(1)
        count = head.number(2)
        if len(self.links) + count > _MAX_LINKS:
            raise self._place.container(f"at most {_MAX_LINKS} links", "more")
        body = self._data.cursor(address + 8, 40 * count)
        for _ in range(count):
            raw = self._name(body.number(8))
            name, target, cached = _text(raw, self._place), body.number(8), body.number(4)
            body.take(20)
            if cached == _SYMBOLIC or target == UNDEFINED:
                raise _elsewhere(self._place, name, "a soft link")
            if cached > _SYMBOLIC:
                raise self._place.container("a symbol of cache type 0 or 1", f"{cached}")
            if self._order and raw <= self._order[-1]:
                raise self._place.container("names in order", f"{quote(name)} out of it")
            self._order.append(raw)
            self.links[name] = target
