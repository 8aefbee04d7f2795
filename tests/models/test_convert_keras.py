"""Keras checkpoints of today become running MLX modules that compute what Keras computes."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import mlx.core as mx
import numpy as np
import pytest
from keras import layers

import lstm_bridge
from lstm_bridge.equivalence.judge import judge
from lstm_bridge.models.graph import descend

L, N, D, H = 5, 3, 4, 6
RNG = np.random.default_rng(5)


def uneven(layer: Any) -> None:
    """Give every weight a value of its own: zero biases would hide a wrong gate order."""
    layer.set_weights([RNG.normal(0, 0.4, w.shape).astype("float32") for w in layer.get_weights()])


def cells(*sizes: int) -> list[Any]:
    return [layers.LSTMCell(size) for size in sizes]


LAYERS: dict[str, Callable[[], Any]] = {
    "default": lambda: layers.LSTM(H),
    "sequences": lambda: layers.LSTM(H, return_sequences=True),
    "backwards": lambda: layers.LSTM(H, go_backwards=True, return_sequences=True),
    "relu, hard_sigmoid": lambda: layers.LSTM(
        H, activation="relu", recurrent_activation="hard_sigmoid"
    ),
    "no bias": lambda: layers.LSTM(H, use_bias=False),
    "bidirectional": lambda: layers.Bidirectional(layers.LSTM(H, return_sequences=True)),
    "bidirectional, summed": lambda: layers.Bidirectional(layers.LSTM(H), merge_mode="sum"),
    "bidirectional, own backward layer": lambda: layers.Bidirectional(
        layers.LSTM(H), backward_layer=layers.LSTM(H, activation="relu", go_backwards=True)
    ),
    "rnn over a cell": lambda: layers.RNN(layers.LSTMCell(H), return_sequences=True),
    "rnn over stacked cells": lambda: layers.RNN(cells(H, 3), return_sequences=True),
}
SUFFIXES = (".keras", ".h5", ".weights.h5")


def model_around(layer: Any, name: str) -> Any:
    layer.name = name
    model = keras.Sequential([layers.Input((None, D)), layer, layers.Dense(2, name="head")])
    uneven(model)
    return model


def save(model: Any, path: Path) -> Path:
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    else:
        model.save(path)
    return path


def in_float64(layer: Any) -> Any:
    """Return the same Keras layer computing in float64."""
    config = keras.saving.serialize_keras_object(layer)
    text = repr(config).replace("'float32'", "'float64'")
    double = keras.saving.deserialize_keras_object(eval(text))
    double.build((None, None, D))
    double.set_weights([np.asarray(w, "float64") for w in layer.get_weights()])
    return double


def assert_runs_as_keras(layer: Any, ported: Any) -> None:
    x = RNG.standard_normal((N, L, D)).astype("float32")
    source = keras.ops.convert_to_numpy(layer(x))
    truth = keras.ops.convert_to_numpy(in_float64(layer)(x.astype("float64")))
    verdict = judge(np.array(ported(mx.array(x))), source, truth)
    assert verdict.passed, verdict.reason


@pytest.mark.parametrize("case", LAYERS)
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_layer_runs_as_keras_runs_it(tmp_path: Path, case: str, suffix: str) -> None:
    layer = LAYERS[case]()
    model = model_around(layer, "recurrent")
    save(model, tmp_path / f"m{suffix}")
    account = lstm_bridge.convert(tmp_path / f"m{suffix}", tmp_path / "out")
    ported = lstm_bridge.load(tmp_path / "out")
    assert_runs_as_keras(layer, ported.recurrent)
    assert len(account.tensors) == len(model.weights), "every weight has its place"


def test_a_wrong_slope_is_noticed(tmp_path: Path) -> None:
    """Negative control: Keras 2's hard_sigmoid in place of Keras 3's must fail."""
    layer = LAYERS["relu, hard_sigmoid"]()
    save(model_around(layer, "recurrent"), tmp_path / "m.keras")
    lstm_bridge.convert(tmp_path / "m.keras", tmp_path / "out")
    config = tmp_path / "out" / "config.json"
    config.write_text(config.read_text().replace("hard_sigmoid", "hard_sigmoid_keras2"))
    with pytest.raises(AssertionError, match="the source's own"):
        assert_runs_as_keras(layer, lstm_bridge.load(tmp_path / "out").recurrent)


@pytest.mark.parametrize("case", ["default", "no bias"])
def test_weights_without_a_config_say_what_is_assumed(tmp_path: Path, case: str) -> None:
    layer = LAYERS[case]()
    save(model_around(layer, "recurrent"), tmp_path / "m.weights.h5")
    account = lstm_bridge.convert(tmp_path / "m.weights.h5", tmp_path / "out")
    (entry,) = account.layers
    assert "no config in the file: nothing stated by the caller" in entry["rules"][0]
    assert_runs_as_keras(layer, lstm_bridge.load(tmp_path / "out").layers[entry["path"]])


def test_a_caller_states_what_the_weights_do_not_hold(tmp_path: Path) -> None:
    layer = layers.LSTM(H, activation="relu", return_sequences=True)
    save(model_around(layer, "recurrent"), tmp_path / "m.weights.h5")
    stated = {"activation": "relu", "return_sequences": True}
    lstm_bridge.convert(tmp_path / "m.weights.h5", tmp_path / "out", assume=stated)
    assert_runs_as_keras(layer, lstm_bridge.load(tmp_path / "out").lstm)


def test_an_architecture_beside_the_weights_is_used(tmp_path: Path) -> None:
    layer = layers.LSTM(H, activation="relu", go_backwards=True)
    model = model_around(layer, "recurrent")
    save(model, tmp_path / "m.weights.h5")
    (tmp_path / "m.json").write_text(model.to_json())
    lstm_bridge.convert(tmp_path / "m.weights.h5", tmp_path / "out", config=tmp_path / "m.json")
    assert_runs_as_keras(layer, lstm_bridge.load(tmp_path / "out").recurrent)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_several_layers_keep_their_own_weights(tmp_path: Path, suffix: str) -> None:
    """Two LSTMs of one shape, one of them in a nested model: a swap must not go unnoticed."""
    inner = keras.Sequential([layers.Input((None, H)), layers.LSTM(H, name="deep")], name="inner")
    model = keras.Sequential(
        [
            layers.Input((None, H)),
            layers.LSTM(H, return_sequences=True, name="second_in_the_alphabet"),
            layers.LSTM(H, return_sequences=True, name="first_in_the_alphabet"),
            inner,
        ]
    )
    uneven(model)
    save(model, tmp_path / f"m{suffix}")
    config = tmp_path / "m.json" if suffix == ".weights.h5" else None
    if config:
        config.write_text(model.to_json())
    account = lstm_bridge.convert(tmp_path / f"m{suffix}", tmp_path / "out", config=config)
    ported = lstm_bridge.load(tmp_path / "out")
    paths = {entry["path"] for entry in account.layers}
    assert paths == {"second_in_the_alphabet", "first_in_the_alphabet", "inner.deep"}
    for path, layer in ((path, descend(ported, path)) for path in paths):
        name = path.rpartition(".")[2]
        owner = inner if path.startswith("inner") else model
        kernel, recurrent, bias = owner.get_layer(name).get_weights()
        assert np.array_equal(np.array(layer.cell.kernel), kernel)
        assert np.array_equal(np.array(layer.cell.recurrent_kernel), recurrent)
        assert np.array_equal(np.array(layer.cell.bias), bias)


def test_time_distributed_is_read_through(tmp_path: Path) -> None:
    model = keras.Sequential(
        [layers.Input((2, L, D)), layers.TimeDistributed(layers.LSTM(H), name="outer")]
    )
    uneven(model)
    save(model, tmp_path / "m.keras")
    lstm_bridge.convert(tmp_path / "m.keras", tmp_path / "out")
    ported = lstm_bridge.load(tmp_path / "out")
    assert_runs_as_keras(model.get_layer("outer").layer, ported.outer.layer)


def test_other_recurrent_layers_are_kept_by_name(tmp_path: Path) -> None:
    model = keras.Sequential(
        [
            layers.Input((None, D)),
            layers.GRU(H, return_sequences=True, name="gate"),
            layers.LSTM(H, name="memory"),
        ]
    )
    uneven(model)
    for suffix in (".keras", ".h5"):
        save(model, tmp_path / f"m{suffix}")
        account = lstm_bridge.convert(tmp_path / f"m{suffix}", tmp_path / f"out{suffix}")
        assert [entry["path"] for entry in account.layers] == ["memory"]
        assert len(account.tensors) == len(model.weights)


def test_stock_mlx_takes_a_keras_layer(tmp_path: Path) -> None:
    import mlx.nn

    layer = layers.LSTM(H, return_sequences=True)
    save(model_around(layer, "recurrent"), tmp_path / "m.keras")
    lstm_bridge.convert(tmp_path / "m.keras", tmp_path / "out", layout="mlx")
    ported = lstm_bridge.load(tmp_path / "out").recurrent
    stock = mlx.nn.LSTM(D, H)
    stock.load_weights([(n, ported[n]) for n in ("Wx", "Wh", "bias")])
    assert_runs_as_keras(layer, lambda x: stock(x)[0])


@pytest.mark.parametrize("option", ["activation", "recurrent_activation"])
def test_stock_mlx_has_one_pair_of_activations(tmp_path: Path, option: str) -> None:
    save(model_around(layers.LSTM(H, **{option: "relu"}), "recurrent"), tmp_path / "m.keras")
    with pytest.raises(lstm_bridge.BridgeError) as caught:
        lstm_bridge.convert(tmp_path / "m.keras", tmp_path / "out", layout="mlx")
    stock = {"activation": "tanh", "recurrent_activation": "sigmoid"}[option]
    assert f"expected {option}={stock}, got {option}=relu" in str(caught.value)


def legacy(path: Path, config: str | None = None, **weights: np.ndarray) -> Path:
    """Write a weights-only legacy file of one layer ``lstm_1``."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"lstm_1"]
        file.attrs["keras_version"] = b"2.1.3"
        group = file.create_group("lstm_1")
        names = [f"lstm_1/{name}:0" for name in weights]
        group.attrs["weight_names"] = [n.encode() for n in names]
        for name, array in zip(names, weights.values(), strict=True):
            group.create_dataset(name, data=array)
    return path


