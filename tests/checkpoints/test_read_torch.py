"""torch files, against what torch itself saved and loads."""

from __future__ import annotations

import argparse
import collections
import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lstm_bridge.checkpoints import Checkpoint, open_checkpoint
from lstm_bridge.checkpoints.dtypes import DTYPES

Write = Callable[[str, bytes], Path]
BOTH = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
GRID = torch.arange(60.0).reshape(5, 12) + 0.25


def bits(tensor: torch.Tensor) -> np.ndarray:
    """A tensor as ``Checkpoint.read`` gives it."""
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.uint16).numpy()
    return tensor.numpy()


def assert_same(file: Checkpoint, state: dict[str, torch.Tensor]) -> None:
    assert set(file.tensors) == set(state)
    for name, tensor in state.items():
        ours, theirs = file.read(name), bits(tensor)
        assert ours.shape == theirs.shape == file.tensors[name].shape
        assert ours.dtype == theirs.dtype
        assert ours.tobytes() == theirs.tobytes(), name
        assert ours.flags.c_contiguous
        assert ours.dtype == DTYPES[file.tensors[name].dtype].bits


def save(value: object, write: Write, zipped: bool = True, **options: object) -> Path:
    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=zipped, **options)
    return write("state.pt", stream.getvalue())


@BOTH
def test_every_dtype_and_stride_is_bit_exact(write: Write, zipped: bool) -> None:
    state = {
        "f32": GRID,
        "transposed": GRID.T,
        "strided": GRID[1:3, 2:9:3],
        "expanded": GRID[:, :1].expand(5, 7),
        "f64": GRID.double() / 3,
        "f16": GRID.half(),
        "bf16": GRID.bfloat16() / 3,
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 4),
        "bool": GRID > 3,
        "i8": GRID.to(torch.int8),
        "u8": GRID.to(torch.uint8),
        "i16": GRID.to(torch.int16),
        "i32": GRID.to(torch.int32),
        "parameter": torch.nn.Parameter(GRID * 2),
        "three_axes": torch.randn(3, 4, 5).permute(2, 0, 1),
    }
    with open_checkpoint(save(state, write, zipped)) as file:
        assert_same(file, state)
        assert file.format == ("torch zip" if zipped else "torch legacy")
        assert file.framework == "torch"


def test_dtypes_that_torch_saves_by_name(write: Write) -> None:
    state = {"u16": GRID.to(torch.uint16), "u32": GRID.to(torch.uint32)}
    with open_checkpoint(save(state, write)) as file:
        assert_same(file, state)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@BOTH
def test_every_pickle_protocol(write: Write, zipped: bool, protocol: int) -> None:
    state = {"weight": GRID, "name": torch.ones(2)}
    with open_checkpoint(save(state, write, zipped, pickle_protocol=protocol)) as file:
        assert_same(file, state)


@BOTH
def test_a_live_lstm_with_tied_and_viewed_weights(write: Write, zipped: bool) -> None:
    lstm = torch.nn.LSTM(3, 4, 2, bidirectional=True)
    state = dict(lstm.state_dict())
    state["tied"] = state["weight_hh_l0"]
    state["part"] = state["weight_hh_l0"][:4]
    with open_checkpoint(save(state, write, zipped)) as file:
        assert_same(file, state)
        where = {name: info.stored_as for name, info in file.tensors.items()}
        assert where["tied"] == where["weight_hh_l0"]
        del where["tied"]
        assert len(set(where.values())) == len(where)


@BOTH
def test_nesting_is_spelled_with_dots_and_optimizers_are_left_out(
    write: Write, zipped: bool
) -> None:
    model = torch.nn.LSTM(3, 4)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(2, 1, 3))[0].sum().backward()
    optimizer.step()
    value = {
        "encoder_state_dict": {"lstm": model.state_dict()},
        "optimizer": optimizer.state_dict(),
        "nested": [{"opt": optimizer.state_dict(), "weight": GRID}],
        "epoch": 3,
        "config": {"hidden": [4, 5], "name": "me"},
        "losses": list(range(5000)),
        "args": argparse.Namespace(seed=1),
    }
    with open_checkpoint(save(value, write, zipped)) as file:
        wanted = {f"encoder_state_dict.lstm.{k}": v for k, v in model.state_dict().items()}
        assert_same(file, {**wanted, "nested.0.weight": GRID})
        assert file.metadata["sections"] == ["encoder_state_dict", "nested"]
        assert file.metadata["values"] == {
            "epoch": 3,
            "config": {"hidden": [4, 5], "name": "me"},
        }
        assert file.left_out == {
            "optimizer": "optimizer state, not weights",
            "nested.0.opt": "optimizer state, not weights",
            "losses": "plain data without tensors",
            "args": "no tensors; kept inert: 'argparse.Namespace'",
        }


def test_lightning_keeps_only_its_state_dict(write: Write) -> None:
    value = {
        "pytorch-lightning_version": "2.6.6",
        "epoch": 1,
        "state_dict": {"model.weight": GRID},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": []}],
    }
    with open_checkpoint(save(value, write)) as file:
        assert_same(file, {"state_dict.model.weight": GRID})
        assert set(file.left_out) == {"callbacks", "optimizer_states"}


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(3, 4, 2, bidirectional=True)
        self.norm = torch.nn.BatchNorm1d(3)
        self.register_buffer("hidden", torch.ones(2), persistent=False)
        self.plain_tensor = torch.ones(3)
        self.bound = self.norm.forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lstm(x)[0]


