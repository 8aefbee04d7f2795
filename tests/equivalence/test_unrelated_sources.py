"""verify of what was not made of the given source: a verdict or one line, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lstm_bridge
from lstm_bridge.errors import SemanticError, UsageError

FIXTURES = Path(__file__).parents[2] / "fixtures"
KERAS_1 = FIXTURES.parents[1] / "shared/checkpoints/keras_examples/simple_lstm_tf_keras_1_model.h5"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole Keras model's folder, and files of another framework."""
    folder = tmp_path_factory.mktemp("made")
    lstm_bridge.convert(FIXTURES / "keras_classifier.keras", folder / "classifier")
    lstm_bridge.convert(
        FIXTURES / "torch_forecaster.pt", folder / "lstm.weights.h5", to="keras", prefix="lstm"
    )
    lstm_bridge.convert(FIXTURES / "torch_bilstm_proj.pt", folder / "both.safetensors", to="torch")
    lstm_bridge.convert(FIXTURES / "torch_forecaster_recorded.pt", folder / "recorded")
    return folder


def test_a_whole_model_of_another_file_is_not_equivalent(made: Path) -> None:
    report = lstm_bridge.verify(FIXTURES / "keras_forecaster.keras", made / "classifier")
    assert not report.passed
    assert report.layers[0].path == ""
    assert report.layers[0].reason.startswith("weights: ")


@pytest.mark.parametrize(
    ("source", "target"),
    [("torch_forecaster.pt", "both.safetensors"), ("torch_bilstm_proj.pt", "lstm.weights.h5")],
)
def test_a_file_of_another_model_is_not_equivalent(made: Path, source: str, target: str) -> None:
    report = lstm_bridge.verify(FIXTURES / source, made / target)
    assert not report.passed
    assert any(layer.reason.startswith("weights: ") for layer in report.layers)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("torch_forecaster.pt", "classifier", "another framework .torch zip."),
        ("keras_classifier.keras", "recorded", "another framework .keras archive."),
        ("torch_bilstm_proj.pt", "recorded", "expected weights of the model"),
    ],
)
def test_a_source_of_another_kind_is_one_line(
    made: Path, source: str, target: str, message: str
) -> None:
    with pytest.raises((SemanticError, UsageError), match=message) as refusal:
        lstm_bridge.verify(FIXTURES / source, made / target)
    assert "\n" not in str(refusal.value)


@pytest.mark.skipif(not KERAS_1.exists(), reason="the shared checkpoints are not beside the clone")
def test_a_whole_model_without_oracle_is_judged_by_its_layers_and_says_so(tmp_path: Path) -> None:
    lstm_bridge.convert(KERAS_1, tmp_path / "out")
    report = lstm_bridge.verify(KERAS_1, tmp_path / "out")
    assert report.passed
    assert [layer.path for layer in report.layers] == ["lstm_1"]
    assert report.not_judged.startswith("the whole model, only its recurrent layers")
    assert json.loads(json.dumps(report.to_json()))["not_judged"] == report.not_judged
    assert "Not judged: the whole model" in report.to_html()
