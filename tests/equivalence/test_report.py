"""A report for people and for programs: verdict, JSON, table, picture."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from lstm_bridge.equivalence.judge import judge
from lstm_bridge.equivalence.report import ArrayResult, LayerResult, Report
from lstm_bridge.equivalence.ulp import over_time, ulps
from lstm_bridge.errors import UsageError

ORACLE = np.linspace(-0.9, 1.1, 24).reshape(2, 4, 3)


def array(name: str, error: float, axis: int | None = 1) -> ArrayResult:
    ours, source = ORACLE + error, ORACLE.astype(np.float32)
    return ArrayResult(
        name,
        judge(ours, source, ORACLE),
        ulps(ours, ORACLE),
        ulps(source, ORACLE),
        over_time(ours, ORACLE, axis),
        over_time(source, ORACLE, axis),
    )


def layer(path: str, *arrays: ArrayResult, **more: Any) -> LayerResult:
    return LayerResult(
        path, "torch.nn.LSTM", "torch 2.13.0", "NumPy float64 oracle", arrays, **more
    )


GOOD = layer("encoder.lstm", array("output", 1e-8), array("h_n", 2e-8, None))
BAD = layer(
    "decoder[0]",
    array("output", 0.5),
    reason="output: error 0.5",
    diagnosis="gates permuted",
)


def shown(report: Report) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(report.to_table())
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_whole_passes_only_if_every_layer_does() -> None:
    assert Report("port", (GOOD,)).passed
    assert not Report("port", (GOOD, BAD)).passed
    assert not Report("port", ()).passed


def test_the_worst_layer_and_place_are_named() -> None:
    report = Report("port", (GOOD, BAD))
    assert report.worst[:2] == ("decoder[0]", "output")
    assert report.max_abs == pytest.approx(0.5)
    assert report.ratio > 1e6
    assert report.diagnosis == "gates permuted"
    assert report.source == "torch 2.13.0"


def test_only_single_steps_decide_on_an_ill_conditioned_layer() -> None:
    chaotic = layer(
        "", array("output", 0.5), one_step=(array("one step: output", 1e-8),), ill_conditioned=True
    )
    report = Report("port", (chaotic,))
    assert report.passed
    assert report.ratio < 1
    assert "ill-conditioned" in shown(report)


def test_json_has_one_form_and_no_infinity() -> None:
    shapeless = ArrayResult("c_n", judge(ORACLE[:1], ORACLE, ORACLE), ulps([], []), ulps([], []))
    broken = layer("x", shapeless, reason="c_n: shapes differ")
    plain = json.loads(json.dumps(Report("port", (GOOD, broken)).to_json(), allow_nan=False))
    assert set(plain) == {
        *("schema", "passed", "ported", "source", "ratio", "max_abs", "worst", "diagnosis"),
        *("quantization", "not_judged"),
        *("layers", "first_divergence"),
    }
    assert plain["schema"] == 1
    assert plain["ratio"] == "inf"
    assert plain["worst"] == {"layer": "x", "array": "c_n", "index": []}
    assert set(plain["layers"][0]) == {
        *("path", "kind", "source", "oracle", "passed", "ill_conditioned", "weights", "reason"),
        *("diagnosis", "arrays", "one_step", "parts"),
    }
    assert set(plain["layers"][0]["arrays"][0]) == {
        *("name", "passed", "ratio", "max_abs", "source_error", "floor", "worst", "reason"),
        *("ulp", "source_ulp", "error_over_time", "source_error_over_time"),
        *("ulp_histogram", "source_ulp_histogram", "first_step"),
    }
    assert set(plain["layers"][0]["arrays"][0]["ulp"]) == {"p50", "p99.9", "max"}
    assert len(plain["layers"][0]["arrays"][0]["error_over_time"]) == 4


def test_the_table_says_who_failed_and_why() -> None:
    text = shown(Report("port", (GOOD, BAD)))
    assert "NOT equivalent: port against torch 2.13.0" in text
    assert "decoder[0]" in text  # not taken for markup
    assert "FAIL" in text
    assert "explained by: gates permuted" in text
    assert "FAIL" not in shown(Report("port", (GOOD,)))


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_the_picture_is_written(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib", reason="the plot extra is not installed")
    timeless = layer("cell", array("h", 1e-8, None))
    exact = layer("exact", array("output", 0.0))
    target = tmp_path / f"errors{suffix}"
    Report("port", (GOOD, BAD, timeless, exact)).plot(target)
    magic = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    assert target.read_bytes().startswith(magic[suffix])
    assert target.stat().st_size > 5000


def test_a_picture_needs_a_known_extension(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the plot extra is not installed")
    with pytest.raises(UsageError, match="extension"):
        Report("port", (GOOD,)).plot(tmp_path / "errors.docx")


def test_a_picture_without_matplotlib_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_NoMatplotlib(), *sys.meta_path])
    with pytest.raises(UsageError, match=r"pip install 'lstm-bridge\[plot\]'"):
        Report("port", (GOOD,)).plot(tmp_path / "errors.png")


class _NoMatplotlib:
    """An import system in which matplotlib is not installed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}", name="matplotlib")
