"""Hostile and damaged HDF5 and Keras files: one case per line of the list, the exact message."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable

import h5py
import numpy as np
import pytest

from lstm_bridge.checkpoints import hdf5
from lstm_bridge.checkpoints.hdf5_chunks import fletcher32
from lstm_bridge.checkpoints.hdf5_format import lookup3

AGAIN = "get the file again from where it was made"
Build = Callable[[h5py.File], object]


def external_link(file: h5py.File) -> None:
    file["w"] = h5py.ExternalLink("/etc/passwd", "/x")


def soft_link(file: h5py.File) -> None:
    file["real"] = np.ones(2)
    file["w"] = h5py.SoftLink("/real")


def external_storage(file: h5py.File) -> None:
    file.create_dataset("w", (4,), "u1", external=[("/etc/passwd", 0, 4)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    file.create_virtual_dataset("w", layout)


def cycle(file: h5py.File) -> None:
    inner = file.create_group("a/b")
    inner["back"] = file["a"]


def deep(file: h5py.File) -> None:
    file["/".join("g" * 33)] = 1.0


def shape_bomb(file: h5py.File) -> None:
    file.create_dataset("w", (2**30, 2**10), "f4")


def chunk_bomb(file: h5py.File) -> None:
    file.create_dataset("w", (2**20, 2**20), "f4", chunks=(2**9, 2**9), compression="gzip")


def empty_chunks(file: h5py.File) -> None:
    file.create_dataset("w", (64,), "f4", chunks=(32,))


def large_chunk(file: h5py.File) -> None:
    data = file.create_dataset("w", (2,), "f4", chunks=(2**22,), maxshape=(None,), compression=9)
    data[...] = 1


def ratio(file: h5py.File) -> None:
    file.create_dataset("w", data=np.zeros((32, 2**20), "f4"), chunks=(1, 2**20), compression=9)


def filtered(name: str) -> Build:
    return lambda file: file.create_dataset("w", data=np.ones(64, "i4"), chunks=(64,), **{
        "lzf": {"compression": "lzf"},
        "scale": {"scaleoffset": 2},
    }[name])  # fmt: skip


def typed(value: object, dtype: object = None) -> Build:
    return lambda file: file.create_dataset("w", data=value, dtype=dtype)


def reference(file: h5py.File) -> None:
    file.create_group("g")
    file.create_dataset("w", data=[file["g"].ref], dtype=h5py.ref_dtype)


def named_type(file: h5py.File) -> None:
    file["t"] = np.dtype("f4")


def odd_float(file: h5py.File) -> None:
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_ebias(126)
    space = h5py.h5s.create_simple((2,))
    h5py.h5d.create(file.id, b"w", kind, space)


HDF5: list[tuple[str, Build]] = [
    ("external link", external_link),
    ("soft link", soft_link),
    ("external storage", external_storage),
    ("virtual dataset", virtual),
    ("hard-link cycle", cycle),
    ("depth above 32", deep),
    ("shape bomb", shape_bomb),
    ("chunk bomb", chunk_bomb),
    ("chunks that are not there", empty_chunks),
    ("chunk larger than its data", large_chunk),
    ("inflation ratio", ratio),
    ("LZF filter", filtered("lzf")),
    ("scale-offset filter", filtered("scale")),
    ("object dtype", typed(["a", "bc"], h5py.string_dtype())),
    ("vlen dtype", lambda file: file.create_dataset("w", (2,), h5py.vlen_dtype(np.float32))),
    ("compound dtype", typed(np.zeros(2, [("a", "f4"), ("b", "i4")]))),
    ("fixed strings", typed(np.array([b"ab"]))),
    ("complex dtype", typed(np.zeros(2, "c8"))),
    ("array dtype", typed(np.zeros(2), None)),
    ("long double", typed(np.zeros(2, np.longdouble))),
    ("float of another bias", odd_float),
    ("reference dtype", reference),
    ("opaque that is no bfloat16", typed(np.zeros(2, "V2"))),
    ("enum", typed([0, 1], h5py.enum_dtype({"A": 0, "B": 1}, "i1"))),
    ("null dataspace", typed(h5py.Empty("f4"))),
    ("named datatype", named_type),
    ("rank above 8", typed(np.zeros((1,) * 9))),
]  # fmt: skip


def array_type(file: h5py.File) -> None:
    kind = h5py.h5t.array_create(h5py.h5t.IEEE_F32LE, (3,))
    h5py.h5d.create(file.id, b"w", kind, h5py.h5s.create_simple((2,)))


HDF5[[name for name, _ in HDF5].index("array dtype")] = ("array dtype", array_type)


def build_bytes(build: Build, **options: object) -> bytes:
    import io

    stream = io.BytesIO()
    with h5py.File(stream, "w", **options) as file:
        build(file)
    return stream.getvalue()


LATEST: list[tuple[str, Build]] = [
    ("external link, new style", external_link),
    ("soft link, new style", soft_link),
    ("new chunk index", filtered("scale")),
    ("named datatype, new style", named_type),
]


def patched(build: Build, old: bytes, new: bytes) -> bytes:
    raw = build_bytes(build)
    assert old in raw
    return raw.replace(old, new, 1)


def plain(file: h5py.File) -> None:
    file["weight"] = np.ones(2, "f4")


def superblock(offset: int, value: bytes) -> bytes:
    raw = build_bytes(plain)
    return raw[:offset] + value + raw[offset + len(value) :]


DAMAGED: list[tuple[str, Callable[[], bytes]]] = [
    ("truncated", lambda: build_bytes(plain)[:-1]),
    ("suffix bytes", lambda: build_bytes(plain) + b"x"),
    ("user block", lambda: superblock(24, struct.pack("<Q", 512))),
    ("superblock version", lambda: superblock(8, b"\x09")),
    ("narrow addresses", lambda: superblock(13, b"\x04")),
    ("no tree", lambda: patched(plain, b"TREE", b"TREF")),
    ("no heap", lambda: patched(plain, b"HEAP", b"HEAQ")),
    ("no symbols", lambda: patched(plain, b"SNOD", b"SNOE")),
    ("slash in a name", lambda: patched(plain, b"weight", b"we/ght")),
    ("newline in a name", lambda: patched(plain, b"weight", b"we\nght")),
    ("non-UTF-8 name", lambda: patched(plain, b"weight", b"we\xffght")),
    ("names out of order", lambda: patched(soft_free, b"bb\0", b"Bb\0")),
]


def soft_free(file: h5py.File) -> None:
    file["aa"] = np.ones(2)
    file["bb"] = np.ones(2)


@pytest.mark.parametrize(("name", "build"), HDF5, ids=[name for name, _ in HDF5])
def test_bad_hdf5(refusal, name: str, build: Build) -> None:
    assert refusal("bad.h5", build_bytes(build)) == MESSAGES[name]


@pytest.mark.parametrize(("name", "build"), LATEST, ids=[name for name, _ in LATEST])
def test_bad_hdf5_of_the_new_style(refusal, name: str, build: Build) -> None:
    assert refusal("bad.h5", build_bytes(build, libver="latest")) == MESSAGES[name]


@pytest.mark.parametrize(("name", "build"), DAMAGED, ids=[name for name, _ in DAMAGED])
def test_damaged_hdf5(refusal, name: str, build: Callable[[], bytes]) -> None:
    assert refusal("bad.h5", build()) == MESSAGES[name]


def test_a_web_of_hard_links_is_walked_within_a_budget(refusal) -> None:
    def web(file: h5py.File) -> None:
        group = file.create_group("g0")
        group["w"] = 1.0
        for number in range(1, 30):
            above = file.create_group(f"g{number}")
            for name in "ab":
                above[name] = file[f"g{number - 1}"]

    message = refusal("bad.h5", build_bytes(web))
    assert f"expected at most {hdf5.MAX_OBJECTS} HDF5 objects, got more" in message


def test_dense_attributes_are_refused_with_the_way_out(refusal) -> None:
    def build(file: h5py.File) -> None:
        for number in range(20):
            file.attrs[f"a{number}"] = 1

    assert refusal("bad.h5", build_bytes(build, libver="latest")) == (
        "[E100] bad.h5: expected attributes in the header, got dense attributes; "
        "write it with h5py's default libver"
    )


def test_the_builders_make_good_files_too(make, write) -> None:
    assert make.read_all(write("good.h5", build_bytes(plain)))["weight"].tolist() == [1, 1]


def legacy(**changes: object) -> Build:
    def build(file: h5py.File) -> None:
        file.attrs["layer_names"] = np.array([b"lstm"])
        file.create_group("lstm").attrs["weight_names"] = np.array([b"kernel"])
        file["lstm/kernel"] = np.ones(2, "f4")
        for path, value in changes.items():
            where, _, name = path.rpartition("__")
            file[where or "/"].attrs[name] = value

    return build


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"layer_names": np.array([b"gone"])},
            "[E100] bad.h5: expected a group for each layer in layer_names, got none for 'gone'; "
            + AGAIN,
        ),
        (
            {"lstm__weight_names": np.array([b"../../kernel"])},
            "[E100] bad.h5: expected a dataset for each name in weight_names, "
            f"got none at 'lstm/../../kernel'; {AGAIN}",
        ),
        (
            {"model_config": '{"a": 1, "a": 2}'},
            f"[E400] bad.h5:model_config: expected unique keys, got key 'a' twice; {AGAIN}",
        ),
        (
            {"model_config": "[" * 70},
            "[E400] bad.h5:model_config: expected JSON nested at most 64 deep, "
            f"got deeper nesting; {AGAIN}",
        ),
        (
            {"model_config": "3"},
            f"[E400] bad.h5:model_config: expected a JSON object, got '3'; {AGAIN}",
        ),
        (
            {"layer_names": np.array([[b"lstm"]])},
            f"[E100] bad.h5:@layer_names: expected a list of names, got shape (1, 1); {AGAIN}",
        ),
    ],
)
def test_bad_lists_and_configs(refusal, changes: dict[str, object], message: str) -> None:
    assert refusal("bad.h5", build_bytes(legacy(**changes))) == message


def archive(make, **changes: bytes | None) -> bytes:
    members: dict[str, bytes | None] = {
        "metadata.json": json.dumps({"keras_version": "3.15.1"}).encode(),
        "config.json": b"{}",
        "model.weights.h5": build_bytes(make.numbered_keras),
    }
    members |= {name.replace("__", "."): raw for name, raw in changes.items()}
    return make.zip({name: raw for name, raw in members.items() if raw is not None})


def test_bad_archives(refusal, make) -> None:
    assert refusal("bad.keras", archive(make, model__weights__h5=None)) == (
        "[E100] bad.keras: expected weights in model.weights.h5, got no weights; "
        "save the model again with Keras's default settings"
    )
    changes = {"model__weights__h5": None, "model__weights__npz": b""}
    assert "got model.weights.npz" in refusal("bad.keras", archive(make, **changes))
    assert refusal("bad.keras", archive(make, metadata__json=b"{}")) == (
        f"[E400] bad.keras:metadata.json: expected a keras_version, got none; {AGAIN}"
    )
    assert refusal("bad.keras", archive(make, config__json=b"\xef\xbb\xbf{}")) == (
        "[E400] bad.keras:config.json: expected UTF-8 without a byte order mark, "
        f"got a byte order mark; {AGAIN}"
    )
    inner = build_bytes(external_link)
    assert refusal("bad.keras", archive(make, model__weights__h5=inner)) == (
        "[E100] bad.keras:model.weights.h5:w: expected data inside the file, "
        "got an external link; save it without links"
    )


def test_checksums_are_those_of_the_format() -> None:
    # Bob Jenkins's own test vectors for lookup3's hashlittle with initial value 0.
    assert lookup3(b"") == 0xDEADBEEF
    assert lookup3(b"Four score and seven years ago") == 0x17770551
    assert fletcher32(b"") == 0
    assert fletcher32(b"\0\1\0\2") == (4 << 16 | 3)
    assert fletcher32(b"\xff\xff") == 0xFFFFFFFF


MESSAGES: dict[str, str] = {
    "external link": (
        "[E100] bad.h5:w: expected data inside the file, got an external link; save it "
        "without links"
    ),
    "soft link": (
        "[E100] bad.h5:w: expected data inside the file, got a soft link; save it without links"
    ),
    "external storage": (
        f"[E100] bad.h5:w: expected data inside the file, got external storage; {AGAIN}"
    ),
    "virtual dataset": (
        f"[E100] bad.h5:w: expected data inside the file, got a virtual dataset; {AGAIN}"
    ),
    "hard-link cycle": (
        f"[E100] bad.h5:a/b/back: expected a tree of groups, got a hard-link cycle; {AGAIN}"
    ),
    "depth above 32": (
        "[E100] "
        "bad.h5:g/g/g/g/g/g/g/g/g/g/g/g/g/g/g/g/g/g/g/g/g/g/g/g/g/g/g/g/g/g/g/g/g: "
        f"expected groups at most 32 deep, got deeper ones; {AGAIN}"
    ),
    "shape bomb": (f"[E300] bad.h5 tensor 'w': expected data inside the file, got none; {AGAIN}"),
    "chunk bomb": (f"[E300] bad.h5 tensor 'w': expected data inside the file, got none; {AGAIN}"),
    "chunks that are not there": (
        f"[E300] bad.h5 tensor 'w': expected data inside the file, got none; {AGAIN}"
    ),
    "chunk larger than its data": (
        "[E100] bad.h5:w: expected chunks no larger than the data, got chunks of "
        f"[4194304]; {AGAIN}"
    ),
    "inflation ratio": (
        "[E100] bad.h5:w: expected inflation of at most 200-fold, got 130752 bytes that "
        f"would become 134217728; {AGAIN}"
    ),
    "LZF filter": (
        "[E100] bad.h5:w: expected gzip or no compression, got filter 32000; store it "
        "without compression"
    ),
    "scale-offset filter": (
        "[E100] bad.h5:w: expected gzip or no compression, got filter 6; store it "
        "without compression"
    ),
    "object dtype": (
        "[E300] bad.h5 tensor 'w': expected one of F64, F32, F16, BF16, I64, I32, I16, "
        "I8, U64, U32, U16, U8, BOOL, got an HDF5 variable-length type; store plain "
        "numbers"
    ),
    "vlen dtype": (
        "[E300] bad.h5 tensor 'w': expected one of F64, F32, F16, BF16, I64, I32, I16, "
        "I8, U64, U32, U16, U8, BOOL, got an HDF5 variable-length type; store plain "
        "numbers"
    ),
    "compound dtype": (
        "[E300] bad.h5 tensor 'w': expected one of F64, F32, F16, BF16, I64, I32, I16, "
        "I8, U64, U32, U16, U8, BOOL, got an HDF5 compound type; store plain numbers"
    ),
    "fixed strings": (
        "[E300] bad.h5 tensor 'w': expected one of F64, F32, F16, BF16, I64, I32, I16, "
        "I8, U64, U32, U16, U8, BOOL, got an HDF5 string type; store plain numbers"
    ),
    "complex dtype": (
        "[E300] bad.h5 tensor 'w': expected one of F64, F32, F16, BF16, I64, I32, I16, "
        "I8, U64, U32, U16, U8, BOOL, got an HDF5 compound type; store plain numbers"
    ),
    "array dtype": (
        "[E300] bad.h5 tensor 'w': expected one of F64, F32, F16, BF16, I64, I32, I16, "
        "I8, U64, U32, U16, U8, BOOL, got an HDF5 array type; store plain numbers"
    ),
    "long double": (
        "[E300] bad.h5 tensor 'w': expected one of F64, F32, F16, BF16, I64, I32, I16, "
        "I8, U64, U32, U16, U8, BOOL, got an HDF5 non-standard number type; store plain "
        "numbers"
    ),
    "float of another bias": (
        "[E300] bad.h5 tensor 'w': expected one of F64, F32, F16, BF16, I64, I32, I16, "
        "I8, U64, U32, U16, U8, BOOL, got an HDF5 non-standard number type; store plain "
        "numbers"
    ),
    "reference dtype": (
        "[E300] bad.h5 tensor 'w': expected one of F64, F32, F16, BF16, I64, I32, I16, "
        "I8, U64, U32, U16, U8, BOOL, got an HDF5 reference type; store plain numbers"
    ),
    "opaque that is no bfloat16": (
        "[E300] bad.h5 tensor 'w': expected one of F64, F32, F16, BF16, I64, I32, I16, "
        "I8, U64, U32, U16, U8, BOOL, got an HDF5 opaque type; store plain numbers"
    ),
    "enum": (
        "[E300] bad.h5 tensor 'w': expected one of F64, F32, F16, BF16, I64, I32, I16, "
        "I8, U64, U32, U16, U8, BOOL, got an HDF5 enum type; store plain numbers"
    ),
    "null dataspace": (
        f"[E300] bad.h5 tensor 'w': expected a shape, got a null dataspace; {AGAIN}"
    ),
    "named datatype": (
        f"[E100] bad.h5:t: expected a group or a dataset, got another object; {AGAIN}"
    ),
    "rank above 8": (f"[E100] bad.h5:w: expected at most 8 dimensions, got 9; {AGAIN}"),
    "external link, new style": (
        "[E100] bad.h5:w: expected data inside the file, got an external link; save it "
        "without links"
    ),
    "soft link, new style": (
        "[E100] bad.h5:w: expected data inside the file, got a soft link; save it without links"
    ),
    "new chunk index": (
        "[E100] bad.h5:w: expected a data layout of version 3, got 5, class 2; write it "
        "with h5py's default libver"
    ),
    "named datatype, new style": (
        f"[E100] bad.h5:t: expected a group or a dataset, got another object; {AGAIN}"
    ),
    "truncated": (f"[E100] bad.h5: expected an HDF5 file of 1408 bytes, got one of 1407; {AGAIN}"),
    "suffix bytes": (
        f"[E100] bad.h5: expected an HDF5 file of 1408 bytes, got one of 1409; {AGAIN}"
    ),
    "user block": (
        f"[E100] bad.h5: expected an HDF5 file of 1408 bytes, got data from 512 on; {AGAIN}"
    ),
    "superblock version": (
        f"[E100] bad.h5: expected an HDF5 superblock of version 0 to 3, got 9; {AGAIN}"
    ),
    "narrow addresses": (
        f"[E100] bad.h5: expected HDF5 addresses of 8 bytes, got widths (4, 8); {AGAIN}"
    ),
    "no tree": (f"[E100] bad.h5: expected a group's B-tree, got other bytes; {AGAIN}"),
    "no heap": (f"[E100] bad.h5: expected a local heap, got other bytes; {AGAIN}"),
    "no symbols": (f"[E100] bad.h5: expected a symbol table node, got other bytes; {AGAIN}"),
    "slash in a name": (
        f"[E100] bad.h5: expected printable names without slashes, got 'we/ght'; {AGAIN}"
    ),
    "newline in a name": (
        f"[E100] bad.h5: expected printable names without slashes, got 'we\\nght'; {AGAIN}"
    ),
    "non-UTF-8 name": (f"[E100] bad.h5: expected names in UTF-8, got \"b'we\\\\xffght'\"; {AGAIN}"),
    "names out of order": (f"[E100] bad.h5: expected names in order, got 'Bb' out of it; {AGAIN}"),
}
