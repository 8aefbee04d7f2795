"""What setup.py does where the fused kernel can be compiled only in part, or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
for _needed in ("setuptools", "nanobind"):
    pytest.importorskip(_needed, reason=f"setup.py needs {_needed}")
_release = pytest.importorskip("setuptools").__version__
if int(_release.split(".")[0]) < 77:
    pytest.skip(f"setuptools {_release} cannot read pyproject.toml", allow_module_level=True)


def setup(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "setup.py", *command],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def build(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    where = f"--build-lib={folder / 'lib'}", f"--build-temp={folder / 'temp'}"
    return setup("build_ext", *where, **environment)


@pytest.fixture
def failing(tmp_path: Path) -> str:
    """A compiler that knows C++20, and fails on the kernel."""
    script = tmp_path / "c++"
    script.write_text(
        '#!/bin/sh\ncase "$*" in\n*probe.cpp*) exit 0 ;;\nesac\necho "no space left" >&2\nexit 1\n'
    )
    script.chmod(0o755)
    return str(script)


@pytest.mark.parametrize("missing", ["/bin/false", "/no/such/compiler"])
def test_without_a_compiler_there_is_no_kernel(missing: str, tmp_path: Path) -> None:
    done = build(tmp_path, CXX=missing, CC=missing)
    assert done.returncode == 0, done.stderr
    assert "lstm-bridge: no fused CPU kernel, no C++20 compiler was found" in done.stderr
    assert not list(tmp_path.rglob("_fused*"))


def test_with_one_that_fails_there_is_no_kernel(failing: str, tmp_path: Path) -> None:
    done = build(tmp_path, CXX=failing, CC=failing)
    assert done.returncode == 0, done.stderr
    assert 'building extension "lstm_bridge.core.native._fused" failed' in done.stderr
    assert not list(tmp_path.rglob("_fused*.so"))


def test_all_sources_are_distributed(tmp_path: Path) -> None:
    done = setup("egg_info", f"--egg-base={tmp_path}")
    assert done.returncode == 0, done.stderr
    listed = (tmp_path / "lstm_bridge.egg-info/SOURCES.txt").read_text().splitlines()
    folder = ROOT / "lstm_bridge/core/native"
    sources = [path for kind in ("*.cpp", "*.hpp", "*.inc") for path in folder.glob(kind)]
    assert len(sources) > 30
    assert {str(path.relative_to(ROOT)) for path in sources} <= set(listed)
