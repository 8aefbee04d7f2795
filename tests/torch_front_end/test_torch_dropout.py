"""Dropout between layers: its statistics, where it is and where it is not."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch

from lstm_bridge.equivalence.judge import judge
from lstm_bridge.torch import nn


def passthrough(P: float, **arguments: Any) -> Any:
    """Two layers of which the second shows, in its cell states, what it was given.

    Input and output gates are wide open, the forget gate is shut and the recurrent weights are
    zero, so that c_t = tanh(x_t / 1000) of the second layer's own input, unit by unit.
    """
    H = 6
    module = nn.LSTM(H, H, 2, dropout=P, **arguments)
    for name, array in module.parameters().items():
        module[name] = mx.zeros_like(array)
    gates = mx.array([50.0, -50.0, 0.0, 50.0])
    for layer in range(2):
        module[f"bias_ih_l{layer}"] = mx.repeat(gates, H)
        eye = mx.eye(H) * (1.0 if layer == 0 else 1e-3)
        module[f"weight_ih_l{layer}"] = mx.concatenate([eye * k for k in (0, 0, 1, 0)])
    return module


def kept(module: Any, x: mx.array) -> np.ndarray:
    """What the second layer was given, over what the first layer said."""
    (y, _), full = module(x), math.tanh(math.tanh(1.0))
    return np.arctanh(np.arctanh(np.array(y, np.float64))) * 1e3 / full


def test_units_are_dropped_one_by_one_and_scaled() -> None:
    mx.random.seed(0)
    P, x = 0.3, mx.ones((40, 50, 6))
    given = kept(passthrough(P), x)
    values = np.round(given, 2)
    assert set(np.unique(values)) == {0.0, round(1 / (1 - P), 2)}
    dropped = values == 0
    n = dropped.size
    assert abs(dropped.mean() - P) < 5 * math.sqrt(P * (1 - P) / n)
    # One draw per element: no axis shares its mask with its neighbour.
    for a, b in (
        (dropped[1:], dropped[:-1]),
        (dropped[:, 1:], dropped[:, :-1]),
        (dropped[..., 1:], dropped[..., :-1]),
    ):
        assert abs((a & b).mean() - P * P) < 5 * math.sqrt(P * P * (1 - P * P) / a.size)


def test_eval_mode_and_zero_drop_nothing() -> None:
    x = mx.ones((4, 5, 6))
    module = passthrough(0.5)
    module.eval()
    np.testing.assert_allclose(kept(module, x), 1, atol=1e-3)
    module.train()
    assert (np.round(kept(module, x), 2) == 0).any()
    np.testing.assert_allclose(kept(passthrough(0.0), x), 1, atol=1e-3)


def test_the_last_layer_and_the_states_are_never_dropped() -> None:
    module = nn.LSTM(4, 5, 2, dropout=0.9, bidirectional=True)
    _, (h, c) = module(mx.random.normal((7, 3, 4)))
    y, _ = module(mx.random.normal((7, 3, 4)))
    for array in (y, h, c):
        assert not mx.any(array == 0).item()


def test_one_layer_drops_nothing_at_all() -> None:
    with pytest.warns(UserWarning, match="num_layers greater than 1"):
        module = nn.LSTM(4, 5, 1, dropout=0.9)
    x = mx.random.normal((7, 3, 4))
    assert mx.array_equal(module(x)[0], module(x)[0]).item()


def test_dropping_everything_leaves_the_biases_as_in_torch() -> None:
    theirs = torch.nn.LSTM(4, 5, 2, dropout=1.0)
    truth = torch.nn.LSTM(4, 5, 2, dropout=1.0, dtype=torch.float64)
    truth.load_state_dict(theirs.state_dict())
    ours = nn.LSTM(4, 5, 2, dropout=1.0)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(6, 3, 4)
    verdict = judge(ours(x)[0], theirs(x)[0].detach(), truth(x.double())[0].detach())
    assert verdict.passed, verdict.reason


def test_packed_input_is_dropped_too_and_its_padding_stays_out() -> None:
    mx.random.seed(1)
    module = passthrough(0.5)
    packed = nn.utils.rnn.pack_padded_sequence(mx.ones((5, 2, 6)), [5, 2])
    y, _ = module(packed)
    assert y.data.shape == (7, 6)
    values = np.round(np.arctanh(np.arctanh(np.array(y.data, np.float64))) * 1e3, 2)
    assert len(np.unique(values)) == 2


def test_mean_over_masks_is_torchs() -> None:
    """First moments over many masks, within five standard errors of the two sides' difference."""
    torch.manual_seed(0)
    mx.random.seed(0)
    theirs = torch.nn.LSTM(3, 4, 2, dropout=0.4)
    ours = nn.LSTM(3, 4, 2, dropout=0.4)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, 1, 3).expand(3, 4000, 3).contiguous()
    a = np.array(ours(x)[0], np.float64)
    b = theirs(x)[0].detach().double().numpy()
    error = np.sqrt((a.var(axis=1) + b.var(axis=1)) / a.shape[1])
    assert (np.abs(a.mean(axis=1) - b.mean(axis=1)) < 5 * error).all()
    # A standard deviation from n samples is itself known to about 1 / sqrt(2 n) of its value.
    spread = np.abs(a.std(axis=1) / b.std(axis=1) - 1)
    assert (spread < 5 * math.sqrt(2 * 2 / (2 * a.shape[1]))).all()
