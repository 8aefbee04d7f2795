"""verify on the command line: page, JSON, inputs from a file, gradients, and its exit statuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

import lstm_bridge
from lstm_bridge.cli import main


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def saved(folder: Path, name: str = "m.pt", seed: int = 2) -> Path:
    torch.manual_seed(seed)
    lstm = torch.nn.LSTM(3, 5, batch_first=True)
    torch.save({f"lstm.{k}": v for k, v in lstm.state_dict().items()}, folder / name)
    return folder / name


@pytest.fixture
def converted(tmp_path: Path) -> tuple[Path, Path]:
    source = saved(tmp_path)
    lstm_bridge.convert(source, tmp_path / "out")
    return source, tmp_path / "out"


def test_a_page_is_written_beside_the_table(converted: tuple[Path, Path], tmp_path: Path) -> None:
    result = run("verify", *converted, "--report", tmp_path / "r.html", "--gradients")
    assert result.exit_code == 0, result.output
    assert "equivalent" in result.output
    assert "grad weight_hh_l0" in result.output
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "grad weight_hh_l0" in page


@pytest.mark.parametrize(("to", "name"), [("keras", "m.keras"), ("mlx", "m.safetensors")])
def test_a_file_is_judged_and_a_wrong_one_fails(tmp_path: Path, to: str, name: str) -> None:
    source, other = saved(tmp_path), saved(tmp_path, "other.pt", seed=9)
    lstm_bridge.convert(source, tmp_path / name, to=to)
    assert run("verify", source, tmp_path / name).exit_code == 0
    result = run("verify", other, tmp_path / name, "--json", "--report", tmp_path / "r.html")
    assert result.exit_code == 1
    assert json.loads(result.output)["passed"] is False
    assert "NOT equivalent" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_inputs_come_from_a_file(converted: tuple[Path, Path], tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(11, 2, 3)).astype(np.float32)
    np.savez(tmp_path / "i.npz", **{"lstm/x": x})
    result = run("verify", *converted, "--inputs", tmp_path / "i.npz", "--json")
    assert result.exit_code == 0, result.output
    arrays = json.loads(result.output)["layers"][0]["arrays"]
    assert len(arrays[0]["error_over_time"]) == 11
    state = np.ones((1, 2, 5), np.float32)
    np.savez(tmp_path / "s.npz", x=x, state0=state, state1=2 * state)
    assert run("verify", *converted, "--inputs", tmp_path / "s.npz").exit_code == 0
    lstm_bridge.convert(converted[0], tmp_path / "stock", layout="mlx")
    for inputs in ("i.npz", "s.npz"):
        stock = run("verify", converted[0], tmp_path / "stock", "--inputs", tmp_path / inputs)
        assert stock.exit_code == 0, stock.output


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["y"], "LAYER/x"),
        (["nobody/x"], "'lstm'"),
        (["state0", "state1"], "expected x"),
        (["x", "state0"], "state0 to state1"),
    ],
)
def test_inputs_that_are_no_layer_s_are_refused(
    converted: tuple[Path, Path], tmp_path: Path, names: list[str], message: str
) -> None:
    np.savez(tmp_path / "i.npz", **{name: np.zeros((2, 1, 3), np.float32) for name in names})
    result = run("verify", *converted, "--inputs", tmp_path / "i.npz")
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_inputs_that_do_not_exist(converted: tuple[Path, Path], tmp_path: Path) -> None:
    result = run("verify", *converted, "--inputs", tmp_path / "none.npz")
    assert result.exit_code == 4


def test_a_page_that_cannot_be_written(converted: tuple[Path, Path], tmp_path: Path) -> None:
    result = run("verify", *converted, "--report", tmp_path / "none" / "r.html")
    assert result.exit_code == 4
    assert "r.html" in result.stderr
