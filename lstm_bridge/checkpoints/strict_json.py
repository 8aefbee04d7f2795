"""JSON as its standard has it, and bounded: for headers and model configs that strangers wrote."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from lstm_bridge.errors import quote

MAX_BYTES = 25_000_000
MAX_DEPTH = 64
_MAX_DIGITS = 20

_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)


class JsonError(ValueError):
    """Text that is no acceptable JSON: what was expected, and what is there."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"expected {expected}, got {got}")
        self.expected, self.got = expected, got


def parse(raw: bytes) -> Any:
    """Return the value of a JSON text.

    Args:
        raw: UTF-8 bytes without a byte order mark, at most ``MAX_BYTES`` long.

    Raises:
        JsonError: for anything the standard or the bounds forbid: duplicate keys, NaN, Infinity,
            numbers beyond float64, integers beyond 20 digits, nesting beyond 64, lone surrogates.
    """
    if len(raw) > MAX_BYTES:
        raise JsonError(f"at most {MAX_BYTES} bytes of JSON", f"{len(raw)}")
    if raw.startswith(b"\xef\xbb\xbf"):
        raise JsonError("UTF-8 without a byte order mark", "a byte order mark")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonError("UTF-8", f"byte 0x{raw[error.start]:02x} at {error.start}") from None
    _check_depth(raw)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_constant,
            parse_int=_integer,
            parse_float=_number,
        )
    except json.JSONDecodeError as error:
        raise JsonError("JSON", f"{error.msg} at character {error.pos}") from None
    if b"\\u" in raw:
        _check_surrogates(value)
    return value


def _check_depth(raw: bytes) -> None:
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(raw):
        if raw[token.start()] in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise JsonError(f"JSON nested at most {MAX_DEPTH} deep", "deeper nesting")
        elif raw[token.start()] in b"]}":
            depth -= 1


def _check_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise JsonError("Unicode text", "a lone surrogate") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise JsonError("unique keys", f"key {quote(key)} twice")
        found[key] = value
    return found


def _constant(word: str) -> NoReturn:
    raise JsonError("JSON numbers", word)


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise JsonError(f"integers of at most {_MAX_DIGITS} digits", f"{len(digits)} digits")
    return int(digits)


def _number(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise JsonError("numbers that float64 can hold", digits[:40])
    return value
