"""What starting costs, in fresh processes: the import, the command, the first call."""

from __future__ import annotations

import subprocess
import sys
from statistics import median

_IMPORT = """
import time, mlx.core, mlx.nn
start = time.perf_counter()
import lstm_bridge
print(time.perf_counter() - start)
"""

_HELP = """
import time
start = time.perf_counter()
from lstm_bridge.cli import main
main(["--help"], standalone_mode=False)
print()
print(time.perf_counter() - start)
"""

_FIRST = """
import time, mlx.core as mx
from lstm_bridge.torch.nn import LSTM
model, x = LSTM(32, 64), mx.random.normal((20, 4, 32))
mx.eval(model.parameters(), x)
start = time.perf_counter()
mx.eval(model(x))
print(time.perf_counter() - start)
"""

MEASURED = {
    "import lstm_bridge, after mlx.nn": _IMPORT,
    "lstm-bridge --help": _HELP,
    "first call of a layer": _FIRST,
}
"""What is measured → the program that prints its seconds."""


def startup(repeats: int = 3) -> dict[str, float]:
    """Return the median seconds of each.

    Args:
        repeats: fresh processes for each. Default: 3.
    """
    return {
        what: median(_seconds(program) for _ in range(repeats))
        for what, program in MEASURED.items()
    }


def _seconds(program: str) -> float:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])
