"""The command line as a user meets it: tables, one-line errors, exit statuses, no half work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from lstm_bridge.cli import main


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def source(tmp_path: Path) -> Path:
    torch.manual_seed(2)
    lstm = torch.nn.LSTM(3, 5, num_layers=2, bidirectional=True)
    state = {f"lstm.{k}": v for k, v in lstm.state_dict().items()}
    torch.save({**state, "fc.weight": torch.ones(2, 10)}, tmp_path / "m.pt")
    return tmp_path / "m.pt"


def test_inspect_says_what_it_is(source: Path) -> None:
    result = run("inspect", source)
    assert result.exit_code == 0
    assert "torch.nn.LSTM(input_size=3, hidden_size=5, num_layers=2" in result.output
    assert "kept as fc.weight" in result.output
    assert result.stderr == ""


def test_inspect_as_json(source: Path) -> None:
    found = json.loads(run("inspect", source, "--json").output)
    assert found["converts"] is True
    assert found["layers"][0]["shapes"]["weight_ih_l1"] == [20, 10]


def test_inspect_shows_what_will_not_convert(tmp_path: Path) -> None:
    torch.save(torch.nn.GRU(3, 5).state_dict(), tmp_path / "gru.pt")
    result = run("inspect", tmp_path / "gru.pt")
    assert result.exit_code == 0
    assert "looks like a GRU" in result.output


def test_convert_accounts_for_every_tensor(source: Path, tmp_path: Path) -> None:
    result = run("convert", source, tmp_path / "out")
    assert result.exit_code == 0
    for name in torch.load(source, weights_only=True):
        assert name in result.output
    assert result.output.endswith(f"wrote {tmp_path / 'out'}\n")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_assumptions_are_parsed(source: Path, tmp_path: Path) -> None:
    result = run("convert", source, tmp_path / "out", "--assume", "batch_first=true", "--json")
    assert json.loads(result.output)["layers"][0]["options"]["batch_first"] is True
    assert run("convert", source, tmp_path / "o", "--assume", "batch_first").exit_code == 2


@pytest.mark.parametrize(
    ("stated", "wanted"),
    [
        ("batch_first=maybe", "assume batch_first: expected true or false, got 'maybe'"),
        ("batch_first=1", "assume batch_first: expected true or false, got 1"),
        ("dropout=2.5", "assume dropout: expected a number from 0 to 1, got 2.5"),
        ("dropout=true", "assume dropout: expected a number from 0 to 1, got True"),
        ("merge_mode=best", "assume merge_mode: expected one of ('concat', 'sum', 'mul', 'ave'"),
    ],
)
def test_an_impossible_assumption_is_refused(
    source: Path, tmp_path: Path, stated: str, wanted: str
) -> None:
    result = run("convert", source, tmp_path / "out", "--assume", stated)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert wanted in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_layout_beside_another_frameworks_file_is_refused(source: Path, tmp_path: Path) -> None:
    result = run("convert", source, tmp_path / "o.pt", "--to", "torch", "--layout", "mlx")
    assert result.exit_code == 2
    assert "layout: expected none beside to='torch', got 'mlx'" in result.stderr


def test_verify_says_which_assumption_it_was_not_given(source: Path, tmp_path: Path) -> None:
    run("convert", source, tmp_path / "out", "--assume", "batch_first=true")
    result = run("verify", source, tmp_path / "out", "--json")
    assert result.exit_code == 1
    assert (
        "the folder has batch_first=True and the source, as read here, batch_first=False"
        in (json.loads(result.output)["layers"][0]["reason"])
    )
    again = run("verify", source, tmp_path / "out", "--assume", "batch_first=true")
    assert again.exit_code == 0


def test_names_that_the_terminal_cannot_spell_are_escaped(source: Path, tmp_path: Path) -> None:
    named = source.rename(tmp_path / "\u00fc\u2603.pt")
    program = [sys.executable, "-m", "lstm_bridge.cli", "inspect", str(named)]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    result = subprocess.run(program, capture_output=True, text=True, env=environment, check=True)
    assert "\\xfc\\u2603.pt" in result.stdout
    assert result.stderr == ""


def test_verify_passes_and_draws(source: Path, tmp_path: Path) -> None:
    run("convert", source, tmp_path / "out")
    result = run("verify", source, tmp_path / "out", "--plot", tmp_path / "error.png")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "error.png").read_bytes().startswith(b"\x89PNG")
    report = json.loads(run("verify", source, tmp_path / "out", "--json").output)
    assert report["passed"] is True


def test_verify_fails_on_another_model(source: Path, tmp_path: Path) -> None:
    run("convert", source, tmp_path / "out")
    state = torch.load(source, weights_only=True)
    state["lstm.weight_hh_l0"] = state["lstm.weight_hh_l0"].flip(0)
    torch.save(state, source)
    assert run("verify", source, tmp_path / "out").exit_code == 1


def _unknown(folder: Path) -> list[object]:
    (folder / "m.pt").write_bytes(b"what is this?" * 9)
    return [folder / "m.pt", folder / "out"]


def _truncated(folder: Path) -> list[object]:
    torch.save(torch.nn.LSTM(3, 5).state_dict(), folder / "m.pt")
    (folder / "m.pt").write_bytes((folder / "m.pt").read_bytes()[:-100])
    return [folder / "m.pt", folder / "out"]


def _wrong_shape(folder: Path) -> list[object]:
    state = torch.nn.LSTM(3, 5).state_dict()
    torch.save({**state, "weight_ih_l0": torch.ones(20)}, folder / "m.pt")
    return [folder / "m.pt", folder / "out"]


def _no_bias(folder: Path) -> list[object]:
    state = torch.nn.LSTM(3, 5).state_dict()
    del state["bias_hh_l0"]
    torch.save(state, folder / "m.pt")
    return [folder / "m.pt", folder / "out"]


def _gru(folder: Path) -> list[object]:
    torch.save(torch.nn.GRU(3, 5).state_dict(), folder / "m.pt")
    return [folder / "m.pt", folder / "out"]


class Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("run",)


def _pickle_global(folder: Path) -> list[object]:
    torch.save({"weight_ih_l0": Hostile()}, folder / "m.pt")
    return [folder / "m.pt", folder / "out"]


def _existing(folder: Path) -> list[object]:
    torch.save(torch.nn.LSTM(3, 5).state_dict(), folder / "m.pt")
    (folder / "out").mkdir()
    return [folder / "m.pt", folder / "out"]


def _missing(folder: Path) -> list[object]:
    return [folder / "nothing.pt", folder / "out"]


def _layout(folder: Path) -> list[object]:
    torch.save(torch.nn.LSTM(3, 5).state_dict(), folder / "m.pt")
    return [folder / "m.pt", folder / "out", "--layout", "tf"]


BAD: dict[str, tuple[Callable[[Path], list[object]], int, str]] = {
    "unknown magic": (_unknown, 3, "error[E100] {}/m.pt: expected"),
    "truncated": (_truncated, 3, "error[E100] {}/m.pt"),
    "wrong shapes": (_wrong_shape, 3, "tensor 'weight_ih_l0': expected"),
    "missing bias": (_no_bias, 3, "expected a bias_hh beside it"),
    "GRU-sized": (_gru, 3, "looks like a GRU"),
    "pickle global": (_pickle_global, 3, "error[E"),
    "existing target": (_existing, 4, "error[E600] {}/out: expected no such path, got a folder"),
    "missing source": (_missing, 4, "error[E600] {}/nothing.pt: expected a readable file"),
    "usage": (_layout, 2, "error[E700] layout: expected one of source, mlx, got 'tf'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_writes_nothing(case: str, tmp_path: Path) -> None:
    make, status, message = BAD[case]
    arguments = make(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    result = run("convert", *arguments)
    assert result.exit_code == status
    assert result.stderr.count("\n") == 1
    assert message.format(tmp_path) in result.stderr
    assert result.stdout == ""
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_the_installed_command_imports_no_framework(source: Path) -> None:
    code = (
        "import sys; from lstm_bridge.cli import main\n"
        f"main(['inspect', {str(source)!r}], standalone_mode=False)\n"
        "assert not {'torch', 'keras', 'tensorflow'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
