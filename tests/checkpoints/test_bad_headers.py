"""Bad safetensors, npy and index headers: one case per line of the list, with the exact message."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from lstm_bridge.checkpoints.strict_json import MAX_BYTES, JsonError, parse

AGAIN = "get the file again from where it was made"


def raw(header: bytes, data: bytes = bytes(8)) -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def entry(
    name: str = "w",
    dtype: object = "F32",
    shape: object = (2,),
    offsets: object = (0, 8),
    **more: object,
) -> bytes:
    """A header of one tensor."""
    return json.dumps(
        {name: {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}}
    ).encode()


def two(first: tuple[int, int], second: tuple[int, int], data: int) -> bytes:
    fields = {
        name: {"dtype": "U8", "shape": [span[1] - span[0]], "data_offsets": span}
        for name, span in (("a", first), ("b", second))
    }
    return raw(json.dumps(fields).encode(), bytes(data))


def without(field: str) -> bytes:
    fields = json.loads(entry())
    del fields["w"][field]
    return raw(json.dumps(fields).encode())


SAFETENSORS: list[tuple[str, Callable[[], bytes]]] = [
    ("fewer than 8 bytes", lambda: b"\2\0\0"),
    ("N beyond the file", lambda: struct.pack("<Q", 100) + b"{}"),
    ("N beyond 25 MB", lambda: struct.pack("<Q", MAX_BYTES + 1) + b"{}" + bytes(MAX_BYTES)),
    ("N of 2**63", lambda: struct.pack("<Q", 2**63) + b"{}"),
    ("no brace", lambda: raw(b'["w"]')),
    ("space before the brace", lambda: raw(b" {}")),
    ("non-UTF-8", lambda: raw(b'{"\xff": 1}')),
    ("lone surrogate", lambda: raw(entry(name="\ud800"))),
    ("no JSON", lambda: raw(b'{"w": }')),
    ("duplicate key", lambda: raw(b'{"w": 1, "w": 2}')),
    ("duplicate field", lambda: raw(b'{"w": {"dtype": "F32", "dtype": "F16"}}')),
    ("unknown field", lambda: raw(entry(extra=1))),
    ("missing dtype", lambda: without("dtype")),
    ("missing shape", lambda: without("shape")),
    ("missing offsets", lambda: without("data_offsets")),
    ("entry is no object", lambda: raw(b'{"w": [1]}')),
    ("non-string metadata", lambda: raw(b'{"__metadata__": {"a": 1}}', b"")),
    ("tensor named __metadata__", lambda: raw(entry(name="__metadata__"))),
    ("empty name", lambda: raw(entry(name=""))),
    ("control character in a name", lambda: raw(entry(name="a\nb"))),
    ("offsets reversed", lambda: raw(entry(offsets=(8, 0)))),
    ("offsets negative", lambda: raw(entry(offsets=(-8, 0)))),
    ("offsets float", lambda: raw(entry(offsets=(0.0, 8.0)))),
    ("offsets bool", lambda: raw(entry(offsets=(False, 8)))),
    ("three offsets", lambda: raw(entry(offsets=(0, 8, 8)))),
    ("one offset", lambda: raw(entry(offsets=(0,)))),
    ("offsets unlike the shape", lambda: raw(entry(offsets=(0, 4)))),
    ("overlap", lambda: two((0, 4), (3, 8), 8)),
    ("hole", lambda: two((0, 4), (5, 8), 8)),
    ("trailing bytes", lambda: two((0, 4), (4, 8), 9)),
    ("past EOF", lambda: two((0, 4), (4, 8), 7)),
    ("wrapped offsets", lambda: raw(entry(shape=(2,), offsets=(2**64 - 8, 2**64)))),
    ("product overflow", lambda: raw(entry(shape=[2**31 - 1] * 3, offsets=(0, 8)))),
    ("dimension beyond 2**31-1", lambda: raw(entry(shape=[2**31]))),
    ("negative dimension", lambda: raw(entry(shape=[-2]))),
    ("float dimension", lambda: raw(entry(shape=[2.0]))),
    ("bool dimension", lambda: raw(entry(shape=[True, 2]))),
    ("shape is no list", lambda: raw(entry(shape=2))),
    ("rank above 8", lambda: raw(entry(shape=[1] * 8 + [2]))),
    ("unknown dtype", lambda: raw(entry(dtype="F31"))),
    ("dtype is no string", lambda: raw(entry(dtype=["F32"]))),
    ("FP8", lambda: raw(entry(dtype="F8_E4M3", shape=[8]))),
    ("FP8 of the other kind", lambda: raw(entry(dtype="F8_E5M2", shape=[8]))),
    ("complex", lambda: raw(entry(dtype="C64", shape=[1]))),
    ("nesting", lambda: raw(b'{"w": ' + b"[" * 70 + b"]" * 70 + b"}")),
    ("NaN", lambda: raw(b'{"w": NaN}')),
    ("Infinity", lambda: raw(b'{"w": -Infinity}')),
    ("1e400", lambda: raw(b'{"w": 1e400}')),
    ("thousands of digits", lambda: raw(b'{"w": ' + b"1" * 5000 + b"}")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "build"), SAFETENSORS, ids=[name for name, _ in SAFETENSORS])
def test_bad_safetensors(refusal, name: str, build: Callable[[], bytes]) -> None:
    assert refusal("bad.safetensors", build()) == MESSAGES[name]


def test_the_builders_make_good_files_too(make, write) -> None:
    good = two((0, 4), (4, 8), 8)
    assert set(safetensors.numpy.load(good)) == {"a", "b"}
    assert set(make.read_all(write("good.safetensors", good))) == {"a", "b"}


def npy(
    descr: object = "<f4",
    fortran: object = False,
    shape: object = (2,),
    data: int = 8,
    header: bytes | None = None,
    version: bytes = b"\1\0",
) -> bytes:
    if header is None:
        fields = {"descr": descr, "fortran_order": fortran, "shape": shape}
        header = repr(fields).encode()
    width = "<H" if version == b"\1\0" else "<L"
    return b"\x93NUMPY" + version + struct.pack(width, len(header)) + header + bytes(data)


NPY: list[tuple[str, Callable[[], bytes]]] = [
    ("npy header above 10 kB", lambda: npy(header=repr({"descr": "<f4"}).encode() + b" " * 11000)),
    ("npy header beyond the file", lambda: npy()[:20]),
    ("npy of another version", lambda: npy(version=b"\4\0")),
    ("npy header that is no dict", lambda: npy(header=b"[1]")),
    ("npy header that is code", lambda: npy(header=b"__import__('os').getcwd()")),
    ("npy header nested", lambda: npy(header=b"(" * 3000 + b")" * 3000)),
    ("npy header with another field", lambda: npy(header=b"{'descr': '<f4', 'shape': (2,)}")),
    ("npy objects", lambda: npy(descr="|O")),
    ("npy records", lambda: npy(descr=[("a", "<f4")])),
    ("npy complex", lambda: npy(descr="<c8", shape=(1,))),
    ("npy unicode", lambda: npy(descr="<U2", shape=(1,))),
    ("npy fortran_order of another type", lambda: npy(fortran=1)),
    ("npy shape of another type", lambda: npy(shape=[2])),
    ("npy negative dimension", lambda: npy(shape=(-2,))),
    ("npy bool dimension", lambda: npy(shape=(True, 2))),
    ("npy rank above 8", lambda: npy(shape=(1,) * 9)),
    ("npy shape beyond the data", lambda: npy(shape=(3,))),
    ("npy trailing bytes", lambda: npy(data=9)),
    ("npy huge dimension", lambda: npy(shape=(2**31,))),
]  # fmt: skip


@pytest.mark.parametrize(("name", "build"), NPY, ids=[name for name, _ in NPY])
def test_bad_npy(refusal, name: str, build: Callable[[], bytes]) -> None:
    assert refusal("bad.npy", build()) == MESSAGES[name]


def test_the_npy_builder_makes_good_files_too(make, write) -> None:
    assert make.read_all(write("good.npy", npy()))["array"].tolist() == [0, 0]
    assert make.read_all(write("good.npy", npy(version=b"\2\0")))["array"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("text", "got"),
    [
        (
            b'\xef\xbb\xbf{"a": 1}',
            "expected UTF-8 without a byte order mark, got a byte order mark",
        ),
        (b"[" * 65 + b"]" * 65, "expected JSON nested at most 64 deep, got deeper nesting"),
        (b'{"a": "[[", "a": 1}', "expected unique keys, got key 'a' twice"),
        (b'["\\ud800"]', "expected Unicode text, got a lone surrogate"),
        (b"[1" + b"0" * 20 + b"]", "expected integers of at most 20 digits, got 21 digits"),
        (b"[1", "expected JSON, got Expecting ',' delimiter at character 2"),
    ],
)
def test_strict_json(text: bytes, got: str) -> None:
    with pytest.raises(JsonError) as caught:
        parse(text)
    assert str(caught.value) == got


def test_strict_json_reads_what_is_json() -> None:
    value = {"a": [1, -2.5, "é\n\U0001f600", None, True, {"b": {}}], "[": "]}"}
    for ascii_only in (True, False):
        assert parse(json.dumps(value, ensure_ascii=ascii_only).encode()) == value
    assert parse(b"[" * 64 + b"]" * 64)


# -- shards -------------------------------------------------------------------------------------

ONE, OTHER = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def sharded(write, refusal) -> Callable[[object], str]:
    """A function that returns how an index over two good shards is refused."""
    write(ONE, safetensors.numpy.save({"a": np.ones(2)}))
    write(OTHER, safetensors.numpy.save({"b": np.ones(3)}))
    return lambda weights: refusal(
        "m.index.json", json.dumps({"metadata": {}, "weight_map": weights}).encode()
    )


def test_an_index_and_shards_that_disagree(sharded) -> None:
    assert sharded({"a": ONE, "b": OTHER, "c": OTHER}) == (
        f"[E200] m.index.json:{OTHER} tensor 'c': expected an index and a shard that agree, "
        f"got it only in the index, not the shard; {AGAIN}"
    )
    assert sharded({"a": ONE, "c": OTHER}).startswith(
        f"[E200] m.index.json:{OTHER} tensor 'b': expected an index and a shard that agree, "
        "got it only in the shard, not the index; "
    )
    assert sharded({"a": ONE}) == (
        f"[E200] m.index.json: expected 2 shards like '{ONE}', got 1 in the index; {AGAIN}"
    )
    assert sharded({"a": "gone.safetensors"}) == (
        "[E600] gone.safetensors: expected a readable file, got nothing at that path; "
        "check the path"
    )


@pytest.mark.parametrize(
    "shard",
    ["../x.safetensors", "/x.safetensors", "a/x.safetensors", "C:\\x.safetensors", "x.txt", 3],
)
def test_a_shard_outside_the_folder(sharded, shard: object) -> None:
    assert sharded({"a": shard}) == (
        "[E200] m.index.json tensor 'a': expected a .safetensors file name beside the index, "
        f"got {str(shard)!r}; {AGAIN}"
    )


def test_a_bad_weight_map(sharded) -> None:
    assert sharded([1]) == (
        "[E200] m.index.json: expected a weight_map and metadata of names, got other values; "
        + AGAIN
    )


MESSAGES: dict[str, str] = {
    "fewer than 8 bytes": (f"[E200] bad.safetensors: expected at least 8 bytes, got 3; {AGAIN}"),
    "N beyond the file": (
        f"[E200] bad.safetensors: expected a header of at most 2 bytes, got 100; {AGAIN}"
    ),
    "N beyond 25 MB": (
        "[E200] bad.safetensors: expected a header of at most 25000000 bytes, got "
        f"25000001; {AGAIN}"
    ),
    "N of 2**63": (
        "[E200] bad.safetensors: expected a header of at most 2 bytes, got "
        f"9223372036854775808; {AGAIN}"
    ),
    "no brace": (
        f"[E200] bad.safetensors: expected a header that starts with {{, got "
        f"'b\\'[\"w\"]\\''; {AGAIN}"
    ),
    "space before the brace": (
        f"[E200] bad.safetensors: expected a header that starts with {{, got \"b' {{}}'\"; {AGAIN}"
    ),
    "non-UTF-8": (f"[E200] bad.safetensors: expected UTF-8, got byte 0xff at 2; {AGAIN}"),
    "lone surrogate": (
        f"[E200] bad.safetensors: expected Unicode text, got a lone surrogate; {AGAIN}"
    ),
    "no JSON": (
        f"[E200] bad.safetensors: expected JSON, got Expecting value at character 6; {AGAIN}"
    ),
    "duplicate key": (f"[E200] bad.safetensors: expected unique keys, got key 'w' twice; {AGAIN}"),
    "duplicate field": (
        f"[E200] bad.safetensors: expected unique keys, got key 'dtype' twice; {AGAIN}"
    ),
    "unknown field": (
        "[E200] bad.safetensors tensor 'w': expected exactly dtype, shape and "
        f"data_offsets, got 'data_offsets, dtype, extra, shape'; {AGAIN}"
    ),
    "missing dtype": (
        "[E200] bad.safetensors tensor 'w': expected exactly dtype, shape and "
        f"data_offsets, got 'data_offsets, shape'; {AGAIN}"
    ),
    "missing shape": (
        "[E200] bad.safetensors tensor 'w': expected exactly dtype, shape and "
        f"data_offsets, got 'data_offsets, dtype'; {AGAIN}"
    ),
    "missing offsets": (
        "[E200] bad.safetensors tensor 'w': expected exactly dtype, shape and "
        f"data_offsets, got 'dtype, shape'; {AGAIN}"
    ),
    "entry is no object": (
        "[E200] bad.safetensors tensor 'w': expected exactly dtype, shape and "
        f"data_offsets, got '[1]'; {AGAIN}"
    ),
    "non-string metadata": (
        f"[E200] bad.safetensors: expected __metadata__ of strings, got other values; {AGAIN}"
    ),
    "tensor named __metadata__": (
        f"[E200] bad.safetensors: expected __metadata__ of strings, got other values; {AGAIN}"
    ),
    "empty name": (
        "[E200] bad.safetensors tensor '': expected a printable tensor name, got an "
        f"empty one or control characters; {AGAIN}"
    ),
    "control character in a name": (
        "[E200] bad.safetensors tensor 'a\\nb': expected a printable tensor name, got an "
        f"empty one or control characters; {AGAIN}"
    ),
    "offsets reversed": (
        "[E200] bad.safetensors tensor 'w': expected two offsets 8 bytes apart, got "
        f"data_offsets [8, 0]; {AGAIN}"
    ),
    "offsets negative": (
        "[E200] bad.safetensors tensor 'w': expected data_offsets of integers from 0 to "
        f"9223372036854775808, got '-8'; {AGAIN}"
    ),
    "offsets float": (
        "[E200] bad.safetensors tensor 'w': expected data_offsets of integers from 0 to "
        f"9223372036854775808, got '0.0'; {AGAIN}"
    ),
    "offsets bool": (
        "[E200] bad.safetensors tensor 'w': expected data_offsets of integers from 0 to "
        f"9223372036854775808, got 'False'; {AGAIN}"
    ),
    "three offsets": (
        "[E200] bad.safetensors tensor 'w': expected data_offsets of at most 2 "
        f"integers, got '[0, 8, 8]'; {AGAIN}"
    ),
    "one offset": (
        "[E200] bad.safetensors tensor 'w': expected two offsets 8 bytes apart, got "
        f"data_offsets [0]; {AGAIN}"
    ),
    "offsets unlike the shape": (
        "[E200] bad.safetensors tensor 'w': expected two offsets 8 bytes apart, got "
        f"data_offsets [0, 4]; {AGAIN}"
    ),
    "overlap": (
        "[E200] bad.safetensors tensor 'b': expected data from byte 4 on, got an "
        f"overlap: 3; {AGAIN}"
    ),
    "hole": (
        f"[E200] bad.safetensors tensor 'b': expected data from byte 4 on, got a hole: 5; {AGAIN}"
    ),
    "trailing bytes": (
        "[E200] bad.safetensors: expected 8 bytes of data, got trailing bytes: 9 bytes "
        f"of data; {AGAIN}"
    ),
    "past EOF": (
        "[E200] bad.safetensors: expected 8 bytes of data, got past the end of the "
        f"file: 7 bytes of data; {AGAIN}"
    ),
    "wrapped offsets": (
        "[E200] bad.safetensors tensor 'w': expected data_offsets of integers from 0 to "
        f"9223372036854775808, got '18446744073709551608'; {AGAIN}"
    ),
    "product overflow": (
        "[E200] bad.safetensors tensor 'w': expected a size that 64 bits can hold, got "
        f"shape [2147483647, 2147483647, 2147483647]; {AGAIN}"
    ),
    "dimension beyond 2**31-1": (
        "[E200] bad.safetensors tensor 'w': expected shape of integers from 0 to "
        f"2147483647, got '2147483648'; {AGAIN}"
    ),
    "negative dimension": (
        "[E200] bad.safetensors tensor 'w': expected shape of integers from 0 to "
        f"2147483647, got '-2'; {AGAIN}"
    ),
    "float dimension": (
        "[E200] bad.safetensors tensor 'w': expected shape of integers from 0 to "
        f"2147483647, got '2.0'; {AGAIN}"
    ),
    "bool dimension": (
        "[E200] bad.safetensors tensor 'w': expected shape of integers from 0 to "
        f"2147483647, got 'True'; {AGAIN}"
    ),
    "shape is no list": (
        f"[E200] bad.safetensors tensor 'w': expected shape of at most 8 integers, got '2'; {AGAIN}"
    ),
    "rank above 8": (
        "[E200] bad.safetensors tensor 'w': expected shape of at most 8 integers, got "
        f"'[1, 1, 1, 1, 1, 1, 1, 1, 2]'; {AGAIN}"
    ),
    "unknown dtype": (
        "[E300] bad.safetensors tensor 'w': expected one of F64, F32, F16, BF16, I64, "
        "I32, I16, I8, U64, U32, U16, U8, BOOL, got dtype 'F31'; cast it before saving"
    ),
    "dtype is no string": (
        "[E300] bad.safetensors tensor 'w': expected one of F64, F32, F16, BF16, I64, "
        "I32, I16, I8, U64, U32, U16, U8, BOOL, got dtype \"['F32']\"; cast it before "
        "saving"
    ),
    "FP8": (
        "[E300] bad.safetensors tensor 'w': expected one of F64, F32, F16, BF16, I64, "
        "I32, I16, I8, U64, U32, U16, U8, BOOL, got dtype 'F8_E4M3'; cast it before "
        "saving"
    ),
    "FP8 of the other kind": (
        "[E300] bad.safetensors tensor 'w': expected one of F64, F32, F16, BF16, I64, "
        "I32, I16, I8, U64, U32, U16, U8, BOOL, got dtype 'F8_E5M2'; cast it before "
        "saving"
    ),
    "complex": (
        "[E300] bad.safetensors tensor 'w': expected one of F64, F32, F16, BF16, I64, "
        "I32, I16, I8, U64, U32, U16, U8, BOOL, got dtype 'C64'; cast it before saving"
    ),
    "nesting": (
        f"[E200] bad.safetensors: expected JSON nested at most 64 deep, got deeper nesting; {AGAIN}"
    ),
    "NaN": (f"[E200] bad.safetensors: expected JSON numbers, got NaN; {AGAIN}"),
    "Infinity": (f"[E200] bad.safetensors: expected JSON numbers, got -Infinity; {AGAIN}"),
    "1e400": (
        f"[E200] bad.safetensors: expected numbers that float64 can hold, got 1e400; {AGAIN}"
    ),
    "thousands of digits": (
        f"[E200] bad.safetensors: expected integers of at most 20 digits, got 5000 digits; {AGAIN}"
    ),
    "npy header above 10 kB": (
        "[E200] bad.npy tensor 'array': expected a header of at most 10000 bytes, got "
        f"11016; {AGAIN}"
    ),
    "npy header beyond the file": (
        f"[E200] bad.npy tensor 'array': expected a header of at most 10 bytes, got 55; {AGAIN}"
    ),
    "npy of another version": (
        "[E200] bad.npy tensor 'array': expected npy version 1, 2 or 3, got "
        f"\"b'\\\\x93NUMPY\\\\x04\\\\x00'\"; {AGAIN}"
    ),
    "npy header that is no dict": (
        "[E200] bad.npy tensor 'array': expected exactly descr, fortran_order and "
        f"shape, got '[1]'; {AGAIN}"
    ),
    "npy header that is code": (
        "[E200] bad.npy tensor 'array': expected a Python dict of literals, got "
        f"'b\"__import__(\\'os\\').getcwd()\"'; {AGAIN}"
    ),
    "npy header nested": (
        "[E200] bad.npy tensor 'array': expected a Python dict of literals, got "
        f"\"b'(((((((((((((((((((((((((((((((((((((((('\"; {AGAIN}"
    ),
    "npy header with another field": (
        "[E200] bad.npy tensor 'array': expected exactly descr, fortran_order and "
        f"shape, got \"{{'descr': '<f4', 'shape': (2,)}}\"; {AGAIN}"
    ),
    "npy objects": (
        "[E300] bad.npy tensor 'array': expected one of F64, F32, F16, BF16, I64, I32, "
        "I16, I8, U64, U32, U16, U8, BOOL, got dtype pickled objects; save plain number "
        "arrays"
    ),
    "npy records": (
        "[E300] bad.npy tensor 'array': expected one of F64, F32, F16, BF16, I64, I32, "
        "I16, I8, U64, U32, U16, U8, BOOL, got dtype \"[('a', '<f4')]\"; save plain "
        "number arrays"
    ),
    "npy complex": (
        "[E300] bad.npy tensor 'array': expected one of F64, F32, F16, BF16, I64, I32, "
        "I16, I8, U64, U32, U16, U8, BOOL, got dtype '<c8'; save plain number arrays"
    ),
    "npy unicode": (
        "[E300] bad.npy tensor 'array': expected one of F64, F32, F16, BF16, I64, I32, "
        "I16, I8, U64, U32, U16, U8, BOOL, got dtype '<U2'; save plain number arrays"
    ),
    "npy fortran_order of another type": (
        f"[E200] bad.npy tensor 'array': expected fortran_order of True or False, got '1'; {AGAIN}"
    ),
    "npy shape of another type": (
        "[E200] bad.npy tensor 'array': expected at most 8 dimensions up to 2147483647, "
        f"got '[2]'; {AGAIN}"
    ),
    "npy negative dimension": (
        "[E200] bad.npy tensor 'array': expected at most 8 dimensions up to 2147483647, "
        f"got '(-2,)'; {AGAIN}"
    ),
    "npy bool dimension": (
        "[E200] bad.npy tensor 'array': expected at most 8 dimensions up to 2147483647, "
        f"got '(True, 2)'; {AGAIN}"
    ),
    "npy rank above 8": (
        "[E200] bad.npy tensor 'array': expected at most 8 dimensions up to 2147483647, "
        f"got '(1, 1, 1, 1, 1, 1, 1, 1, 1)'; {AGAIN}"
    ),
    "npy shape beyond the data": (
        f"[E200] bad.npy tensor 'array': expected 12 bytes of data, got 8; {AGAIN}"
    ),
    "npy trailing bytes": (
        f"[E200] bad.npy tensor 'array': expected 8 bytes of data, got 9; {AGAIN}"
    ),
    "npy huge dimension": (
        "[E200] bad.npy tensor 'array': expected at most 8 dimensions up to 2147483647, "
        f"got '(2147483648,)'; {AGAIN}"
    ),
}
