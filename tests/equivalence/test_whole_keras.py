"""Whole Keras models: their NumPy oracle against live Keras, and folders judged as wholes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from click.testing import CliRunner
from mlx.utils import tree_flatten

import lstm_bridge
from lstm_bridge.cli import main
from lstm_bridge.equivalence.parties import party_of
from lstm_bridge.equivalence.parties.keras import in_dtype
from lstm_bridge.equivalence.tree import leaves
from lstm_bridge.equivalence.whole import source as whole_source
from lstm_bridge.equivalence.whole.keras_file import read_keras
from lstm_bridge.errors import BridgeError, UnsupportedError, UsageError

keras = pytest.importorskip("keras", reason="the oracle of whole models is checked by live Keras")
k = keras.layers
N, L, D = 4, 9, 3


def masked() -> Any:
    """Tokens with padding, whose mask goes through recurrent layers, sums and an average."""
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    x = k.Embedding(11, 6, mask_zero=True)(tokens)
    y = k.Bidirectional(k.LSTM(3, return_sequences=True))(x)
    x = k.LayerNormalization()(k.Add()([x, y]))
    x = k.TimeDistributed(k.Dense(4, activation="relu"))(k.GRU(5, return_sequences=True)(x))
    return keras.Model(tokens, k.Dense(2, activation="softmax")(k.GlobalAveragePooling1D()(x)))


def windowed() -> Any:
    """Windows, statistics, and a Sequential within the Sequential."""
    inner = keras.Sequential([keras.Input((None, 4)), k.LSTM(5, name="inner")])
    around = [k.Conv1D(4, 3, padding="causal"), k.BatchNormalization(), k.MaxPooling1D(2)]
    return keras.Sequential([keras.Input((None, D)), *around, inner, k.Dense(2)])


def seq2seq() -> Any:
    """Two inputs, states handed over, attention between, stacked cells, two outputs."""
    source, target = keras.Input((L, D), name="source"), keras.Input((5, D), name="target")
    encoded, h, c = k.LSTM(6, return_sequences=True, return_state=True)(source)
    y = k.LSTM(6, return_sequences=True)(target, initial_state=[h, c])
    context = k.Attention(use_scale=True)([y, encoded])
    y = k.Concatenate()([y, context])
    cells = k.RNN([k.LSTMCell(4), k.GRUCell(3)])(y)
    heads = k.MultiHeadAttention(2, 3, value_dim=4)(y, encoded)
    return keras.Model({"source": source, "target": target}, [cells, k.Dense(2)(heads)])


def shared() -> Any:
    """One layer called twice, and a model called within the model."""
    inner_in = keras.Input((L, D))
    inner = keras.Model(inner_in, k.Dense(4, activation="tanh")(inner_in), name="inside")
    x = keras.Input((L, D), name="x")
    once = inner(x)
    layer = k.SimpleRNN(4, return_sequences=True)
    y = k.Multiply()([layer(once), layer(inner(k.Rescaling(0.5, 0.1)(x)))])
    distributed = k.TimeDistributed(k.Dense(3))(y)
    return keras.Model(x, k.Flatten()(distributed))


MODELS = {f.__name__: f for f in (masked, windowed, seq2seq, shared)}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Any:
    keras.utils.set_random_seed(2)
    made = MODELS[request.param]()
    rng = np.random.default_rng(3)
    for weight in made.weights:
        if "seed" not in weight.name:
            low = 0.2 if "variance" in weight.name else -0.6
            weight.assign(rng.uniform(low, 0.7, weight.shape).astype(np.float32))
    return made


def inputs_of(made: Any) -> tuple[Any, ...]:
    rng = np.random.default_rng(4)
    if made.inputs[0].name == "tokens":
        tokens = rng.integers(0, 11, (N, L), dtype=np.int32)
        tokens[0, 4:] = 0
        return (tokens,)
    shapes = [[L if n is None else n for n in tensor.shape[1:]] for tensor in made.inputs]
    return tuple(rng.normal(size=(N, *shape)).astype(np.float32) for shape in shapes)


@pytest.fixture(scope="module", params=[".keras", ".h5"])
def file(model: Any, request: pytest.FixtureRequest, tmp_path_factory: Any) -> Path:
    path: Path = tmp_path_factory.mktemp("saved") / f"model{request.param}"
    with pytest.warns() if path.suffix == ".h5" else _nothing():
        model.save(path)
    return path


class _nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *args: object) -> None: ...


@pytest.fixture
def folder(file: Path, tmp_path: Path) -> Path:
    lstm_bridge.save(lstm_bridge.load(file), tmp_path / "folder")
    return tmp_path / "folder"


def test_the_oracle_of_a_file_equals_live_keras_in_float64(model: Any, file: Path) -> None:
    inputs = inputs_of(model)
    truth = leaves(read_keras(file).oracle(*inputs))
    live = leaves(party_of(in_dtype(model, "float64"), "source").call(inputs))
    assert len(truth) == len(live) > 0
    for a, b in zip(truth, live, strict=True):
        assert a.dtype == np.float64
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_a_folder_is_judged_as_a_whole(file: Path, folder: Path) -> None:
    report = lstm_bridge.verify(file, folder)
    whole = report.layers[0]
    assert report.passed, whole.reason
    assert whole.path == ""
    # Keras does not load all of the .h5 files that it writes: then the oracle stands in.
    assert whole.source.startswith("keras ") or file.suffix == ".h5"
    assert whole.oracle == "NumPy float64 oracle of the whole"
    assert len([part for part in whole.parts if part.arrays]) >= 3


def test_without_keras_the_oracle_is_the_reference(
    file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_source, "missing_framework", lambda name: f"{name} not installed")
    report = lstm_bridge.verify(file, folder)
    assert report.passed
    assert report.layers[0].source == (
        "float32 oracle (keras not installed: the oracle is the reference)"
    )
    last = wrong(folder)
    report = lstm_bridge.verify(file, folder)
    assert not report.passed
    assert str(report.layers[0].first_divergence).startswith(last.split(".")[0])


def wrong(folder: Path) -> str:
    """Turn the last layer's largest weight around in a folder, and return its name."""
    file = folder / "model.safetensors"
    arrays = dict(mx.load(str(file)))
    order = [node["target"] for node in json.loads((folder / "config.json").read_text())["graph"]]
    last = next(t for t in reversed(order) if any(n.startswith(f"{t}.") for n in arrays) and t)
    name = max((n for n in arrays if n.startswith(f"{last}.")), key=lambda n: arrays[n].size)
    arrays[name] = mx.array(np.ascontiguousarray(np.array(arrays[name])[::-1]))
    mx.save_safetensors(str(file), arrays, {"format": "mlx"})
    return name


