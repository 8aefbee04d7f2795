"""``verify`` of a quantized folder: whether the port is right, and what the packing costs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from click.testing import CliRunner

import lstm_bridge
from lstm_bridge.cli import main
from lstm_bridge.keras.layers.dense import QuantizedDense

Arrays = dict[str, mx.array]


def arrays_of(folder: Path) -> Arrays:
    found = mx.load(str(folder / "model.safetensors"))
    assert isinstance(found, dict)
    return dict(found)


@pytest.mark.parametrize("bits", [8, 4])
def test_the_cost_is_told_and_the_port_is_right(wide: Path, tmp_path: Path, bits: int) -> None:
    lstm_bridge.convert(wide, tmp_path / "q", quantize=bits)
    report = lstm_bridge.verify(wide, tmp_path / "q")
    assert report.passed, [layer.reason for layer in report.layers]
    assert {layer.path for layer in report.layers} == {
        "memory", "last", "words", "each.layer", "wide", "narrow",
    }  # fmt: skip
    assert report.quantization is not None
    ((name, max_abs, relative),) = report.quantization.costs
    full, packed = lstm_bridge.load(wide), lstm_bridge.load(tmp_path / "q")
    x = np.random.default_rng(0).integers(0, 40, (4, 9)).astype("i4")
    exact, rough = (np.array(m(mx.array(x)), np.float64) for m in (full, packed))
    assert name == "output[0]"
    assert max_abs == pytest.approx(np.abs(rough - exact).max())
    assert relative == pytest.approx(np.linalg.norm(rough - exact) / np.linalg.norm(exact))
    assert report.to_json()["quantization"]["bits"] == [bits]


def test_fewer_bits_cost_more(wide: Path, tmp_path: Path) -> None:
    costs = []
    for bits in (8, 4):
        lstm_bridge.convert(wide, tmp_path / f"q{bits}", quantize=bits)
        report = lstm_bridge.verify(wide, tmp_path / f"q{bits}")
        assert report.quantization is not None
        costs.append(report.quantization.costs[0].relative_rms)
    assert costs[1] > 5 * costs[0] > 0


def test_the_command_says_it_first_and_never_only_equivalent(wide: Path, tmp_path: Path) -> None:
    lstm_bridge.convert(wide, tmp_path / "q", quantize=8)
    result = CliRunner().invoke(main, ["verify", str(wide), str(tmp_path / "q")])
    assert result.exit_code == 0, result.output
    first, second = result.stdout.splitlines()[:2]
    assert first.startswith("quantized to 8 bits: max abs error 0.")
    assert "relative RMS error 0." in first
    assert second.startswith("equivalent but for that: ")


def spoilt_array(name: str, change: Callable[[mx.array], mx.array]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        arrays = arrays_of(folder)
        arrays[name] = change(arrays[name])
        mx.eval(arrays)
        mx.save_safetensors(str(folder / "model.safetensors"), arrays)

    return spoil


def spoilt_config(old: str, new: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        text = (folder / "config.json").read_text()
        assert old in text
        (folder / "config.json").write_text(text.replace(old, new))

    return spoil


def other_wiring(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    node = next(n for n in config["graph"] if n["target"] == "odd")
    node["kwargs"] = {"training": True}
    (folder / "config.json").write_text(json.dumps(config))


def two_numbers(packed: mx.array) -> mx.array:
    packed[3, 1] = packed[3, 1] ^ mx.array(0x8000_0000, mx.uint32)  # the top bit of one number
    return packed


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "one packed number": (
        spoilt_array("wide.weight", two_numbers),
        "wide.kernel: 1 of 2048 packed numbers are more than one step from the source's",
    ),
    "a scale": (
        spoilt_array("words.scales", lambda a: a * mx.array(1.03)),
        "packed numbers are more than one step from the source's",
    ),
    "the bias beside packed numbers": (
        spoilt_array("wide.bias", lambda a: a + 0.001),
        "weights: bias differs in 64 places",
    ),
    "a layer that is not packed": (
        spoilt_array("odd.kernel", lambda a: a * 2),
        "weights: odd.kernel differs in",
    ),
    "swapped gates": (
        spoilt_array("memory.cell.bias", lambda a: mx.roll(a, 32)),
        "weights: cell.bias differs in",
    ),
    "an activation": (
        spoilt_config('"activation": "relu"', '"activation": "gelu"'),
        "modules: not what the source describes",
    ),
    "the graph": (other_wiring, "graph: not what the source describes"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_what_is_wrong_is_caught(wide: Path, tmp_path: Path, case: str) -> None:
    """Negative controls: quantization must not hide mistakes."""
    spoil, message = SPOILT[case]
    lstm_bridge.convert(wide, tmp_path / "q", quantize=8)
    spoil(tmp_path / "q")
    report = lstm_bridge.verify(wide, tmp_path / "q")
    assert not report.passed
    assert any(message in layer.reason for layer in report.layers), [
        layer.reason for layer in report.layers
    ]
    result = CliRunner().invoke(main, ["verify", str(wide), str(tmp_path / "q")])
    assert result.exit_code == 1
    assert result.stdout.startswith("NOT equivalent")


def test_wrong_arithmetic_on_the_right_numbers_is_caught(
    wide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lstm_bridge.convert(wide, tmp_path / "q", quantize=8)
    right = QuantizedDense._product
    monkeypatch.setattr(
        QuantizedDense, "_product", lambda self, x: right(self, x) * mx.array(1 + 1e-5)
    )
    report = lstm_bridge.verify(wide, tmp_path / "q")
    failed = {layer.path for layer in report.layers if not layer.passed}
    assert failed == {"each.layer", "wide", "narrow"}


def test_a_recorded_torch_model_too(tmp_path: Path) -> None:
    import warnings

    import torch

    class Tagger(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = torch.nn.Embedding(30, 64)
            self.lstm = torch.nn.LSTM(64, 32, batch_first=True, bidirectional=True)
            self.head = torch.nn.Linear(64, 5)

        def forward(self, tokens: Any) -> Any:
            return torch.log_softmax(self.head(self.lstm(self.words(tokens))[0]), -1)

    torch.manual_seed(2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        recorded = torch.jit.trace(Tagger().eval(), torch.zeros(2, 7, dtype=torch.long))  # type: ignore[no-untyped-call]
        torch.jit.save(recorded, str(tmp_path / "m.pt"))  # type: ignore[no-untyped-call]
    lstm_bridge.convert(tmp_path / "m.pt", tmp_path / "q", quantize=4)
    report = lstm_bridge.verify(tmp_path / "m.pt", tmp_path / "q")
    assert report.passed, [layer.reason for layer in report.layers]
    assert {layer.path for layer in report.layers} == {"lstm", "words", "head"}
    assert report.quantization is not None
    assert 0 < report.quantization.costs[0].relative_rms < 0.2
