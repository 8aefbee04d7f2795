"""Keras files of every layout, against live Keras and h5py."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

import lstm_bridge
from lstm_bridge.checkpoints import open_checkpoint

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras

Write = Callable[[str, bytes], Path]


def model(dtype: str = "float32") -> keras.Model:
    # Not the default orthogonal initializer: torch has no QR of half precision.
    options = {"dtype": dtype, "recurrent_initializer": "glorot_uniform"}
    inputs = keras.Input((5, 3))
    x = keras.layers.Bidirectional(keras.layers.LSTM(4, return_sequences=True, **options))(inputs)
    x = keras.layers.LSTM(6, name="second", **options)(x)
    made = keras.Model(inputs, keras.layers.Dense(2, dtype=dtype)(x))
    made.compile("adam", "mse")
    return made


def fit(made: keras.Model) -> None:
    rng = np.random.default_rng(0)
    made.fit(rng.random((4, 5, 3)), rng.random((4, 2)), verbose=0)


def sorted_bytes(arrays: list[np.ndarray]) -> list[bytes]:
    return sorted(np.asarray(array).tobytes() for array in arrays)


def test_a_keras_archive(tmp_path: Path) -> None:
    made = model()
    fit(made)
    path = tmp_path / "model.keras"
    made.save(path)
    with open_checkpoint(path) as file:
        assert (file.format, file.framework) == ("keras archive", "keras")
        assert file.metadata["keras_version"] == keras.__version__
        with zipfile.ZipFile(path) as archive:
            assert file.metadata["config"] == json.loads(archive.read("config.json"))
        assert file.metadata["layout"] == "vars"
        weights = file.metadata["weight_names"]
        assert weights["layers/lstm/cell"] == [f"layers/lstm/cell/vars/{i}" for i in range(3)]
        assert file.metadata["names"]["layers/lstm"] == "second"
        assert file.left_out == {"optimizer": "optimizer state, not weights"}
        ours = sorted_bytes([file.read(name) for name in file.tensors])
        assert ours == sorted_bytes(made.get_weights())
        kernel = file.read("layers/lstm/cell/vars/0")
        assert np.array_equal(kernel, made.get_layer("second").get_weights()[0])


def test_metrics_that_keras_2_keeps_beside_the_weights_are_left_out(tmp_path: Path) -> None:
    made = model()
    made.save(tmp_path / "plain.keras")
    with zipfile.ZipFile(tmp_path / "plain.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    weights = io.BytesIO(members["model.weights.h5"])
    with h5py.File(weights, "a") as file:
        file["metrics/mean/vars/0"] = np.float32(3)
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        for name in members:
            archive.writestr(
                name, weights.getvalue() if name == "model.weights.h5" else members[name]
            )
    with open_checkpoint(tmp_path / "model.keras") as file:
        assert file.left_out["metrics"] == "metrics of the training, not weights"
        assert sorted_bytes([file.read(name) for name in file.tensors]) == sorted_bytes(
            made.get_weights()
        )
    lstm_bridge.load(tmp_path / "model.keras")


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("name", ["metrics", "optimizer"])
def test_a_layer_named_like_training_state_is_kept(tmp_path: Path, name: str) -> None:
    made = keras.Sequential([keras.Input((3, 2)), keras.layers.LSTM(4, name=name)])
    made.save_weights(tmp_path / "model.weights.h5")
    made.save(tmp_path / "model.h5")
    for file_name in ("model.weights.h5", "model.h5"):
        with open_checkpoint(tmp_path / file_name) as file:
            ours = sorted_bytes([file.read(name) for name in file.tensors])
            assert ours == sorted_bytes(made.get_weights())


def test_a_deflated_archive_reads_the_same(tmp_path: Path, write: Write) -> None:
    made = model()
    made.save(tmp_path / "stored.keras")
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(tmp_path / "stored.keras") as old,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with open_checkpoint(write("deflated.keras", stream.getvalue())) as file:
        ours = sorted_bytes([file.read(name) for name in file.tensors])
        assert ours == sorted_bytes(made.get_weights())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_numbered_weights_of_every_dtype(tmp_path: Path, dtype: str) -> None:
    made = model(dtype)
    path = tmp_path / "model.weights.h5"
    made.save_weights(path)
    code = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "float64": "F64"}[dtype]
    with open_checkpoint(path) as file:
        assert file.format == "keras weights h5"
        assert {info.dtype for info in file.tensors.values()} == {code}
        assert file.metadata["keras_version"] is None
        ours = sorted_bytes([file.read(name) for name in file.tensors])
        values = [w.value.detach().cpu() for w in made.weights]
        assert ours == sorted_bytes([_bits(value) for value in values])


def _bits(tensor) -> np.ndarray:
    import torch

    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_a_legacy_model(tmp_path: Path) -> None:
    made = model()
    fit(made)
    path = tmp_path / "model.h5"
    made.save(path)
    with open_checkpoint(path) as file:
        assert file.format == "keras legacy h5"
        assert file.metadata["layout"] == "legacy"
        assert file.metadata["keras_version"] == keras.__version__
        assert file.metadata["backend"] == "torch"
        assert file.metadata["config"]["class_name"] == "Functional"
        assert [n for n in file.metadata["layer_names"] if n != "top_level_model_weights"] == [
            layer.name for layer in made.layers
        ]
        for layer in made.layers:
            paths = file.metadata["weight_names"][layer.name]
            for path_, weight in zip(paths, layer.get_weights(), strict=True):
                assert np.array_equal(file.read(path_), weight)
        assert set(file.left_out) == {"optimizer_weights"}
        assert len(file.tensors) == len(made.weights)


def test_weights_only_with_names_in_pieces_and_no_version(write: Write, make) -> None:
    def build(file: h5py.File) -> None:
        file.attrs["layer_names0"] = np.array([b"lstm_1"])
        file.attrs["layer_names1"] = np.array([b"lstm_10", b"dropout"])
        for name, names in (("lstm_1", ["a", "b"]), ("lstm_10", ["c"]), ("dropout", [])):
            group = file.create_group(name)
            for number, weight in enumerate(names):
                group.attrs[f"weight_names{number}"] = np.array([weight.encode()])
                group[weight] = np.arange(3.0) + ord(weight)
            if not names:
                group.attrs["weight_names"] = []

    with open_checkpoint(write("weights.hdf5", make.hdf5(build))) as file:
        assert file.metadata["keras_version"] == "1"
        assert file.metadata["layer_names"] == ["lstm_1", "lstm_10", "dropout"]
        assert file.metadata["weight_names"] == {
            "lstm_1": ["lstm_1/a", "lstm_1/b"],
            "lstm_10": ["lstm_10/c"],
            "dropout": [],
        }
        assert list(file.tensors) == ["lstm_1/a", "lstm_1/b", "lstm_10/c"]
        assert file.read("lstm_10/c").tolist() == [99.0, 100.0, 101.0]


def test_plain_hdf5_is_named_arrays(write: Write, make) -> None:
    wanted = {
        "big": np.arange(6, dtype=">f8").reshape(2, 3),
        "flags": np.array([True, False]),
        "deep/er/u2": np.arange(3, dtype="<u2"),
        "scalar": np.float16(2.5),
        "empty": np.zeros((0, 3)),
        "i8": np.array([-1, 2], np.int8),
    }
    chunked = np.random.default_rng(0).standard_normal((7, 9))

    def build(file: h5py.File) -> None:
        for name, value in wanted.items():
            file[name] = value
        file.create_dataset(
            "chunked", data=chunked, chunks=(3, 4), compression="gzip", shuffle=True,
            fletcher32=True,
        )  # fmt: skip
        file.create_dataset("many", data=chunked.repeat(40, 0), chunks=(2, 2))
        file.create_dataset("sum", data=chunked, chunks=(7, 9), fletcher32=True)
        file["tied"] = file["big"]

    with open_checkpoint(write("data.h5", make.hdf5(build))) as file:
        assert file.format == "hdf5"
        everything = {
            **wanted, "chunked": chunked, "many": chunked.repeat(40, 0), "sum": chunked,
            "tied": wanted["big"],
        }  # fmt: skip
        assert set(file.tensors) == set(everything)
        for name, value in everything.items():
            ours = file.read(name)
            assert ours.shape == np.shape(value)
            assert np.array_equal(ours, value), name
            assert ours.dtype.isnative
            assert ours.flags.c_contiguous
        assert file.tensors["tied"].stored_as == file.tensors["big"].stored_as
        assert file.tensors["many"].stored_as != file.tensors["big"].stored_as


def test_hundreds_of_groups_after_deletions(write: Write, make) -> None:
    def build(file: h5py.File) -> None:
        for number in range(150):
            file[f"layer_{number}/kernel"] = np.full(2, number)
        for number in range(0, 150, 3):
            del file[f"layer_{number}"]
        for number in range(0, 150, 7):
            file.create_group(f"m{number * 100}")
        for number in range(30):
            file.attrs[f"a{number}"] = "z" * 3000

    raw = make.hdf5(build)
    with open_checkpoint(write("many.h5", raw)) as file:
        assert len(file.tensors) == 100
        for number in range(1, 150, 3):
            assert file.read(f"layer_{number}/kernel").tolist() == [number, number]
        assert file.file.text("", "a29") == "z" * 3000


def test_long_and_wide_texts(write: Write, make) -> None:
    names = [f"ünïcode_{i}" for i in range(50)]  # so many of these make a dense group

    def build(file: h5py.File) -> None:
        file.attrs.create("layer_names", names, dtype=h5py.string_dtype())
        file.attrs["keras_version"] = "2.17.0"
        for name in names:
            file.create_group(name).attrs["weight_names"] = []

    with open_checkpoint(write("wide.h5", make.hdf5(build))) as file:
        assert file.metadata["layer_names"] == names
        assert file.metadata["keras_version"] == "2.17.0"


@pytest.mark.parametrize("count", [9, 30, 400])
@pytest.mark.parametrize(
    "options", [{"track_order": True}, {"libver": "latest"}, {}], ids=["order", "latest", "default"]
)
def test_dense_groups_of_every_depth(write: Write, make, count: int, options: dict) -> None:
    def build(file: h5py.File) -> None:
        for number in range(count):
            file[f"é{'n' * 150}{number}"] = float(number)

    with open_checkpoint(write("dense.h5", make.hdf5(build, **options))) as file:
        assert len(file.tensors) == count
        for number in (0, count // 2, count - 1):
            assert file.read(f"é{'n' * 150}{number}") == number


def test_negative_control_swapped_weights_are_noticed(tmp_path: Path) -> None:
    made = model()
    path = tmp_path / "model.weights.h5"
    made.save_weights(path)
    with open_checkpoint(path) as file:
        kernel = file.read("layers/lstm/cell/vars/0")
    weights = made.get_layer("second").get_weights()
    swapped = weights[0][:, np.r_[6:12, 0:6, 12:24]]
    assert np.array_equal(kernel, weights[0])
    assert not np.array_equal(kernel, swapped)
