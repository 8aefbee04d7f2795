"""npz and npy files, against NumPy and MLX."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import mlx.nn
import numpy as np
import pytest

from lstm_bridge.checkpoints import open_checkpoint

Write = Callable[[str, bytes], Path]

ARRAYS = {
    "c": np.arange(6.0).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(24, dtype="f4").reshape(2, 3, 4)),
    "big": np.arange(5, dtype=">f4"),
    "big_fortran": np.asfortranarray(np.arange(6, dtype=">i8").reshape(2, 3)),
    "scalar": np.float32(2),
    "empty": np.zeros((0, 3), np.float16),
    "flags": np.array([True, False]),
    "strided": np.arange(20, dtype="u1").reshape(4, 5)[::2, 1::2],
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_is_bit_exact(write: Write, save) -> None:
    stream = io.BytesIO()
    save(stream, **ARRAYS)
    with open_checkpoint(write("a.npz", stream.getvalue())) as file:
        assert file.format == "npz"
        assert set(file.tensors) == set(ARRAYS)
        for name, value in ARRAYS.items():
            ours = file.read(name)
            assert ours.shape == np.shape(value) == file.tensors[name].shape
            assert ours.tobytes() == np.ascontiguousarray(value).astype(ours.dtype).tobytes()
            assert ours.dtype.isnative
            assert ours.flags.c_contiguous


@pytest.mark.parametrize("name", sorted(ARRAYS))
def test_npy_is_bit_exact(write: Write, make, name: str) -> None:
    with open_checkpoint(write("a.npy", make.npy(ARRAYS[name]))) as file:
        assert list(file.tensors) == ["array"]
        assert np.array_equal(file.read("array"), ARRAYS[name])


def test_what_an_mlx_lstm_saved(tmp_path: Path) -> None:
    lstm = mlx.nn.LSTM(3, 4)
    path = tmp_path / "lstm.npz"
    lstm.save_weights(str(path))
    with open_checkpoint(path) as file:
        assert set(file.tensors) == {"Wx", "Wh", "bias"}
        assert np.array_equal(file.read("Wx"), np.array(lstm.Wx))


def test_bfloat16_that_mlx_saved(tmp_path: Path) -> None:
    path = tmp_path / "half.npz"
    value = mx.array([1.5, -2.25]).astype(mx.bfloat16)
    mx.savez(str(path), w=value)
    with open_checkpoint(path) as file:
        assert file.tensors["w"].dtype == "BF16"
        assert np.array_equal(file.read("w"), np.array(value.view(mx.uint16)))
