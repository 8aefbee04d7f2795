"""Torch checkpoints in shards behind ``pytorch_model.bin.index.json``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import lstm_bridge
from lstm_bridge.checkpoints import open_checkpoint
from lstm_bridge.errors import BridgeError


def shards(folder: Path, zipped: bool = True) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(3, 4, batch_first=True)
    state = {f"encoder.{k}": v for k, v in lstm.state_dict().items()} | {"head": torch.ones(2, 4)}
    weight_map: dict[str, str] = {}
    for number in (1, 2):
        name = f"pytorch_model-0000{number}-of-00002.bin"
        part = {k: v for i, (k, v) in enumerate(state.items()) if i % 2 == number - 1}
        torch.save(part, folder / name, _use_new_zipfile_serialization=zipped)
        weight_map |= dict.fromkeys(part, name)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return state


@pytest.mark.parametrize("zipped", [True, False])
def test_shards_read_as_one(tmp_path: Path, zipped: bool) -> None:
    state = shards(tmp_path, zipped)
    with open_checkpoint(tmp_path / "pytorch_model.bin.index.json") as file:
        assert (file.format, file.framework) == ("torch index", "torch")
        assert set(file.tensors) == set(state)
        for name in (*state, *reversed(list(state))):
            assert np.array_equal(file.read(name), state[name].numpy())


def test_a_folder_of_shards_is_one_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    state = shards(tmp_path / "model")
    account = lstm_bridge.convert(tmp_path / "model", tmp_path / "out")
    assert len(account.source["shards"]) == 2
    model = lstm_bridge.load(tmp_path / "out")
    assert np.array_equal(np.array(model.encoder.weight_hh_l0), state["encoder.weight_hh_l0"])
    report = lstm_bridge.convert_tree(tmp_path, tmp_path / "tree")
    converted = {one.path for one in report.of("converted")}
    assert converted == {"model/pytorch_model.bin.index.json", "out"}
    assert len(report.of("skipped")) == 2


BAD = {
    "outside": ("../x.bin", "expected a .bin or .pt or .pth file name beside the index"),
    "a shard is missing": ("pytorch_model-00003-of-00002.bin", "expected 2 shards like"),
    "no such file": ("other.bin", "expected"),
    "both kinds": ("x.safetensors", "expected a .safetensors file name beside the index"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_index_is_one_line(tmp_path: Path, case: str) -> None:
    shards(tmp_path)
    shard, message = BAD[case]
    path = tmp_path / "pytorch_model.bin.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["head"] = shard
    path.write_text(json.dumps(index))
    with pytest.raises(BridgeError) as caught:
        open_checkpoint(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_shard_that_lacks_what_is_listed_is_refused(tmp_path: Path) -> None:
    shards(tmp_path)
    torch.save({}, tmp_path / "pytorch_model-00002-of-00002.bin")
    with pytest.raises(BridgeError, match="an index and a shard that agree"):
        open_checkpoint(tmp_path / "pytorch_model.bin.index.json")
