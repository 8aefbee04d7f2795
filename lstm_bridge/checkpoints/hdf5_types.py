"""HDF5 datatypes, shapes and text attributes: exactly those that weights and their names need."""

from __future__ import annotations

import math

from lstm_bridge.checkpoints.hdf5_format import Cursor, Hdf5Bytes
from lstm_bridge.checkpoints.place import Place
from lstm_bridge.errors import quote

MAX_RANK = 8
MAX_DIMENSION = 2**31 - 1
_MAX_TEXTS = 1_000_000
_FIXED, _FLOAT, _STRING, _OPAQUE, _ENUM, _VLEN = 0, 1, 3, 5, 8, 9
_CLASSES = {
    2: "time",
    3: "string",
    4: "bit field",
    5: "opaque",
    6: "compound",
    7: "reference",
    8: "enum",
    9: "variable-length",
    10: "array",
    11: "complex",
}
# size: sign position, exponent position and width, mantissa width, bias of IEEE 754
_IEEE = {2: (15, 10, 5, 10, 15), 4: (31, 23, 8, 23, 127), 8: (63, 52, 11, 52, 1023)}


class Datatype:
    """One datatype message.

    Args:
        body: its bytes.
        place: what error messages name.

    Attributes:
        code: the safetensors code of its elements; ``None`` if it is no plain number.
        swapped: whether they are big-endian.
        size: bytes per element.
        name: what it is, for messages.
    """

    def __init__(self, body: bytes, place: Place) -> None:
        cursor = Cursor(body, place)
        first = cursor.number(1)
        self._class, self._version = first & 15, first >> 4
        self._bits = cursor.number(3)
        self.size = cursor.number(4)
        self._rest = cursor
        self.swapped = False
        self.code: str | None = None
        self.name = f"an HDF5 {_CLASSES.get(self._class, 'non-standard number')} type"
        if not 1 <= self._version <= 5:
            raise place.container("a datatype of version 1 to 5", f"{self._version}")
        if self._class == _FIXED:
            self._integer()
        elif self._class == _FLOAT:
            self._float()
        elif self._class == _ENUM:
            self._boolean()

    def _integer(self) -> None:
        offset, precision = self._rest.number(2), self._rest.number(2)
        plain = (offset, precision) == (0, 8 * self.size) and not self._bits & ~0b1001
        if plain and self.size in (1, 2, 4, 8):
            self.code = f"{'I' if self._bits & 8 else 'U'}{8 * self.size}"
            self.swapped = bool(self._bits & 1) and self.size > 1

    def _float(self) -> None:
        fields = [self._rest.number(width) for width in (2, 2, 1, 1, 1, 1, 4)]
        if self.size not in _IEEE:
            return
        sign, exponent, wide, mantissa, bias = _IEEE[self.size]
        wanted = [0, 8 * self.size, exponent, wide, 0, mantissa, bias]
        if fields == wanted and self._bits & ~1 == sign << 8 | 2 << 4:
            self.code = f"F{8 * self.size}"
            self.swapped = bool(self._bits & 1)

    def _boolean(self) -> None:
        """Recognise h5py's bool: an int8 enum of FALSE = 0 and TRUE = 1."""
        names = self._rest.raw[20:].replace(b"\0", b"")
        values = self._rest.raw[-2:] if self._version >= 3 else self._rest.raw.rstrip(b"\0")[-1:]
        if self.size == 1 and self._bits == 2 and names == b"FALSETRUE\x01" and values:
            self.code = "BOOL"

    @property
    def is_pair_of_bytes(self) -> bool:
        """Whether elements are two opaque bytes, as Keras stores bfloat16."""
        return self._class == _OPAQUE and self.size == 2

    @property
    def is_text(self) -> bool:
        """Whether elements are strings of a fixed length."""
        return self._class == _STRING

    @property
    def is_long_text(self) -> bool:
        """Whether elements are strings of any length, kept in the global heap."""
        return self._class == _VLEN and self._bits & 15 == 1

    def trim(self, raw: bytes) -> bytes:
        """Return a fixed-length string without its padding."""
        padding = self._bits & 15
        if padding == 0:
            return raw.partition(b"\0")[0]
        return raw.rstrip(b"\0" if padding == 1 else b" ")


