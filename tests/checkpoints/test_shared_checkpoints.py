"""Real checkpoints that others made: all open, and every number is as the reference loader's."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from lstm_bridge.checkpoints import open_checkpoint
from lstm_bridge.errors import ContainerError

FOLDER = Path(__file__).parents[2].parent / "shared" / "checkpoints"
PATHS = sorted(FOLDER.rglob("*.*")) if FOLDER.is_dir() else []

pytestmark = pytest.mark.skipif(not PATHS, reason="needs other people's files in ../shared")


def of(*suffixes: str) -> list[Path]:
    return [path for path in PATHS if path.suffix in suffixes]


def named(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


@pytest.mark.parametrize("path", of(".h5", ".hdf5", ".keras"), ids=named)
def test_hdf5_reads_as_h5py_reads_it(path: Path) -> None:
    raw = path.read_bytes()
    if path.suffix == ".keras":
        raw = zipfile.ZipFile(io.BytesIO(raw)).read("model.weights.h5")
    theirs: dict[str, np.ndarray] = {}

    def visit(name: str, node: object) -> None:
        if isinstance(node, h5py.Dataset):
            theirs[name] = node[()]

    with h5py.File(io.BytesIO(raw), "r") as file:
        file.visititems(visit)
    with open_checkpoint(path) as ours:
        left = tuple(f"{group}/" for group in ours.left_out)
        assert set(ours.tensors) == {name for name in theirs if not name.startswith(left or "\0")}
        assert ours.tensors
        for name in ours.tensors:
            assert np.array_equal(ours.read(name), theirs[name])
            assert ours.read(name).dtype == theirs[name].dtype


@pytest.mark.parametrize("path", of(".pt", ".th"), ids=named)
def test_torch_reads_as_torch_reads_it(path: Path) -> None:
    found: dict[str, torch.Tensor] = {}

    def walk(prefix: str, node: object) -> None:
        if isinstance(node, torch.Tensor):
            found[prefix] = node
        elif isinstance(node, dict) and not {"state", "param_groups"} <= set(node):
            for key, child in node.items():
                walk(f"{prefix}.{key}" if prefix else str(key), child)

    walk("", torch.load(path, map_location="cpu", weights_only=True))
    with open_checkpoint(path) as ours:
        assert set(ours.tensors) == set(found)
        assert ours.tensors or "optimizer state, not weights" in ours.left_out.values()
        for name, tensor in found.items():
            assert np.array_equal(ours.read(name), tensor.numpy())


@pytest.mark.parametrize("path", of(".npz"), ids=named)
def test_npz_reads_as_numpy_reads_it(path: Path) -> None:
    with np.load(path) as theirs, open_checkpoint(path) as ours:
        assert set(ours.tensors) == set(theirs)
        for name in theirs:
            assert np.array_equal(ours.read(name), theirs[name])


@pytest.mark.parametrize("path", of(".json", ".yml"), ids=named)
def test_configs_are_no_checkpoints(path: Path) -> None:
    with pytest.raises(ContainerError, match=r"JSON without weights|unknown magic"):
        open_checkpoint(path)


def test_the_known_facts_of_three_files() -> None:
    with open_checkpoint(FOLDER / "keras1_neural_complete" / "neural_char.h5") as file:
        assert file.metadata["keras_version"] == "1.2.0"
        assert [n.rpartition("/")[2] for n in file.metadata["weight_names"]["lstm_1"]][:4] == [
            "lstm_1_W_i:0", "lstm_1_U_i:0", "lstm_1_b_i:0", "lstm_1_W_c:0",
        ]  # fmt: skip
    with open_checkpoint(FOLDER / "keras3_supply_chain" / "lstm_model.keras") as file:
        assert file.metadata["keras_version"] == "3.6.0"
        assert file.metadata["config"]["class_name"] == "Sequential"
    (speaker,) = (FOLDER / "torch_speaker_bilstm").glob("*.pt")
    with open_checkpoint(speaker) as file:
        assert file.metadata["sections"] == ["encoder_state_dict"]
        assert file.tensors["encoder_state_dict.lstm.weight_ih_l0"].shape == (256, 40)
        assert len({info.stored_as for info in file.tensors.values()}) == len(file.tensors)
