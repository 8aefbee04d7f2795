"""Every whole Keras model of the shared checkpoints runs, and gives what Keras gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from mlx.utils import tree_flatten

import lstm_bridge
from lstm_bridge.errors import ConfigError, SemanticError
from lstm_bridge.keras.models import load_model, model_from_json
from lstm_bridge.keras.saving import serialize_keras_object

SHARED = Path(__file__).resolve().parents[3] / "shared" / "checkpoints"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared checkpoints are not here")

FULL = sorted(
    str(path.relative_to(SHARED))
    for folder in ("keras1_*", "keras3_*", "keras_examples", "tfkeras_rnn_grid")
    for pattern in ("*.h5", "*.keras")
    for path in SHARED.glob(f"{folder}/{pattern}")
    if not path.stem.endswith(("_weights", "_outputs"))
)


def input_for(model: Any, seed: int) -> np.ndarray:
    shape = [
        n or k for n, k in zip(model._options["inputs"][0]["shape"], (3, 7, 5, 5), strict=False)
    ]
    rng = np.random.default_rng(seed)
    if type(model.layers[0]).__name__ == "Embedding":
        return rng.integers(0, model.layers[0].input_dim, shape).astype(np.float32)
    return rng.normal(0, 1, shape).astype(np.float32)


def twin_of(model: Any, dtype: str) -> Any:
    """The same model in live Keras, built from our layers' configs and filled with our weights."""
    inputs = {
        entry["name"]: keras.Input(entry["shape"][1:], batch_size=entry["shape"][0], dtype=dtype)
        for entry in model._options["inputs"]
    }
    values = dict(inputs)
    for node in model.graph.nodes:
        if node.op != "module":
            continue
        ours = model.get_layer(node.target)
        layer = keras_layer(ours, dtype)
        values[node.name] = layer(*(values[ref.node] for ref in node.args))
        layer.set_weights(ours.get_weights())
    (start,) = inputs.values()
    return keras.Model(start, values[model.graph.nodes[-1].args[0].node])


def keras_layer(ours: Any, dtype: str) -> Any:
    text = json.dumps(serialize_keras_object(ours))
    config = json.loads(text.replace("hard_sigmoid_keras2", "hard_sigmoid"))
    _retype(config, dtype)
    layer = keras.saving.deserialize_keras_object(config)
    if "hard_sigmoid_keras2" in text:
        for inner in layer._flatten_layers():
            for name in ("activation", "recurrent_activation"):
                if inner.__dict__.get(name) is keras.activations.hard_sigmoid:
                    setattr(inner, name, lambda x: keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0))
    return layer


def _retype(value: Any, dtype: str) -> None:
    if isinstance(value, dict):
        value.pop("build_config", None)
        for key in value:
            if key == "dtype":
                value[key] = dtype
            elif key.endswith("_initializer"):
                value[key] = "zeros"
            else:
                _retype(value[key], dtype)
    elif isinstance(value, list):
        for item in value:
            _retype(item, dtype)


def run_keras(model: Any, x: np.ndarray, dtype: str) -> np.ndarray:
    return np.asarray(model(x.astype(dtype)).detach().numpy(), np.float64)


@pytest.mark.parametrize("name", FULL)
def test_it_gives_what_keras_gives(parity: Any, name: str) -> None:
    model = lstm_bridge.load(SHARED / name)

    def run(seed: int) -> dict[str, str]:
        x = input_for(model, seed)
        ours = {"out": np.array(model(x), np.float64)}
        source, truth = (
            {"out": run_keras(twin_of(model, dtype), x, dtype)} for dtype in ("float32", "float64")
        )
        return parity.failures(ours, source, truth)

    parity.assert_same(run)


LOADABLE = [n for n in FULL if n.startswith("keras3_")]  # Keras 3 refuses most older files


