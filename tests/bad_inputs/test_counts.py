"""The counts that ``docs/checkpoints.md`` publishes are those of the tests.

``LSTM_BRIDGE_COUNT=1 pytest tests/bad_inputs/test_counts.py`` writes them anew.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
COUNTS = Path(__file__).with_name("counts.json")
LIBRARIES_DIFFER = 0.05  # a small file's length depends a little on the release that wrote it


def cases(*paths: Path) -> int:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *map(str, paths)], cwd=TESTS.parent, capture_output=True, text=True, check=True
    )
    return sum("::" in line for line in done.stdout.splitlines())


def lengths() -> dict[str, int]:
    path = TESTS / "checkpoints" / "conftest.py"
    spec = importlib.util.spec_from_file_location("checkpoints_made", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: len(raw) for name, raw in module.small_files().items()}


def test_the_published_counts_are_those_of_the_tests() -> None:
    here = TESTS / "bad_inputs"
    found = {
        "containers, headers, tensors": cases(*(TESTS / "checkpoints").glob("test_bad_*.py")),
        "configs": cases(here / "test_bad_configs.py"),
        "semantics": cases(here / "test_bad_semantics.py"),
        "file system": cases(here / "test_bad_files.py"),
        "files": len(lengths()),
        "bytes": sum(lengths().values()),
    }
    if os.environ.get("LSTM_BRIDGE_COUNT"):
        COUNTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    known = json.loads(COUNTS.read_text(encoding="utf-8"))
    stale = "stale: run this with LSTM_BRIDGE_COUNT=1, then make docs"
    assert abs(found.pop("bytes") / known.pop("bytes") - 1) < LIBRARIES_DIFFER, stale
    assert found == known, stale
