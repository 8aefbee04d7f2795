"""The machine a benchmark ran on, and its two limits: matmul rate and read bandwidth."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import mlx.core as mx
import numpy as np

_PACKAGES = ("lstm-bridge", "mlx", "torch", "keras", "numpy")


def describe() -> dict[str, Any]:
    """Return processor, core count, load, and the versions of what takes part."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "device": str(mx.default_device()),
        "load": load,
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if "model name" in line]
        return names[0] if names else platform.processor()
    except OSError:
        return platform.processor()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def mlx_limits() -> dict[str, float]:
    """Measure MLX's own matrix products, the limit of a path that has nothing else.

    Returns:
        ``matmul_gflops`` of 512×512 float32 matrices.
    """
    square = mx.ones((512, 512))
    mx.eval(square)
    return {"matmul_gflops": 2 * 512**3 / _best(lambda: mx.eval(square @ square)) / 1e9}


def limits() -> dict[str, float]:
    """Measure what the machine can do, for reading the other figures.

    Returns:
        ``matmul_gflops`` of 1024×1024 float32 matrices, ``read_gbytes`` per second of reading a
        16 MB matrix in products with a vector: the better of NumPy's and, if installed, torch's.
    """
    square, vector = np.ones((1024, 1024), np.float32), np.ones(1024, np.float32)
    tall = np.ones((4096, 1024), np.float32)
    matmul = [_best(lambda: square @ square)]
    read = [_best(lambda: tall @ vector)]
    if find_spec("torch"):
        import torch

        s, t, v = (torch.from_numpy(a) for a in (square, tall, vector))
        matmul.append(_best(lambda: torch.mm(s, s)))
        read.append(_best(lambda: torch.mv(t, v)))
    return {
        "matmul_gflops": 2 * 1024**3 / min(matmul) / 1e9,
        "read_gbytes": tall.nbytes / min(read) / 1e9,
    }


def _best(work: Callable[[], object]) -> float:
    times = []
    for _ in range(20):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)
