"""The benchmark runs, reports and draws; how fast anything is, is not asserted."""

from __future__ import annotations

import ctypes.util
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from lstm_bridge.bench import models, run, timing
from lstm_bridge.bench.peers import Peer
from lstm_bridge.bench.shapes import SHAPES, Shape
from lstm_bridge.bench.startup import MEASURED
from lstm_bridge.bench.streams import STREAMERS
from lstm_bridge.bench.timing import Timing
from lstm_bridge.cli import main
from lstm_bridge.core import native


def test_the_report_has_every_peer_in_both_modes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "QUICK", (Shape(2, 3, 4, 5), Shape(1, 2, 3, 4, 2, True)))
    monkeypatch.setattr(run, "STREAMS", (Shape(1, 1, 2, 3),))
    arguments = ["bench", "--quick", "--json", str(tmp_path / "b.json")]
    result = CliRunner().invoke(main, [*arguments, "--plot", str(tmp_path / "b.png")])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "b.json").read_text())
    assert [(c["shape"], c["mode"]) for c in report["cases"]] == [
        ("2,3,4,5", "forward"),
        ("2,3,4,5", "train"),
        ("1,2,3,4, 2 layers, both directions", "forward"),
        ("1,2,3,4, 2 layers, both directions", "train"),
        ("1,1,2,3", "stream"),
    ]
    peers = {
        "lstm_bridge",
        "lstm_bridge.mlx",
        "mlx.nn.LSTM",
        "torch.nn.LSTM",
        "keras.layers.LSTM",
    }
    assert set(report["cases"][0]["seconds"]) == peers
    assert set(report["cases"][2]["seconds"]) == {"lstm_bridge", "torch.nn.LSTM"}
    assert set(report["cases"][4]["seconds"]) == set(STREAMERS)
    assert report["startup"].keys() == MEASURED.keys()
    assert all(seconds > 0 for seconds in [*report["startup"].values(), *report["limits"].values()])
    for case in report["cases"]:
        assert all(0 < t["minimum"] <= t["median"] for t in case["seconds"].values())
    assert (tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")
    for peer in peers:
        assert peer in result.output


@pytest.mark.parametrize(
    "make",
    [
        partial(models._forecasting_layer, "mLSTMLayer", 2, 3, 4, 5),
        partial(models._forecasting_layer, "sLSTMLayer", 2, 3, 4, 5),
        partial(models._keras_model, 2),
        partial(models._torch_model, 2),
    ],
)
def test_layers_of_forecasting_and_whole_models_run_beside_their_originals(
    make: Callable[[], dict[str, Peer]],
) -> None:
    sides = make()
    assert list(sides) == [models.OURS, models.ORIGINAL]
    for side in sides.values():
        side.forward()
        side.train()


@pytest.mark.parametrize("kind", ["GRU", "RNN"])
def test_gru_and_rnn_run_beside_torch_and_mlx(kind: str) -> None:
    sides = models._torch_layer(kind, 2, 3, 4, 5)
    assert list(sides) == [models.OURS, models.ORIGINAL, models.STOCK]
    for side in sides.values():
        side.forward()
        side.train()


def test_every_subject_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "SHAPES", (Shape(2, 3, 4, 5),))
    monkeypatch.setattr(run, "STREAMS", ())
    monkeypatch.setattr(run, "startup", dict)
    small = models.Subject("small", "torch", partial(models._torch_model, 1), 1.0, ("forward",))
    monkeypatch.setattr(models, "SUBJECTS", (small,))
    monkeypatch.setattr(run, "interleaved", lambda sides, *_: timing.interleaved(sides, 0.0))
    seen: list[tuple[int, int]] = []
    report = run.bench(progress=lambda done, of: seen.append((done, of)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert [(c.shape.label, c.mode) for c in report.cases][2] == ("small", "forward")
    assert "the original" in report.to_json()["cases"][2]["seconds"]


def test_composed_times_mlx_alone_and_without_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "QUICK", (Shape(2, 3, 4, 5), Shape(1, 2, 3, 4, 2, True)))
    monkeypatch.setattr(run, "STREAMS", (Shape(1, 1, 2, 3),))
    served: list[bool] = []

    def instant(sides: dict[str, Callable[[], object]], *_: float) -> dict[str, Timing]:
        served.append(native.status().serves)
        for work in sides.values():
            work()
        return dict.fromkeys(sides, Timing(1.0, 1.0, 1))

    monkeypatch.setattr(run, "interleaved", instant)
    report = run.bench(True, composed=True, blas="libfast.so").to_json()
    assert report["command"] == "lstm-bridge bench --quick --composed --blas libfast.so"
    assert [(c["shape"], c["mode"]) for c in report["cases"]] == [
        ("2,3,4,5", "forward"),
        ("2,3,4,5", "train"),
        ("1,1,2,3", "stream"),
    ]
    layers = {"lstm_bridge", "lstm_bridge.mlx", "mlx.nn.LSTM"}
    assert set(report["cases"][0]["seconds"]) == layers
    assert set(report["cases"][2]["seconds"]) == layers | {"lstm_bridge, LSTM"}
    assert not any(served)
    assert report["limits"].keys() == {"matmul_gflops"}
    assert report["startup"] == {}


PRELOAD = """
import sys
from pathlib import Path
from lstm_bridge.bench.blas import preload
from lstm_bridge.errors import UsageError
try:
    preload(Path(sys.argv[1]))
except UsageError as error:
    print(error)
else:
    import mlx.core as mx
    print((mx.ones((70, 50)) @ mx.full((50, 3), 2.0)).sum().item())
"""


@pytest.mark.parametrize(
    ("library", "said"),
    [
        (ctypes.util.find_library("openblas"), "21000.0"),
        (ctypes.util.find_library("m"), "expected a library that exports cblas_sgemm"),
        ("libnothing-of-this-name.so", "expected a shared library"),
    ],
)
def test_another_blas_is_loaded_before_mlx(library: str | None, said: str) -> None:
    if library is None:
        pytest.skip("the system has no such library")
    command = [sys.executable, "-c", PRELOAD, library]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert said in done.stdout


def test_a_blas_after_mlx_comes_too_late() -> None:
    result = CliRunner().invoke(main, ["bench", "--blas", "libopenblas.so.0"])
    assert result.exit_code == 2
    assert "expected to be set before MLX is imported" in result.output


def test_the_most_that_a_limit_leaves_is_of_the_peers() -> None:
    medians = {"lstm_bridge": 2.0, "lstm_bridge.mlx": 2.5, "torch.nn.LSTM": 3.0}
    assert run.at_most(medians, share=0.5) == {"torch.nn.LSTM": 3.0}


def test_sides_take_turns_and_a_turn_begins_untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    def four_milliseconds(work: Callable[[], object]) -> float:
        work()
        return 0.004  # longer than a turn's warming, a third of its timed part

    monkeypatch.setattr(timing, "_timed", four_milliseconds)
    monkeypatch.setattr(timing, "_wait_for_idle_workers", lambda: None)
    calls: list[str] = []
    sides = {name: partial(calls.append, name) for name in "ab"}
    timings = timing.interleaved(sides, budget=0.0)
    first, turn = ["a", "b"], [*"aaaa", *"bbbb"]
    assert calls == first + turn
    assert {name: t.calls for name, t in timings.items()} == {"a": 3, "b": 3}


def test_a_slow_side_is_timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_timed", lambda work: work())
    monkeypatch.setattr(timing, "_wait_for_idle_workers", lambda: None)
    sides = {"quick": lambda: 0.02, "slow": lambda: 0.6}
    timings = timing.interleaved(sides, budget=0.0, slow=0.5)
    assert {name: t.calls for name, t in timings.items()} == {"quick": 3, "slow": 1}
    timings = timing.interleaved(sides, budget=0.0, slow=0.5, least=5)
    assert {name: t.calls for name, t in timings.items()} == {"quick": 5, "slow": 1}


def test_shares_of_the_limits_are_of_our_forward_pass() -> None:
    limits = {"matmul_gflops": 100.0, "read_gbytes": 10.0}
    ours = {"lstm_bridge": Timing(0.1, 0.1, 3)}
    wide, narrow = Shape(64, 100, 256, 512), Shape(1, 100, 512, 1024)
    assert run.Case(wide, "forward", ours).shares(limits) == {
        "matmul": pytest.approx(wide.flops / 1e10)
    }
    read = 100 * 4 * 4 * 1024 * 1024 / 1e9
    assert run.Case(narrow, "forward", ours).shares(limits) == {"read": pytest.approx(read)}
    assert run.Case(wide, "train", ours).shares(limits) == {}
    assert run.Case(Shape(1, 10, 1, 64), "forward", ours).shares(limits) == {}


def test_operations_are_counted_as_the_equations_have_them() -> None:
    assert Shape(2, 3, 4, 5).flops == 2 * 3 * 2 * (4 * 5 * 4 + 4 * 5 * 5)
    assert len({shape.label for shape in SHAPES}) == len(SHAPES)
