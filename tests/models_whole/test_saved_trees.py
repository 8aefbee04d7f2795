"""``save`` takes any layer of this package, partly ported trees and models of one's own."""

from __future__ import annotations

import inspect
import json
import warnings
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
import torch
from mlx.utils import tree_flatten, tree_map

import lstm_bridge
from lstm_bridge.errors import BridgeError, UsageError
from lstm_bridge.keras import layers
from lstm_bridge.mlx import nn as stock
from lstm_bridge.models.classes import find_class
from lstm_bridge.models.options import CONTAINERS, options_of
from lstm_bridge.pytorch_forecasting import layers as forecasting
from lstm_bridge.pytorch_forecasting.models import xLSTMTime
from lstm_bridge.torch import nn as tnn


def same(a: Any, b: Any) -> None:
    ours, theirs = (dict(tree_flatten(m.parameters())) for m in (a, b))
    assert ours.keys() == theirs.keys()
    assert all(mx.array_equal(ours[n], theirs[n]).item() for n in ours)


LAYERS: dict[str, Any] = {
    "torch LSTM": lambda: tnn.LSTM(3, 4, 2, batch_first=True, bidirectional=True, proj_size=2),
    "torch LSTMCell": lambda: tnn.LSTMCell(3, 4, bias=False),
    "torch GRU": lambda: tnn.GRU(3, 4),
    "torch Embedding": lambda: tnn.Embedding(5, 3, padding_idx=1),
    "torch Conv1d": lambda: tnn.Conv1d(3, 4, 3, padding=1, dilation=2),
    "torch attention": lambda: tnn.MultiheadAttention(4, 2, add_bias_kv=True),
    "mlx LSTM": lambda: stock.LSTM(3, 4, bias=False),
    "keras LSTM": lambda: layers.LSTM(4, return_sequences=True, activation="relu"),
    "keras Bidirectional": lambda: layers.Bidirectional(layers.LSTM(4), merge_mode="sum"),
    "keras stacked": lambda: layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)]),
    "keras TimeDistributed": lambda: layers.TimeDistributed(layers.Dense(3)),
    "mLSTMCell": lambda: forecasting.mLSTMCell(3, 4, dropout=0.3, layer_norm=False),
    "mLSTMNetwork": lambda: forecasting.mLSTMNetwork(3, 4, 2, 5, dropout=0.1),
    "sLSTMNetwork": lambda: forecasting.sLSTMNetwork(3, 4, 2, 5, use_layer_norm=False),
    "xLSTMTime": lambda: xLSTMTime(3, 4, 1, xlstm_type="mlstm", decomposition_kernel=3),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_comes_back_as_itself(name: str, tmp_path: Path) -> None:
    layer = LAYERS[name]()
    if name.startswith("keras"):
        layer(mx.zeros((2, 5, 3)))
    lstm_bridge.save(layer, tmp_path / "m")
    again = lstm_bridge.load(tmp_path / "m")
    assert type(again) is type(layer)
    same(again, layer)
    kind = json.loads((tmp_path / "m" / "config.json").read_text())["modules"][0]["class"]
    assert options_of(again, kind) == options_of(layer, kind)


FIRST = {"Unflatten": (1, (2, 2)), "MultiheadAttention": (4, 2), "GroupNorm": (2, 4)}


def exported() -> list[str]:
    found = []
    for package in ("torch.nn", "mlx.nn", "pytorch_forecasting.layers"):
        for name in find_package(package).__all__:
            kind = f"{package}.{name}"
            arrays = name in ("ParameterList", "ParameterDict")  # and no options
            if find_class(kind) is not None and name not in CONTAINERS and not arrays:
                found.append(kind)
    return found


def find_package(package: str) -> Any:
    from importlib import import_module

    return import_module(f"lstm_bridge.{package}")


