"""Every truncation and a flip of every byte of one small file per format.

What we accept must be what the reference loader reads, byte for byte.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.numpy
import torch

from lstm_bridge.errors import BridgeError

NAMES = (
    "zip.pt", "legacy.pt", "one.safetensors", "stored.npz", "deflated.npz", "one.npy",
    "legacy.h5", "numbered.weights.h5", "new.hdf5", "dense.h5", "one.keras",
)  # fmt: skip


def reference(name: str, raw: bytes) -> dict[str, np.ndarray]:
    """What the format's own library reads; only asked about what we accepted."""
    stream = io.BytesIO(raw)
    if name.endswith(".pt"):
        return {k: v.numpy() for k, v in torch.load(stream, weights_only=True).items()}
    if name.endswith(".safetensors"):
        return safetensors.numpy.load(raw)
    if name.endswith(".npz"):
        with np.load(stream) as archive:
            return dict(archive)
    if name.endswith(".npy"):
        return {"array": np.load(stream)}
    if name.endswith(".keras"):
        stream = io.BytesIO(zipfile.ZipFile(stream).read("model.weights.h5"))
    found: dict[str, np.ndarray] = {}

    def visit(path: str, node: object) -> None:
        if isinstance(node, h5py.Dataset):
            found[path] = node[()]

    with h5py.File(stream, "r") as file:
        file.visititems(visit)
    return found


def same(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> bool:
    return ours.keys() == theirs.keys() and all(
        value.tobytes() == theirs[name].astype(value.dtype).tobytes()
        and value.shape == theirs[name].shape
        for name, value in ours.items()
    )


def outcome(make, path: Path, raw: bytes) -> dict[str, np.ndarray] | None:
    """What we read; ``None`` for a typed refusal. Anything else that is raised fails the test."""
    path.write_bytes(raw)
    try:
        return make.read_all(path)
    except BridgeError as error:
        if "\n" in str(error) or error.exit_status not in (3, 4):
            raise AssertionError(f"no plain refusal: {error!r}") from error
        return None


@pytest.mark.parametrize("name", NAMES)
def test_every_truncation_is_refused(make, files, tmp_path: Path, name: str) -> None:
    raw = files[name]
    for length in range(len(raw)):
        assert outcome(make, tmp_path / name, raw[:length]) is None, length


@pytest.mark.parametrize("name", NAMES)
def test_every_flip_is_refused_or_read_as_the_reference_reads_it(
    make, files, tmp_path: Path, name: str
) -> None:
    raw = files[name]
    whole = outcome(make, tmp_path / name, raw)
    assert whole is not None
    refused = 0
    for at in range(len(raw)):
        flipped = raw[:at] + bytes([raw[at] ^ 1 << (at * 5 % 8)]) + raw[at + 1 :]
        ours = outcome(make, tmp_path / name, flipped)
        refused += ours is None
        if ours is not None and not same(ours, whole):
            assert same(ours, reference(name, flipped)), at
    assert refused > 40  # the flips do reach the checks