def test_a_wrong_weight_is_named_by_bits_and_by_numbers(file: Path, folder: Path) -> None:
    name = wrong(folder)
    whole = lstm_bridge.verify(file, folder).layers[0]
    assert whole.weights.startswith(f"weights: {name} differs")
    assert not any(array.verdict.passed for array in whole.arrays[-1:])
    assert str(whole.first_divergence).startswith(name.split(".")[0])


def test_a_live_model_is_compared_by_its_own_graph(model: Any, file: Path) -> None:
    report = lstm_bridge.compare(model, lstm_bridge.load(file), inputs_of(model), gradients=True)
    assert report.passed, report.layers[0].reason
    assert report.layers[0].oracle == "NumPy float64 oracle of the whole"


def test_inputs_of_the_whole_come_from_a_file(tmp_path: Path) -> None:
    keras.utils.set_random_seed(5)
    made = seq2seq()
    made.save(tmp_path / "m.keras")
    lstm_bridge.save(lstm_bridge.load(tmp_path / "m.keras"), tmp_path / "folder")
    source, target = inputs_of(made)
    np.savez(tmp_path / "in.npz", source=source, target=target)
    arguments = [str(tmp_path / "m.keras"), str(tmp_path / "folder"), "--inputs"]
    done = CliRunner().invoke(main, ["verify", *arguments, str(tmp_path / "in.npz"), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["layers"][0]["path"] == ""
    np.savez(tmp_path / "half.npz", source=source)
    with pytest.raises(UsageError, match="'target', an input of the model too"):
        lstm_bridge.verify(tmp_path / "m.keras", tmp_path / "folder", inputs=tmp_path / "half.npz")


def test_half_precision_files_are_judged_as_they_are_stored(tmp_path: Path) -> None:
    keras.utils.set_random_seed(6)
    made = in_dtype(windowed(), "float16")
    made.save(tmp_path / "m.keras")
    lstm_bridge.save(lstm_bridge.load(tmp_path / "m.keras"), tmp_path / "folder")
    held = dict(tree_flatten(lstm_bridge.load(tmp_path / "folder").parameters()))
    assert {array.dtype for array in held.values()} == {mx.float16}
    report = lstm_bridge.verify(tmp_path / "m.keras", tmp_path / "folder")
    assert report.passed, report.layers[0].reason


def test_keras_2s_hard_sigmoid_is_judged_by_its_own_slope(tmp_path: Path) -> None:
    fixture = Path(__file__).parents[2] / "fixtures" / "keras_forecaster.h5"
    assert not read_keras(fixture).keras2_slope
    saved = Path(__file__).parents[3] / "shared/checkpoints/tfkeras_rnn_grid"
    files = [f for f in sorted(saved.rglob("*.h5")) if _slope(f)]
    if not files:
        pytest.skip("no Keras 2 files with hard_sigmoid beside the repository")
    lstm_bridge.save(lstm_bridge.load(files[0]), tmp_path / "folder")
    report = lstm_bridge.verify(files[0], tmp_path / "folder")
    assert report.passed
    assert "another slope" in report.layers[0].source


def _slope(file: Path) -> bool:
    try:
        return read_keras(file).keras2_slope
    except BridgeError:
        return False


def test_a_model_at_every_time_step(tmp_path: Path) -> None:
    inner = keras.Sequential([keras.Input((D,)), k.Dense(4, activation="tanh"), k.Dense(2)])
    model = keras.Sequential([keras.Input((L, D)), k.TimeDistributed(inner), k.LSTM(3)])
    model.save(tmp_path / "m.keras")
    (x,) = inputs_of(model)
    live = party_of(in_dtype(model, "float64"), "source").call((x,))
    np.testing.assert_allclose(read_keras(tmp_path / "m.keras").oracle(x), live, rtol=1e-10)


def test_what_the_oracle_cannot_compute_is_refused_by_name(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((L, D)), k.LSTM(3), k.Dense(2, name="odd")])
    model.save(tmp_path / "m.keras")
    read = read_keras(tmp_path / "m.keras").oracle
    described = {"class_name": "Sequential", "config": model.get_config()}
    described["config"]["layers"][-1]["class_name"] = "Strange"
    with pytest.raises(UnsupportedError, match=r"'odd'.*Strange"):
        type(read)(described, read.weights)
