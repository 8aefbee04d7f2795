"""What importing lstm_bridge brings in: MLX and itself, never the frameworks it mirrors."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINTER = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
FRONT_ENDS = next(c["source_modules"] for c in LINTER["contracts"] if "Front-ends" in c["name"])
DOORS = {  # modules of a front-end that lead to the rooms which read files
    rule.partition(" -> ")[0] for c in LINTER["contracts"] for rule in c.get("ignore_imports", ())
}
FRAMEWORKS = {"torch", "keras", "tensorflow", "jax", "pytorch_forecasting", "lightning"}

PROBE = """
import importlib, json, pkgutil, sys
import mlx.nn

def roots():
    return {name.partition(".")[0] for name in sys.modules}

def everything(package):
    module = importlib.import_module(package)
    walk = pkgutil.walk_packages(module.__path__, package + ".")
    return [package, *(found.name for found in walk)]

*asked, whole = sys.argv[1:]
names = [name for one in asked for name in everything(one)] if whole == "all" else asked
before, brought = roots(), {}
for name in names:
    importlib.import_module(name)
    brought[name] = sorted(roots() - before - set(sys.stdlib_module_names))
    before = roots()
print(json.dumps(brought))
"""


def brought_in(*modules: str, whole: bool = False, path: Path = ROOT) -> dict[str, set[str]]:
    """Import modules one after another in a fresh process that has ``mlx.nn``.

    Returns, for each, the top-level packages outside the standard library that came with it;
    with ``whole``, every module below the given packages is imported too.
    """
    command = [sys.executable, "-c", PROBE, *modules, "all" if whole else "given"]
    done = subprocess.run(command, cwd=path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name: set(roots) for name, roots in json.loads(done.stdout).items()}


def test_the_package_brings_in_nothing_but_itself() -> None:
    assert brought_in("lstm_bridge") == {"lstm_bridge": {"lstm_bridge"}}


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_a_front_end_brings_in_nothing_but_the_package(front_end: str) -> None:
    brought = brought_in(front_end, whole=True)
    found = set().union(*(roots for name, roots in brought.items() if name not in DOORS))
    assert found <= {"lstm_bridge"}


def test_no_module_of_the_package_brings_in_a_framework() -> None:
    found = brought_in("lstm_bridge", whole=True)
    assert {"lstm_bridge.checkpoints", "lstm_bridge.converters"} <= set(found)
    assert {name: roots & FRAMEWORKS for name, roots in found.items() if roots & FRAMEWORKS} == {}


def test_the_probe_sees_a_framework_that_is_brought_in(tmp_path: Path) -> None:
    (tmp_path / "torch.py").touch()
    (tmp_path / "eager").mkdir()
    (tmp_path / "eager" / "__init__.py").touch()
    (tmp_path / "eager" / "deep.py").write_text("import torch\n")
    found = brought_in("eager", whole=True, path=tmp_path)
    assert found["eager.deep"] & FRAMEWORKS == {"torch"}
