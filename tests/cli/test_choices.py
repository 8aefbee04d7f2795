"""A choice that means nothing for a file is refused in one line, and never dropped in silence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import lstm_bridge
from lstm_bridge.cli import main

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"

REFUSED = {
    "a pattern that matches nothing": (
        "torch_forecaster.pt",
        ("--ignore", "fc.*", "--ignore", "head.*"),
        "ignore: expected a pattern that some tensor's name matches, got 'head.*'; see the names "
        "with: lstm-bridge inspect FILE",
    ),
    "another dialect's option": (
        "torch_forecaster.pt",
        ("--assume", "recurrent_activation=sigmoid"),
        "assume: expected what the file leaves open (batch_first, dropout), got "
        "recurrent_activation",
    ),
    "torch's option of Keras weights": (
        "keras_forecaster.weights.h5",
        ("--assume", "batch_first=true"),
        "got batch_first",
    ),
    "what a Keras model states": (
        "keras_forecaster.keras",
        ("--assume", "activation=relu"),
        "assume: expected what the file leaves open (nothing: this file states everything), got "
        "activation",
    ),
    "what a recording states": (
        "torch_forecaster_recorded.pt", ("--assume", "batch_first=true"), "got batch_first"
    ),
    "a Keras architecture of a torch file": (
        "torch_forecaster.safetensors",
        ("--config", "{config}"),
        "config: expected a Keras weights file to go with it, got safetensors",
    ),
    "anything of a converted folder": (
        "{folder}",
        ("--assume", "batch_first=true"),
        "assume: expected none for a folder that convert wrote, got one; give it when converting "
        "the source",
    ),
}  # fmt: skip


@pytest.mark.parametrize("verb", ["inspect", "convert", "verify"])
@pytest.mark.parametrize("case", REFUSED)
def test_it_is_one_line(verb: str, case: str, tmp_path: Path) -> None:
    name, options, message = REFUSED[case]
    (tmp_path / "m.json").write_text(json.dumps({"class_name": "Sequential", "config": []}))
    lstm_bridge.convert(FIXTURES / "torch_forecaster.pt", tmp_path / "folder")
    source = name.format(folder=tmp_path / "folder")
    source = source if source.startswith("/") else str(FIXTURES / source)
    given = [option.format(config=tmp_path / "m.json") for option in options]
    rest = {"inspect": [], "convert": [str(tmp_path / "out")], "verify": [str(tmp_path / "folder")]}
    result = CliRunner().invoke(main, [verb, source, *rest[verb], *given])
    assert result.exit_code == 2
    assert result.stderr.startswith("error[E700] ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "m.json"]


def test_in_a_tree_a_choice_need_not_fit_every_file(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name in ("torch_forecaster.pt", "keras_forecaster.keras"):
        (source / name).write_bytes((FIXTURES / name).read_bytes())
    report = lstm_bridge.convert_tree(
        source, tmp_path / "out", assume={"batch_first": True}, ignore=("fc.*",)
    )
    assert [one.fate for one in report.outcomes] == ["converted", "converted"]


@pytest.mark.skipif(sys.platform == "win32", reason="a shell with pipes is needed")
def test_nobody_reading_on_is_no_error() -> None:
    command = f"{sys.executable} -m lstm_bridge.cli inspect {FIXTURES}/torch_forecaster.pt"
    done = subprocess.run(
        ["sh", "-c", f"({command}; echo $? >&2) | true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.strip() in ("141", "0")  # 0: all was written before the reader left
