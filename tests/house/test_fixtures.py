"""The fixtures are what their manifest says, and were trained for real."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import lstm_bridge

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
MANIFEST: dict[str, Any] = json.loads((FIXTURES / "manifest.json").read_text())
FILES: dict[str, dict[str, Any]] = MANIFEST["files"]


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fixtures_make", FIXTURES / "make.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_file_is_listed_and_every_listed_file_is_there() -> None:
    there = {file.name for file in FIXTURES.iterdir() if file.is_file()}
    assert there - {"make.py", "manifest.json"} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_size_and_digest_are_the_manifests(name: str, make: ModuleType) -> None:
    content = (FIXTURES / name).read_bytes()
    assert len(content) == FILES[name]["bytes"] <= make.LARGEST
    assert hashlib.sha256(content).hexdigest() == FILES[name]["sha256"]


@pytest.mark.parametrize("name", FILES)
def test_training_at_least_halved_the_loss(name: str) -> None:
    assert FILES[name]["loss_last"] < FILES[name]["loss_first"] / 2


def test_a_training_that_learns_nothing_stops_the_script(make: ModuleType) -> None:
    with pytest.raises(SystemExit, match="training went from"):
        make.learnt([0.7, 0.6, 0.4])


def test_the_manifest_names_the_versions_it_was_made_with(make: ModuleType) -> None:
    assert set(MANIFEST["made_with"]) == {"python", *make.MADE_WITH}


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize(
    ("name", "model", "data", "loss"),
    [
        ("torch_forecaster.pt", "LSTMModel", "noisy_sine", torch.nn.MSELoss()),
        ("torch_bilstm_proj.pt", "TurnMarker", "turning_points", torch.nn.BCEWithLogitsLoss()),
    ],
)
def test_the_torch_fixtures_predict_data_they_never_saw(
    name: str, model: str, data: str, loss: torch.nn.Module, make: ModuleType
) -> None:
    net = getattr(make, model)()
    x, y = (torch.from_numpy(part) for part in getattr(make, data)(np.random.default_rng(99)))
    with torch.no_grad():
        untrained = loss(net(x), y).item()
        net.load_state_dict(torch.load(FIXTURES / name, weights_only=True))
        trained = loss(net(x), y).item()
    assert trained < untrained / 2


@pytest.mark.parametrize(
    ("name", "data", "loss"),
    [
        ("keras_forecaster.keras", "noisy_sine", keras.losses.MeanSquaredError()),
        ("keras_forecaster.h5", "noisy_sine", keras.losses.MeanSquaredError()),
        ("keras_classifier.keras", "token_order", keras.losses.BinaryCrossentropy()),
    ],
)
def test_the_keras_fixtures_predict_data_they_never_saw(
    name: str, data: str, loss: Any, make: ModuleType
) -> None:
    net = keras.models.load_model(FIXTURES / name, compile=False)
    x, y = getattr(make, data)(np.random.default_rng(99))
    with torch.no_grad():
        trained = float(loss(y, net(x)))
    assert trained < FILES[name]["loss_first"] / 2


def test_the_safetensors_and_weights_fixtures_hold_the_same_numbers() -> None:
    ours = load_file(FIXTURES / "torch_forecaster.safetensors")
    theirs = torch.load(FIXTURES / "torch_forecaster.pt", weights_only=True)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)

    net = keras.models.load_model(FIXTURES / "keras_forecaster.keras", compile=False)
    before = [weight.value.detach().clone() for weight in net.weights]
    for weight in net.weights:
        weight.assign(0 * weight.value)
    net.load_weights(FIXTURES / "keras_forecaster.weights.h5")
    after = [weight.value for weight in net.weights]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("layout", ["source", "mlx"])
@pytest.mark.parametrize("name", FILES)
def test_every_fixture_converts_and_is_equivalent(name: str, layout: Any, tmp_path: Path) -> None:
    if layout == "mlx" and "proj" in name:
        with pytest.raises(lstm_bridge.BridgeError, match="no projection"):
            lstm_bridge.convert(FIXTURES / name, tmp_path / "out", layout=layout)
        return
    lstm_bridge.convert(FIXTURES / name, tmp_path / "out", layout=layout)
    report = lstm_bridge.verify(FIXTURES / name, tmp_path / "out")
    assert report.passed, report.to_json()
