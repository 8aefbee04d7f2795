"""The oracle against numbers that other implementations publish, and against finite differences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_bridge.equivalence.oracle import GRADIENTS, ORACLES, keras_lstm, mlx_lstm, torch_lstm
from lstm_bridge.equivalence.oracle.activations import ACTIVATIONS
from lstm_bridge.equivalence.oracle.gradients import finite_differences
from lstm_bridge.equivalence.oracle.lstm import direction, run
from lstm_bridge.equivalence.tree import leaves, rebuild

GOLDENS = Path(__file__).resolve().parents[3] / "shared" / "goldens"


def golden(name: str) -> Any:
    path = GOLDENS / name
    if not path.is_file():
        pytest.skip(f"published goldens are not beside the repository: {path}")
    return json.loads(path.read_text())


# Left out: clip, peepholes, coupled gates, and a candidate activation other than the cell's: none
# of these is in torch, Keras or MLX.
PLAIN = (
    *("TestLSTMBackward_gpu", "TestLSTMForwardHiddenState", "TestLSTMForwardCellState"),
    *("TestLSTMShorterSeqInMiddle", "TestLSTMZeroSeqInMiddle"),
    *("ForwardSimpleWeightsNoBiasTwoRows", "ReverseSimpleWeightsNoBiasTwoRows"),
)


def iofc_to_ifgo(rows: Any) -> np.ndarray:
    i, o, f, c = np.split(np.array(rows, np.float64), 4)
    return np.concatenate([i, f, c, o])


@pytest.mark.parametrize("name", PLAIN)
def test_onnxruntime(name: str) -> None:
    file = golden("onnxruntime_lstm.json")
    case = next(c for c in file["tests"] if c["name"] == name)
    w = file["weights"][case["weights"]]
    bias = iofc_to_ifgo(w["B_w"]) + iofc_to_ifgo(w["B_r"]) if case["use_bias"] else None
    assert case["activations"] == ["sigmoid", "tanh", "tanh"]
    x = np.array(case["X"], np.float64).swapaxes(0, 1)
    L = x.shape[1]
    ends = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
    runs = []
    for k, backward in enumerate(ends[case["direction"]]):
        d = direction(iofc_to_ifgo(w["W"]), iofc_to_ifgo(w["R"]), bias, reverse=backward)
        h, c = (
            None if case[s] is None else np.array(case[s], np.float64)[k]
            for s in ("initial_h", "initial_c")
        )
        valid = case["sequence_lens"]
        mask = None if valid is None else np.arange(L)[None] < np.array(valid)[:, None]
        runs.append(run(d, x, h, c, mask, zero_masked=True))
    ours = {
        "Y": np.stack([r.y for r in runs], 1).transpose(2, 1, 0, 3),
        "Y_h": np.stack([r.h for r in runs]),
        "Y_c": np.stack([r.c for r in runs]),
    }
    atol = 1e-4 if "InMiddle" in name else 1e-6
    for key, value in ours.items():
        np.testing.assert_allclose(value.ravel(), np.ravel(case[key]), rtol=0, atol=atol)


def test_tflite() -> None:
    file = golden("tflite_nocifg.json")
    W = np.concatenate([np.array(file["W"][k]) for k in "ifco"])
    U = np.concatenate([np.array(file["R"][k]) for k in "ifco"])
    b = np.repeat([float(file["bias"][k]) for k in "ifco"], 4)
    y, _ = mlx_lstm({"Wx": W, "Wh": U, "bias": b}, np.array(file["X"]))
    np.testing.assert_allclose(y, np.reshape(file["Y"], y.shape), rtol=0, atol=1e-5)


def test_torch_cpp() -> None:
    file = golden("torch_cpp_rnn.json")
    shapes = {"weight_ih_l0": (8, 2), "weight_hh_l0": (8, 2), "bias_ih_l0": (8,)}
    shapes["bias_hh_l0"] = (8,)
    params = {n: (np.arange(np.prod(s)) / np.prod(s)).reshape(s) for n, s in shapes.items()}
    x = ((24 - np.arange(24)) / 24).reshape(3, 4, 2)
    y, (h, c) = torch_lstm(params, x)
    for ours, key in ((y, "output_flat"), (h, "h_n"), (c, "c_n")):
        np.testing.assert_allclose(ours.ravel(), file[key], rtol=0, atol=5e-5)


@pytest.mark.parametrize("phi", sorted(ACTIVATIONS))
def test_back_propagation_equals_finite_differences(phi: str) -> None:
    rng = np.random.default_rng(12)
    options = {
        "activation": phi,
        "recurrent_activation": "sigmoid",
        "return_sequences": True,
        "return_state": True,
    }
    scale = 0.2 if phi == "exponential" else 1.0  # it would overflow within four steps

    def draw(*shape: int) -> np.ndarray:
        return scale * rng.normal(0.23, 0.61, shape)

    params = {"kernel": draw(3, 8), "recurrent_kernel": draw(2, 8), "bias": draw(8)}
    inputs = (draw(2, 4, 3), [draw(2, 2), draw(2, 2)])
    mask = np.array([[1, 1, 0, 1], [0, 1, 1, 1]], bool)
    held, names = leaves(inputs), list(params)

    def f(arrays: Any) -> list[np.ndarray]:
        weights = dict(zip(names, arrays[len(held) :], strict=True))
        x, states = rebuild(inputs, arrays[: len(held)])
        return leaves(keras_lstm(weights, x, states, mask=mask, **options))

    at = [*held, *params.values()]
    ends = [draw(*o.shape) for o in f(at)]
    wanted = finite_differences(f, at, ends)
    found = GRADIENTS["keras.layers.LSTM"](options, params, (*inputs, mask), ends)
    for (name, a), b in zip(found.items(), wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7, err_msg=name)


def test_float32_runs_in_float32() -> None:
    params = {"Wx": np.ones((8, 3)), "Wh": np.ones((8, 2)) / 3}
    y, c = ORACLES["mlx.nn.LSTM"]({}, params, np.full((2, 3, 3), 0.1), dtype=np.float32)
    assert y.dtype == c.dtype == np.float32


def test_mlx_gradients_equal_finite_differences() -> None:
    rng = np.random.default_rng(13)
    shapes = {"Wx": (8, 3), "Wh": (8, 2), "bias": (8,)}
    params = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    inputs = tuple(rng.normal(size=shape) for shape in ((2, 2, 4, 3), (2, 2, 2), (2, 2, 2)))
    names = list(params)

    def f(arrays: Any) -> list[np.ndarray]:
        return leaves(mlx_lstm(dict(zip(names, arrays[3:], strict=True)), *arrays[:3]))

    at = [*inputs, *params.values()]
    ends = [rng.normal(size=o.shape) for o in f(at)]
    found = GRADIENTS["mlx.nn.LSTM"]({}, params, inputs, ends)
    for (name, a), b in zip(found.items(), finite_differences(f, at, ends), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7, err_msg=name)
