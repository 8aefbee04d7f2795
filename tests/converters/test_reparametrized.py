"""weight_norm in both spellings and weight-drop, against live torch, which makes the parameters."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from mlx.utils import tree_flatten

import lstm_bridge


def old_norm(lstm: torch.nn.LSTM, name: str) -> None:
    with warnings.catch_warnings():  # the old spelling is deprecated; it is what old files hold
        warnings.simplefilter("ignore", FutureWarning)
        torch.nn.utils.weight_norm(lstm, name)


def new_norm(lstm: torch.nn.LSTM, name: str) -> None:
    torch.nn.utils.parametrizations.weight_norm(lstm, name)


def converted(state: dict[str, torch.Tensor], folder: Path) -> dict[str, np.ndarray]:
    torch.save(state, folder / "m.pt")
    lstm_bridge.convert(folder / "m.pt", folder / "out")
    flat = tree_flatten(lstm_bridge.load(folder / "out").parameters())
    return {name: np.array(array) for name, array in flat}


@pytest.mark.parametrize("norm", [old_norm, new_norm])
@pytest.mark.parametrize("prefix", ["", "decoder.rnn."])
@pytest.mark.parametrize("parameter", ["weight_hh_l0", "weight_ih_l1_reverse"])
def test_weight_norm_is_multiplied_out(
    norm: object, prefix: str, parameter: str, tmp_path: Path
) -> None:
    torch.manual_seed(4)
    lstm = torch.nn.LSTM(3, 5, num_layers=2, bidirectional=True)
    norm(lstm, parameter)  # type: ignore[operator]
    with torch.no_grad():
        for p in lstm.parameters():  # g must not equal |v|, or dropping it would go unnoticed
            p.mul_(torch.rand_like(p) + 0.5)
        lstm(torch.zeros(1, 1, 3))  # the old spelling computes the weight when called
    ours = converted({f"{prefix}{k}": v for k, v in lstm.state_dict().items()}, tmp_path)
    theirs = getattr(lstm, parameter).detach().numpy()
    assert len(ours) == 16
    step = np.spacing(np.abs(theirs))
    assert (np.abs(ours[prefix + parameter] - theirs) <= 2 * step).all()


def test_dropping_g_is_noticed(tmp_path: Path) -> None:
    """Negative control: v alone is far from the weight."""
    torch.manual_seed(4)
    lstm = torch.nn.LSTM(3, 5)
    new_norm(lstm, "weight_hh_l0")
    with torch.no_grad():
        lstm.parametrizations.weight_hh_l0.original0.mul_(1.5)
    ours = converted(lstm.state_dict(), tmp_path)["weight_hh_l0"]
    v = lstm.parametrizations.weight_hh_l0.original1.detach().numpy()
    assert np.abs(ours - v).max() > 0.01


@pytest.mark.parametrize("inner", ["", "module."])
@pytest.mark.parametrize("copied", [False, True])
def test_weight_drop_raw_is_the_weight(inner: str, copied: bool, tmp_path: Path) -> None:
    state = {f"rnns.0.{inner}{k}": v for k, v in torch.nn.LSTM(3, 5).state_dict().items()}
    raw = state.pop(f"rnns.0.{inner}weight_hh_l0")
    state["rnns.0.weight_hh_l0_raw"] = raw
    if copied:
        state[f"rnns.0.{inner}weight_hh_l0"] = raw * 2 * (torch.rand_like(raw) > 0.5)
    ours = converted(state, tmp_path)
    assert np.array_equal(ours[f"rnns.0.{inner}weight_hh_l0"], raw.numpy())
    left_out = lstm_bridge.convert(tmp_path / "m.pt", tmp_path / "again").left_out
    expected = "a copy of 'rnns.0.weight_hh_l0_raw' with dropout applied"
    assert list(left_out.values()) == ([expected] if copied else [])


def test_half_a_weight_norm_is_refused(tmp_path: Path) -> None:
    lstm = torch.nn.LSTM(3, 5)
    old_norm(lstm, "weight_hh_l0")
    state = lstm.state_dict()
    del state["weight_hh_l0_g"]
    with pytest.raises(lstm_bridge.BridgeError, match="weight_norm's g and v together"):
        converted(state, tmp_path)


def test_a_stack_of_cells_is_found_cell_by_cell(tmp_path: Path) -> None:
    cells = torch.nn.ModuleList([torch.nn.LSTMCell(3, 5), torch.nn.LSTMCell(5, 5)])
    state = {f"rnn.layers.{k}": v for k, v in cells.state_dict().items()}
    torch.save(state, tmp_path / "m.pt")
    lstm_bridge.convert(tmp_path / "m.pt", tmp_path / "out")
    model = lstm_bridge.load(tmp_path / "out")
    assert list(model.layers) == ["rnn.layers.0", "rnn.layers.1"]
    assert {type(c).__name__ for c in model.layers.values()} == {"LSTMCell"}