@pytest.mark.parametrize("kind", exported())
def test_every_layer_tells_its_options(kind: str) -> None:
    name = kind.rpartition(".")[2]
    cls: Any = find_class(kind)
    needed = [
        p for p in inspect.signature(cls).parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = cls(*FIRST.get(name, [4] * len(needed)))
        options, _ = options_of(layer, kind)
        again = cls(**options)
    assert {n: a.shape for n, a in tree_flatten(again.parameters())} == {
        n: a.shape for n, a in tree_flatten(layer.parameters())
    }
    assert options_of(again, kind)[0] == options


class Own(nn.Module):
    """A model of one's own: its call is code, its layers are this package's and MLX's."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = [tnn.LSTM(3, 32, batch_first=True), layers.Dense(4)]
        self.head = nn.Linear(4, 2)
        self.scale = mx.array([0.5, 3.0])
        self.encoder[1].build((None, None, 32))

    def __call__(self, x: mx.array) -> mx.array:
        return self.head(self.encoder[1](self.encoder[0](x)[0])) * self.scale


def test_a_model_of_ones_own_comes_back_as_a_tree_and_takes_its_weights(tmp_path: Path) -> None:
    mx.random.seed(1)
    model, other = Own(), Own()
    lstm_bridge.save(model, tmp_path / "m")
    tree = lstm_bridge.load(tmp_path / "m")
    x = mx.random.normal((2, 5, 3))
    assert set(tree.layers) == {"encoder.0", "encoder.1"}
    hidden = tree.layers["encoder.1"](tree.layers["encoder.0"](x)[0])
    assert mx.array_equal(hidden, model.encoder[1](model.encoder[0](x)[0])).item()
    assert mx.array_equal(tree.head.weight, model.head.weight).item()
    assert not mx.array_equal(other(x), model(x)).item()
    other.load_weights(str(tmp_path / "m" / "model.safetensors"))
    assert mx.array_equal(other(x), model(x)).item()


def test_a_quantized_tree_comes_back_quantized(tmp_path: Path) -> None:
    model = Own()
    nn.quantize(
        model,
        class_predicate=lambda p, m: {"bits": 8, "group_size": 32} if p == "encoder.1" else False,
    )
    lstm_bridge.save(model, tmp_path / "m")
    tree = lstm_bridge.load(tmp_path / "m")
    x = mx.random.normal((2, 32))
    assert mx.array_equal(tree.layers["encoder.1"](x), model.encoder[1](x)).item()
    packed = layers.Dense(4)
    packed.build((None, 64))
    lstm_bridge.save(packed.to_quantized(64, 4), tmp_path / "one")
    x = mx.random.normal((2, 64))
    again = lstm_bridge.load(tmp_path / "one")
    assert mx.array_equal(again(x), packed.to_quantized(64, 4)(x)).item()


class Branching(torch.nn.Module):
    """Asks for a number in the middle, which cannot be traced; its parts can."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh())
        self.lstm = torch.nn.LSTM(4, 5)
        self.scale = torch.nn.Parameter(torch.tensor([2.0, 3.0]))

    def forward(self, x: Any) -> Any:
        y = self.lstm(self.encoder(x))[0]
        return torch.tensor(float(np.sum(y.detach().numpy()))) * self.scale


def test_a_partly_ported_tree_comes_back(tmp_path: Path) -> None:
    module = Branching().eval()
    partly = lstm_bridge.port(module, partial=True)
    lstm_bridge.save(partly, tmp_path / "m")
    tree = lstm_bridge.load(tmp_path / "m")
    same(tree, partly)
    x = mx.random.normal((6, 2, 3))
    ours = tree.layers["lstm"](tree.layers["encoder"](x))[0]
    assert mx.array_equal(ours, partly.layers["lstm"](partly.layers["encoder"](x))[0]).item()
    with torch.no_grad():
        wanted = module.lstm(module.encoder(torch.from_numpy(np.array(x))))[0].numpy()
    assert np.abs(np.array(ours) - wanted).max() < 1e-6
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["left_out"] == partly.unported
    tuned = tree_map(lambda a: a + 1, partly.parameters())
    tree.load_weights(list(tree_flatten(tuned)))
    assert mx.array_equal(tree.scale, partly.scale + 1).item()


def test_what_has_no_layer_of_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="expected a model with layers of this package, got Linear"
    ):
        lstm_bridge.save(nn.Linear(2, 2), tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"torch.nn.LSTM"', '"os.system"'),
        ('"hidden_size": 32', '"hidden_size": 31'),
        ('"path": "encoder.0"', '"path": "encoder.1.kernel"'),
    ],
)
def test_a_damaged_tree_is_one_line(old: str, new: str, tmp_path: Path) -> None:
    lstm_bridge.save(Own(), tmp_path / "m")
    config = tmp_path / "m" / "config.json"
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new))
    with pytest.raises(BridgeError, match=r"config\.json") as caught:
        lstm_bridge.load(tmp_path / "m")
    assert "\n" not in str(caught.value)
