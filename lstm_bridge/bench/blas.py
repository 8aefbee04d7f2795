"""Another BLAS for MLX, for comparisons on Linux, where its wheel has the reference BLAS alone."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

from lstm_bridge.errors import UsageError

_OWNER = "bench --blas"


def preload(library: Path) -> None:
    """Make MLX call that library's ``cblas_sgemm`` instead of its own, in this process.

    The linker resolves MLX's call when MLX is imported, to what was loaded globally before.

    Args:
        library: a shared library, a file or a name that the system's loader finds.

    Raises:
        UsageError: MLX is imported already, or the library cannot serve.
    """
    if "mlx.core" in sys.modules:
        raise UsageError(
            _OWNER,
            expected="to be set before MLX is imported",
            got="a process that has imported it",
            fix="run lstm-bridge bench from a shell",
        )
    try:
        loaded = ctypes.CDLL(os.fspath(library), ctypes.RTLD_GLOBAL)
    except OSError as error:
        raise UsageError(_OWNER, expected="a shared library", got=str(error)) from None
    if not hasattr(loaded, "cblas_sgemm"):
        raise UsageError(
            _OWNER,
            expected="a library that exports cblas_sgemm",
            got=os.fspath(library),
            fix="name an OpenBLAS of the system, as Debian's libopenblas.so.0",
        )