@pytest.mark.parametrize("name", LOADABLE)
def test_live_keras_loads_it_and_agrees(parity: Any, name: str) -> None:
    """Config and weights as Keras 3 itself reads the file."""
    live = keras.saving.load_model(SHARED / name, compile=False)
    model = load_model(SHARED / name)
    for mine, theirs in zip(
        [w for layer in model.layers for w in layer.get_weights()], live.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
    x = input_for(model, 5)
    truth = run_keras(twin_of(model, "float64"), x, "float64")
    found = parity.failures(
        {"out": np.array(model(x), np.float64)},
        {"out": run_keras(live, x, "float32")},
        {"out": truth},
    )
    assert found == {}


def test_a_weight_changed_by_a_little_is_noticed(parity: Any) -> None:
    name = "keras3_supply_chain/lstm_model.keras"
    model = load_model(SHARED / name)
    x = input_for(model, 0)
    twins = [twin_of(model, dtype) for dtype in ("float32", "float64")]
    head = model.layers[-1]
    head.kernel = head.kernel[::-1]
    source, truth = (
        {"out": run_keras(t, x, d)} for t, d in zip(twins, ("float32", "float64"), strict=True)
    )
    assert parity.failures({"out": np.array(model(x), np.float64)}, source, truth)


def test_golden_arrays_of_keras_1(parity: Any) -> None:
    """What the model's own Keras computed, layer by layer and in the end."""
    folder = SHARED / "keras_examples"
    with h5py.File(folder / "simple_lstm_tf_keras_1_inputs_and_outputs.h5") as file:
        given = {key: _read(file[key]) for key in file}
    inputs = next(iter(given["inputs"].values()))
    predicted = next(iter(given["predictions"].values()))
    whole = load_model(folder / "simple_lstm_tf_keras_1_model.h5")
    text = (folder / "simple_lstm_tf_keras_1_config.json").read_text()
    apart = model_from_json(text)
    apart.load_weights(folder / "simple_lstm_tf_keras_1_weights.h5")
    for model in (whole, apart):
        truth = run_keras(twin_of(model, "float64"), inputs, "float64")
        ours = model.predict(inputs, verbose=0)
        assert ours.shape == predicted.shape
        # The golden numbers are another program's float32: a few of its rounding steps away.
        assert np.abs(predicted - truth).max() < 1e-5
        assert parity.failures({"out": ours}, {"out": predicted}, {"out": truth}) == {}


def _read(node: Any) -> Any:
    if isinstance(node, h5py.Group):
        return {key: _read(node[key]) for key in node}
    return node[()]


@pytest.mark.parametrize("name", ["bidirectional-lstm", "cnn-lstm", "lstm"])
def test_an_architecture_and_its_weights(parity: Any, name: str) -> None:
    folder = SHARED / "keras2_ecg_autoencoders"
    text = (folder / f"{name}-auto-encoder-architecture.json").read_text()
    model = model_from_json(text)
    before = dict(tree_flatten(model.parameters()))
    model.load_weights(folder / f"{name}-auto-encoder-weights.h5")
    after = dict(tree_flatten(model.parameters()))
    assert before.keys() == after.keys()

    def run(seed: int) -> dict[str, str]:
        x = input_for(model, seed)
        ours = {"out": np.array(model(x), np.float64)}
        source, truth = (
            {"out": run_keras(twin_of(model, dtype), x, dtype)} for dtype in ("float32", "float64")
        )
        return parity.failures(ours, source, truth)

    parity.assert_same(run)


def test_weights_of_another_architecture_are_refused() -> None:
    folder = SHARED / "keras2_ecg_autoencoders"
    model = model_from_json((folder / "lstm-auto-encoder-architecture.json").read_text())
    with pytest.raises(SemanticError, match="not of the same model"):
        model.load_weights(folder / "bidirectional-lstm-auto-encoder-weights.h5")


def test_a_file_without_an_architecture_says_so() -> None:
    with pytest.raises(ConfigError, match="model_from_json"):
        lstm_bridge.load(SHARED / "tfkeras_dtln" / "model.h5")


def test_it_is_saved_free_of_keras_and_gives_the_same_bits(tmp_path: Path) -> None:
    model = load_model(SHARED / "keras1_neural_complete" / "neural_char.h5")
    x = input_for(model, 0)
    lstm_bridge.save(model, tmp_path / "m")
    again = lstm_bridge.load(tmp_path / "m")
    np.testing.assert_array_equal(np.array(again(x)), np.array(model(x)))
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
