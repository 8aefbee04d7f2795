"""Saturation, huge and non-finite inputs, the smallest sizes: what torch gives, exactly where."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch

from lstm_bridge.equivalence.judge import judge
from lstm_bridge.torch import nn

L, N, D, H = 6, 4, 3, 5


def trio(scale: float = 1.0, **arguments: Any) -> tuple[Any, Any, Any]:
    """Ours, torch's and the float64 truth with the same weights, times ``scale``."""
    torch.manual_seed(1)
    theirs = torch.nn.LSTM(D, H, **arguments)
    truth = torch.nn.LSTM(D, H, dtype=torch.float64, **arguments)
    state = {k: v * scale for k, v in theirs.state_dict().items()}
    ours = nn.LSTM(D, H, **arguments)
    for module in (ours, theirs, truth):
        module.load_state_dict(state)
    return ours, theirs, truth


def samples(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


# Larger products overflow, and then the order of a sum decides between infinity and NaN.
@pytest.mark.parametrize(
    ("magnitude", "scale"),
    [(1e-38, 1.0), (1e-20, 1.0), (1e4, 1.0), (1e4, 100.0), (1e36, 100.0), (1e38, 1.0)],
)
def test_saturated_gates(magnitude: float, scale: float) -> None:
    ours, theirs, truth = trio(scale, num_layers=2)
    x = (samples(L, N, D).clip(-2, 2) * np.float32(magnitude)).astype(np.float32)
    results = (ours(x), theirs(torch.from_numpy(x)), truth(torch.from_numpy(x).double()))
    for mine, other, true in zip(*[(y, h, c) for y, (h, c) in results], strict=True):
        verdict = judge(mine, other.detach(), true.detach())
        assert verdict.passed, verdict.reason
        assert not np.isnan(np.array(mine)).any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_one_odd_input_poisons_what_torch_says_and_no_neighbour(
    value: float, bidirectional: bool
) -> None:
    ours, theirs, _ = trio(num_layers=1, bidirectional=bidirectional)
    t, n = 2, 1
    x = samples(L, N, D)
    x[t, n] = value
    y, (h, c) = ours(x)
    y, h, c = (np.array(a) for a in (y, h, c))
    other_y, (other_h, other_c) = theirs(torch.from_numpy(x))
    for mine, other in ((y, other_y), (h, other_h), (c, other_c)):
        np.testing.assert_array_equal(np.isnan(mine), np.isnan(other.detach().numpy()))
    assert np.isfinite(np.delete(y, n, axis=1)).all()
    assert np.isfinite(np.delete(h, n, axis=1)).all()
    assert np.isfinite(y[:t, n, :H]).all()
    if np.isnan(value):
        assert np.isnan(y[t:, n, :H]).all()
        assert np.isnan(h[:, n]).all()
        if bidirectional:
            assert np.isnan(y[: t + 1, n, H:]).all()
            assert np.isfinite(y[t + 1 :, n, H:]).all()


def test_an_odd_value_in_the_padding_reaches_nothing() -> None:
    ours, _, _ = trio(bidirectional=True)
    x = samples(L, N, D)
    lengths = [6, 3, 5, 2]
    x[4, 1] = np.nan
    pack = nn.utils.rnn.pack_padded_sequence
    y, (h, c) = ours(pack(x, lengths, enforce_sorted=False))
    for array in (y.data, h, c):
        assert mx.isfinite(array).all().item()


def test_an_odd_weight_poisons_what_torch_says() -> None:
    ours, theirs, _ = trio()
    for module in (ours, theirs):
        state = dict(theirs.state_dict())
        state["bias_ih_l0"] = state["bias_ih_l0"].clone()
        state["bias_ih_l0"][1] = float("nan")
        module.load_state_dict(state)
    x = samples(L, N, D)
    mine, other = np.array(ours(x)[0]), theirs(torch.from_numpy(x))[0].detach().numpy()
    np.testing.assert_array_equal(np.isnan(mine), np.isnan(other))
    assert np.isnan(mine[0, :, 1]).all()
    assert np.isfinite(mine[0, :, [0, 2, 3, 4]]).all()


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_no_sequence_gives_empty_outputs_of_torchs_shapes(first: bool, bidirectional: bool) -> None:
    arguments = {"num_layers": 2, "batch_first": first, "bidirectional": bidirectional}
    ours, theirs, _ = trio(**arguments)
    x = torch.zeros((0, L, D) if first else (L, 0, D))
    y, (h, c) = ours(x)
    other_y, (other_h, other_c) = theirs(x)
    for mine, other in ((y, other_y), (h, other_h), (c, other_c)):
        assert mine.shape == tuple(other.shape)


def test_the_smallest_of_everything() -> None:
    theirs = torch.nn.LSTM(1, 1)
    truth = torch.nn.LSTM(1, 1, dtype=torch.float64)
    truth.load_state_dict(theirs.state_dict())
    ours = nn.LSTM(1, 1)
    ours.load_state_dict(theirs.state_dict())
    x = samples(1, 256, 1)
    verdict = judge(
        ours(x)[0],
        theirs(torch.from_numpy(x))[0].detach(),
        truth(torch.from_numpy(x).double())[0].detach(),
    )
    assert verdict.passed, verdict.reason
    y, (h, c) = ours(x[:, 0])
    assert (y.shape, h.shape, c.shape) == ((1, 1), (1, 1), (1, 1))


def test_a_long_sequence_stays_as_close_as_torch() -> None:
    ours, theirs, truth = trio(3.0)
    x = samples(1500, 2, D)
    verdict = judge(
        ours(x)[0],
        theirs(torch.from_numpy(x))[0].detach(),
        truth(torch.from_numpy(x).double())[0].detach(),
    )
    assert verdict.passed, verdict.reason
