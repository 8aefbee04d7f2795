"""The benchmark runs, reports and draws; how fast anything is, is not asserted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from lstm_bridge.bench import run
from lstm_bridge.bench.shapes import SHAPES, Shape
from lstm_bridge.bench.timing import interleaved
from lstm_bridge.cli import main


def test_the_report_has_every_peer_in_both_modes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "QUICK", (Shape(2, 3, 4, 5), Shape(1, 2, 3, 4, 2, True)))
    arguments = ["bench", "--quick", "--json", str(tmp_path / "b.json")]
    result = CliRunner().invoke(main, [*arguments, "--plot", str(tmp_path / "b.png")])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "b.json").read_text())
    assert [(c["shape"], c["mode"]) for c in report["cases"]] == [
        ("2,3,4,5", "forward"),
        ("2,3,4,5", "train"),
        ("1,2,3,4, 2 layers, both directions", "forward"),
        ("1,2,3,4, 2 layers, both directions", "train"),
    ]
    peers = {"lstm_bridge", "mlx.nn.LSTM", "torch.nn.LSTM", "keras.layers.LSTM"}
    assert set(report["cases"][0]["seconds"]) == peers
    assert set(report["cases"][2]["seconds"]) == {"lstm_bridge", "torch.nn.LSTM"}
    for case in report["cases"]:
        assert all(0 < t["minimum"] <= t["median"] for t in case["seconds"].values())
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    for peer in peers:
        assert peer in result.output


def test_sides_take_turns_and_the_first_call_is_not_timed() -> None:
    calls: list[str] = []
    sides = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    timings = interleaved(sides, budget=0.0)
    assert calls[:6] == ["a", "b", "a", "a", "b", "b"]
    assert {name: t.calls for name, t in timings.items()} == {"a": 3, "b": 3}


def test_operations_are_counted_as_the_equations_have_them() -> None:
    assert Shape(2, 3, 4, 5).flops == 2 * 3 * 2 * (4 * 5 * 4 + 4 * 5 * 5)
    assert len({shape.label for shape in SHAPES}) == len(SHAPES)