def read_shape(body: bytes, place: Place) -> tuple[int, ...] | None:
    """Return a dataspace message's shape; ``None`` for a null dataspace."""
    cursor = Cursor(body, place)
    version, rank, flags = cursor.number(1), cursor.number(1), cursor.number(1)
    if version == 1:
        cursor.take(5)
        kind = 1
    elif version == 2:
        kind = cursor.number(1)
    else:
        raise place.container("a dataspace of version 1 or 2", f"{version}")
    if kind == 2:
        return None
    if rank > MAX_RANK or kind not in (0, 1) or flags & ~1:
        raise place.container(f"at most {MAX_RANK} dimensions", f"{rank}")
    shape = tuple(cursor.number(8) for _ in range(rank))
    if flags & 1:
        limits = [cursor.number(8) for _ in range(rank)]
        if any(size > limit for size, limit in zip(shape, limits, strict=True)):
            raise place.container("a shape within its limits", quote(shape))
    if any(size > MAX_DIMENSION for size in shape):
        raise place.container(f"dimensions up to {MAX_DIMENSION}", quote(shape))
    return shape


class Attribute:
    """One attribute message.

    Args:
        body: its bytes.
        place: what error messages name.
    """

    def __init__(self, body: bytes, place: Place) -> None:
        cursor = Cursor(body, place)
        version, flags = cursor.number(1), cursor.number(1)
        if version not in (1, 2, 3) or (version > 1 and flags & 3):
            raise place.container("an attribute with its own type and shape", "another")
        sizes = [cursor.number(2) for _ in range(3)]
        cursor.take(1 if version == 3 else 0)
        step = 8 if version == 1 else 1
        parts = [cursor.take(-(-size // step) * step)[:size] for size in sizes]
        self._place = place
        self._parts = parts
        self._data = cursor.take(cursor.left)
        try:
            self.name = parts[0].partition(b"\0")[0].decode("utf-8")
        except UnicodeDecodeError:
            raise place.container("attribute names in UTF-8", quote(parts[0])) from None

    def texts(self, data: Hdf5Bytes) -> tuple[list[str], bool] | None:
        """Return its texts, and whether it is a single one; ``None`` if it holds no text."""
        place = self._place.inside(f"@{self.name}")
        kind, shape = Datatype(self._parts[1], place), read_shape(self._parts[2], place)
        if shape is None:
            return None
        count = math.prod(shape)
        if count == 0:
            return [], False
        if len(shape) > 1 or count > _MAX_TEXTS:
            raise place.container("a list of names", f"shape {shape}")
        cursor = Cursor(self._data, place)
        if kind.is_text:
            raw = [kind.trim(cursor.take(kind.size)) for _ in range(count)]
        elif kind.is_long_text:
            raw = [_heap_text(cursor, data, place) for _ in range(count)]
        else:
            return None
        try:
            return [one.decode("utf-8") for one in raw], not shape
        except UnicodeDecodeError:
            raise place.container("text in UTF-8", "other bytes") from None


def _heap_text(cursor: Cursor, data: Hdf5Bytes, place: Place) -> bytes:
    """Return a string out of the global heap."""
    length, address, index = cursor.number(4), cursor.number(8), cursor.number(4)
    if not address:
        return b""
    head = data.cursor(address, 16)
    head.expect(b"GCOL\x01\0\0\0", "a global heap")
    objects = data.cursor(address + 16, head.number(8) - 16)
    while objects.left >= 16:
        number = objects.number(2)
        objects.take(6)
        size = objects.number(8)
        if number == 0:
            break
        if number == index:
            if length > size:
                raise place.container(f"a text of at most {size} bytes", f"{length}")
            return objects.take(length).partition(b"\0")[0]
        objects.take(-(-size // 8) * 8)
    raise place.container(f"object {index} in the global heap", "none")
