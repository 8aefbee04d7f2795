"""Scripted TorchScript files (``torch.jit.script``), whose control flow is followed, not run."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any, List  # noqa: UP035  (TorchScript's annotations)

import mlx.core as mx
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mlx.utils import tree_flatten
from torch import nn

import lstm_bridge
from lstm_bridge.equivalence.judge import judge
from lstm_bridge.errors import UnsupportedError


class Forecaster(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, num_layers=2, batch_first=True, bidirectional=True)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Sequential(nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 2))

    def forward(self, x):
        y, (h, c) = self.lstm(x)
        last = self.norm(y[:, -1])
        return self.head(self.drop(F.relu(last))) + h[0][:, :2] - c[1][:, 1:3]


class Cells(nn.Module):
    """A loop over the length, states carried on, outputs appended, and a question of the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.fc = nn.LSTMCell(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        h = torch.zeros(x.size(0), 4)
        c = torch.ones(x.size(0), 4)
        outs: List[torch.Tensor] = []  # noqa: UP006
        for t in range(x.size(1)):
            h, c = self.cell(x[:, t], (h, c))
            outs.append(self.fc(h))
        y = torch.stack(outs, 1)
        if self.training:
            y = y * 2
        return y, h


class Layered(nn.Module):
    """A list of layers, a fixed loop, a check, functions and a helper method."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 5, batch_first=True)
        self.blocks = nn.ModuleList([nn.Linear(5, 5) for _ in range(3)])
        self.norm = nn.LayerNorm(5)
        self.scale = nn.Parameter(torch.full((5,), 1.5))

    def twice(self, y):
        for k in range(2):
            y = y * self.scale + k
        return y

    def forward(self, x):
        if x.dim() != 3:
            raise ValueError("three axes")
        y, h = self.gru(x)
        for block in self.blocks:
            y = torch.tanh(block(y))
        return F.softmax(self.norm(self.twice(y)), dim=-1), h


NETWORKS = [Forecaster, Cells, Layered]


def scripted(module: Any, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch.jit as a whole
        torch.jit.script(module).save(path)
    return path


def made(cls: Any) -> Any:
    torch.manual_seed(7)
    module = cls()
    module.train()(torch.randn(5, 4, 3))  # moments that are none of the first ones
    return module.eval()


def arrays(value: Any) -> list[np.ndarray]:
    many = value if isinstance(value, tuple | list) else (value,)
    return [v.detach().numpy() if isinstance(v, torch.Tensor) else np.array(v) for v in many]


def failures(model: Any, module: Any, x: torch.Tensor) -> list[int]:
    ours, source = arrays(model(mx.array(x.numpy()))), arrays(module(x))
    with torch.no_grad():
        torch.set_default_dtype(torch.float64)
        try:
            truth = arrays(copy.deepcopy(module).double()(x.double()))
        finally:
            torch.set_default_dtype(torch.float32)
    assert [a.shape for a in ours] == [a.shape for a in source]
    pairs = enumerate(zip(ours, source, truth, strict=True))
    return [k for k, (a, b, t) in pairs if not judge(a, b, t).passed]


@pytest.mark.parametrize("cls", NETWORKS)
def test_a_scripted_network_is_torchs_at_any_size(cls: Any, tmp_path: Path) -> None:
    module = made(cls)
    model = lstm_bridge.port(scripted(module, tmp_path / "m.pt"))
    for N, L in ((2, 5), (4, 9), (1, 1)):
        assert failures(model, module, torch.randn(N, L, 3)) == []
    live = {name for name, _ in module.named_parameters()}
    assert {name for name, _ in tree_flatten(model.trainable_parameters())} == live
    lstm_bridge.convert(tmp_path / "m.pt", tmp_path / "folder")
    again, x = lstm_bridge.load(tmp_path / "folder"), mx.array(np.ones((2, 3, 3), np.float32))
    for a, b in zip(arrays(again(x)), arrays(model(x)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_training_does_is_done_in_training(tmp_path: Path) -> None:
    module = made(Cells)
    model = lstm_bridge.port(scripted(module, tmp_path / "m.pt"))
    assert failures(model.train(), module.train(), torch.randn(3, 6, 3)) == []
    assert failures(model.eval(), module, torch.randn(3, 6, 3)) == [0]  # the other mode's


def test_layers_stand_as_such(tmp_path: Path) -> None:
    model = lstm_bridge.port(scripted(made(Forecaster), tmp_path / "m.pt"))
    kinds = {part.path: part.kind for part in model.parts}
    assert kinds["lstm"] == "torch.nn.LSTM"
    assert kinds["drop"] == "torch.nn.Dropout"
    assert model.lstm.num_layers == 2
    assert model.lstm.bidirectional


@pytest.mark.parametrize("name", ["cell.weight_hh", "cell.bias_ih", "fc.weight"])
def test_other_weights_are_caught(name: str, tmp_path: Path) -> None:
    """The negative control."""
    module = made(Cells)
    model = lstm_bridge.port(scripted(module, tmp_path / "m.pt"))
    with torch.no_grad():
        module.get_parameter(name).add_(0.01)
    assert 0 in failures(model, module, torch.randn(2, 5, 3))


def test_a_check_is_made_at_every_call(tmp_path: Path) -> None:
    model = lstm_bridge.port(scripted(made(Layered), tmp_path / "m.pt"))
    with pytest.raises(Exception, match=r"what __torch__.*py:\d+ asks for"):
        model(mx.zeros((4, 3)))


class Depends(nn.Module):
    def forward(self, x):
        if float(x.sum()) > 0:
            return x * 2
        return x


class Nested(nn.Module):
    def forward(self, x):
        total = torch.zeros(x.size(0))
        for t in range(x.size(1)):
            for d in range(x.size(2)):
                total = total + x[:, t, d]
        return total


class Looks(nn.Module):
    """Reads from the list that it is still making."""

    def forward(self, x):
        outs: List[torch.Tensor] = []  # noqa: UP006
        for t in range(x.size(1)):
            outs.append(x[:, t] + len(outs))
        return torch.stack(outs)


class While(nn.Module):
    def forward(self, x):
        while float(x.sum()) > 1:
            x = x / 2
        return x


@pytest.mark.parametrize(
    ("cls", "got"),
    [
        (Depends, "a question whose answer depends on the inputs"),
        (Nested, "a loop in a loop"),
        (Looks, "'outs', a list that a loop is still making"),
        (While, "control flow that graphs do not have"),
    ],
)
def test_what_is_no_graph_is_refused_with_its_line(cls: Any, got: str, tmp_path: Path) -> None:
    path = scripted(cls(), tmp_path / "m.pt")
    with pytest.raises(UnsupportedError, match=rf"TorchScript at __torch__.*\.py:\d+: .*{got}"):
        lstm_bridge.port(path)
