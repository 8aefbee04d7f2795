"""compare with paths on either side, and verify with files of other frameworks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import lstm_bridge
import lstm_bridge.torch.nn
from lstm_bridge.checkpoints import open_checkpoint
from lstm_bridge.equivalence import chain_gradients
from lstm_bridge.errors import UsageError

torch = pytest.importorskip("torch", reason="files of live torch modules")
keras = pytest.importorskip("keras", reason="files of live Keras models")

D, H = 3, 5


def module(**options: Any) -> Any:
    torch.manual_seed(4)
    made = torch.nn.LSTM(D, H, **options)
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(torch.randn_like(p) * 0.5 + 0.1)
    return made


def saved(made: Any, file: Path) -> Path:
    torch.save({f"rnn.{k}": v for k, v in made.state_dict().items()}, file)
    return file


def port_of(made: Any, **options: Any) -> Any:
    port = lstm_bridge.torch.nn.LSTM(D, H, **options)
    port.load_weights([(k, mx.array(v.numpy())) for k, v in made.state_dict().items()])
    return port


def test_a_checkpoint_against_a_live_port(tmp_path: Path) -> None:
    made = module(bidirectional=True)
    file, port = saved(made, tmp_path / "m.pt"), port_of(made, bidirectional=True)
    report = lstm_bridge.compare(file, port, gradients=True)
    assert report.passed, report.to_json()
    assert report.layers[0].path == "rnn"
    port.weight_hh_l0_reverse = mx.roll(port.weight_hh_l0_reverse, H, 0)
    assert not lstm_bridge.compare(file, port).passed


def test_a_live_source_against_a_converted_folder(tmp_path: Path) -> None:
    made = module()
    lstm_bridge.convert(saved(made, tmp_path / "m.pt"), tmp_path / "out")
    assert lstm_bridge.compare(made, tmp_path / "out", gradients=True).passed
    with torch.no_grad():
        made.weight_ih_l0.add_(0.01)
    assert not lstm_bridge.compare(made, tmp_path / "out").passed


def test_two_files_in_half_precision(tmp_path: Path) -> None:
    file = saved(module(), tmp_path / "m.pt")
    lstm_bridge.convert(file, tmp_path / "out")
    report = lstm_bridge.compare(file, tmp_path / "out", dtype="bfloat16")
    assert report.passed, report.to_json()
    assert report.max_abs > 1e-4
    assert lstm_bridge.compare(file, file).passed


def test_a_layer_that_the_other_side_lacks(tmp_path: Path) -> None:
    made = module()
    state = {f"{n}.{k}": v for n in ("a", "b") for k, v in made.state_dict().items()}
    torch.save(state, tmp_path / "two.pt")
    with pytest.raises(UsageError, match="a layer 'a'"):
        lstm_bridge.compare(tmp_path / "two.pt", port_of(made))


SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "no bias": {"bias": False},
    "two layers, both directions": {"num_layers": 2, "bidirectional": True, "batch_first": True},
}
FILES = [
    *(("torch", "m.safetensors"), ("torch", "m2.pt"), ("keras", "m.keras")),
    *(("keras", "m.weights.h5"), ("mlx", "m.mlx.safetensors")),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("to", "name"), FILES)
def test_a_file_for_another_framework_is_verified(
    tmp_path: Path, shape: str, to: str, name: str
) -> None:
    file = saved(module(**SHAPES[shape]), tmp_path / "m.pt")
    lstm_bridge.convert(file, tmp_path / name, to=to)
    report = lstm_bridge.verify(file, tmp_path / name)
    assert report.passed, report.to_json()
    assert [layer.path for layer in report.layers] == ["rnn"]
    assert to in report.to_json()["ported"] or name in report.ported


@pytest.mark.parametrize(("to", "name"), FILES)
def test_a_changed_file_for_another_framework_is_caught(tmp_path: Path, to: str, name: str) -> None:
    made = module(num_layers=2)
    file = saved(made, tmp_path / "m.pt")
    with torch.no_grad():
        made.weight_hh_l1.copy_(made.weight_hh_l1.roll(H, 0))
    lstm_bridge.convert(saved(made, tmp_path / "other.pt"), tmp_path / name, to=to)
    report = lstm_bridge.verify(file, tmp_path / name)
    assert not report.passed
    assert "weights: l1.Wh" in report.layers[0].reason or "weight_hh_l1" in report.layers[0].reason
    assert "gates permuted" in report.diagnosis or report.layers[0].arrays


@pytest.mark.parametrize("to", ["keras", "mlx", "torch"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_gradients_of_another_framework_s_file(
    tmp_path: Path, to: str, bidirectional: bool
) -> None:
    file = saved(module(num_layers=2, bidirectional=bidirectional), tmp_path / "m.pt")
    name = {"keras": "m.keras", "mlx": "m.safetensors", "torch": "back.pt"}[to]
    lstm_bridge.convert(file, tmp_path / name, to=to)
    report = lstm_bridge.verify(file, tmp_path / name, gradients=True)
    assert report.passed, report.layers[0].reason
    found = {a.name for a in report.layers[0].arrays}
    assert {"grad x", "grad h0", "grad c0", "grad weight_ih_l1", "grad bias_hh_l0"} <= found


def test_a_keras_file_s_gradients_in_torch(tmp_path: Path) -> None:
    file = saved(module(batch_first=True), tmp_path / "m.pt")
    lstm_bridge.convert(file, tmp_path / "m.keras", to="keras")
    lstm_bridge.convert(tmp_path / "m.keras", tmp_path / "back.pt", to="torch")
    report = lstm_bridge.verify(tmp_path / "m.keras", tmp_path / "back.pt", gradients=True)
    assert report.passed, report.layers[0].reason
    assert any("recurrent_kernel" in a.name for a in report.layers[0].arrays)


def test_a_wrong_gradient_of_a_chain_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = saved(module(num_layers=2), tmp_path / "m.pt")
    lstm_bridge.convert(file, tmp_path / "m.safetensors", to="mlx")
    right = chain_gradients._pulled
    monkeypatch.setattr(chain_gradients, "_pulled", lambda *a: (right(*a)[0], right(*a)[1][::-1]))
    report = lstm_bridge.verify(file, tmp_path / "m.safetensors", gradients=True)
    assert not report.passed
    assert report.layers[0].reason.startswith("grad ")


def test_keras_and_mlx_sources_have_files_of_torch_s_too(tmp_path: Path) -> None:
    file = saved(module(batch_first=True), tmp_path / "m.pt")
    lstm_bridge.convert(file, tmp_path / "m.keras", to="keras")
    lstm_bridge.convert(file, tmp_path / "stock.safetensors", to="mlx")
    for source in ("m.keras", "stock.safetensors"):
        lstm_bridge.convert(tmp_path / source, tmp_path / "back.pt", to="torch", force=True)
        report = lstm_bridge.verify(tmp_path / source, tmp_path / "back.pt")
        assert report.passed, report.to_json()
        with open_checkpoint(tmp_path / "back.pt") as checkpoint:
            assert any("weight_hh" in name for name in checkpoint.tensors)


def test_half_precision_files_are_verified(tmp_path: Path) -> None:
    made = module().to(torch.bfloat16)
    file = saved(made, tmp_path / "m.pt")
    lstm_bridge.convert(file, tmp_path / "m.safetensors", to="mlx")
    report = lstm_bridge.verify(file, tmp_path / "m.safetensors")
    assert report.passed, report.to_json()
    assert np.isfinite(report.ratio)