def arrays(columns: int, bias: int | None = None) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"kernel": (D, columns), "recurrent_kernel": (H, columns), "bias": (bias or columns,)}
    return {name: rng.standard_normal(shape).astype("f4") for name, shape in shapes.items()}


def test_a_gru_by_its_width_is_no_lstm(tmp_path: Path) -> None:
    legacy(tmp_path / "m.h5", **arrays(3 * H))
    with pytest.raises(lstm_bridge.BridgeError, match="expected at least one LSTM-family layer"):
        lstm_bridge.convert(tmp_path / "m.h5", tmp_path / "out")


def test_cudnn_weights_are_known_by_their_bias(tmp_path: Path) -> None:
    """The raw reinterpretation of cuDNN kernels, computed here gate by gate in another way."""
    raw = arrays(4 * H, bias=8 * H)
    legacy(tmp_path / "m.h5", **raw)
    account = lstm_bridge.convert(
        tmp_path / "m.h5", tmp_path / "out", assume={"recurrent_activation": "sigmoid"}
    )
    assert account.layers[0]["options"]["recurrent_activation"] == "sigmoid"
    assert "cuDNN biases summed" in account.layers[0]["rules"]
    cell = lstm_bridge.load(tmp_path / "out").lstm_1.cell
    for g in range(4):
        block = slice(g * H, (g + 1) * H)
        stored = raw["kernel"][:, block]
        expected = np.empty((D, H), "f4")
        for k, value in enumerate(stored.flat):  # the same bytes, read as cuDNN's [H, D], turned
            expected[k % D, k // D] = value
        assert np.array_equal(np.array(cell.kernel)[:, block], expected)
        recurrent = raw["recurrent_kernel"][:, block].T
        assert np.array_equal(np.array(cell.recurrent_kernel)[:, block], recurrent)
    assert np.array_equal(np.array(cell.bias), raw["bias"][: 4 * H] + raw["bias"][4 * H :])


@pytest.fixture(autouse=True)
def _legacy_h5_warns() -> Any:
    """Keras warns on every legacy save; the legacy format is what is tested here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="You are saving your model as an HDF5 file")
        yield


@pytest.mark.parametrize("target", [{"layout": "mlx"}, {"to": "torch"}])
@pytest.mark.parametrize("turned", [False, True])
def test_only_the_backward_side_may_run_backwards(
    turned: bool, target: dict[str, str], tmp_path: Path
) -> None:
    forward, backward = (layers.LSTM(H, go_backwards=back) for back in (turned, not turned))
    layer = layers.Bidirectional(forward, backward_layer=backward)
    save(model_around(layer, "recurrent"), tmp_path / "m.keras")
    out = tmp_path / ("out.pt" if "to" in target else "out")
    if turned:  # its forward side runs backwards, which the target has no argument for
        with pytest.raises(lstm_bridge.BridgeError, match="expected go_backwards=False"):
            lstm_bridge.convert(tmp_path / "m.keras", out, **target)
    else:
        assert len(lstm_bridge.convert(tmp_path / "m.keras", out, **target).tensors) >= 6
