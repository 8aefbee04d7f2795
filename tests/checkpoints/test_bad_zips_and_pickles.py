"""Hostile and damaged zips and pickles: one case per line of the list, with the exact message."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
import torch

from lstm_bridge.checkpoints import zip_archive, zip_directory
from lstm_bridge.checkpoints.pickle_machine import MAX_OPCODES

AGAIN = "get the file again from where it was made"
TWO = {"a.npy": b"", "b.npy": b""}


def npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.arange(3.0))
    return stream.getvalue()


def plain(*names: str, method: int = 0, raw: bytes | None = None) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), npy() if raw is None else raw, method)
    return stream.getvalue()


def renamed(raw: bytes, old: bytes, new: bytes) -> bytes:
    assert len(old) == len(new)
    return raw.replace(old, new)


def central(raw: bytes, offset: int, value: bytes) -> bytes:
    """Overwrite bytes of the first directory entry."""
    at = raw.rindex(b"PK\x01\x02") if raw.count(b"PK\x01\x02") == 1 else raw.index(b"PK\x01\x02")
    return raw[: at + offset] + value + raw[at + offset + len(value) :]


def both(raw: bytes, offset: int, value: bytes) -> bytes:
    """Overwrite the same field of the local header and the directory entry."""
    raw = raw[: offset - 2] + value + raw[offset - 2 + len(value) :]
    return central(raw, offset, value)


def symlink() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo("a.npy")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, b"/etc/passwd")
    return stream.getvalue()


def overlapping() -> bytes:
    raw = plain("a.npy", "b.npy")
    at = raw.rindex(b"PK\x01\x02")
    return raw[: at + 42] + struct.pack("<L", 20) + raw[at + 46 :]


def duplicate() -> bytes:
    return renamed(plain("a.npy", "b.npy"), b"b.npy", b"a.npy")


def bomb() -> bytes:
    return plain("a.npy", method=zipfile.ZIP_DEFLATED, raw=npy()[:128] + bytes(70 << 20))


def understated() -> bytes:
    """A member that inflates to more than its headers say."""
    raw = plain("a.npy", method=zipfile.ZIP_DEFLATED, raw=npy() + bytes(5000))
    return both(raw, 24, struct.pack("<L", len(npy())))


def gap() -> bytes:
    """A directory that leaves one of the members out."""
    raw = plain("a.npy", "b.npy")
    first, second = raw.index(b"PK\x01\x02"), raw.rindex(b"PK\x01\x02")
    end = raw.index(b"PK\x05\x06")
    entry = raw[second:end]
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(entry), first, 0)
    return raw[:first] + entry + tail


ZIPS: list[tuple[str, Callable[[], bytes]]] = [
    ("truncated zip", lambda: plain("a.npy")[:-1]),
    ("prefix bytes", lambda: b"PK\x03\x04junk" + plain("a.npy")),
    ("suffix bytes", lambda: plain("a.npy") + b"<script>"),
    ("zip comment", lambda: plain("a.npy")[:-2] + b"\x03\0abc"),
    ("duplicate member", duplicate),
    ("overlapping members", overlapping),
    ("hidden member", gap),
    ("central and local disagree", lambda: central(plain("a.npy"), 46, b"b")),
    ("central and local sizes disagree", lambda: central(plain("a.npy"), 16, b"\0\0\0\0")),
    ("encrypted", lambda: both(plain("a.npy"), 8, b"\1\0")),
    ("absolute", lambda: renamed(plain("xa.npy"), b"xa.npy", b"/a.npy")),
    ("parent", lambda: plain("../a.npy")),
    ("parent inside", lambda: plain("x/../../a.npy")),
    ("backslash", lambda: renamed(plain("..xa.npy"), b"..xa", b"..\\a")),
    ("drive", lambda: plain("C:a.npy")),
    ("newline", lambda: renamed(plain("xa.npy"), b"xa", b"\na")),
    ("symlink", symlink),
    ("case-colliding", lambda: plain("a.npy", "A.npy")),
    ("CRC mismatch", lambda: plain("a.npy").replace(npy()[-8:], bytes(8))),
    ("unsupported compression", lambda: plain("a.npy", method=zipfile.ZIP_BZIP2)),
    ("inflation ratio", bomb),
    ("inflates beyond its declared size", understated),
    ("damaged deflate", lambda: both(plain("a.npy"), 10, b"\x08\0")),
    ("npz object array", lambda: plain("a.npy", raw=_object_array())),
]


def _object_array() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([{}], dtype=object), allow_pickle=True)
    return stream.getvalue()


@pytest.mark.parametrize(("name", "build"), ZIPS, ids=[name for name, _ in ZIPS])
def test_bad_zips(refusal, name: str, build: Callable[[], bytes]) -> None:
    assert refusal("bad.npz", build()) == MESSAGES[name]


# -- pickles ------------------------------------------------------------------------------------

W = torch.arange(6.0)
P = b"\x80\x02"
STORAGE = b"X\7\0\0\0storagectorch\nFloatStorage\n"


def with_pickle(raw: bytes, **data: bytes) -> bytes:
    """A torch zip whose pickle is ``raw``; storage 0 has six floats."""
    members = {"a/data.pkl": raw, "a/data/0": W.numpy().tobytes(), "a/version": b"3\n"} | {
        f"a/{name}": value for name, value in data.items()
    }
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, value in members.items():
            archive.writestr(zipfile.ZipInfo(name), value)
    return stream.getvalue()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<L", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    return b"\x8a\x10" + value.to_bytes(16, "little", signed=True)


def tensor(
    key: str = "0",
    numel: int = 6,
    offset: int = 0,
    size: tuple[int, ...] = (6,),
    stride: tuple[int, ...] = (1,),
    kind: bytes = b"torch\nFloatStorage",
    location: str = "cpu",
    rebuild: bytes = b"torch._utils\n_rebuild_tensor_v2",
) -> bytes:
    """The opcodes of one tensor."""
    storage = b"(" + text("storage") + b"c" + kind + b"\n" + text(key) + text(location)
    storage += number(numel) + b"tQ"
    shape = b"(" + b"".join(map(number, size)) + b"t"
    steps = b"(" + b"".join(map(number, stride)) + b"t"
    call = b"(" + storage + number(offset) + shape + steps
    return b"c" + rebuild + b"\n" + call + b"\x89ccollections\nOrderedDict\n)RtR"


def state(*values: bytes, name: str = "w") -> bytes:
    body = b"".join(
        text(name if i == 0 else f"{name}{i}") + value for i, value in enumerate(values)
    )
    return with_pickle(P + b"}(" + body + b"u.")


def dup_bomb() -> bytes:
    """Lists of lists of lists …, each twice the one before, around one tensor."""
    body = b"]" + tensor() + b"a"
    for _ in range(40):
        body = b"]" + body + b"2\x86a"  # [ (x, x) ]: DUP, TUPLE2, APPEND
    return with_pickle(P + b"}" + text("w") + body + b"s.")


def deep() -> bytes:
    return with_pickle(P + b"}" + text("w") + b"]" * 100 + tensor() + b"a" * 100 + b"s.")


PICKLES: list[tuple[str, Callable[[], bytes]]] = [
    ("no STOP", lambda: with_pickle(P + b"}")),
    ("stack underflow", lambda: with_pickle(P + b"a.")),
    ("no mark", lambda: with_pickle(P + b"t.")),
    ("mark left", lambda: with_pickle(P + b"}(N.")),
    ("two objects", lambda: with_pickle(P + b"NN.")),
    ("memo miss", lambda: with_pickle(P + b"h\x07.")),
    ("unknown opcode", lambda: with_pickle(P + b"\xff.")),
    ("bytes after STOP", lambda: with_pickle(P + b"}.junk")),
    ("INST", lambda: with_pickle(P + b"(ios\nsystem\n.")),
    ("OBJ", lambda: with_pickle(P + b"(cos\nsystem\no.")),
    ("EXT", lambda: with_pickle(P + b"\x82\x01.")),
    ("PERSID", lambda: with_pickle(P + b"Pstorage\n.")),
    ("NEWOBJ without a class", lambda: with_pickle(P + b"N)\x81.")),
    ("REDUCE without a global", lambda: with_pickle(P + b"K\x01)R.")),
    ("SETITEM on a non-dict", lambda: with_pickle(P + b"]K\x01K\x02s.")),
    ("APPEND on a non-list", lambda: with_pickle(P + b"}K\x01a.")),
    ("BUILD on a number", lambda: with_pickle(P + b"K\x01}b.")),
    ("BUILD on a tensor", lambda: state(tensor() + b"}b")),
    ("odd SETITEMS", lambda: with_pickle(P + b"}(K\x01u.")),
    ("long integer", lambda: with_pickle(P + b"\x8a\x80" + b"\x7f" * 128 + b".")),
    ("thousands of digits", lambda: with_pickle(P + b"I" + b"9" * 5000 + b"\n.")),
    ("string beyond the end", lambda: with_pickle(P + b"X\xff\xff\xff\x7fabc.")),
    ("opcode budget", lambda: with_pickle(P + b"N0" * (MAX_OPCODES // 2 + 1) + b"N.")),
    ("DUP bomb", dup_bomb),
    ("nesting", deep),
    ("persistent id of another kind", lambda: with_pickle(P + b"(" + text("module") + b"NtQ.")),
    ("unknown global around a tensor", lambda: state(b"cevil\nrun\n(" + tensor() + b"tR")),
    ("unknown global around a storage", lambda: state(tensor(rebuild=b"evil\nrebuild"))),
    ("class made with a tensor", lambda: state(b"cevil\nBox\n(" + tensor() + b"t\x81")),
    ("quantized", lambda: state(tensor(rebuild=b"torch._utils\n_rebuild_qtensor"))),
    ("nested", lambda: state(tensor(rebuild=b"torch._utils\n_rebuild_nested_tensor"))),
    ("sparse", lambda: state(tensor(rebuild=b"torch._utils\n_rebuild_sparse_tensor"))),
    ("collision of joined names", lambda: with_pickle(
        P + b"}(" + text("a.b") + tensor() + text("a") + b"}" + text("b") + tensor() + b"su."
    )),
    ("empty name", lambda: state(tensor(), name="")),
    ("control character in a name", lambda: state(tensor(), name="a\nb")),
    ("storage key missing", lambda: state(tensor(key="7"))),
    ("storage key with a slash", lambda: state(tensor(key="../0"))),
    ("storage key of dots", lambda: state(tensor(key=".."))),
    ("storage longer than its member", lambda: state(tensor(numel=7))),
    ("storage shorter than its member", lambda: state(tensor(numel=5, size=(5,)))),
    ("size beyond storage", lambda: state(tensor(size=(7,)))),
    ("stride beyond storage", lambda: state(tensor(size=(3, 2), stride=(3, 1)))),
    ("offset beyond storage", lambda: state(tensor(offset=1))),
    ("negative offset", lambda: state(tensor(offset=-1, size=(2,)))),
    ("negative stride", lambda: state(tensor(stride=(-1,)))),
    ("negative size", lambda: state(tensor(size=(-6,)))),
    ("huge size", lambda: state(tensor(size=(2**40,), stride=(0,)))),
    ("rank above 8", lambda: state(tensor(size=(1,) * 9, stride=(1,) * 9))),
    ("strides of another rank", lambda: state(tensor(size=(6,), stride=(6, 1)))),
    ("expanded stride 0", lambda: state(tensor(size=(2**21,), stride=(0,)))),
    ("complex", lambda: state(tensor(kind=b"torch\nComplexFloatStorage", numel=3, size=(3,)))),
    ("quantized storage", lambda: state(tensor(kind=b"torch\nQInt8Storage", numel=24))),
    ("meta", lambda: state(tensor(location="meta"))),
    ("one storage of two dtypes", lambda: state(
        tensor(), tensor(kind=b"torch\nDoubleStorage", numel=3, size=(3,))
    )),
    ("byteorder", lambda: with_pickle(P + b"}.", byteorder=b"middle")),
    ("version", lambda: with_pickle(P + b"}.", version=b"99")),
    ("two folders", lambda: with_pickle(P + b"}.").replace(b"a/version", b"b/version")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "build"), PICKLES, ids=[name for name, _ in PICKLES])
def test_bad_pickles(refusal, name: str, build: Callable[[], bytes]) -> None:
    assert refusal("bad.pt", build()) == MESSAGES[name]


def test_the_builder_makes_good_files_too(write, make) -> None:
    raw = state(tensor(), tensor(offset=1, size=(2,), stride=(3,)))
    assert torch.load(io.BytesIO(raw))["w1"].tolist() == [1, 4]
    found = make.read_all(write("good.pt", raw))
    assert found["w"].tolist() == W.tolist()
    assert found["w1"].tolist() == [1, 4]


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (torch.ones(2, 2).to_sparse(), "a sparse tensor made by 'torch._utils._rebuild_sparse"),
        (torch.empty(3, device="meta"), "a meta tensor, which has no data made by"),
        (torch.ones(3).to(torch.complex64), "got 'torch.ComplexFloatStorage'; cast it before"),
        (torch.ones(3).to(torch.float8_e4m3fn), "got dtype 'torch.float8_e4m3fn' made by"),
        (torch.ones(3).to(torch.complex64).conj(), "got a conjugate or negative view made by"),
    ],
)
def test_what_torch_itself_saves_and_we_refuse(refusal, make, value, got: str) -> None:
    assert got in refusal("bad.pt", make.torch({"w": value}))


def test_too_many_members_are_refused_before_they_are_read(refusal, monkeypatch) -> None:
    monkeypatch.setattr(zip_directory, "MAX_MEMBERS", 3)
    assert refusal("bad.npz", plain(*(f"{i}.npy" for i in range(4)))) == (
        f"[E100] bad.npz: expected at most 3 zip members, got 4; {AGAIN}"
    )


def test_the_sum_of_inflated_members_is_bounded(refusal, monkeypatch) -> None:
    monkeypatch.setattr(zip_archive, "_FREE_INFLATION", 1000)
    monkeypatch.setattr(zip_archive, "_MAX_RATIO", 1)
    raw = plain(*(f"{i}.npy" for i in range(20)), method=8, raw=npy() + bytes(900))
    assert refusal("bad.npz", raw) == (
        f"[E100] bad.npz: expected at most {len(raw)} bytes once inflated, "
        f"got {20 * (len(npy()) + 900)}; {AGAIN}"
    )


def test_legacy_files_with_trailing_or_missing_storages(refusal, make) -> None:
    raw = make.torch({"w": W}, _use_new_zipfile_serialization=False)
    assert refusal("bad.pt", raw + b"x") == (
        f"[E100] bad.pt: expected the last storage and nothing after, got 1 bytes; {AGAIN}"
    )
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    assert refusal("bad.pt", magic + pickle.dumps(1002, 2) + pickle.dumps({}, 2)) == (
        "[E100] bad.pt: expected torch's magic number and protocol 1001, got other numbers; "
        + AGAIN
    )
    start = magic + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
    raw = start + P + b"}" + text("w") + tensor() + b"s." + pickle.dumps(["1"], 2)
    assert refusal("bad.pt", raw) == (
        f"[E100] bad.pt: expected storage keys that the pickle names, got '1'; {AGAIN}"
    )
    raw = start + P + b"}" + text("w") + tensor() + b"s." + pickle.dumps([], 2)
    assert refusal("bad.pt", raw) == (
        "[E300] bad.pt tensor 'w': expected its storage in the file, got no storage '0'; " + AGAIN
    )


def test_globals_that_no_tensor_needs_stay_inert(write) -> None:
    from lstm_bridge.checkpoints import open_checkpoint

    raw = with_pickle(
        P + b"}(" + text("w") + tensor()
        + text("evil") + b"cos\nsystem\n(" + text("rm -rf /") + b"tR"
        + text("cls") + b"cevil\nThing\n"
        + text("obj") + b"cevil\nThing\n)\x81}" + text("x") + b"K\x01sb"
        + b"u."
    )  # fmt: skip
    with open_checkpoint(write("inert.pt", raw)) as file:
        assert list(file.tensors) == ["w"]
        assert file.left_out == {
            "evil": "no tensors; kept inert: 'os.system'",
            "cls": "no tensors; kept inert: 'evil.Thing'",
            "obj": "no tensors; kept inert: 'evil.Thing'",
        }


MESSAGES: dict[str, str] = {
    "truncated zip": (
        "[E100] bad.npz: expected a whole zip archive, got one cut short: its end "
        f"record is missing; {AGAIN}"
    ),
    "prefix bytes": (
        "[E100] bad.npz: expected a zip directory that ends at its end record, got 51 "
        f"bytes at 187 before 246; {AGAIN}"
    ),
    "suffix bytes": (
        "[E100] bad.npz: expected a zip archive and nothing after it, got 8 bytes after "
        f"its end; {AGAIN}"
    ),
    "zip comment": (
        "[E100] bad.npz: expected a zip archive and nothing after it, got 3 bytes after "
        f"its end; {AGAIN}"
    ),
    "duplicate member": (
        f"[E100] bad.npz: expected member names that differ, got 'a.npy' twice; {AGAIN}"
    ),
    "overlapping members": (
        "[E100] bad.npz:b.npy: expected a member at 187 or later, got one at 20 that "
        f"overlaps; {AGAIN}"
    ),
    "hidden member": (
        "[E100] bad.npz:b.npy: expected members end to end, got 187 bytes before the "
        f"first member; {AGAIN}"
    ),
    "central and local disagree": (
        "[E100] bad.npz:b.npy: expected a local header as in the directory, got another "
        f"one; {AGAIN}"
    ),
    "central and local sizes disagree": (
        "[E100] bad.npz:a.npy: expected a local header as in the directory, got another "
        f"one; {AGAIN}"
    ),
    "encrypted": (
        "[E100] bad.npz:a.npy: expected a member in the clear, got an encrypted one; "
        "decrypt it first"
    ),
    "absolute": (
        f"[E100] bad.npz: expected a relative member path inside the archive, got '/a.npy'; {AGAIN}"
    ),
    "parent": (
        "[E100] bad.npz: expected a relative member path inside the archive, got "
        f"'../a.npy'; {AGAIN}"
    ),
    "parent inside": (
        "[E100] bad.npz: expected a relative member path inside the archive, got "
        f"'x/../../a.npy'; {AGAIN}"
    ),
    "backslash": (
        "[E100] bad.npz: expected a relative member path inside the archive, got "
        f"'..\\\\a.npy'; {AGAIN}"
    ),
    "drive": (
        "[E100] bad.npz: expected a relative member path inside the archive, got "
        f"'C:a.npy'; {AGAIN}"
    ),
    "newline": (
        "[E100] bad.npz: expected a relative member path inside the archive, got "
        f"'\\na.npy'; {AGAIN}"
    ),
    "symlink": (
        "[E100] bad.npz:a.npy: expected a plain file, got a link or device member; "
        "store the file itself"
    ),
    "case-colliding": (
        "[E100] bad.npz: expected member names that differ in more than case, got "
        f"'a.npy' and 'A.npy'; {AGAIN}"
    ),
    "CRC mismatch": (
        f"[E100] bad.npz:a.npy: expected content with CRC 2be12124, got 5d3d60b4; {AGAIN}"
    ),
    "unsupported compression": (
        "[E100] bad.npz:a.npy: expected a stored or deflated member, got compression "
        "method 12; store it uncompressed"
    ),
    "inflation ratio": (
        f"[E100] bad.npz: expected at most 67108864 bytes once inflated, got 73400448; {AGAIN}"
    ),
    "inflates beyond its declared size": (
        f"[E100] bad.npz:a.npy: expected 152 bytes once inflated, got more; {AGAIN}"
    ),
    "damaged deflate": (
        "[E100] bad.npz:a.npy: expected a deflated stream and nothing after it, got a "
        f"tail; {AGAIN}"
    ),
    "npz object array": (
        "[E300] bad.npz:a.npy tensor 'a': expected one of F64, F32, F16, BF16, I64, "
        "I32, I16, I8, U64, U32, U16, U8, BOOL, got dtype pickled objects; save plain "
        "number arrays"
    ),
    "no STOP": (
        "[E100] bad.pt:a/data.pkl: expected a pickle, got damage: pickle exhausted "
        f"before seeing STOP; {AGAIN}"
    ),
    "stack underflow": (
        "[E100] bad.pt:a/data.pkl: expected a value on the pickle's stack, got an empty "
        f"stack; {AGAIN}"
    ),
    "no mark": (
        f"[E100] bad.pt:a/data.pkl: expected a mark on the pickle's stack, got none; {AGAIN}"
    ),
    "mark left": (
        f"[E100] bad.pt:a/data.pkl: expected one object when the pickle stops, got 2; {AGAIN}"
    ),
    "two objects": (
        f"[E100] bad.pt:a/data.pkl: expected one object when the pickle stops, got 2; {AGAIN}"
    ),
    "memo miss": (
        f"[E100] bad.pt:a/data.pkl: expected a memo slot that was filled, got slot 7; {AGAIN}"
    ),
    "unknown opcode": (
        "[E100] bad.pt:a/data.pkl: expected a pickle, got damage: at position 2, opcode "
        f"b'\\xff' unknown; {AGAIN}"
    ),
    "bytes after STOP": (
        "[E100] bad.pt:a/data.pkl: expected a pickle and nothing after it, got 4 bytes "
        f"after it; {AGAIN}"
    ),
    "INST": (
        "[E100] bad.pt:a/data.pkl: expected the opcodes that torch.save writes, got "
        f"opcode INST; {AGAIN}"
    ),
    "OBJ": (
        "[E100] bad.pt:a/data.pkl: expected the opcodes that torch.save writes, got "
        f"opcode OBJ; {AGAIN}"
    ),
    "EXT": (
        "[E100] bad.pt:a/data.pkl: expected the opcodes that torch.save writes, got "
        f"opcode EXT1; {AGAIN}"
    ),
    "PERSID": (
        "[E100] bad.pt:a/data.pkl: expected the opcodes that torch.save writes, got "
        f"opcode PERSID; {AGAIN}"
    ),
    "NEWOBJ without a class": (
        "[E100] bad.pt:a/data.pkl: expected a class and a tuple to make it with, got a "
        f"value of type NoneType; {AGAIN}"
    ),
    "REDUCE without a global": (
        "[E100] bad.pt:a/data.pkl: expected a global and a tuple to call it with, got a "
        f"value of type int; {AGAIN}"
    ),
    "SETITEM on a non-dict": (
        "[E100] bad.pt:a/data.pkl: expected a dict to set an item of, got a value of "
        f"type list; {AGAIN}"
    ),
    "APPEND on a non-list": (
        f"[E100] bad.pt:a/data.pkl: expected a list to append to, got a value of type dict; {AGAIN}"
    ),
    "BUILD on a number": (
        "[E100] bad.pt:a/data.pkl: expected an object to give a state to, got a value "
        f"of type int; {AGAIN}"
    ),
    "BUILD on a tensor": (
        "[E100] bad.pt:a/data.pkl: expected an object to give a state to, got a value "
        f"of type TensorRef; {AGAIN}"
    ),
    "odd SETITEMS": (
        f"[E100] bad.pt:a/data.pkl: expected keys with values, got a key without one; {AGAIN}"
    ),
    "long integer": (
        "[E100] bad.pt:a/data.pkl: expected integers of at most 512 bits, got a longer "
        f"one; {AGAIN}"
    ),
    "thousands of digits": (
        "[E100] bad.pt:a/data.pkl: expected a pickle, got damage: Exceeds the limit "
        "(4300 digits) for integer string conversion: value has 5000 digits; use "
        f"sys.set_int_max_str_digits() to increase the limit; {AGAIN}"
    ),
    "string beyond the end": (
        "[E100] bad.pt:a/data.pkl: expected a pickle, got damage: expected 2147483647 "
        f"bytes in a unicodestring4, but only 4 remain; {AGAIN}"
    ),
    "opcode budget": (
        f"[E100] bad.pt:a/data.pkl: expected at most 1000000 pickle opcodes, got more; {AGAIN}"
    ),
    "DUP bomb": (
        "[E100] bad.pt:a/data.pkl: expected at most 200000 objects, 64 deep, got more: "
        f"one that repeats or contains itself; {AGAIN}"
    ),
    "nesting": (
        "[E100] bad.pt:a/data.pkl: expected at most 200000 objects, 64 deep, got more: "
        f"one that repeats or contains itself; {AGAIN}"
    ),
    "persistent id of another kind": (
        f"[E100] bad.pt:a/data.pkl: expected a storage as torch.save names it, got 'tuple'; {AGAIN}"
    ),
    "unknown global around a tensor": (
        "[E100] bad.pt:a/data.pkl tensor 'w': expected a tensor that torch's plain "
        "rebuild functions make, got something made by 'evil.run'; save a state_dict of "
        "plain tensors"
    ),
    "unknown global around a storage": (
        "[E100] bad.pt:a/data.pkl tensor 'w': expected a tensor that torch's plain "
        "rebuild functions make, got something made by 'evil.rebuild'; save a "
        "state_dict of plain tensors"
    ),
    "class made with a tensor": (
        "[E100] bad.pt:a/data.pkl tensor 'w': expected a tensor that torch's plain "
        "rebuild functions make, got something made by 'evil.Box'; save a state_dict of "
        "plain tensors"
    ),
    "quantized": (
        "[E100] bad.pt:a/data.pkl tensor 'w': expected a tensor that torch's plain "
        "rebuild functions make, got a quantized tensor made by "
        "'torch._utils._rebuild_qtensor'; save a state_dict of plain tensors"
    ),
    "nested": (
        "[E100] bad.pt:a/data.pkl tensor 'w': expected a tensor that torch's plain "
        "rebuild functions make, got a nested tensor made by "
        "'torch._utils._rebuild_nested_tensor'; save a state_dict of plain tensors"
    ),
    "sparse": (
        "[E100] bad.pt:a/data.pkl tensor 'w': expected a tensor that torch's plain "
        "rebuild functions make, got a sparse tensor made by "
        "'torch._utils._rebuild_sparse_tensor'; save a state_dict of plain tensors"
    ),
    "collision of joined names": (
        "[E300] bad.pt:a/data.pkl tensor 'a.b': expected one tensor of that name, got "
        "two; rename one of the keys that join to this name"
    ),
    "empty name": (
        "[E300] bad.pt:a/data.pkl tensor '': expected a printable name, got an empty "
        f"one or control characters; {AGAIN}"
    ),
    "control character in a name": (
        "[E300] bad.pt:a/data.pkl tensor 'a\\nb': expected a printable name, got an "
        f"empty one or control characters; {AGAIN}"
    ),
    "storage key missing": (
        "[E300] bad.pt:a/data.pkl tensor 'w': expected its storage in the file, got no "
        f"storage '7'; {AGAIN}"
    ),
    "storage key with a slash": (
        "[E300] bad.pt:a/data.pkl tensor 'w': expected a storage key of letters and "
        f"digits, got '../0'; {AGAIN}"
    ),
    "storage key of dots": (
        "[E300] bad.pt:a/data.pkl tensor 'w': expected a storage key of letters and "
        f"digits, got '..'; {AGAIN}"
    ),
    "storage longer than its member": (
        f"[E300] bad.pt:a/data.pkl tensor 'w': expected a storage of 28 bytes, got 24; {AGAIN}"
    ),
    "storage shorter than its member": (
        f"[E300] bad.pt:a/data.pkl tensor 'w': expected a storage of 20 bytes, got 24; {AGAIN}"
    ),
    "size beyond storage": (
        "[E300] bad.pt:a/data.pkl tensor 'w': expected a view inside a storage of 6 "
        f"elements, got one up to 7; {AGAIN}"
    ),
    "stride beyond storage": (
        "[E300] bad.pt:a/data.pkl tensor 'w': expected a view inside a storage of 6 "
        f"elements, got one up to 8; {AGAIN}"
    ),
    "offset beyond storage": (
        "[E300] bad.pt:a/data.pkl tensor 'w': expected a view inside a storage of 6 "
        f"elements, got one up to 7; {AGAIN}"
    ),
    "negative offset": (
        "[E300] bad.pt:a/data.pkl tensor 'w': expected offset from 0 to "
        f"4611686018427387904, got '-1'; {AGAIN}"
    ),
    "negative stride": (
        "[E300] bad.pt:a/data.pkl tensor 'w': expected stride from 0 to "
        f"4611686018427387904, got '-1'; {AGAIN}"
    ),
    "negative size": (
        "[E300] bad.pt:a/data.pkl tensor 'w': expected size from 0 to 2147483647, got "
        f"'-6'; {AGAIN}"
    ),
    "huge size": (
        "[E300] bad.pt:a/data.pkl tensor 'w': expected size from 0 to 2147483647, got "
        f"'1099511627776'; {AGAIN}"
    ),
    "rank above 8": (
        "[E300] bad.pt:a/data.pkl tensor 'w': expected size of at most 8 numbers, got "
        f"another; {AGAIN}"
    ),
    "strides of another rank": (
        f"[E300] bad.pt:a/data.pkl tensor 'w': expected 1 strides, got 2; {AGAIN}"
    ),
    "expanded stride 0": (
        "[E300] bad.pt:a/data.pkl tensor 'w': expected a view that expands little, got "
        "2097152 elements over a storage of 6; save a contiguous tensor"
    ),
    "complex": (
        "[E300] bad.pt:a/data.pkl tensor 'w': expected a real, integer or bool dtype, "
        "got 'torch.ComplexFloatStorage'; cast it before saving"
    ),
    "quantized storage": (
        "[E300] bad.pt:a/data.pkl tensor 'w': expected a real, integer or bool dtype, "
        "got 'torch.QInt8Storage'; cast it before saving"
    ),
    "meta": (
        "[E300] bad.pt:a/data.pkl tensor 'w': expected data, got a meta tensor, which "
        "has none; save the real model"
    ),
    "one storage of two dtypes": (
        "[E100] bad.pt:a/data.pkl: expected one dtype and length for storage '0', got "
        f"two that differ; {AGAIN}"
    ),
    "byteorder": (
        f"[E100] bad.pt:a/byteorder: expected 'little' or 'big', got \"b'middle'\"; {AGAIN}"
    ),
    "version": (
        "[E100] bad.pt:a/version: expected torch's file version from 1 to 10, got "
        f"\"b'99'\"; {AGAIN}"
    ),
    "two folders": (f"[E100] bad.pt: expected one folder in a torch zip, got 2; {AGAIN}"),
}
