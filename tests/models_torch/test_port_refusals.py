"""What cannot be ported is named with the line that stops it, and the rest can still be had."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import lstm_bridge
from lstm_bridge.errors import UnsupportedError, UsageError

torch = pytest.importorskip("torch", reason="ports start from live torch modules")
nn = torch.nn

_SPEC = importlib.util.spec_from_file_location(
    "networks_to_refuse", Path(__file__).with_name("ported_networks.py")
)
assert _SPEC is not None
assert _SPEC.loader is not None
networks = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(networks)
SOURCE = Path(__file__).with_name("ported_networks.py").read_text().splitlines()


def line_with(code: str) -> str:
    number = next(k for k, line in enumerate(SOURCE, 1) if line.strip() == code)
    return f"ported_networks.py:{number} {code!r}"


@pytest.mark.parametrize(
    ("network", "line", "what"),
    [
        ("Branching", "if y.sum() > 0:", "control flow"),
        ("Spectral", "return torch.fft.fft(x)", "fft_fft"),
        ("Shared", "z += 1", "another name shares"),
    ],
)
def test_a_refusal_names_the_line(network: str, line: str, what: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        lstm_bridge.port(getattr(networks, network)())
    assert line_with(line) in str(caught.value)
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


class Holder(nn.Module):
    """Calls one layer."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Any) -> Any:
        return self.layer(x)


@pytest.mark.parametrize(
    ("layer", "what"),
    [
        (nn.Conv3d(1, 1, 1), "torch.nn.Conv3d"),
        (nn.Embedding(3, 4, scale_grad_by_freq=True), "scale_grad_by_freq"),
        (nn.utils.parametrizations.orthogonal(nn.Linear(3, 4)), "ParametrizedLinear"),
    ],
)
def test_a_layer_without_a_front_end_is_refused_by_name(layer: Any, what: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        lstm_bridge.port(Holder(layer))
    assert what in str(caught.value) or "layer" in str(caught.value)


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (lambda x: x.nonzero(), "nonzero"),
        (lambda x: torch.stft(x, 4), "stft"),
        (lambda x: x.to_sparse(), "to_sparse"),
        (lambda x: x.sum(0, frobnicate=1), "frobnicate"),
    ],
)
def test_a_function_without_an_operation_is_refused_by_name(call: Any, what: str) -> None:
    class Calls(nn.Module):
        def forward(self, x: Any) -> Any:
            return call(x)

    with pytest.raises(UnsupportedError) as caught:
        lstm_bridge.port(Calls())
    assert what in str(caught.value)
    assert "test_port_refusals.py" in str(caught.value)


def test_partial_ports_what_can_be_and_lists_the_rest() -> None:
    module = networks.AroundBranching().eval()
    tree = lstm_bridge.port(module, partial=True)
    assert set(tree.unported) == {"", "branching"}
    assert all(line_with("if y.sum() > 0:") in why for why in tree.unported.values())
    assert set(tree.layers) == {"branching.fc", "branching.lstm", "good"}
    assert tree.weight.shape == (2,)
    x = torch.randn(2, 3)
    with torch.no_grad():
        wanted = module.good(x).numpy()
    assert np.abs(np.array(tree.good(mx.array(x.numpy()))) - wanted).max() < 1e-6


def test_partial_of_a_whole_that_ports_is_the_whole() -> None:
    ported = lstm_bridge.port(networks.LSTMModel(), partial=True)
    assert ported.graph.inputs == ("x",)


def test_lines_for_training_run_while_training() -> None:
    ported = lstm_bridge.port(networks.Noisy().eval())
    x = mx.ones((2, 3))
    assert mx.array_equal(ported(x), ported(x)).item()
    ported.train()
    assert not mx.array_equal(ported(x), ported(x)).item()


def test_lines_for_training_that_cannot_be_ported_are_refused_while_training() -> None:
    class Branching(nn.Module):
        def forward(self, x: Any) -> Any:
            if self.training and x.sum() > 0:
                x = -x
            return x * 2

    ported = lstm_bridge.port(Branching().eval())
    assert ported(mx.ones((2, 3))).shape == (2, 3)
    ported.train()
    with pytest.raises(UnsupportedError, match=r"if self\.training and x\.sum\(\) > 0:"):
        ported(mx.ones((2, 3)))


def test_a_change_of_a_buffer_in_place_is_refused() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(1))

        def forward(self, x: Any) -> Any:
            self.count.add_(1)
            return x * self.count

    with pytest.raises(UnsupportedError, match="change of 'count' in place"):
        lstm_bridge.port(Counting())


def test_a_forward_that_keeps_state_in_the_module_is_refused() -> None:
    class Stateful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(3, 4)
            self.state: Any = None

        def forward(self, x: Any) -> Any:
            y, self.state = self.lstm(x, self.state)
            return y

    module = Stateful()
    with pytest.raises(UnsupportedError, match=r"sets self\.state"):
        lstm_bridge.port(module)
    assert module.state is None


def test_an_assertion_is_checked_when_the_model_runs() -> None:
    class Asserting(nn.Module):
        def forward(self, x: Any) -> Any:
            assert x.dim() == 3
            return x * 2

    ported = lstm_bridge.port(Asserting())
    assert ported(mx.ones((1, 2, 3))).shape == (1, 2, 3)
    with pytest.raises(UsageError, match=r"assert x\.dim\(\) == 3"):
        ported(mx.ones((1, 2)))


def test_no_module_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"torch\.nn\.Module"):
        lstm_bridge.port(lambda x: x)


def test_a_boolean_mask_is_refused_when_it_selects() -> None:
    class Selecting(nn.Module):
        def forward(self, x: Any) -> Any:
            return x[x > 0]

    ported = lstm_bridge.port(Selecting())
    with pytest.raises(UnsupportedError, match="boolean mask"):
        ported(mx.ones((3,)))


def test_an_index_beyond_the_end_is_an_error() -> None:
    class Beyond(nn.Module):
        def forward(self, x: Any) -> Any:
            return x[:, 5]

    ported = lstm_bridge.port(Beyond())
    assert ported(mx.ones((2, 6))).shape == (2,)
    with pytest.raises(UsageError, match="5 on axis 1"):
        ported(mx.ones((2, 3)))
