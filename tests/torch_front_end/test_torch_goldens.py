"""Numbers that other implementations publish for their own LSTM, literally.

ONNX Runtime's rows are in the order i, o, f, c; its P (peepholes), clip and coupled gates are no
part of torch's LSTM, and its cases whose candidate and cell have different activations are no part
of any framework's that this package serves.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from lstm_bridge.core.sequence import mask_from_lengths
from lstm_bridge.core.stack import run_stack
from lstm_bridge.core.weights import LSTMWeights
from lstm_bridge.torch import nn

GOLDENS = Path(__file__).parents[2].parent / "shared" / "goldens"


def golden(name: str) -> Any:
    path = GOLDENS / name
    if not path.is_file():
        pytest.skip(f"the published numbers of {name} are not beside this checkout")
    return json.loads(path.read_text())


def close(mine: mx.array, published: Any, tolerance: float) -> None:
    """The tolerance is the publisher's own."""
    flat = np.array(mine, np.float64).ravel()
    np.testing.assert_allclose(flat, np.ravel(published), rtol=0, atol=tolerance)


def torch_cpp(bias: bool = True) -> tuple[Any, Any, Any]:
    module = nn.LSTM(2, 2, bias=bias)
    state = {
        name: (np.arange(p.size, dtype=np.float32) / p.size).reshape(p.shape)
        for name, p in module.state_dict().items()
    }
    module.load_state_dict(state)
    x = ((24 - np.arange(24, dtype=np.float32)) / 24).reshape(3, 4, 2)
    y, (h, c) = module(x)
    return y, h, c


def test_torchs_cpp_tests() -> None:
    numbers = golden("torch_cpp_rnn.json")
    for mine, key in zip(torch_cpp(), ("output_flat", "h_n", "c_n"), strict=True):
        close(mine, numbers[key], 5e-5)


def test_torchs_cpp_numbers_notice_a_missing_bias() -> None:
    numbers = golden("torch_cpp_rnn.json")
    with pytest.raises(AssertionError, match="Mismatched elements"):
        close(torch_cpp(bias=False)[0], numbers["output_flat"], 5e-5)


@pytest.mark.parametrize("gates", ["ifco", "fico"])
def test_tflites_forget_bias_one(gates: str) -> None:
    numbers = golden("tflite_nocifg.json")
    module = nn.LSTM(2, 4)
    module.load_state_dict(
        {
            "weight_ih_l0": np.concatenate([numbers["W"][g] for g in gates]),
            "weight_hh_l0": np.concatenate([numbers["R"][g] for g in gates]),
            "bias_ih_l0": np.repeat([float(numbers["bias"][g]) for g in gates], 4),
            "bias_hh_l0": np.zeros(16),
        }
    )
    y, _ = module(np.array(numbers["X"], np.float32))
    if gates == "ifco":
        close(y, numbers["Y"], 1e-5)
    else:
        with pytest.raises(AssertionError, match="Mismatched elements"):
            close(y, numbers["Y"], 1e-5)


ONNX = [
    "TestLSTMBackward_gpu",
    "TestLSTMForwardHiddenState",
    "TestLSTMForwardCellState",
    "TestLSTMShorterSeqInMiddle",
    "TestLSTMZeroSeqInMiddle",
    "ForwardSimpleWeightsNoBiasTwoRows",
    "ReverseSimpleWeightsNoBiasTwoRows",
]
NOT_PLAIN = {
    "TestLSTMForwardPeepHole": "peepholes",
    "TestLSTMBidirectionalBasic": "peepholes",
    "TestLSTMForwardClip": "clip and peepholes",
    "TestLSTMForwardInputForget": "coupled gates",
    "TestLSTMActivation": "different activations of candidate and cell",
    "TestLSTMBatchReallocation_b3": "different activations of candidate and cell",
    "TestLSTMOutputWrite_b3": "different activations of candidate and cell",
}


