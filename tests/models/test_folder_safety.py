"""The target appears whole or not at all, and nothing of anybody else's is touched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import lstm_bridge
from lstm_bridge.models import atomic


@pytest.fixture
def source(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    torch.save(torch.nn.LSTM(3, 5).state_dict(), tmp_path / "m.pt")
    return tmp_path / "m.pt"


def snapshot(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def refusal(source: Path, target: Path, **options: object) -> str:
    with pytest.raises(lstm_bridge.BridgeError) as caught:
        lstm_bridge.convert(source, target, **options)  # type: ignore[arg-type]
    assert caught.value.exit_status == 4
    return str(caught.value)


def test_an_existing_target_needs_force(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    lstm_bridge.convert(source, target)
    before = snapshot(tmp_path)
    assert refusal(source, target) == (
        f"[E600] {target}: expected no such path, got a folder; pass --force to replace it"
    )
    assert snapshot(tmp_path) == before
    torch.save(torch.nn.LSTM(3, 7).state_dict(), source)
    lstm_bridge.convert(source, target, force=True)
    assert lstm_bridge.load(target).hidden_size == 7
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.pt", "out"], "no scratch is left"


def test_force_does_not_delete_other_folders(source: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("...")
    message = refusal(source, tmp_path / "thesis", force=True)
    assert "a folder of other things, which --force does not delete" in message
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "..."


@pytest.mark.parametrize("force", [False, True])
def test_files_and_links_are_not_replaced(source: Path, tmp_path: Path, force: bool) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        assert f"expected no such path, got a {name}; choose another target" in refusal(
            source, tmp_path / name, force=force
        )
    assert (tmp_path / "file").read_text() == "mine"


def test_the_target_is_not_the_folder_that_holds_the_source(tmp_path: Path) -> None:
    torch.save(torch.nn.LSTM(3, 5).state_dict(), tmp_path / "a.pt")
    lstm_bridge.convert(tmp_path / "a.pt", tmp_path / "out")
    inner = tmp_path / "out" / "model.safetensors"
    before = snapshot(tmp_path)
    assert "expected a target apart from the source" in refusal(inner, tmp_path / "out", force=True)
    assert snapshot(tmp_path) == before


def test_an_unwritable_parent_is_one_line(source: Path, tmp_path: Path) -> None:
    (tmp_path / "blocker").write_text("a file where a folder is needed")
    message = refusal(source, tmp_path / "blocker" / "out")
    assert "expected a writable place, got" in message


def test_a_failure_half_way_leaves_the_old_model(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lstm_bridge.convert(source, tmp_path / "out")
    before = snapshot(tmp_path)

    def interrupted(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lstm_bridge.convert(source, tmp_path / "out", force=True, progress=interrupted)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("swap", [True, False])
def test_replacing_works_with_and_without_an_atomic_exchange(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swap: bool
) -> None:
    if not swap:
        monkeypatch.setattr(atomic, "_exchange", lambda a, b: False)
    for hidden in (5, 7):
        torch.save(torch.nn.LSTM(3, hidden).state_dict(), source)
        lstm_bridge.convert(source, tmp_path / "out", force=True)
    assert lstm_bridge.load(tmp_path / "out").hidden_size == 7
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.pt", "out"]


KILLED = """
import sys, os, lstm_bridge
def stop(done, total):
    print("half", flush=True)
    sys.stdin.read()
lstm_bridge.convert(sys.argv[1], sys.argv[2], force=True, progress=stop)
"""


def test_kill_leaves_the_old_model_whole(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    lstm_bridge.convert(source, target)
    before = snapshot(target)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(source), str(target)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)
    assert snapshot(target) == before
    lstm_bridge.load(target)


@pytest.mark.skipif(not hasattr(os, "umask"), reason="umask is POSIX's")
def test_modes_follow_the_umask(source: Path, tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        lstm_bridge.convert(source, tmp_path / "out")
    finally:
        os.umask(old)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "out" / "config.json").stat().st_mode & 0o777 == 0o640


DAMAGE = {
    "not JSON": ("{", "expected JSON, got"),
    "other version": ('{"format": "lstm_bridge", "version": 99}', "got 'lstm_bridge' version 99"),
    "no layers": ('{"format": "lstm_bridge", "version": 1}', "expected layers, each with path"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_config_is_one_line(source: Path, tmp_path: Path, case: str) -> None:
    text, message = DAMAGE[case]
    lstm_bridge.convert(source, tmp_path / "out")
    (tmp_path / "out" / "config.json").write_text(text)
    with pytest.raises(lstm_bridge.BridgeError) as caught:
        lstm_bridge.load(tmp_path / "out")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class": "os.system"}, "expected a class of this release's front-ends, got 'os.system'"),
        ({"options": {"hidden_size": 5}}, "expected options and weights that make a torch.nn.LSTM"),
        ({"options": {"input_size": 3, "hidden_size": 6}}, "expected options and weights that"),
        ({"parameters": ["weight_xx"]}, "expected tensor 'weight_xx' in model.safetensors, got no"),
    ],
)
def test_config_and_weights_must_agree(
    source: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    lstm_bridge.convert(source, tmp_path / "out")
    path = tmp_path / "out" / "config.json"
    config = json.loads(path.read_text())
    config["layers"][0] |= change
    path.write_text(json.dumps(config))
    with pytest.raises(lstm_bridge.BridgeError) as caught:
        lstm_bridge.load(tmp_path / "out")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(lstm_bridge.BridgeError, match="expected a folder that convert wrote"):
        lstm_bridge.load(tmp_path / "none")
