"""compare: what it takes, who is asked, what it finds, and what it imports."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import mlx.core as mx
import mlx.nn
import numpy as np
import pytest

import lstm_bridge.keras.layers
import lstm_bridge.mlx.nn
import lstm_bridge.torch.nn
from lstm_bridge.equivalence.compare import compare
from lstm_bridge.errors import FileSystemError, UnsupportedError, UsageError

torch = pytest.importorskip("torch", reason="compare is tested on live torch modules")
keras = pytest.importorskip("keras", reason="compare is tested on live Keras layers")

D, H = 3, 5


def pair(scale: float = 0.5, hidden: int = H, **options: Any) -> tuple[Any, Any]:
    torch.manual_seed(7)
    module = torch.nn.LSTM(D, hidden, **options)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn_like(p) * scale + 0.1)
    port = lstm_bridge.torch.nn.LSTM(D, hidden, **options)
    port.load_weights([(k, mx.array(v.numpy())) for k, v in module.state_dict().items()])
    return module, port


def test_a_right_port_passes_and_the_report_says_on_what() -> None:
    module, port = pair(num_layers=2, bidirectional=True)
    report = compare(module, port, gradients=True)
    assert report.passed
    assert report.source == f"torch {torch.__version__.partition('+')[0]}"
    assert "lstm_bridge.torch" in report.ported
    layer = report.layers[0]
    assert layer.oracle == "NumPy float64 oracle"
    names = [a.name for a in layer.arrays]
    assert names[:6] == ["output", "h_n", "c_n", "grad x", "grad h0", "grad c0"]
    assert len(names) == 6 + len(module.state_dict())
    assert [a.name for a in layer.one_step] == [
        *("one step: output", "one step: h_n", "one step: c_n")
    ]
    assert len(layer.arrays[0].over_time) == len(layer.arrays[0].source_over_time) == 7
    assert max(layer.arrays[0].over_time) == layer.arrays[0].verdict.max_abs
    assert layer.arrays[1].over_time == ()


def test_both_are_left_in_the_mode_they_were_in() -> None:
    module, port = pair(num_layers=2, dropout=0.5)
    module.train()
    port.train()
    assert compare(module, port, gradients=True).passed  # dropout would not agree
    assert module.training
    assert port.training


def test_a_chaotic_model_is_judged_by_single_steps() -> None:
    module, port = pair(scale=2.0, hidden=40)
    x = np.random.default_rng(0).normal(size=(100, 4, D)).astype(np.float32)
    report = compare(module, port, (x,))
    assert report.layers[0].ill_conditioned
    assert report.passed, report.layers[0].reason
    wrong = {k: np.roll(np.array(v), 40, 0) for k, v in port.parameters().items()}
    port.load_weights([(k, mx.array(v)) for k, v in wrong.items()])
    report = compare(module, port, (x,))
    assert report.layers[0].ill_conditioned
    assert not report.passed
    assert "gates permuted" in report.diagnosis


def test_without_single_steps_an_ill_conditioned_model_cannot_pass() -> None:
    def truth(x: np.ndarray) -> np.ndarray:
        return np.sin(1e9 * x)

    report = compare(truth, truth, np.linspace(0, 1, 9, dtype=np.float32) / 3, oracle=_exact)
    assert report.layers[0].ill_conditioned
    assert not report.passed
    assert "no one-step test" in report.layers[0].reason


def _exact(x: np.ndarray) -> np.ndarray:
    return np.sin(1e9 * x.astype(np.float64))


def test_a_hand_written_port_may_be_a_function() -> None:
    module, port = pair(batch_first=True)
    report = compare(module, lambda x, hx: port(x, tuple(map(mx.array, hx))))
    assert report.passed
    swapped = compare(module, lambda x, hx: (lambda y, s: (y, s[::-1]))(*port(mx.array(x), hx)))
    assert not swapped.passed
    assert swapped.diagnosis == "h and c swapped in the returned state"


def test_a_whole_torch_model_is_measured_against_itself_in_float64() -> None:
    class Model(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(D, H, batch_first=True)
            self.head = torch.nn.Linear(H, 2)

        def forward(self, x: Any) -> Any:
            return self.head(self.lstm(x)[0][:, -1])

    torch.manual_seed(1)
    model = Model()
    port = lstm_bridge.torch.nn.LSTM(D, H, batch_first=True)
    state = {k: mx.array(v.numpy()) for k, v in model.state_dict().items()}
    port.load_weights([(k[5:], v) for k, v in state.items() if k.startswith("lstm.")])

    def ported(x: np.ndarray) -> mx.array:
        return port(mx.array(x))[0][:, -1] @ state["head.weight"].T + state["head.bias"]

    x = np.random.default_rng(2).normal(size=(4, 6, D)).astype(np.float32)
    report = compare(model, ported, x)
    assert report.passed
    assert report.layers[0].oracle.endswith("in float64")
    assert not compare(model, lambda x: ported(x[:, ::-1].copy()), x).passed
    with pytest.raises(UsageError, match="pass inputs"):
        compare(model, ported)


def test_a_keras_layer_with_a_mask() -> None:
    layer = keras.layers.LSTM(H, return_sequences=True)
    layer.build((None, None, D))
    port = lstm_bridge.keras.layers.LSTM(H, return_sequences=True)
    port.build((None, None, D))
    names = ("kernel", "recurrent_kernel", "bias")
    rng = np.random.default_rng(3)
    weights = [rng.normal(0.1, 0.5, w.shape).astype(np.float32) for w in layer.weights]
    layer.set_weights(weights)
    port.load_weights([(f"cell.{n}", mx.array(w)) for n, w in zip(names, weights, strict=True)])
    x = rng.normal(size=(2, 4, D)).astype(np.float32)
    mask = np.array([[1, 1, 0, 0], [0, 1, 1, 1]], bool)
    assert compare(layer, port, (x, None, mask), gradients=True).passed
    unmasked = compare(layer, lambda x, state, mask: port(mx.array(x)), (x, None, mask))
    assert not unmasked.passed


def test_a_wrong_gradient_is_caught_where_the_values_are_right() -> None:
    module, _ = pair()

    class Detached(lstm_bridge.torch.nn.LSTM):
        def __call__(self, x: Any, hx: Any = None) -> Any:
            return super().__call__(x, (mx.stop_gradient(hx[0]), hx[1]))

    port = Detached(D, H)
    port.load_weights([(k, mx.array(v.numpy())) for k, v in module.state_dict().items()])
    assert compare(module, port).passed
    report = compare(module, port, gradients=True)
    assert not report.passed
    assert report.layers[0].reason.startswith("grad h0")
    assert report.diagnosis == ""


def test_stock_mlx_is_a_source_too() -> None:
    stock = mlx.nn.LSTM(D, H)
    port = lstm_bridge.mlx.nn.LSTM(D, H)
    port.update(stock.parameters())
    report = compare(stock, port, gradients=True)
    assert report.passed
    assert "mlx.nn" in report.source


def test_what_cannot_be_compared_is_said_in_one_line() -> None:
    module, port = pair()
    with pytest.raises(FileSystemError, match="no-such-model"):
        compare("no-such-model.pt", port)
    with pytest.raises(UsageError, match="checkpoint's path"):
        compare(3, port)
    with pytest.raises(UsageError, match="float16"):
        compare(module, port, dtype="int8")
    with pytest.raises(UsageError, match="oracle="):
        compare(lambda x: x, port, np.zeros(3, np.float32))
    with pytest.raises(UsageError, match="wrap the port"):
        compare(module, lambda x, hx: x)
    with pytest.raises(UnsupportedError, match="gradients"):
        compare(module, lambda x, hx: port(x, hx), gradients=True)


def test_frameworks_are_imported_only_for_objects_of_theirs() -> None:
    program = """
import sys
import mlx.nn
import lstm_bridge, lstm_bridge.mlx.nn, lstm_bridge.equivalence.verify
stock, port = mlx.nn.LSTM(3, 5), lstm_bridge.mlx.nn.LSTM(3, 5)
port.update(stock.parameters())
assert lstm_bridge.compare(stock, port, gradients=True).passed
loaded = {name.partition(".")[0] for name in sys.modules}
print(sorted(loaded & {"torch", "keras", "tensorflow", "jax", "pytorch_forecasting", "matplotlib"}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr
