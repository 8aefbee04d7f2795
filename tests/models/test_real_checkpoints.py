"""Trained models that other people published: each converts and runs, or is refused rightly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import keras
import mlx.core as mx
import numpy as np
import pytest
import torch

import lstm_bridge
from lstm_bridge.equivalence.judge import judge
from lstm_bridge.equivalence.oracle import ORACLES
from lstm_bridge.models.graph import descend
from lstm_bridge.models.schema import read_config

SHARED = Path(__file__).parents[3] / "shared" / "checkpoints"
pytestmark = pytest.mark.skipif(
    not SHARED.is_dir(), reason="third-party checkpoints are kept beside the repository, not in it"
)
RNG = np.random.default_rng(11)

FILES = sorted(
    str(p.relative_to(SHARED))
    for p in (SHARED.rglob("*") if SHARED.is_dir() else ())
    if p.suffix in (".h5", ".hdf5", ".keras", ".pt", ".th")
)
REFUSED = {
    "keras_examples/simple_lstm_tf_keras_1_inputs_and_outputs.h5": "got 6 tensors of other kinds",
    "tfkeras_dtln/model.h5": "expected to know recurrent_activation, got no config",
    "torch_allennlp/elmo_and_gru.th": "got 75 rows (3H: looks like a GRU)",
    "torch_allennlp/training_state.th": "expected at least one LSTM-family layer",
    "torch_streamflow/optimizer_state_epoch009.pt": "expected at least one LSTM-family layer",
}


def ported(name: str, tmp_path: Path, **options: Any) -> Any:
    lstm_bridge.convert(SHARED / name, tmp_path / "out", **options)
    return lstm_bridge.load(tmp_path / "out")


def recurrent(model: Any, tmp_path: Path) -> dict[str, Any]:
    """The model's recurrent layers by path."""
    entries = read_config(tmp_path / "out")["layers"]
    return {entry["path"]: descend(model, entry["path"]) for entry in entries}


def assert_judged(ours: Any, source: Any, truth: Any) -> None:
    verdict = judge(np.array(ours), np.asarray(source), np.asarray(truth))
    assert verdict.passed, verdict.reason


@pytest.mark.parametrize("name", FILES)
def test_every_file_converts_or_is_refused_for_its_reason(name: str, tmp_path: Path) -> None:
    if name in REFUSED:
        with pytest.raises(lstm_bridge.BridgeError) as caught:
            ported(name, tmp_path)
        assert REFUSED[name] in str(caught.value)
        assert not list(tmp_path.iterdir())
    else:
        model = ported(name, tmp_path)
        for path, layer in recurrent(model, tmp_path).items():
            kernel = next(v for k, v in mlx_parameters(layer) if k.endswith(("kernel", "ih_l0")))
            D = kernel.shape[0] if "keras" in type(layer).__module__ else kernel.shape[1]
            outputs = layer(mx.ones((4, 2, D)))
            y = outputs[0] if isinstance(outputs, tuple) else outputs
            assert np.isfinite(np.array(y)).all(), path


def mlx_parameters(layer: Any) -> list[tuple[str, mx.array]]:
    from mlx.utils import tree_flatten

    found: list[tuple[str, mx.array]] = tree_flatten(layer.parameters())
    return found


TORCH = {
    "torch_speaker_bilstm/saved_model.bilstm.mean.clean100.gpu100000.pt": (
        "encoder_state_dict",
        {"input_size": 40, "hidden_size": 64, "num_layers": 3, "bidirectional": True},
    ),
    "torch_streamflow/model_epoch009.pt": ("", {"input_size": 4, "hidden_size": 126}),
    "torch_allennlp/simple_tagger_legacy.th": ("", {"input_size": 2, "hidden_size": 4}),
    "torch_allennlp/basic_classifier.th": ("", {"input_size": 10, "hidden_size": 16}),
}


@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize("batch_first", [False, True])
def test_torch_models_run_as_torch_runs_them(name: str, batch_first: bool, tmp_path: Path) -> None:
    section, options = TORCH[name]
    state = torch.load(SHARED / name, map_location="cpu", weights_only=True)
    state = state[section] if section else state
    weights = {k.rpartition(".")[2]: v for k, v in state.items() if "_l" in k.rpartition(".")[2]}
    live = torch.nn.LSTM(batch_first=batch_first, **options)  # type: ignore[misc]
    live.load_state_dict(weights)
    model = ported(name, tmp_path, assume={"batch_first": batch_first})
    L, N, rows = 37, 3, live.num_layers * (2 if live.bidirectional else 1)
    x = RNG.standard_normal((N, L) if batch_first else (L, N))[..., None]
    x = (x * RNG.standard_normal(live.input_size)).astype("f4")
    h, c = (RNG.standard_normal((rows, N, live.hidden_size)).astype("f4") for _ in "hc")
    y, (hn, cn) = model(mx.array(x), (mx.array(h), mx.array(c)))
    with torch.no_grad():
        results = []
        for dtype in (torch.float32, torch.float64):
            live = live.to(dtype)
            x_, h_, c_ = (torch.from_numpy(a).to(dtype) for a in (x, h, c))
            out, (a, b) = live(x_, (h_, c_))
            results.append([t.numpy() for t in (out, a, b)])
    for ours, source, truth in zip((y, hn, cn), *results, strict=True):
        assert_judged(ours, source, truth)


