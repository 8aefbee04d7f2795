"""The two commands of a fresh machine: what ``make`` offers, refuses, and what the demo does."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
DEMO_RECIPE = MAKEFILE.partition("\ndemo:")[2].partition("\n\n")[0]
DEMO = re.findall(r"^\t\$\(BRIDGE\) (.*)", DEMO_RECIPE, re.M)
TOO_OLD = 'case "$2" in *print*) echo "Python 3.9.6";; *) exit 1;; esac'
WITHOUT_FRAMEWORKS = """
import sys
sys.modules.update(dict.fromkeys(("torch", "keras", "pytorch_forecasting")))  # not importable
from lstm_bridge.cli import main
main()
"""


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )


def test_help_names_every_target() -> None:
    targets = re.findall(r"^\.PHONY: (.*)", MAKEFILE, re.M)[0].split()
    shown = make().stdout
    assert [line.split()[0] for line in shown.splitlines() if line.startswith("  ")] == targets


@pytest.mark.parametrize(
    ("script", "is_what"),
    [("exit 1", "no Python"), (TOO_OLD, "Python 3.9.6")],
    ids=["none", "too old"],
)
def test_a_python_below_3_11_is_refused_in_one_line(
    script: str, is_what: str, tmp_path: Path
) -> None:
    python = tmp_path / "python3"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    done = make("demo", f"PYTHON={python}", f"VENV={tmp_path}/venv")
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert done.returncode != 0
    assert len(said) == 1
    assert "needs Python 3.11 or newer" in said[0]
    assert is_what in said[0]
    assert not (tmp_path / "venv").exists()


def test_the_demo_runs_where_torch_and_keras_cannot_be_imported(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "fixtures", tmp_path / "fixtures")
    verbs = []
    for command in DEMO:
        arguments = shlex.split(command)
        verbs.append(arguments[0])
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_FRAMEWORKS, *arguments],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"lstm-bridge {command}\n{done.stdout}{done.stderr}"
    assert verbs == ["convert", "verify"] * 2
    made = {str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").glob("**/*.*")}
    for name in ("torch_forecaster", "keras_classifier"):
        assert "graph" in json.loads((tmp_path / "out" / name / "config.json").read_text())
        assert {f"{name}/config.json", f"{name}/model.safetensors", f"{name}.png"} <= made
