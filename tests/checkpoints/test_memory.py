"""Reading holds about one tensor at a time, whatever the file's size."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from lstm_bridge.checkpoints import open_checkpoint
from lstm_bridge.checkpoints.safetensors_writer import write_safetensors

ONE = 4 << 20
COUNT = 12
CONSTANT = 4 << 20


def names() -> list[str]:
    return [f"w{number}" for number in range(COUNT)]


def tensors() -> dict[str, torch.Tensor]:
    return {name: torch.full((ONE // 4,), i + 0.5) for i, name in enumerate(names())}


def save_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name, tensor in tensors().items():
            file[name] = tensor.numpy()


def save_chunked(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name, tensor in tensors().items():
            file.create_dataset(name, data=tensor.numpy(), chunks=(1 << 16,), compression=1)


def save_one_storage(path: Path) -> None:
    whole = torch.arange(COUNT * ONE // 4, dtype=torch.float32)
    torch.save(dict(zip(names(), whole.split(ONE // 4), strict=True)), path)


def save_safetensors(path: Path) -> None:
    made = tensors().items()
    write_safetensors(path, {n: ("F32", tuple(t.shape), t.numpy()) for n, t in made})


SAVERS: dict[str, Callable[[Path], None]] = {
    "state.pt": lambda path: torch.save(tensors(), path),
    "one_storage.pt": save_one_storage,
    "legacy.pt": lambda path: torch.save(tensors(), path, _use_new_zipfile_serialization=False),
    "state.safetensors": save_safetensors,
    "stored.npz": lambda path: np.savez(path, **{n: t.numpy() for n, t in tensors().items()}),
    "plain.h5": save_hdf5,
    "chunked.h5": save_chunked,
}


def peak(path: Path) -> int:
    """The most memory held, above the start, while all tensors are read and dropped."""
    tracemalloc.start()
    try:
        with open_checkpoint(path) as file:
            for name in file.tensors:
                assert file.read(name).nbytes == ONE
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", SAVERS)
def test_peak_memory_is_one_tensor_and_a_constant(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    SAVERS[name](path)
    peak(path)  # imports count once
    assert peak(path) < ONE + CONSTANT


def test_opening_reads_headers_only(tmp_path: Path) -> None:
    for name, save in SAVERS.items():
        path = tmp_path / name
        save(path)
        with open_checkpoint(path):
            pass
        tracemalloc.start()
        with open_checkpoint(path):
            held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert held < 1 << 20, name


def test_writing_holds_one_tensor(tmp_path: Path) -> None:
    def produce() -> np.ndarray:
        return np.ones(ONE // 4, np.float32)

    plan = dict.fromkeys(names(), ("F32", (ONE // 4,), produce))
    tracemalloc.start()
    with open(tmp_path / "out.safetensors", "wb") as handle:
        write_safetensors(handle, plan)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held < ONE + CONSTANT


def test_negative_control_holding_everything_is_noticed() -> None:
    tracemalloc.start()
    stream = io.BytesIO()
    np.savez(stream, **{name: np.ones(ONE // 4, np.float32) for name in names()})
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held > ONE + CONSTANT
