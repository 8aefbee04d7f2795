"""A recorded TorchScript file runs on MLX; its LSTM is one node."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import lstm_bridge
from lstm_bridge.errors import UnsupportedError

torch = pytest.importorskip("torch", reason="torch reads the archive")

_SPEC = importlib.util.spec_from_file_location(
    "networks_to_record", Path(__file__).with_name("ported_networks.py")
)
assert _SPEC is not None
assert _SPEC.loader is not None
networks = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(networks)

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:DeprecationWarning")


def recorded(module: Any, inputs: tuple[Any, ...], file: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(module, inputs), str(file))
    return file


class Recurrent(torch.nn.Module):  # type: ignore[misc]
    """One recurrent layer and what people write around it."""

    def __init__(self, layer: Any, width: int) -> None:
        super().__init__()
        self.layer = layer
        self.norm = torch.nn.LayerNorm(width)
        self.head = torch.nn.Linear(width, 2)

    def forward(self, x: Any) -> Any:
        y, _ = self.layer(x)
        return torch.softmax(self.head(self.norm(y[:, -1])) * 0.5 + y.mean(1)[:, :2], -1)


LAYERS = {
    "LSTM": lambda: (torch.nn.LSTM(4, 5, 2, batch_first=True, bidirectional=True), 10),
    "projected": lambda: (torch.nn.LSTM(4, 5, batch_first=True, proj_size=3), 3),
    "GRU": lambda: (torch.nn.GRU(4, 5, 2, batch_first=True), 5),
    "RNN": lambda: (torch.nn.RNN(4, 5, nonlinearity="relu", batch_first=True, bias=False), 5),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_recorded_layer_is_torchs(
    compared: Any, failures: Any, tmp_path: Path, name: str
) -> None:
    module = Recurrent(*LAYERS[name]()).eval()

    def draw(seed: int) -> tuple[Any, ...]:
        return (torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(seed)),)

    ported = lstm_bridge.port(recorded(module, draw(0), tmp_path / "model.pt"))
    assert failures(compared(module, ported, draw)) == []
    assert set(ported.state_dict()) == set(module.state_dict())
    longer = torch.randn(2, 9, 4)
    with torch.no_grad():
        wanted = module(longer).numpy()
    assert np.abs(np.array(ported(mx.array(longer.numpy()))) - wanted).max() < 1e-6


@pytest.mark.parametrize("network", ["LSTMModel", "Tied"])
def test_a_recorded_network_is_torchs(
    compared: Any, failures: Any, tmp_path: Path, network: str
) -> None:
    module = networks.NETWORKS[network]().eval()
    draw = networks.draws(network)
    ported = lstm_bridge.port(recorded(module, draw(0), tmp_path / "model.pt"))
    calls = [node.target for node in ported.graph.nodes if node.op == "module"]
    assert next(p.path for p in ported.parts if p.kind == "torch.nn.LSTM") in calls
    assert failures(compared(module, ported, draw, gradients=False)) == []


def test_a_spoilt_recording_is_caught(compared: Any, failures: Any, tmp_path: Path) -> None:
    module = Recurrent(*LAYERS["GRU"]()).eval()

    def draw(seed: int) -> tuple[Any, ...]:
        return (torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(seed)),)

    ported = lstm_bridge.port(recorded(module, draw(0), tmp_path / "model.pt"))
    ported.layer.weight_hh_l1 = ported.layer.weight_hh_l0
    assert failures(compared(module, ported, draw, gradients=False)) != []


def test_a_recording_saves_free_of_torch(tmp_path: Path) -> None:
    module = networks.LSTMModel().eval()
    x = networks.draws("LSTMModel")(0)
    ported = lstm_bridge.port(recorded(module, x, tmp_path / "model.pt"))
    lstm_bridge.save(ported, tmp_path / "saved")
    again = lstm_bridge.load(tmp_path / "saved")
    given = mx.array(x[0].numpy())
    assert mx.array_equal(again(given), ported(given)).item()


def test_an_operation_without_equal_is_refused_by_name(tmp_path: Path) -> None:
    file = recorded(networks.Spectral(), (torch.randn(4),), tmp_path / "model.pt")
    with pytest.raises(UnsupportedError, match="aten::fft_fft"):
        lstm_bridge.port(file)
