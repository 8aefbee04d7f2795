"""What starting costs, in fresh processes: the import, the command, the first call."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

_IMPORT = """
import time, mlx.core, mlx.nn
start = time.perf_counter()
import lstm_bridge
print(time.perf_counter() - start)
"""

_HELP = "from lstm_bridge.cli import main; main(['--help'])"

_FIRST = """
import time, mlx.core as mx
from lstm_bridge.torch.nn import LSTM
model, x = LSTM(32, 64), mx.random.normal((20, 4, 32))
mx.eval(model.parameters(), x)
start = time.perf_counter()
mx.eval(model(x))
print(time.perf_counter() - start)
"""

MEASURED: dict[str, Callable[[], float]] = {
    "import lstm_bridge, after mlx.nn": lambda: float(_run(_IMPORT)),
    "lstm-bridge --help, the whole process": lambda: _took(_HELP),
    "first call of a layer": lambda: float(_run(_FIRST)),
}
"""What is measured → its seconds, this once."""


def startup(repeats: int = 3) -> dict[str, float]:
    """Return the median seconds of each.

    Args:
        repeats: fresh processes for each. Default: 3.
    """
    return {what: median(seconds() for _ in range(repeats)) for what, seconds in MEASURED.items()}


def _run(program: str) -> str:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _took(program: str) -> float:
    started = time.perf_counter()
    _run(program)
    return time.perf_counter() - started
