"""Small files of every format, made on the spot by the frameworks that own the formats."""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.numpy import save as save_safetensors

from lstm_bridge.checkpoints import open_checkpoint
from lstm_bridge.errors import BridgeError

KERNEL = np.random.default_rng(7).standard_normal((4, 3)).astype(np.float32)
BIAS = np.random.default_rng(8).standard_normal(4).astype(np.float32)

Refusal = Callable[[str, bytes], str]


_NEVER = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "pickle.")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_watching: list[list[str]] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event.startswith((*_NEVER, "os.rename", "os.remove", "os.mkdir", "os.chmod")):
        _watching[-1].append(f"{event} {arguments!r}")
    elif event == "open" and not isinstance(arguments[0], int):
        path, flags = Path(os.fsdecode(arguments[0])), arguments[2]
        # A deflated member is unpacked to an anonymous file of the temporary folder itself.
        unpacked = path.parent == Path(tempfile.gettempdir())
        if flags & _WRITES and not unpacked and path.suffix != ".pyc":
            _watching[-1].append(f"open for writing {path}")


sys.addaudithook(_hook)


@contextmanager
def watched() -> Iterator[None]:
    """Let nothing be run, connected to, unpickled or written."""
    import lstm_bridge.checkpoints as package

    for _ in package.formats():
        pass  # importing a reader for the first time is not reading
    seen: list[str] = []
    _watching.append(seen)
    try:
        yield
    finally:
        _watching.pop()
    assert not seen, seen


def read_all(path: Path) -> dict[str, np.ndarray]:
    """Every tensor of the file, read under an audit hook."""
    with watched(), open_checkpoint(path) as file:
        return {name: file.read(name) for name in file.tensors}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes], Path]:
    """A function that writes bytes to a named file and returns its path."""

    def put(name: str, raw: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(raw)
        return path

    return put


@pytest.fixture
def refusal(write: Callable[[str, bytes], Path]) -> Refusal:
    """A function that returns the message, without the folder, of what refuses these bytes."""

    def message(name: str, raw: bytes) -> str:
        path = write(name, raw)
        with pytest.raises(BridgeError) as caught:
            read_all(path)
        text = str(caught.value)
        assert "\n" not in text
        return text.replace(str(path.parent) + os.sep, "")

    return message


def torch_bytes(value: object, **options: object) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def zip_bytes(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, raw in members.items():
            archive.writestr(zipfile.ZipInfo(name), raw, method)
    return stream.getvalue()


def hdf5_bytes(build: Callable[[h5py.File], object], **options: object) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w", **options) as file:
        build(file)
    return stream.getvalue()


def legacy_keras(file: h5py.File) -> None:
    file.attrs["layer_names"] = np.array([b"lstm"])
    file.attrs["keras_version"] = "2.3.1"
    group = file.create_group("lstm")
    group.attrs["weight_names"] = np.array([b"kernel:0", b"bias:0"])
    group["kernel:0"], group["bias:0"] = KERNEL, BIAS


def numbered_keras(file: h5py.File) -> None:
    group = file.create_group("vars")
    group.attrs["name"] = "my_cell"
    group["0"] = KERNEL
    group.create_dataset(
        "1", data=BIAS, chunks=(3,), compression="gzip", shuffle=True, fletcher32=True
    )


def dense(file: h5py.File) -> None:
    for number in range(12):
        file[f"é{number}"] = float(number)


def npz_bytes(save: Callable[..., None] = np.savez) -> bytes:
    stream = io.BytesIO()
    save(stream, kernel=KERNEL, bias=BIAS)
    return stream.getvalue()


def npy_bytes(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def small_files() -> dict[str, bytes]:
    """One small file per format, and per way of packing it."""
    state = {"kernel": torch.tensor(KERNEL), "bias": torch.tensor(BIAS).half()}
    return {
        "zip.pt": torch_bytes(state),
        "legacy.pt": torch_bytes(state, _use_new_zipfile_serialization=False),
        "one.safetensors": save_safetensors({"kernel": KERNEL, "bias": BIAS}, {"by": "me"}),
        "stored.npz": npz_bytes(),
        "deflated.npz": npz_bytes(np.savez_compressed),
        "one.npy": npy_bytes(KERNEL),
        "legacy.h5": hdf5_bytes(legacy_keras),
        "numbered.weights.h5": hdf5_bytes(numbered_keras),
        "new.hdf5": hdf5_bytes(legacy_keras, libver="latest"),
        "dense.h5": hdf5_bytes(dense),
        "one.keras": zip_bytes(
            {
                "metadata.json": json.dumps({"keras_version": "3.15.1"}).encode(),
                "config.json": b'{"class_name": "Sequential"}',
                "model.weights.h5": hdf5_bytes(numbered_keras),
            }
        ),
    }


@pytest.fixture(scope="session")
def files() -> dict[str, bytes]:
    """The small files by name."""
    return small_files()


@pytest.fixture(scope="session")
def make() -> type[Makers]:
    """The functions above, for tests that make files of their own."""
    return Makers


class Makers:
    """How to make the bytes of each container."""

    torch = staticmethod(torch_bytes)
    zip = staticmethod(zip_bytes)
    hdf5 = staticmethod(hdf5_bytes)
    npy = staticmethod(npy_bytes)
    read_all = staticmethod(read_all)
    watched = staticmethod(watched)
    legacy_keras = staticmethod(legacy_keras)
    numbered_keras = staticmethod(numbered_keras)
    kernel, bias = KERNEL, BIAS