def onnx_case(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    published = golden("onnxruntime_lstm.json")
    case = next(c for c in published["tests"] if c["name"] == name)
    return case, published["weights"][case["weights"]]


def ifgo(rows: Any, order: tuple[int, ...] = (0, 2, 3, 1)) -> np.ndarray:
    """Rows in the order i, o, f, c to i, f, g, o."""
    blocks = np.split(np.array(rows, np.float32), 4)
    return np.concatenate([blocks[k] for k in order])


def canonical(case: dict[str, Any], weights: dict[str, Any], **order: Any) -> LSTMWeights:
    bias = ifgo(np.add(weights["B_w"], weights["B_r"]), **order) if case["use_bias"] else None
    return LSTMWeights(
        mx.array(ifgo(weights["W"], **order)),
        mx.array(ifgo(weights["R"], **order)),
        None if bias is None else mx.array(bias),
    ).check()


def run_onnx(name: str, **order: Any) -> tuple[Any, Any, Any, dict[str, Any]]:
    """Run a published case on the core; a reverse one is the second direction alone."""
    case, published = onnx_case(name)
    x = mx.array(case["X"], mx.float32)
    weights, lengths = canonical(case, published, **order), case["sequence_lens"]
    mask = None if lengths is None else mask_from_lengths(mx.array(lengths), len(x))
    reverse, both = case["direction"] == "reverse", case["direction"] != "forward"
    states = [None if case[k] is None else mx.array(case[k]) for k in ("initial_h", "initial_c")]
    y, h, c = run_stack([[weights] * (1 + both)], x, *states, mask=mask)
    if reverse:
        y, h, c = y[..., weights.H :], h[1:], c[1:]
    # [L, N, K·H] to ONNX's [L, K, N, H]
    y = y.reshape(*y.shape[:2], -1, weights.H).swapaxes(1, 2)
    return y, h, c, case


@pytest.mark.parametrize("name", ONNX)
def test_onnx_runtimes_cases(name: str) -> None:
    y, h, c, case = run_onnx(name)
    tolerance = 1e-4 if name.endswith("InMiddle") else 1e-6
    assert case["activations"] == ["sigmoid", "tanh", "tanh"]
    close(y, case["Y"], tolerance)
    close(h, case["Y_h"], tolerance)
    close(c, case["Y_c"], tolerance)


def test_every_published_case_is_run_or_has_a_reason() -> None:
    names = {case["name"] for case in golden("onnxruntime_lstm.json")["tests"]}
    assert names == {*ONNX, *NOT_PLAIN}


@pytest.mark.parametrize("name", [n for n in ONNX if "Simple" not in n])
def test_onnx_runtimes_numbers_notice_a_wrong_gate_order(name: str) -> None:
    y, _, _, case = run_onnx(name, order=(0, 1, 2, 3))
    with pytest.raises(AssertionError, match="Mismatched elements"):
        close(y, case["Y"], 1e-4)


@pytest.mark.parametrize(
    "name", ["TestLSTMShorterSeqInMiddle", "TestLSTMForwardCellState", "TestLSTMForwardHiddenState"]
)
def test_onnx_runtimes_cases_through_the_torch_layer(name: str) -> None:
    case, weights = onnx_case(name)
    both = case["direction"] == "bidirectional"
    module = nn.LSTM(2, 2, bidirectional=both)
    own = {
        "weight_ih_l0": ifgo(weights["W"]),
        "weight_hh_l0": ifgo(weights["R"]),
        "bias_ih_l0": ifgo(weights["B_w"]),
        "bias_hh_l0": ifgo(weights["B_r"]),
    }
    second = {f"{k}_reverse": v for k, v in own.items()} if both else {}
    module.load_state_dict(own | second)
    x = mx.array(case["X"], mx.float32)
    hx = None
    if case["initial_h"] is not None:
        h0 = mx.array(case["initial_h"])
        hx = (h0, mx.zeros_like(h0) if case["initial_c"] is None else mx.array(case["initial_c"]))
    lengths = case["sequence_lens"]
    if lengths is None:
        y, (h, c) = module(x, hx)
    else:
        rnn = nn.utils.rnn
        packed, (h, c) = module(rnn.pack_padded_sequence(x, lengths, enforce_sorted=False), hx)
        y, _ = rnn.pad_packed_sequence(packed)
    y = y.reshape(*y.shape[:2], -1, 2).swapaxes(1, 2)
    tolerance = 1e-4 if name.endswith("InMiddle") else 1e-6
    for mine, key in ((y, "Y"), (h, "Y_h"), (c, "Y_c")):
        close(mine, case[key], tolerance)
