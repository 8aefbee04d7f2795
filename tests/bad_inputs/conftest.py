"""Runs ``lstm-bridge`` on a bad input and checks, each time, what holds for all of them.

Exit status 0, 2, 3 or 4; one line on standard error, or none; no traceback; bounded memory; no
socket, no process, no pickle; nothing opened but the input, its folder and the output; after a
refusal the file system is as it was.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

D, H = 3, 5
MEMORY = 64 << 20
"""Bytes by which one small bad input may raise the peak memory."""


@dataclass(frozen=True)
class Result:
    """What a command did."""

    status: int
    stdout: str
    stderr: str


def snapshot(folder: Path) -> dict[bytes, tuple[int, bytes]]:
    """Return kind and content of everything below a folder, links not followed."""
    found = {}
    for at, folders, files in os.walk(os.fsencode(folder)):
        for name in (*folders, *files):
            path = os.path.join(at, name)
            facts = os.lstat(path)
            regular = facts.st_mode & 0o170000 == 0o100000
            content = Path(os.fsdecode(path)).read_bytes() if regular else b""
            found[path] = (facts.st_mode, content)
    return found


class Bridge:
    """The worker process, and the invariants that every answer of it is held to."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("bad_worker.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(scratch), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        self.count = 0

    def ask(self, folder: Path, *arguments: object) -> dict[str, Any]:
        task = {
            "folder": str(folder),
            "arguments": [os.fsencode(str(one)).hex() for one in arguments],
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the worker died: a bad input ended the process"
        found: dict[str, Any] = json.loads(answer)
        return found

    def __call__(self, folder: Path, *arguments: object) -> Result:
        """Run one command in ``folder`` and check the invariants."""
        before = snapshot(folder)
        got = self.ask(folder, *arguments)
        self.count += 1
        assert got["crash"] is None, got["crash"]
        assert got["status"] in (0, 2, 3, 4), got
        tree = "every file" in got["stdout"]  # a tree's refusals stand in its table
        assert got["stderr"].count("\n") == (got["status"] != 0 and not tree)
        assert got["grown"] < MEMORY, f"{got['grown'] >> 20} MiB more"
        self._check_events(folder, got["seen"])
        if got["status"] and not tree:
            assert snapshot(folder) == before, "something is left after a refusal"
        assert not list(self._scratch.iterdir())
        return Result(got["status"], got["stdout"], got["stderr"])

    def _check_events(self, folder: Path, seen: list[list[str]]) -> None:
        """Python's own modules may be read, and nothing else outside the folder."""
        own = tuple(os.path.realpath(p) for p in (sys.prefix, sys.base_prefix, *map(str, ROOTS)))
        for kind, what in seen:
            if kind == "import":
                assert what.partition(".")[0] not in ("torch", "keras", "tensorflow"), what
                continue
            assert kind != "never", what
            path = os.path.realpath(os.path.join(folder, what))
            inside = path.startswith((os.path.realpath(folder), os.path.realpath(self._scratch)))
            assert inside or (kind == "read" and path.startswith(own)), f"{kind} {what}"

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)
        assert self._process.stdout is not None
        self._process.stdout.close()


ROOTS = [Path(__file__).resolve().parents[2] / "lstm_bridge"]


@pytest.fixture(scope="session")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """``bridge(folder, "convert", …)``; every module is loaded by a good conversion first."""
    scratch = Path(tempfile.mkdtemp(dir=tmp_path_factory.getbasetemp()))
    worker = Bridge(scratch)
    warm = tmp_path_factory.mktemp("warm")
    keras_archive(warm / "m.keras")
    for _ in range(2):
        assert worker.ask(warm, "convert", "m.keras", "out", "--force")["status"] == 0
    yield worker
    worker.close()


def weights(file: h5py.File, shapes: dict[str, tuple[int, ...]]) -> None:
    for number, (path, shape) in enumerate(shapes.items()):
        rng = np.random.default_rng(number)
        file[path] = rng.standard_normal(shape).astype(np.float32)


VARS = "layers/lstm/cell/vars"
SHAPES = {f"{VARS}/0": (D, 4 * H), f"{VARS}/1": (H, 4 * H), f"{VARS}/2": (4 * H,)}


def lstm_layer(**changes: object) -> dict[str, Any]:
    config = {"name": "lstm", "units": H, "activation": "tanh"}
    config |= {"recurrent_activation": "sigmoid", "use_bias": True}
    return {"module": "keras.layers", "class_name": "LSTM", "config": config | changes}


def sequential(*layers: object) -> dict[str, Any]:
    return {"class_name": "Sequential", "config": {"name": "model", "layers": list(layers)}}


def keras_archive(
    path: Path, config: object = None, shapes: dict[str, tuple[int, ...]] | None = None
) -> None:
    """Write a ``.keras`` file of the given config and weights; a good one by default."""
    import zipfile

    inner = path.with_suffix(".h5")
    with h5py.File(inner, "w") as file:
        weights(file, SHAPES if shapes is None else shapes)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.15.1"}')
        text = config if isinstance(config, str) else json.dumps(config or sequential(lstm_layer()))
        archive.writestr("config.json", text)
        archive.write(inner, "model.weights.h5")
    inner.unlink()


class Make:
    """How to make small Keras files, for the tables of cases."""

    keras = staticmethod(keras_archive)
    layer = staticmethod(lstm_layer)
    sequential = staticmethod(sequential)
    shapes = SHAPES
    vars = VARS


@pytest.fixture(scope="session")
def make() -> type[Make]:
    return Make