@BOTH
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_whole_pickled_module_gives_its_state_dict(
    write: Write, zipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Pickling needs the class by name; importlib mode leaves test modules out of sys.modules.
    import sys
    import types

    module = types.ModuleType("somebodys_model")
    module.Net = Net
    monkeypatch.setitem(sys.modules, "somebodys_model", module)
    monkeypatch.setattr(Net, "__module__", "somebodys_model")
    net = Net()
    path = save(net, write, zipped)
    with open_checkpoint(path) as file:
        assert_same(file, dict(net.state_dict()))
        assert file.left_out["(the whole object)"] == (
            "an object of 'somebodys_model.Net', kept inert; its tensors are read"
        )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_gives_its_state_dict(tmp_path: Path) -> None:
    class Script(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(3, 4, 2, bidirectional=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.lstm(x)[0]

    net = Script()
    torch.jit.script(net).save(str(tmp_path / "script.pt"))
    with open_checkpoint(tmp_path / "script.pt") as file:
        assert_same(file, dict(net.state_dict()))
        assert file.metadata["torchscript"] is True


def repack(raw: bytes, change: Callable[[str, bytes], bytes], method: int = 0) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(stream, "w", method) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return stream.getvalue()


@pytest.mark.parametrize("device", [b"cuda:0", b"mps", b"mps:0"])
def test_the_device_is_no_obstacle(write: Write, make, device: bytes) -> None:
    def patch(name: str, raw: bytes) -> bytes:
        old, new = pickle.dumps("cpu", 2)[2:8], b"X" + len(device).to_bytes(4, "little") + device
        assert not name.endswith("data.pkl") or old in raw
        return raw.replace(b"X\3\0\0\0cpu", new) if name.endswith("data.pkl") else raw

    raw = repack(make.torch({"weight": GRID}), patch)
    with open_checkpoint(write("gpu.pt", raw)) as file:
        assert_same(file, {"weight": GRID})


def test_a_recompressed_archive_reads_the_same(write: Write, make) -> None:
    state = {"weight": GRID, "part": GRID[2:, 3:]}
    raw = repack(make.torch(state), lambda _, raw: raw, zipfile.ZIP_DEFLATED)
    with open_checkpoint(write("deflated.pt", raw)) as file:
        assert_same(file, state)


def test_big_endian_files_are_converted(write: Write, make) -> None:
    def swap(name: str, raw: bytes) -> bytes:
        if name.endswith("byteorder"):
            return b"big"
        return np.frombuffer(raw, "<f4").astype(">f4").tobytes() if "/data/" in name else raw

    raw = repack(make.torch({"weight": GRID}), swap)
    assert torch.equal(torch.load(io.BytesIO(raw))["weight"], GRID)
    with open_checkpoint(write("big.pt", raw)) as file:
        assert_same(file, {"weight": GRID})


def test_views_read_only_the_bytes_they_need(write: Write, monkeypatch) -> None:
    from lstm_bridge.checkpoints import torch_tensors
    from lstm_bridge.checkpoints.torch_zip import TorchZip

    monkeypatch.setattr(torch_tensors, "_GATHER", 64)
    big = torch.randn(200, 50)
    state = {"column": big[:, 3], "block": big[7:9, 5:9], "diagonal": big.T[3:5, ::7]}
    asked: list[int] = []
    real = TorchZip.read_storage

    def counted(self, key: str, offset: int, out: memoryview) -> None:
        asked.append(len(out))
        real(self, key, offset, out)

    monkeypatch.setattr(TorchZip, "read_storage", counted)
    with open_checkpoint(save(state, write)) as file:
        assert_same(file, state)
    assert max(asked) <= 2 * max(4 * t.numel() for t in state.values())


@BOTH
def test_other_roots(write: Write, zipped: bool) -> None:
    with open_checkpoint(save(GRID, write, zipped)) as file:
        assert_same(file, {"tensor": GRID})
    with open_checkpoint(save([GRID, (GRID.T,)], write, zipped)) as file:
        assert_same(file, {"0": GRID, "1.0": GRID.T})
    only_optimizer = torch.optim.SGD([torch.nn.Parameter(GRID)], momentum=0.9).state_dict()
    with open_checkpoint(save(only_optimizer, write, zipped)) as file:
        assert not file.tensors
        assert set(file.left_out) == {"state"}


def test_subclassed_dicts_and_cycles_are_walked_without_their_code(write: Write) -> None:
    value: dict[str, object] = {"state": collections.defaultdict(list, weight=GRID)}
    value["again"] = value
    with open_checkpoint(save(value, write)) as file:
        assert_same(file, {"state.weight": GRID})
        assert file.left_out["again"] == "refers back to what contains it"


def test_negative_control_a_changed_weight_is_noticed(write: Write) -> None:
    changed = GRID.clone()
    changed[1, 2] = torch.nextafter(changed[1, 2], torch.tensor(9e9))
    with (
        open_checkpoint(save({"weight": changed}, write)) as file,
        pytest.raises(AssertionError),
    ):
        assert_same(file, {"weight": GRID})
