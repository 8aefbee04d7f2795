"""Fuzzing with a differential oracle: what we accept, the reference must read identically."""

from __future__ import annotations

import io
import json
import math
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lstm_bridge.checkpoints.hdf5 import Hdf5File
from lstm_bridge.checkpoints.npz import parse_header
from lstm_bridge.checkpoints.pickle_machine import OddKey, PickleMachine
from lstm_bridge.checkpoints.place import Place
from lstm_bridge.checkpoints.safetensors_writer import write_safetensors
from lstm_bridge.checkpoints.strict_json import JsonError, parse
from lstm_bridge.errors import BridgeError

HERE = Place(Path("fuzzed"))
SHARES_FILES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

scalars = (
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False)
) | st.text(max_size=8)
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.integers(-(2**60), 2**60), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.binary(max_size=60) | trees.map(lambda tree: json.dumps(tree, default=str).encode()))
def test_what_strict_json_accepts_json_reads_the_same(raw: bytes) -> None:
    try:
        ours = parse(raw)
    except JsonError:
        return
    assert ours == json.loads(raw)


@given(trees, st.integers(0, 5))
def test_plain_pickles_read_as_pickle_reads_them(tree: object, protocol: int) -> None:
    machine = PickleMachine(HERE, {}, lambda _: None)
    raw = pickle.dumps(tree, protocol)
    assert machine.run(io.BytesIO(raw)) == tree


OPCODES = [
    b"(", b".", b"0", b"1", b"2", b"K\1", b"N", b"]", b"}", b")", b"t", b"l", b"d", b"a", b"e",
    b"s", b"u", b"b", b"R", b"\x81", b"\x85", b"\x86", b"\x87", b"h\0", b"q\0", b"q\1", b"h\1",
    b"\x94", b"\x8f", b"\x90", b"\x91", b"X\1\0\0\0a", b"cos\nsystem\n", b"Q", b"\x93",
    b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"G" + bytes(8),
    b"\x8a\1\1", b"I1\n", b"L1L\n", b"\x92", b"\x95" + bytes(8), b"o", b"iposix\nsystem\n",
]  # fmt: skip


@given(st.lists(st.sampled_from(OPCODES) | st.binary(max_size=3), max_size=40))
@settings(max_examples=150)
def test_any_opcodes_end_in_an_object_or_a_refusal(opcodes: list[bytes]) -> None:
    from lstm_bridge.checkpoints.torch_pickle import load_pickle
    from lstm_bridge.checkpoints.torch_tree import flatten

    try:
        root, _ = load_pickle(io.BytesIO(b"\x80\2" + b"".join(opcodes) + b"."), HERE)
        flatten(root, HERE)
    except BridgeError as error:
        one_line(error)


def test_keys_that_could_share_a_hash_are_set_apart() -> None:
    machine = PickleMachine(HERE, {}, lambda _: None)
    value = {2**100: 1, (1, 2): 2, "a": 3}
    found = machine.run(io.BytesIO(pickle.dumps(value, 2)))
    assert [type(key) for key in found] == [OddKey, OddKey, str]


def one_line(error: BridgeError) -> None:
    assert "\n" not in str(error)


def bytes_of(make, tmp_path: Path, name: str, raw: bytes) -> dict[str, np.ndarray] | None:
    path = tmp_path / name
    path.write_bytes(raw)
    try:
        return make.read_all(path)
    except BridgeError as error:
        one_line(error)
        return None


numbers = st.integers(-2, 40) | st.sampled_from([2**31, 2**63, 2**64 - 4, 1.0, True, None, "8"])
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "U8", "BF16", "F8_E4M3", "I64", 3]),
        "shape": st.lists(numbers, max_size=3),
        "data_offsets": st.lists(numbers, min_size=1, max_size=3),
    }
)


@SHARES_FILES
@given(st.dictionaries(st.sampled_from("abc"), entries, max_size=3), st.integers(0, 48))
def test_any_safetensors_header(make, tmp_path: Path, header: dict, size: int) -> None:
    encoded = json.dumps(header).encode()
    raw = struct.pack("<Q", len(encoded)) + encoded + bytes(range(size))
    ours = bytes_of(make, tmp_path, "any.safetensors", raw)
    if ours is not None:
        theirs = safetensors.deserialize(raw)
        assert {n: bytes(t["data"]) for n, t in theirs} == {n: a.tobytes() for n, a in ours.items()}
        assert {n: tuple(t["shape"]) for n, t in theirs} == {n: a.shape for n, a in ours.items()}


shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)


