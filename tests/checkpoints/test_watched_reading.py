"""The audit hook under which every reader case runs sees what it must not let pass."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

FORBIDDEN: dict[str, Callable[[Path], object]] = {
    "writing": lambda folder: (folder / "x").write_bytes(b""),
    "a process": lambda folder: subprocess.run([sys.executable, "-c", ""], check=True),
    "unpickling a global": lambda folder: pickle.loads(b"cbuiltins\nlen\n."),
    "a folder": lambda folder: (folder / "y").mkdir(),
}


@pytest.mark.parametrize("case", FORBIDDEN)
def test_what_no_reader_may_do_is_seen(case: str, make, tmp_path: Path) -> None:
    with pytest.raises(AssertionError), make.watched():
        FORBIDDEN[case](tmp_path)


def test_reading_is_let_pass(make, files: dict[str, bytes], tmp_path: Path) -> None:
    for name, raw in files.items():
        (tmp_path / name).write_bytes(raw)
        assert make.read_all(tmp_path / name)
