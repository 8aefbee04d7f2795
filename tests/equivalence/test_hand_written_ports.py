"""Hand-written MLX ports, right and wrong, judged as their authors would judge them."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn
import numpy as np
import pytest

import lstm_bridge
from lstm_bridge.errors import BridgeError

torch = pytest.importorskip("torch", reason="hand-written ports are compared with live torch")
keras = pytest.importorskip("keras", reason="hand-written ports are compared with live Keras")
N, L, D, H = 4, 7, 3, 5


class HandWritten(mlx.nn.Module):
    """An LSTM as somebody writes it: names and layouts of one's own, and perhaps a mistake."""

    def __init__(self, weights: dict[str, Any], mistake: str = "", slope: float = 0.0) -> None:
        super().__init__()
        w = {name: mx.array(np.array(value)) for name, value in weights.items()}
        self.into_gates = w["W"]  # [D, 4H]
        self.from_state = w["U"]  # [H, 4H]
        self.offset = w["b"] + (0 if mistake == "bias" else w["b2"])
        if mistake == "forget":
            self.offset = mx.concatenate(
                [self.offset[:H], 2 * self.offset[H : 2 * H], self.offset[2 * H :]]
            )
        if mistake == "kernel":
            blocks = [block.T for block in mx.split(self.from_state, 4, axis=1)]
            self.from_state = mx.concatenate(blocks, axis=1)
        self._mistake, self._slope = mistake, slope

    def __call__(self, x: mx.array, state: Any) -> Any:
        h, c = (s[0] if s.ndim == 3 else s for s in state)
        sigma = mx.sigmoid if not self._slope else self._hard
        steps = range(L - 1, -1, -1) if self._mistake == "direction" else range(L)
        outs = {}
        for t in steps:
            z = x[:, t] @ self.into_gates + h @ self.from_state + self.offset
            i, f, g, o = mx.split(z, 4, axis=1)
            if self._mistake == "gates":
                g, o = o, g
            c = sigma(f) * c + sigma(i) * mx.tanh(g)
            h = sigma(o) * mx.tanh(c)
            outs[t] = h
        y = mx.stack([outs[t] for t in range(L)], axis=1)
        return y, ((c[None], h[None]) if self._mistake == "states" else (h[None], c[None]))

    def _hard(self, x: mx.array) -> mx.array:
        return mx.clip(self._slope * x + 0.5, 0, 1)


def source() -> tuple[Any, dict[str, Any]]:
    torch.manual_seed(3)
    lstm = torch.nn.LSTM(D, H, batch_first=True)
    with torch.no_grad():
        lstm.bias_ih_l0 += 0.7
    w = {name: value.detach().numpy() for name, value in lstm.state_dict().items()}
    return lstm, {
        "W": w["weight_ih_l0"].T,
        "U": w["weight_hh_l0"].T,
        "b": w["bias_ih_l0"],
        "b2": w["bias_hh_l0"],
    }


def test_a_right_port_under_other_names_passes() -> None:
    lstm, weights = source()
    report = lstm_bridge.compare(lstm, HandWritten(weights))
    assert report.passed
    assert report.diagnosis == ""
    assert 0 < report.ratio <= 4
    assert report.max_abs < 1e-6
    assert report.worst is not None
    (layer,) = report.to_json()["layers"]
    for array in layer["arrays"]:
        assert {"p50", "p99_9", "max"} <= set(array["ulp"]) or len(array["ulp"]) == 3
    assert len(layer["arrays"][0]["error_over_time"]) == L
    assert "<svg" in report.to_html()


@pytest.mark.parametrize(
    ("mistake", "named"),
    [
        ("gates", "gates permuted"),
        ("bias", "a bias missing: bias_hh"),
        ("forget", "forget bias doubled"),
        ("kernel", "a kernel transposed: the recurrent weights"),
        ("direction", "direction reversed"),
        ("states", "h and c swapped in the returned state"),
    ],
)
def test_a_wrong_port_is_told_its_mistake(mistake: str, named: str) -> None:
    lstm, weights = source()
    report = lstm_bridge.compare(lstm, HandWritten(weights, mistake))
    assert not report.passed
    assert report.diagnosis.startswith(named)


def test_a_wrong_slope_of_hard_sigmoid_is_told() -> None:
    keras.utils.set_random_seed(2)
    layer = keras.layers.LSTM(
        H, recurrent_activation="hard_sigmoid", return_sequences=True, return_state=True
    )
    layer.build((None, L, D))
    kernel, recurrent, bias = (np.array(v.value.detach()) for v in layer.weights)
    weights = {"W": kernel, "U": recurrent, "b": bias, "b2": np.zeros_like(bias)}

    def port(slope: float) -> Any:
        written = HandWritten(weights, slope=slope)

        def run(x: Any, states: Any) -> Any:
            y, (h, c) = written(mx.array(x), [mx.array(s) for s in states])
            return y, h[0], c[0]

        return run

    assert lstm_bridge.compare(layer, port(1 / 6)).passed
    report = lstm_bridge.compare(layer, port(0.2))
    assert not report.passed
    assert report.diagnosis == "hard_sigmoid slope: hard_sigmoid_keras2 in place of hard_sigmoid"


def test_a_stranger_s_model_of_other_names_is_judged_as_a_whole() -> None:
    class Original(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = torch.nn.LSTM(D, H, batch_first=True)
            self.head = torch.nn.Linear(H, 2)

        def forward(self, x: Any) -> Any:
            return self.head(self.encoder(x)[0][:, -1])

    torch.manual_seed(4)
    original = Original()
    state = {name: mx.array(v.numpy()) for name, v in original.state_dict().items()}

    class Own(mlx.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = mlx.nn.LSTM(D, H)
            self.rnn.Wx, self.rnn.Wh = state["encoder.weight_ih_l0"], state["encoder.weight_hh_l0"]
            self.rnn.bias = state["encoder.bias_ih_l0"] + state["encoder.bias_hh_l0"]
            self.out = mlx.nn.Linear(H, 2)
            self.out.weight, self.out.bias = state["head.weight"], state["head.bias"]

        def __call__(self, x: mx.array) -> mx.array:
            return self.out(self.rnn(x)[0][:, -1])

    port = Own()
    spec = lstm_bridge.InputSpec((N, L, D), low=-3, high=3)
    assert lstm_bridge.compare(original, port, spec).passed
    port.out.bias = port.out.bias * 1.001
    assert not lstm_bridge.compare(original, port, spec).passed


@pytest.mark.parametrize(
    "bad",
    [3, "nowhere.pt", lambda x: x, lambda x, state: (x, x, x, x)],
    ids=["number", "path", "arguments", "outputs"],
)
def test_bad_arguments_are_one_line(bad: Any) -> None:
    lstm, _ = source()
    with pytest.raises(BridgeError) as caught:
        lstm_bridge.compare(lstm, bad)
    assert "\n" not in str(caught.value)