@SHARES_FILES
@given(st.dictionaries(st.text(min_size=1, max_size=6), shapes, max_size=4))
def test_what_we_write_safetensors_reads(make, tmp_path: Path, plan: dict) -> None:
    plan.pop("__metadata__", None)
    arrays = {
        name: np.arange(math.prod(shape), dtype=np.float32).reshape(shape, order="F")
        for name, shape in plan.items()
    }
    stream = io.BytesIO()
    write_safetensors(stream, {n: ("F32", a.shape, a) for n, a in arrays.items()})
    theirs = safetensors.numpy.load(stream.getvalue())
    assert theirs.keys() == arrays.keys()
    assert all(np.array_equal(theirs[name], array) for name, array in arrays.items())
    ours = bytes_of(make, tmp_path, "ours.safetensors", stream.getvalue())
    printable = all(ord(char) >= 32 and ord(char) != 127 for name in plan for char in name)
    assert (ours is not None) == printable


edits = st.lists(st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=4)), max_size=4)


def edited(raw: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    for at, new in changes:
        at %= len(raw)
        raw = raw[:at] + new + raw[at + len(new) :]
    return raw


@SHARES_FILES
@given(edits)
@pytest.mark.parametrize("name", ["stored.npz", "deflated.npz"])
def test_edited_zips(make, files, tmp_path: Path, name: str, changes) -> None:
    raw = edited(files[name], changes)
    ours = bytes_of(make, tmp_path, name, raw)
    if ours is not None:
        with np.load(io.BytesIO(raw)) as theirs:
            assert set(theirs) == set(ours)
            assert all(theirs[n].tobytes() == ours[n].tobytes() for n in ours)


@SHARES_FILES
@given(edits)
@pytest.mark.parametrize("name", ["zip.pt", "legacy.pt"])
def test_edited_torch_files(make, files, tmp_path: Path, name: str, changes) -> None:
    raw = edited(files[name], changes)
    ours = bytes_of(make, tmp_path, name, raw)
    if ours is not None:
        theirs = torch.load(io.BytesIO(raw), weights_only=True)
        assert set(theirs) == set(ours)
        assert all(theirs[n].numpy().tobytes() == ours[n].tobytes() for n in ours)


@given(edits)
@pytest.mark.parametrize("name", ["legacy.h5", "numbered.weights.h5", "new.hdf5", "dense.h5"])
@SHARES_FILES
def test_edited_hdf5_ends_in_arrays_or_a_refusal(files, name: str, changes) -> None:
    # No oracle here: the HDF5 library itself crashes on some of these.
    raw = edited(files[name], changes)
    try:
        file = Hdf5File(io.BytesIO(raw), len(raw), HERE)
        for path, dataset in file.datasets.items():
            assert file.read(path).shape == dataset.info.shape
    except BridgeError as error:
        one_line(error)


@given(
    st.binary(max_size=80)
    | st.fixed_dictionaries(
        {
            "descr": st.sampled_from(["<f4", ">f8", "|b1", "V2", "O", "<f3", 7]),
            "fortran_order": st.sampled_from([True, False, 0]),
            "shape": st.lists(st.integers(-1, 5) | st.booleans(), max_size=3).map(tuple),
        }
    ).map(lambda fields: repr(fields).encode()),
    st.integers(0, 100),
)
def test_any_npy_header(header: bytes, size: int) -> None:
    raw = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(size)
    try:
        ours = parse_header(raw, len(raw), "array", HERE)
    except BridgeError:
        return
    theirs = np.load(io.BytesIO(raw))
    assert theirs.shape == ours.info.shape
    assert theirs.nbytes == size


@SHARES_FILES
@given(st.data())
def test_any_strided_view_of_a_storage(make, tmp_path: Path, data: st.DataObject) -> None:
    base = torch.arange(60.0)
    shape = data.draw(st.lists(st.integers(1, 4), max_size=3), "shape")
    stride = data.draw(st.lists(st.integers(0, 7), min_size=len(shape), max_size=len(shape)))
    span = sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    offset = data.draw(st.integers(0, 59 - min(span, 59)), "offset")
    if offset + span >= 60:
        return
    view = base.as_strided(shape, stride, offset)
    for zipped in (True, False):
        raw = make.torch({"w": view}, _use_new_zipfile_serialization=zipped)
        found = bytes_of(make, tmp_path, "view.pt", raw)
        assert found is not None
        assert found["w"].tobytes() == view.contiguous().numpy().tobytes()
        assert found["w"].shape == tuple(shape)


def test_negative_control_an_oracle_that_differs_is_noticed(make, files, tmp_path: Path) -> None:
    at = files["one.safetensors"].rindex(bytes(make.bias.data)) + 3
    flipped = bytearray(files["one.safetensors"])
    flipped[at] ^= 1
    ours = bytes_of(make, tmp_path, "one.safetensors", bytes(flipped))
    theirs = safetensors.numpy.load(files["one.safetensors"])
    assert ours is not None
    assert any(ours[name].tobytes() != theirs[name].tobytes() for name in ours)
    assert zipfile.is_zipfile(io.BytesIO(files["zip.pt"]))
