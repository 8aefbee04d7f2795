"""Batches without rows: shapes of outputs and gradients, with the kernel and without it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import mlx.core as mx
import pytest
import torch
from mlx.utils import tree_flatten

from lstm_bridge.core import native
from lstm_bridge.core.normal import softmax
from lstm_bridge.keras import layers
from lstm_bridge.pytorch_forecasting.layers import mLSTMLayer, sLSTMLayer
from lstm_bridge.torch import nn

D, H = 5, 7
SEQUENCES = {
    "torch LSTM": lambda: nn.LSTM(D, H, num_layers=2, bidirectional=True),
    "torch GRU": lambda: nn.GRU(D, H, num_layers=2, bidirectional=True),
    "torch RNN": lambda: nn.RNN(D, H, num_layers=2),
    "mLSTM": lambda: mLSTMLayer(D, H, 2),
    "sLSTM": lambda: sLSTMLayer(D, H, 2),
}
KERAS = {
    "LSTM": lambda: layers.LSTM(H),
    "LSTM with relu": lambda: layers.LSTM(H, activation="relu", return_sequences=True),
    "GRU": lambda: layers.GRU(H, reset_after=False),
    "GRU with relu": lambda: layers.GRU(H, activation="relu"),
    "a cell": lambda: layers.RNN(layers.LSTMCell(H)),
    "both ways": lambda: layers.Bidirectional(layers.GRU(H)),
}


@pytest.fixture(params=["kernel", "composed"], autouse=True)
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    with native.disabled() if request.param == "composed" else nullcontext():
        yield


def first(y: Any) -> mx.array:
    return y if isinstance(y, mx.array) else first(y[0])


def assert_gradients(model: Any, x: mx.array) -> mx.array:
    """Of every weight, zeros; of the input, nothing. Returns the output."""
    y = first(model(x))

    def loss(weights: Any, x: mx.array) -> mx.array:
        model.update(weights)
        return first(model(x)).sum()

    weights = model.trainable_parameters()
    of_weights, of_x = mx.grad(loss, argnums=(0, 1))(weights, x)
    assert of_x.shape == x.shape
    found, expected = dict(tree_flatten(of_weights)), dict(tree_flatten(weights))
    assert expected
    assert {name: a.shape for name, a in found.items()} == {
        name: a.shape for name, a in expected.items()
    }
    assert not any(bool(mx.any(a)) for a in found.values())
    return y


@pytest.mark.parametrize("L", [1, 3, 70])
@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences(name: str, L: int) -> None:
    model = SEQUENCES[name]()
    y = assert_gradients(model, mx.zeros((L, 0, D)))
    assert y.shape == (L, 0, 2 * H if getattr(model, "bidirectional", False) else H)


@pytest.mark.parametrize("L", [1, 70])
@pytest.mark.parametrize("name", KERAS)
def test_sequences_of_keras(name: str, L: int) -> None:
    model = KERAS[name]()
    model(mx.zeros((1, L, D)))
    y = assert_gradients(model, mx.zeros((0, L, D)))
    whole = model(mx.zeros((2, L, D)))
    assert y.shape == (0, *whole.shape[1:])


@pytest.mark.parametrize("shape", [(0, D), (3, 0, D)], ids=str)
def test_maps(shape: tuple[int, ...]) -> None:
    pairs = (nn.Linear(D, H), torch.nn.Linear(D, H)), (nn.LayerNorm(D), torch.nn.LayerNorm(D))
    for model, theirs in pairs:
        y = assert_gradients(model, mx.zeros(shape))
        assert y.shape == tuple(theirs(torch.zeros(shape)).shape)


@pytest.mark.parametrize("shape", [(0, D), (3, 0), (0, 2, 2, 2, 0)], ids=str)
def test_softmax(shape: tuple[int, ...]) -> None:
    x = mx.zeros(shape)
    assert softmax(x).shape == nn.Softmax(-1)(x).shape == shape
    assert mx.grad(lambda x: softmax(x).sum())(x).shape == shape
