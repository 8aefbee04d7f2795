"""A few hundred steps of training give torch's loss curve; and the model that all began with."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn
import mlx.optimizers as optim
import numpy as np
import pytest
import torch as real_torch

from lstm_bridge import torch
from lstm_bridge.equivalence.judge import Verdict, judge
from lstm_bridge.torch import nn


class LSTMModel(nn.Module):
    def __init__(self, input_size: int, hidden_size: int, num_layers: int, output_size: int):
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size, num_layers, batch_first=True)
        self.fc = nn.Linear(hidden_size, output_size)

    def forward(self, x: Any) -> Any:
        out, _ = self.lstm(x)
        return self.fc(out[:, -1, :])


class TheirModel(real_torch.nn.Module):
    def __init__(self, input_size: int, hidden_size: int, num_layers: int, output_size: int):
        super().__init__()
        self.lstm = real_torch.nn.LSTM(input_size, hidden_size, num_layers, batch_first=True)
        self.fc = real_torch.nn.Linear(hidden_size, output_size)

    def forward(self, x: Any) -> Any:
        out, _ = self.lstm(x)
        return self.fc(out[:, -1, :])


def test_the_model_that_this_began_with_runs_with_only_its_import_changed() -> None:
    model = LSTMModel(1, 64, 1, 1)
    theirs = TheirModel(1, 64, 1, 1)
    x = torch.randn(32, 10, 1)
    assert model(x).shape == (32, 1)
    assert repr(model).removeprefix("LSTMModel") == repr(theirs).removeprefix("TheirModel")
    model.load_state_dict(theirs.state_dict())
    truth = TheirModel(1, 64, 1, 1).double()
    truth.load_state_dict(theirs.state_dict())
    batch = real_torch.from_numpy(np.array(x))
    verdict = judge(model(x), theirs(batch).detach(), truth(batch.double()).detach())
    assert verdict.passed, verdict.reason


STEPS = 300
SEEDS = (4, 5, 6)
SIZES = (2, 6, 2, 1)
OURS = {
    "SGD": lambda: optim.SGD(0.2, momentum=0.9),
    "Adam": lambda: optim.Adam(0.01, bias_correction=True),
}
THEIRS = {
    "SGD": lambda p: real_torch.optim.SGD(p, 0.2, momentum=0.9),
    "Adam": lambda p: real_torch.optim.Adam(p, 0.01),
}


def task() -> tuple[np.ndarray, np.ndarray]:
    """Sequences, and the sum of the products of their two features."""
    x = np.random.default_rng(5).normal(0, 0.7, (16, 7, 2)).astype(np.float32)
    return x, (x[..., 0] * x[..., 1]).sum(axis=1, keepdims=True)


def train_ours(state: Any, optimizer: Any, mutate: Any = None) -> list[float]:
    x, y = (mx.array(a) for a in task())
    model = LSTMModel(*SIZES)
    model.load_state_dict(state)
    if mutate is not None:
        mutate(model)
    step = mlx.nn.value_and_grad(model, lambda m: mx.mean(mx.square(m(x) - y)))
    losses = []
    for _ in range(STEPS):
        loss, gradients = step(model)
        optimizer.update(model, gradients)
        mx.eval(model.parameters(), optimizer.state)
        losses.append(loss.item())
    return losses


def train_theirs(state: Any, make_optimizer: Any, dtype: Any) -> list[float]:
    x, y = (real_torch.from_numpy(a).to(dtype) for a in task())
    model = TheirModel(*SIZES).to(dtype)
    model.load_state_dict(state)
    optimizer = make_optimizer(model.parameters())
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def curve_verdict(name: str, mutate: Any = None) -> tuple[Verdict, list[list[float]]]:
    """Judge the curves from several beginnings together: one may amplify rounding by luck."""
    ours, source, truth = [], [], []
    for seed in SEEDS:
        real_torch.manual_seed(seed)
        state = TheirModel(*SIZES).state_dict()
        ours.append(train_ours(state, OURS[name](), mutate))
        source.append(train_theirs(state, THEIRS[name], real_torch.float32))
        truth.append(train_theirs(state, THEIRS[name], real_torch.float64))
    return judge(ours, source, truth), ours


@pytest.mark.parametrize("name", OURS)
def test_the_loss_curve_is_torchs(name: str) -> None:
    verdict, curves = curve_verdict(name)
    assert all(losses[-1] < 0.2 * losses[0] for losses in curves)
    assert verdict.passed, verdict.reason


def test_a_frozen_bias_is_caught_by_the_curve() -> None:
    """One of the two biases trained instead of both: the usual mistake of a port."""
    verdict, _ = curve_verdict("SGD", lambda model: model.lstm.freeze(keys=["bias_hh_l0"]))
    assert not verdict.passed