def test_a_keras_3_archive_runs_as_keras_runs_it(tmp_path: Path) -> None:
    name = "keras3_supply_chain/lstm_model.keras"
    live = keras.saving.load_model(SHARED / name, compile=False)
    model = ported(name, tmp_path)
    x = RNG.standard_normal((6, 5, 13)).astype("f4")
    value = x
    for layer in live.layers:
        before, value = value, keras.ops.convert_to_numpy(layer(value))
        if layer.name in recurrent(model, tmp_path):
            assert_judged(model[layer.name](mx.array(before)), value, truth_of(layer, before))


def test_a_keras_3_legacy_file_runs_as_keras_runs_it(tmp_path: Path) -> None:
    name = "keras3_supply_chain/best_lstm_model.h5"
    live = keras.saving.load_model(SHARED / name, compile=False)
    model = ported(name, tmp_path)
    value = RNG.standard_normal((6, 5, 13)).astype("f4")
    for layer in live.layers:
        before, value = value, keras.ops.convert_to_numpy(layer(value))
        if layer.name in recurrent(model, tmp_path):
            assert_judged(model[layer.name](mx.array(before)), value, truth_of(layer, before))
    assert set(recurrent(model, tmp_path)) == {"lstm_2", "lstm_3"}


def truth_of(layer: Any, x: np.ndarray) -> np.ndarray:
    """The float64 oracle on a live Keras layer's own weights."""
    names = ("cell.kernel", "cell.recurrent_kernel", "cell.bias")
    params = dict(zip(names, layer.get_weights(), strict=True))
    truth: np.ndarray = ORACLES["keras.layers.LSTM"](layer.get_config(), params, x)
    return truth


def legacy_weights(path: Path, layer: str) -> dict[str, np.ndarray]:
    """Read one layer's three arrays with h5py alone."""
    with h5py.File(path) as file:
        group = file["model_weights"][layer][layer]
        return {f"cell.{n}": group[f"{n}:0"][()] for n in ("kernel", "recurrent_kernel", "bias")}


@pytest.mark.parametrize(
    "name", [f for f in FILES if f.startswith("tfkeras_rnn_grid")] or ["absent"]
)
def test_tf_keras_layers_match_the_oracle(name: str, tmp_path: Path) -> None:
    """Keras 3 cannot load these files: the float32 oracle stands in for the source's own error."""
    import json

    with h5py.File(SHARED / name) as file:
        config = json.loads(file.attrs["model_config"])["config"]["layers"]
    plain = [layer["config"] for layer in config if layer["class_name"] == "LSTM"]
    model = ported(name, tmp_path)
    for options in plain:
        layer = model[options["name"]]
        params = legacy_weights(SHARED / name, options["name"])
        if options["recurrent_activation"] == "hard_sigmoid":
            options = {**options, "recurrent_activation": "hard_sigmoid_keras2"}
        x = RNG.standard_normal((3, 7, params["cell.kernel"].shape[0])).astype("f4")
        truth = ORACLES["keras.layers.LSTM"](options, params, x)
        source = ORACLES["keras.layers.LSTM"](options, params, x, dtype=np.float32)
        assert_judged(layer(mx.array(x)), source, truth)
    bidirectional = [x for x in config if x["class_name"] == "Bidirectional"]
    assert len(recurrent(model, tmp_path)) == len(plain) + len(bidirectional)


def test_the_wrong_hard_sigmoid_is_noticed_on_a_real_file(tmp_path: Path) -> None:
    """Negative control of the comparison above."""
    name = "tfkeras_rnn_grid/rnn_100.h5"
    layer = ported(name, tmp_path)["lstm_72"]
    params = legacy_weights(SHARED / name, "lstm_72")
    x = RNG.standard_normal((3, 7, 1)).astype("f4")
    wrong = {"units": 6, "recurrent_activation": "hard_sigmoid", "return_sequences": True}
    truth = ORACLES["keras.layers.LSTM"](wrong, params, x)
    source = ORACLES["keras.layers.LSTM"](wrong, params, x, dtype=np.float32)
    assert not judge(np.array(layer(mx.array(x))), source, truth).passed


def test_a_keras_1_layer_computes_what_keras_1_computed(tmp_path: Path) -> None:
    """The file beside the model holds what Keras 1 itself computed in 2017."""
    folder = SHARED / "keras_examples"
    model = ported("keras_examples/simple_lstm_tf_keras_1_model.h5", tmp_path)
    with h5py.File(folder / "simple_lstm_tf_keras_1_inputs_and_outputs.h5") as file:
        inputs = file["inputs"]
        x = np.concatenate([inputs[k][()] for k in inputs])
        activations = {k: v[()] for k, v in file["activations"].items()}
    hidden = next(v for k, v in activations.items() if "lstm" in k)
    ours = np.array(model.lstm_1(mx.array(x.astype("f4"))))
    assert ours.shape == hidden.shape
    # Theirs is float32 of another decade's kernels: a few rounding steps of the largest value.
    assert np.abs(ours - hidden).max() <= 16 * 2**-23 * np.abs(hidden).max()


def test_dtln_needs_only_what_its_file_does_not_say(tmp_path: Path) -> None:
    model = ported(
        "tfkeras_dtln/model.h5",
        tmp_path,
        assume={"recurrent_activation": "sigmoid", "return_sequences": True},
    )
    assert len(recurrent(model, tmp_path)) == 4
    assert {layer.cell.units for layer in model.layers.values()} == {128}
