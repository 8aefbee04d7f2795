"""Whole models fine-tuned here go back: what is written loads into the original architecture."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import mlx.core as mx
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from keras import layers
from mlx.utils import tree_flatten, tree_map

import lstm_bridge
from lstm_bridge.cli import main
from lstm_bridge.errors import BridgeError


@pytest.fixture(autouse=True)
def _legacy_h5_warns() -> Iterator[None]:
    """Keras warns on every legacy save; one of the sources here is such a file."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="You are saving your model as an HDF5 file")
        yield


def sequential() -> Any:
    return keras.Sequential(
        [
            layers.Input((7,)),
            layers.Embedding(12, 5, mask_zero=True, name="words"),
            layers.Bidirectional(layers.LSTM(4, return_sequences=True), name="both"),
            layers.TimeDistributed(layers.Dense(6, activation="relu"), name="each"),
            layers.Dropout(0.3),
            layers.GRU(3, name="gate"),
            layers.BatchNormalization(name="norm"),
            layers.Dense(2, name="head"),
        ]
    )


def functional() -> Any:
    inner_in = layers.Input((None, 6))
    inner = keras.Model(
        inner_in, layers.Dense(6, name="deep")(layers.LSTM(5)(inner_in)), name="inner"
    )
    x = layers.Input((8, 6), name="series")
    cells = [layers.LSTMCell(4), layers.LSTMCell(6)]
    y = layers.RNN(cells, return_sequences=True, name="stack")(x)
    z = layers.MultiHeadAttention(2, 3, name="attend")(y, y)
    z = layers.LayerNormalization(name="norm")(layers.Add()([y, z]))
    out = layers.Concatenate()([inner(z), layers.GlobalMaxPooling1D()(z)])
    return keras.Model(x, [layers.Dense(3, name="a")(out), layers.Dense(1, name="b")(inner(x))])


MODELS: dict[str, Callable[[], Any]] = {"sequential": sequential, "functional": functional}
SUFFIXES = [".keras", ".weights.h5"]


def uneven(model: Any, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    model.set_weights([rng.uniform(0.1, 0.9, w.shape).astype("f4") for w in model.get_weights()])
    return model


def tuned(folder: Path) -> dict[str, mx.array]:
    """Load a folder, change every weight by another amount, save it in place."""
    model = lstm_bridge.load(folder)
    mx.random.seed(4)
    before = model.trainable_parameters()
    model.update(tree_map(lambda a: a + mx.random.normal(a.shape) * 0.1, before))
    mx.eval(model.parameters())
    lstm_bridge.save(model, folder, force=True)
    return dict(tree_flatten(model.parameters()))


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("source", [".keras", ".h5"])
def test_a_fine_tuned_keras_model_goes_back(
    kind: str, suffix: str, source: str, tmp_path: Path
) -> None:
    original = uneven(MODELS[kind](), 1)
    original.save(tmp_path / f"m{source}")
    lstm_bridge.convert(tmp_path / f"m{source}", tmp_path / "folder")
    tuned(tmp_path / "folder")
    target = tmp_path / f"back{suffix}"
    result = CliRunner().invoke(
        main, ["convert", str(tmp_path / "folder"), str(target), "--to", "keras"]
    )
    if (source, suffix) == (".h5", ".keras"):
        assert result.exit_code == 2
        assert "expected a model that came from one, got an older file of Keras 3" in result.stderr
        return
    assert result.exit_code == 0, result.output
    if suffix == ".keras":
        again = keras.saving.load_model(target)
    else:
        again = uneven(MODELS[kind](), 2)
        again.load_weights(target)
    ours = lstm_bridge.load(tmp_path / "folder")
    x = np.random.default_rng(3).integers(1, 12, (3, *original.input_shape[1:])).astype("f4")
    wanted, got = flat(again(x)), flat(ours(mx.array(x)))
    assert len(wanted) == len(got)
    for a, b in zip(wanted, got, strict=True):
        assert np.abs(keras.ops.convert_to_numpy(a) - np.array(b)).max() < 2e-5
    before = [np.array(w) for w in original.trainable_weights]
    after = [np.array(w) for w in again.trainable_weights]
    assert all(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    round_trip = lstm_bridge.load(tmp_path / "folder").load_weights(target)
    for (name, a), (_, b) in zip(
        tree_flatten(round_trip.parameters()), tree_flatten(ours.parameters()), strict=True
    ):
        assert mx.array_equal(a, b).item(), name


def flat(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


class Forecaster(torch.nn.Module):
    """Tied weights, a buffer and a constant beside an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(9, 6)
        self.lstm = torch.nn.LSTM(6, 6, 2, batch_first=True)
        self.head = torch.nn.Linear(6, 9, bias=False)
        self.head.weight = self.words.weight
        self.register_buffer("scale", torch.linspace(0.5, 2, 9))

    def forward(self, tokens: Any) -> Any:
        return self.head(self.lstm(self.words(tokens))[0]) * self.scale + torch.arange(9.0)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("recorded", [False, True])
def test_a_fine_tuned_torch_model_goes_back(suffix: str, recorded: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, tokens = Forecaster().eval(), torch.tensor([[1, 2, 3], [4, 8, 0]])
    if recorded:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file = tmp_path / "m.pt"
            torch.jit.save(torch.jit.trace(module, tokens), str(file))  # type: ignore[no-untyped-call]
        lstm_bridge.convert(file, tmp_path / "folder")
    else:
        lstm_bridge.save(lstm_bridge.port(module), tmp_path / "folder")
    tuned(tmp_path / "folder")
    target = tmp_path / f"back{suffix}"
    lstm_bridge.convert(tmp_path / "folder", target, to="torch")
    if suffix == ".pt":
        state = torch.load(target, weights_only=True)
    else:
        from safetensors.torch import load_file

        state = load_file(target)
    again = Forecaster().eval()
    again.load_state_dict(state, strict=True)
    ours = lstm_bridge.load(tmp_path / "folder")
    assert not torch.equal(again.lstm.weight_hh_l1, module.lstm.weight_hh_l1)
    with torch.no_grad():
        wanted = again(tokens).numpy()
    assert np.abs(np.array(ours(mx.array(tokens.numpy()))) - wanted).max() < 2e-5
    assert torch.equal(state["head.weight"], state["words.weight"])


def test_an_older_architecture_goes_back_as_weights_only(tmp_path: Path) -> None:
    shared = Path(__file__).parents[3] / "shared" / "checkpoints"
    if not shared.is_dir():
        pytest.skip("third-party checkpoints are kept beside the repository, not in it")
    source = shared / "tfkeras_rnn_grid" / "rnn_134.h5"
    lstm_bridge.convert(source, tmp_path / "folder")
    with pytest.raises(BridgeError, match=r"got an older file of Keras 2\..*; write \.weights"):
        lstm_bridge.convert(tmp_path / "folder", tmp_path / "m.keras", to="keras")
    lstm_bridge.convert(tmp_path / "folder", tmp_path / "m.weights.h5", to="keras")
    ours = lstm_bridge.load(tmp_path / "folder")
    again = lstm_bridge.load(tmp_path / "folder")
    again.update(tree_map(lambda a: a * 0, again.parameters()))
    again.load_weights(tmp_path / "m.weights.h5")
    for (name, a), (_, b) in zip(
        tree_flatten(again.parameters()), tree_flatten(ours.parameters()), strict=True
    ):
        assert mx.array_equal(a, b).item(), name
