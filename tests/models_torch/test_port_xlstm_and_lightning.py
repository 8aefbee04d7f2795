"""pytorch-forecasting's xLSTM networks and Lightning modules port like any other module."""

from __future__ import annotations

import importlib
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import lstm_bridge
from lstm_bridge.equivalence.judge import judge

torch = pytest.importorskip("torch", reason="ports start from live torch modules")
layers = pytest.importorskip(
    "pytorch_forecasting.layers", reason="the live networks are the source"
)


class Around(torch.nn.Module):  # type: ignore[misc]
    """A network inside a module of the user's."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.head = torch.nn.Linear(3, 2)

    def forward(self, x: Any) -> Any:
        y, states = self.network(x)
        return self.head(y), states


def draw(seed: int) -> tuple[Any, ...]:
    return (torch.randn(5, 2, 4, generator=torch.Generator().manual_seed(seed)),)


@pytest.mark.parametrize("name", ["mLSTMNetwork", "sLSTMNetwork"])
def test_a_network_inside_a_module_is_the_live_one(parity: Any, failures: Any, name: str) -> None:
    module = Around(getattr(layers, name)(4, 6, 2, 3))
    verdicts = parity(module, draw, gradients=False)
    assert failures(verdicts) == []
    ported = lstm_bridge.port(module)
    assert set(ported.state_dict()) == set(module.state_dict())


def spoil(ported: Any) -> None:
    gate = ported.network.slstm_layer.cells[0].input_weights
    gate.weight = gate.weight[::-1]


def test_a_spoilt_network_is_caught(parity: Any, failures: Any) -> None:
    verdicts = parity(Around(layers.sLSTMNetwork(4, 6, 2, 3)), draw, gradients=False, mutate=spoil)
    assert failures(verdicts) != []


@pytest.mark.filterwarnings("ignore:Attribute '.*' is an instance of:UserWarning")
def test_xlstm_time_ports_whole() -> None:
    models = importlib.import_module("pytorch_forecasting.models")
    metrics = importlib.import_module("pytorch_forecasting.metrics")
    module = models.xLSTMTime(3, 6, 2, xlstm_type="mlstm", num_layers=2, loss=metrics.MAE()).eval()
    ported = lstm_bridge.port(module)
    assert type(ported) is lstm_bridge.pytorch_forecasting.models.xLSTMTime
    x = torch.randn(4, 8, 3)
    with torch.no_grad():
        source = module({"encoder_cont": x})["prediction"].numpy()
        true = module.double()({"encoder_cont": x.double()})["prediction"].numpy()
    mine = ported({"encoder_cont": mx.array(x.numpy())}).prediction
    assert judge(np.array(mine), source, true).passed
    inner = lstm_bridge.port(module.float().lstm)
    assert type(inner).__name__ == "mLSTMNetwork"


def test_a_lightning_module_ports_by_its_forward(parity: Any, failures: Any) -> None:
    lightning = pytest.importorskip("lightning.pytorch", reason="the live trainer's base class")

    class Forecaster(lightning.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self, width: int = 6) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.lstm = torch.nn.LSTM(4, width, batch_first=True)
            self.head = torch.nn.Linear(width, 1)

        def forward(self, x: Any) -> Any:
            return self.head(self.lstm(x)[0][:, -1])

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = torch.nn.functional.mse_loss(self(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

    assert failures(parity(Forecaster(), draw)) == []
