"""DTLN's two halves, composed of front-end layers, give what its ONNX file gave.

The file holds weights only. The first half masks a spectrum: two LSTMs and a dense layer. The
second does the same to what a convolution of width 1 makes of the signal, and goes back by another.
Shape letters: L steps, H hidden.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

import lstm_bridge.keras as ours_keras

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "checkpoints" / "tfkeras_dtln"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the shared checkpoints are not here")
L, H = 20, 128
EPSILON = 1e-7  # of DTLN's own layer normalization

NAMES = {
    1: ("lstm", "lstm_1", "dense"),
    2: ("conv1d", "layer_normalization", "lstm_2", "lstm_3", "dense_1", "conv1d_1"),
}


def half(lib: Any, number: int, dtype: str) -> dict[str, Any]:
    """The layers of a half with the file's weights, by their names in it."""
    kinds = {
        "lstm": lambda: lib.layers.LSTM(H, return_sequences=True, return_state=True, dtype=dtype),
        "dense": lambda: lib.layers.Dense(
            257 if number == 1 else 256, activation="sigmoid", dtype=dtype
        ),
        "layer": lambda: lib.layers.LayerNormalization(epsilon=EPSILON, dtype=dtype),
        "conv1d": lambda: lib.layers.Conv1D(256, 1, use_bias=False, dtype=dtype),
        "conv1d_1": lambda: lib.layers.Conv1D(512, 1, use_bias=False, dtype=dtype),
    }
    made = {}
    with h5py.File(FOLDER / "model.h5") as file:
        for name in NAMES[number]:
            group = file[name]
            names = [n.decode() if isinstance(n, bytes) else n for n in group.attrs["weight_names"]]
            weights = [group[n][()] for n in names]
            layer = kinds[name if name in kinds else name.partition("_")[0]]()
            width = {"layer": 256}.get(name.partition("_")[0], weights[0].shape[-2:][0])
            layer.build((1, L, width))
            layer.set_weights(weights)
            made[name] = layer
    return made


def run(number: int, layers: dict[str, Any], x: Any) -> list[Any]:
    """The output of all steps, then h and c of both LSTMs after the last one."""
    names = list(layers)
    y = x if number == 1 else layers["conv1d"](x)
    coded = y
    if number == 2:
        y = layers["layer_normalization"](y)
    first, second, dense = names[-3:] if number == 1 else names[2:5]
    y, *states = layers[first](y)
    y, *more = layers[second](y)
    y = layers[dense](y)
    if number == 2:
        y = layers["conv1d_1"](coded * y)
    return [y, *states, *more]


def numbers(found: list[Any]) -> dict[str, np.ndarray]:
    arrays = [np.asarray(a.detach() if hasattr(a, "detach") else a, np.float64) for a in found]
    return {"out": arrays[0][0], "states": np.stack([a[0] for a in arrays[1:]])}


def goldens(number: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    with np.load(FOLDER / f"model_{number}_ort.npz") as file:
        x = file["mag" if number == 1 else "x"].reshape(1, L, -1)
        states = file["states"][-1, 0]  # [layer, H, h or c]
        want = {"out": file["mask" if number == 1 else "y"], "states": states}
    want["states"] = np.moveaxis(want["states"], -1, 1).reshape(4, H)
    return x, {k: v.astype(np.float64) for k, v in want.items()}


def truth_of(number: int, x: np.ndarray) -> dict[str, np.ndarray]:
    return numbers(run(number, half(keras, number, "float64"), x.astype(np.float64)))


@pytest.mark.parametrize("number", [1, 2])
def test_a_half_gives_the_golden_arrays(parity: Any, number: int) -> None:
    x, golden = goldens(number)
    ours = numbers(run(number, half(ours_keras, number, "float32"), x))
    truth = truth_of(number, x)
    for name, value in golden.items():  # the golden numbers are this model's, not another's
        assert np.abs(value - truth[name]).max() < 1e-4
    assert parity.failures(ours, golden, truth) == {}


@pytest.mark.parametrize("number", [1, 2])
def test_step_by_step_as_the_denoiser_runs(parity: Any, number: int) -> None:
    """One step at a time, each LSTM starting from the states that it returned before."""
    x, golden = goldens(number)
    layers = half(ours_keras, number, "float32")
    held: dict[int, Any] = {}

    class Stepping:
        """An LSTM that takes up its own states again."""

        def __init__(self, layer: Any) -> None:
            self.layer = layer

        def __call__(self, y: Any) -> Any:
            found = self.layer(y, initial_state=held.get(id(self.layer)))
            held[id(self.layer)] = list(found[1:])
            return found

    stepping = {n: Stepping(one) if n.startswith("lstm") else one for n, one in layers.items()}
    found = [run(number, stepping, x[:, t : t + 1]) for t in range(L)]
    ours = {
        "out": np.concatenate([numbers(one)["out"] for one in found]),
        "states": numbers(found[-1])["states"],
    }
    assert parity.failures(ours, golden, truth_of(number, x)) == {}


@pytest.mark.parametrize("number", [1, 2])
def test_the_two_lstms_exchanged_are_noticed(parity: Any, number: int) -> None:
    x, golden = goldens(number)
    layers = half(ours_keras, number, "float32")
    lstm = [layer for name, layer in layers.items() if name.startswith("lstm")][1]
    kernel, recurrent, bias = lstm.get_weights()
    lstm.set_weights([recurrent, kernel, bias])
    wrong = numbers(run(number, layers, x))
    assert set(parity.failures(wrong, golden, truth_of(number, x))) == {"out", "states"}
