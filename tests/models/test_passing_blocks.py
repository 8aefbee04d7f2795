"""What is copied passes block by block: the same bytes, digests and refusals as read whole."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import lstm_bridge
from lstm_bridge.checkpoints import open_checkpoint
from lstm_bridge.checkpoints.safetensors_writer import write_safetensors
from lstm_bridge.errors import ContainerError, TensorError, UsageError
from lstm_bridge.models import digests

H = 11


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that no tensor's size divides, so that each takes several of them."""
    monkeypatch.setattr(digests, "_BLOCK", 64)


def state(seed: int = 0) -> dict[str, np.ndarray]:
    torch.manual_seed(seed)
    lstm = torch.nn.LSTM(7, H, num_layers=2)
    return {name: value.numpy().copy() for name, value in lstm.state_dict().items()}


def stored(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    if path.suffix == ".safetensors":
        save_file(arrays, path)
    else:
        torch.save({k: torch.from_numpy(v) for k, v in arrays.items()}, path)
    return path


@pytest.mark.parametrize("source", ["m.safetensors", "m.pt"])
@pytest.mark.parametrize("target", ["folder", "out.safetensors", "out.pt"])
def test_bytes_and_digests_are_the_source_s(source: str, target: str, tmp_path: Path) -> None:
    arrays = state()
    path = stored(tmp_path / source, arrays)
    to: dict[str, Any] = {} if target == "folder" else {"to": "torch"}
    report = lstm_bridge.convert(path, tmp_path / target, **to)
    assert {n: f.sha256 for n, f in report.tensors.items()} == {
        n: hashlib.sha256(a.tobytes()).hexdigest() for n, a in arrays.items()
    }
    assert report.source["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    if target == "out.pt":
        loaded = torch.load(tmp_path / target, weights_only=True)
        found = {k: v.numpy() for k, v in loaded.items()}
    else:
        inner = "folder/model.safetensors" if target == "folder" else target
        found = load_file(tmp_path / inner)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_whole_and_passing_give_the_same_file(suffix: str, tmp_path: Path) -> None:
    path = stored(tmp_path / f"m{suffix}", state(1))
    with open_checkpoint(path) as checkpoint:
        for name in checkpoint.tensors:
            filling = checkpoint.blocks(name)
            assert filling is not None
            buffers = iter([memoryview(bytearray(40)) for _ in range(1000)])
            parts = [bytes(part) for part in filling(buffers)]
            assert b"".join(parts) == checkpoint.read(name).tobytes()
            assert len(parts) > 2


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_what_is_not_finite_is_counted_over_all_blocks(suffix: str, tmp_path: Path) -> None:
    arrays = state(2)
    arrays["weight_hh_l1"][3, 5] = np.nan
    arrays["weight_hh_l1"][40, 1] = np.inf
    path = stored(tmp_path / f"m{suffix}", arrays)
    with pytest.raises(TensorError, match=r"got 2 NaN or infinite, the first at \[3, 5\]"):
        lstm_bridge.convert(path, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    lstm_bridge.convert(path, tmp_path / "folder", allow_nonfinite=True)
    found = load_file(tmp_path / "folder" / "model.safetensors")["weight_hh_l1"]
    assert found.tobytes() == arrays["weight_hh_l1"].tobytes()


def test_a_damaged_member_is_refused_after_its_last_block(tmp_path: Path) -> None:
    path = stored(tmp_path / "m.pt", state(3))
    with zipfile.ZipFile(path) as archive:
        info = next(i for i in archive.infolist() if i.filename.endswith("data/1"))
    raw = bytearray(path.read_bytes())
    at = info.header_offset + 30 + len(info.filename)
    extra = int.from_bytes(raw[info.header_offset + 28 : info.header_offset + 30], "little")
    raw[at + extra + info.file_size - 2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ContainerError, match="content with CRC"):
        lstm_bridge.convert(path, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.pt"]


def test_a_view_of_a_part_is_read_whole(tmp_path: Path) -> None:
    arrays = state(4)
    tensors = {k: torch.from_numpy(v) for k, v in arrays.items()}
    tensors["weight_hh_l0"] = torch.from_numpy(arrays["weight_hh_l0"].T.copy()).T
    torch.save(tensors, tmp_path / "m.pt")
    with open_checkpoint(tmp_path / "m.pt") as checkpoint:
        assert checkpoint.blocks("weight_hh_l0") is None
        assert checkpoint.blocks("weight_ih_l0") is not None
    report = lstm_bridge.convert(tmp_path / "m.pt", tmp_path / "folder")
    found = load_file(tmp_path / "folder" / "model.safetensors")
    assert np.array_equal(found["weight_hh_l0"], arrays["weight_hh_l0"])
    assert json.loads(json.dumps(report.to_json()))["tensors"]["weight_hh_l0"]["how"] == "copied"


def test_shards_pass_block_by_block(tmp_path: Path) -> None:
    arrays = state(5)
    names = sorted(arrays)
    shards = {f"model-0000{k + 1}-of-00002.safetensors": names[k::2] for k in range(2)}
    for shard, own in shards.items():
        save_file({n: arrays[n] for n in own}, tmp_path / shard)
    index = {"weight_map": {n: shard for shard, own in shards.items() for n in own}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    lstm_bridge.convert(tmp_path / "model.safetensors.index.json", tmp_path / "folder")
    found = load_file(tmp_path / "folder" / "model.safetensors")
    assert all(np.array_equal(found[n], arrays[n]) for n in names)


def test_blocks_of_another_length_are_refused(tmp_path: Path) -> None:
    entries = {"w": ("F32", (3,), lambda: iter((memoryview(b"12345678"),)))}
    with pytest.raises(UsageError, match="expected 12 bytes, got 8"):
        write_safetensors(tmp_path / "m.safetensors", entries)
