"""How fast large files convert, against a plain copy, and how much memory that takes.

``python -m lstm_bridge.bench.io [--gigabytes 2]`` makes a safetensors and a torch file of an LSTM
in a temporary folder, copies and converts each in turn, each time in a process of its own, and
prints throughput and peak memory. The folder is removed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from lstm_bridge.checkpoints.base import Array
from lstm_bridge.checkpoints.safetensors_writer import write_safetensors
from lstm_bridge.checkpoints.torch_writer import write_torch

H = 4096  # hidden size, and input size too
LARGEST = 4 * 4 * H * H
"""Bytes of the largest tensor: 268 MB."""

AIM_OF_COPY, AIM_BEYOND_LARGEST = 0.7, 150 * 10**6
_ROUNDS = 3

Entry = tuple[str, tuple[int, ...], Callable[[], Array]]


def make(target: str, gigabytes: float) -> None:
    """Write a torch.nn.LSTM's state dict of about that size; the suffix chooses the format."""
    layers = max(1, round(gigabytes * 1e9 / (2 * LARGEST)))
    if target.endswith(".safetensors"):
        write_safetensors(target, _entries(layers))
    else:
        write_torch(Path(target), _entries(layers), lambda: b"{}")


def _entries(layers: int) -> Iterator[tuple[str, Entry]]:
    rng = np.random.default_rng(0)

    def draw(shape: tuple[int, ...]) -> Array:
        return rng.standard_normal(shape, np.float32)

    shapes = {"weight": (4 * H, H), "bias": (4 * H,)}
    for k in range(layers):
        for part in ("ih", "hh"):
            for kind, shape in shapes.items():
                yield f"{kind}_{part}_l{k}", ("F32", shape, partial(draw, shape))


_CONVERT = """
import resource, sys, time, lstm_bridge, lstm_bridge.torch.nn
convert = lstm_bridge.convert  # names resolve when first used
begun = time.perf_counter()
convert(sys.argv[1], sys.argv[2])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(time.perf_counter() - begun, peak if sys.platform == "darwin" else 1024 * peak)
"""


def measure(source: Path) -> tuple[float, float, int]:
    """Return the best seconds of a copy and of a conversion in turn, and its peak memory."""
    copies, conversions, peaks = [], [], []
    for _ in range(_ROUNDS):
        target = source.with_name("copy")
        copies.append(_timed(["cp", str(source), str(target)]))
        _remove(target)
        target = source.with_name("converted")
        # The time is the process's own: an import is no part of the throughput.
        said = _run([sys.executable, "-c", _CONVERT, str(source), str(target)])
        seconds, peak = said.split()
        conversions.append(float(seconds))
        peaks.append(int(peak))
        _remove(target)
    return min(copies), min(conversions), max(peaks)


def _timed(command: list[str]) -> float:
    begun = time.perf_counter()
    _run(command)
    return time.perf_counter() - begun


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _remove(target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()
    os.sync()  # what this round wrote must not slow the next one


def main() -> None:
    """Print one line per format."""
    parser = argparse.ArgumentParser(description="Convert large files against cp.")
    parser.add_argument("--gigabytes", type=float, default=2.0, help="size of each file")
    gigabytes: float = parser.parse_args().gigabytes
    begin = "from lstm_bridge.bench.io import make; import sys; make(sys.argv[1], float("
    with tempfile.TemporaryDirectory(prefix="lstm_bridge_io_") as folder:
        for name in ("model.safetensors", "model.pt"):
            source = Path(folder) / name
            # Made elsewhere: a process's peak memory counts that of the one it was forked from.
            _run([sys.executable, "-c", begin + "sys.argv[2]))", str(source), str(gigabytes)])
            print(_line(source.suffix, source.stat().st_size, *measure(source)), flush=True)
            _remove(source)


def _line(suffix: str, size: int, copy: float, conversion: float, peak: int) -> str:
    beyond = (peak - LARGEST) / 1e6
    return (
        f"{suffix}: {size / 1e9:.2f} GB; cp {size / copy / 1e9:.2f} GB/s, "
        f"convert {size / conversion / 1e9:.2f} GB/s = {copy / conversion:.0%} of cp "
        f"(aim {AIM_OF_COPY:.0%}); peak {peak / 1e6:.0f} MB = largest tensor {beyond:+.0f} MB "
        f"(aim {AIM_BEYOND_LARGEST / 1e6:+.0f})"
    )


if __name__ == "__main__":
    main()
