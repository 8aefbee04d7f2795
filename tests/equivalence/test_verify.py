"""verify: a converted folder against its checkpoint, and every way in which it can be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import lstm_bridge
from lstm_bridge.errors import UsageError

torch = pytest.importorskip("torch", reason="checkpoints are written by live torch")
keras = pytest.importorskip("keras", reason="checkpoints are written by live Keras")

D, H = 3, 5


def torch_file(folder: Path, dtype: Any = torch.float32, **options: Any) -> Path:
    torch.manual_seed(3)
    model = torch.nn.Sequential()
    model.add_module("encoder", torch.nn.LSTM(D, H, **options))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn_like(p) * 0.5 + 0.1)
    torch.save(model.to(dtype).state_dict(), folder / "model.pt")
    return folder / "model.pt"


def keras_file(folder: Path) -> Path:
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((None, D)),
            layers.Bidirectional(
                layers.LSTM(H, recurrent_activation="hard_sigmoid", return_sequences=True),
                name="both",
            ),
            layers.LSTM(4, name="last"),
        ]
    )
    rng = np.random.default_rng(4)
    model.set_weights([rng.normal(0.1, 0.5, w.shape) for w in model.get_weights()])
    model.save(folder / "model.keras")
    return folder / "model.keras"


@pytest.mark.parametrize("layout", ["source", "mlx"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_torch_model_passes_in_both_layouts(
    tmp_path: Path, layout: str, bidirectional: bool
) -> None:
    file = torch_file(tmp_path, num_layers=2, bidirectional=bidirectional)
    lstm_bridge.convert(file, tmp_path / "out", layout=layout)
    report = lstm_bridge.verify(file, tmp_path / "out", gradients=layout == "source")
    assert report.passed, report.to_json()
    assert [layer.path for layer in report.layers] == ["encoder"]
    assert report.source.startswith("torch 2.")


def test_a_keras_model_passes_layer_by_layer(tmp_path: Path) -> None:
    file = keras_file(tmp_path)
    lstm_bridge.convert(file, tmp_path / "out")
    report = lstm_bridge.verify(file, tmp_path / "out", gradients=True)
    assert report.passed, report.to_json()
    assert [layer.path for layer in report.layers] == ["", "both", "last"]
    assert report.source == f"keras {keras.__version__}"


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", ["source", "mlx"])
def test_other_dtypes_are_compared_bit_for_bit(tmp_path: Path, dtype: Any, layout: str) -> None:
    file = torch_file(tmp_path, dtype)
    lstm_bridge.convert(file, tmp_path / "out", layout=layout, allow_downcast=True)
    report = lstm_bridge.verify(file, tmp_path / "out")
    assert report.passed, report.to_json()


@pytest.mark.parametrize("package", ["torch", "keras"])
def test_the_oracle_stands_in_for_a_framework_that_is_not_installed(
    tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = torch_file(tmp_path) if package == "torch" else keras_file(tmp_path)
    lstm_bridge.convert(file, tmp_path / "out")
    monkeypatch.setattr("lstm_bridge.equivalence.live.find_spec", lambda name: None)
    report = lstm_bridge.verify(file, tmp_path / "out", gradients=True)
    assert report.passed, report.to_json()
    assert report.source.startswith(f"float32 oracle ({package} not installed")
    whole = "the oracle is the reference; gradients of recurrent layers only"
    assert package == "torch" or whole in report.source.replace(")", "")


@pytest.mark.parametrize("layout", ["source", "mlx"])
def test_one_flipped_bit_is_found(tmp_path: Path, layout: str) -> None:
    file = torch_file(tmp_path)
    lstm_bridge.convert(file, tmp_path / "out", layout=layout)
    path = tmp_path / "out" / "model.safetensors"
    arrays = mx.load(str(path))
    assert isinstance(arrays, dict)
    name = next(n for n in arrays if "hh" in n or n.endswith("Wh"))
    bits = np.array(arrays[name]).view(np.uint32)
    bits[2, 1] ^= 1
    mx.save_safetensors(str(path), {**arrays, name: mx.array(bits.view(np.float32))})
    report = lstm_bridge.verify(file, tmp_path / "out")
    assert not report.passed
    assert "[2, 1]" in report.layers[0].weights
    assert report.layers[0].reason == report.layers[0].weights


def test_a_changed_option_is_found_and_named(tmp_path: Path) -> None:
    file = keras_file(tmp_path)
    lstm_bridge.convert(file, tmp_path / "out")
    config = tmp_path / "out" / "config.json"
    config.write_text(config.read_text().replace('"hard_sigmoid"', '"hard_sigmoid_keras2"'))
    report = lstm_bridge.verify(file, tmp_path / "out")
    assert [layer.passed for layer in report.layers] == [False, False, True]
    mistake = "hard_sigmoid slope: hard_sigmoid_keras2 in place of hard_sigmoid"
    assert report.layers[1].diagnosis == mistake
    assert report.diagnosis == f"both: {mistake}"


def test_a_layer_too_few_or_too_many_is_found(tmp_path: Path) -> None:
    file = keras_file(tmp_path)
    lstm_bridge.convert(file, tmp_path / "out")
    config = tmp_path / "out" / "config.json"
    account = json.loads(config.read_text())
    for key in ("graph", "model", "modules", "quantized"):  # a folder of layers alone
        del account[key]
    lasting = [entry for entry in account["layers"] if entry["path"] == "last"]
    config.write_text(json.dumps({**account, "layers": lasting}))
    report = lstm_bridge.verify(file, tmp_path / "out")
    assert [(layer.path, layer.passed) for layer in report.layers] == [
        ("both", False),
        ("last", True),
    ]
    config.write_text(json.dumps(account))
    report = lstm_bridge.verify(file, tmp_path / "out", prefix="last")
    assert not report.passed
    assert report.layers[-1].reason == "no such layer in the source"


def test_inputs_may_be_given_by_path(tmp_path: Path) -> None:
    file = torch_file(tmp_path)
    lstm_bridge.convert(file, tmp_path / "out")
    x = np.full((9, 2, D), 0.25, np.float32)
    report = lstm_bridge.verify(file, tmp_path / "out", inputs={"encoder": x})
    assert report.passed
    assert len(report.layers[0].arrays[0].over_time) == 9
    with pytest.raises(UsageError, match="'encoder'"):
        lstm_bridge.verify(file, tmp_path / "out", inputs={"decoder": x})


def test_gradients_of_stock_layers(tmp_path: Path) -> None:
    file = torch_file(tmp_path, num_layers=2, bidirectional=True)
    lstm_bridge.convert(file, tmp_path / "out", layout="mlx")
    report = lstm_bridge.verify(file, tmp_path / "out", gradients=True)
    assert report.passed, report.layers[0].reason
    assert any(a.name == "grad weight_hh_l1_reverse" for a in report.layers[0].arrays)
