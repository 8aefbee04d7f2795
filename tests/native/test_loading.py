"""A kernel that is not there, is another MLX's or is broken is declined with its reason."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

import mlx.core as mx
import pytest

from lstm_bridge.core import native

MINE = str(mx.__version__)
FITTING = f"mlx_version, sources = {MINE!r}, {native.digest()!r}"
CUT = """
import sys
from lstm_bridge.core import native
native._NAME = "native_cut_off"
print(native.status())
"""


def loaded(name: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> native.Status:
    """What is found of a module of that name and code in place of the kernel's."""
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(native, "_NAME", name)
    monkeypatch.setattr(native, "_load", native._load.__wrapped__)
    monkeypatch.delenv("LSTM_BRIDGE_NATIVE", raising=False)
    try:
        return native.status()
    finally:
        sys.modules.pop(name, None)


def test_one_that_was_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "find_spec", lambda name: None)
    status = loaded("native_absent", "", tmp_path, monkeypatch)
    assert not status.serves
    assert status.reason.startswith("not built: ")


def test_one_that_was_built_for_another_mlx(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = loaded("native_other", "mlx_version = '0.1.2'", tmp_path, monkeypatch)
    assert status == native.Status(False, f"built for mlx 0.1.2, but mlx {MINE} is running")


@pytest.mark.parametrize("sources", [", sources = {MINE!r}, 'others'", " = {MINE!r}"])
def test_one_that_was_built_from_other_sources(
    sources: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An editable installation whose sources moved on: its numbers may be wrong."""
    code = "mlx_version" + sources.replace("{MINE!r}", repr(MINE))
    status = loaded("native_stale", code, tmp_path, monkeypatch)
    assert not status.serves
    assert status.reason.startswith("built from other sources ")


def test_any_change_of_a_source_changes_the_digest(tmp_path: Path) -> None:
    shutil.copy(native.sources.__file__, tmp_path / "sources.py")
    found = []
    for name, content in (("", ""), ("a.cpp", "1"), ("a.cpp", "2"), ("b.inc", "2"), ("c.py", "")):
        if name:
            (tmp_path / name).write_text(content)
        found.append(runpy.run_path(str(tmp_path / "sources.py"))["digest"]())
    assert found[0] == ""
    assert len(set(found[:4])) == 4
    assert found[4] == found[3]


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("native_incompatible", "raise TypeError('incompatible function arguments')"),
        ("native_wrong", "return [__import__('mlx.core').core.zeros((1, 1, 1))]"),
    ],
)
def test_one_that_computes_nothing_right(
    name: str, answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"{FITTING}\ndef set_composed(f): pass\ndef lstm(*given):\n    {answer}\n"
    status = loaded(name, code, tmp_path, monkeypatch)
    assert not status.serves
    assert status.reason.startswith("does not work with this mlx")


@pytest.mark.parametrize("kept", [0, 3, 100, 20_000, 0.3, -1])
def test_one_that_was_cut_off(kept: float, tmp_path: Path) -> None:
    """The process lives, which it would not if the rest were looked for in memory."""
    kernel = find_spec("lstm_bridge.core.native._fused")
    if kernel is None or kernel.origin is None:
        pytest.skip("the fused kernel was not built")
    whole = Path(kernel.origin).read_bytes()
    part = whole[: int(kept * len(whole)) if isinstance(kept, float) else kept]
    (tmp_path / f"native_cut_off{EXTENSION_SUFFIXES[0]}").write_bytes(part)
    done = subprocess.run(
        [sys.executable, "-c", CUT],
        env={"PYTHONPATH": ":".join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "serves=False, reason='not loadable" in done.stdout
