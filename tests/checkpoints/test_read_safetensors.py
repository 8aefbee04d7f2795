"""safetensors files, against the safetensors library and MLX; the writer; shards."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from lstm_bridge.checkpoints import open_checkpoint
from lstm_bridge.checkpoints.dtypes import DTYPES, to_mlx
from lstm_bridge.checkpoints.safetensors_writer import write_safetensors
from lstm_bridge.errors import UsageError

Write = Callable[[str, bytes], Path]


def test_what_the_library_wrote_is_bit_exact(write: Write) -> None:
    state = {
        "f64": torch.randn(3, 4).double(),
        "f32": torch.randn(3, 4),
        "f16": torch.randn(5).half(),
        "bf16": torch.randn(2, 3).bfloat16(),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "bool": torch.tensor([True, False]),
        "u8": torch.arange(3).to(torch.uint8),
    }
    raw = safetensors.torch.save(state, {"framework": "pt"})
    with open_checkpoint(write("state.safetensors", raw)) as file:
        assert file.metadata == {"framework": "pt"}
        assert set(file.tensors) == set(state)
        for name, tensor in state.items():
            view = tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor
            assert file.read(name).tobytes() == view.numpy().tobytes()
            assert file.tensors[name].shape == tuple(tensor.shape)


def arrays() -> dict[str, tuple[str, np.ndarray]]:
    """One array per dtype, asymmetric, not all contiguous."""
    made = {}
    for number, (code, dtype) in enumerate(DTYPES.items()):
        values = (np.arange(12).reshape(3, 4) * 5 + number).astype(dtype.bits)
        made[f"t{number}"] = (code, values.T if number % 2 else values[:, ::2])
    return made


def entries(names: list[str]) -> dict[str, tuple[str, tuple[int, ...], object]]:
    made = arrays()
    return {name: (made[name][0], made[name][1].shape, made[name][1]) for name in names}


def test_the_writer_gives_the_same_bytes_in_any_order() -> None:
    names = sorted(arrays())
    outputs = []
    for order, metadata in ((names, {"a": "1", "b": "2"}), (names[::-1], {"b": "2", "a": "1"})):
        stream = io.BytesIO()
        write_safetensors(stream, entries(order), metadata)
        outputs.append(stream.getvalue())
    assert outputs[0] == outputs[1]


def test_the_writer_writes_these_very_bytes() -> None:
    stream = io.BytesIO()
    write_safetensors(
        stream, {"b": ("F32", (1, 2), np.array([[1.0, 2.0]], np.float32))}, {"k": "v"}
    )
    header = b'{"__metadata__":{"k":"v"},"b":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}'
    header += b" " * (-len(header) % 8)
    data = bytes.fromhex("0000803f00000040")
    assert stream.getvalue() == len(header).to_bytes(8, "little") + header + data


def test_what_the_writer_wrote_reads_the_same_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "out.safetensors"
    made = arrays()
    producers = {
        name: (code, value.shape, lambda value=value: value) for name, (code, value) in made.items()
    }
    write_safetensors(path, iter(producers.items()), {"é": "ü"})
    theirs = safetensors.torch.load_file(path)
    # MLX reads float64 on the CPU only, and safetensors' float64 not at all: left to torch.
    with open_checkpoint(path) as file:
        assert file.metadata == {"é": "ü"}
        for name, (code, value) in made.items():
            tensor = theirs[name]
            view = tensor.view(torch.uint16) if code == "BF16" else tensor
            assert np.array_equal(view.numpy(), value)
            assert np.array_equal(file.read(name), value)
    single = tmp_path / "mlx.safetensors"
    write_safetensors(single, {"w": ("BF16", (2, 3), np.arange(6, dtype="<u2").reshape(3, 2).T)})
    loaded = mx.load(str(single))["w"]
    assert np.array_equal(np.array(loaded.view(mx.uint16)), np.arange(6).reshape(3, 2).T)
    assert mx.array_equal(loaded, to_mlx(np.arange(6, dtype="<u2").reshape(3, 2).T, "BF16"))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (("F8", (1,), None), "expected a name and a dtype of F64"),
        (("F32", (2,), np.zeros(3, np.float32)), "expected float32 [2], got float32 [3]"),
        (("F32", (2,), np.zeros(2)), "expected float32 [2], got float64 [2]"),
    ],
)
def test_the_writer_refuses_what_is_unlike_its_announcement(entry, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        write_safetensors(io.BytesIO(), {"w": entry})
    assert message in str(caught.value)


def test_big_endian_arrays_are_written_little_endian() -> None:
    stream = io.BytesIO()
    write_safetensors(stream, {"w": ("F32", (2,), np.array([1, 2], ">f4"))})
    assert safetensors.numpy.load(stream.getvalue())["w"].tolist() == [1, 2]


def shards(folder: Path) -> tuple[Path, dict[str, np.ndarray]]:
    state = {f"layer.{i}": np.random.default_rng(i).standard_normal((2, 3)) for i in range(4)}
    weight_map = {}
    for number in (1, 2):
        name = f"model-0000{number}-of-00002.safetensors"
        part = {k: v for k, v in state.items() if int(k[-1]) % 2 == number - 1}
        safetensors.numpy.save_file(part, folder / name)
        weight_map |= dict.fromkeys(part, name)
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 192}, "weight_map": weight_map}))
    return path, state


def test_shards_read_as_one(tmp_path: Path) -> None:
    path, state = shards(tmp_path)
    with open_checkpoint(path) as file:
        assert file.format == "safetensors index"
        assert set(file.tensors) == set(state)
        for name in (*state, *reversed(list(state))):
            assert np.array_equal(file.read(name), state[name])
        assert file.metadata["total_size"] == 192
        assert len(file.metadata["shards"]) == 2
