"""state_dict and load_state_dict: torch's names, order, report and refusals."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch

from lstm_bridge.errors import BridgeError
from lstm_bridge.torch import nn

ARGUMENTS: dict[str, Any] = {"num_layers": 2, "bidirectional": True, "proj_size": 2}


def module_pair() -> tuple[Any, Any]:
    return nn.LSTM(3, 5, **ARGUMENTS), torch.nn.LSTM(3, 5, **ARGUMENTS)


def test_names_order_and_values_go_there_and_back_bit_by_bit() -> None:
    ours, theirs = module_pair()
    state = theirs.state_dict()
    report = ours.load_state_dict(state)
    assert (report.missing_keys, report.unexpected_keys) == ([], [])
    assert str(report) == repr(report) == str(theirs.load_state_dict(state))
    assert list(ours.state_dict()) == list(state)
    for name, array in ours.state_dict().items():
        assert np.array(array).tobytes() == state[name].numpy().tobytes()
    other = torch.nn.LSTM(3, 5, **ARGUMENTS)
    other.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in ours.state_dict().items()})
    assert all(torch.equal(other.state_dict()[k], v) for k, v in state.items())


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.pop("weight_hh_l1"),
        lambda s: s.update(extra=torch.zeros(1)),
        lambda s: (s.pop("weight_hr_l0"), s.pop("bias_ih_l0"), s.update(b=s["bias_hh_l0"], a=1)),
    ],
    ids=["missing", "unexpected", "both"],
)
def test_the_report_and_the_strict_refusal_are_torchs(change: Any) -> None:
    ours, theirs = module_pair()
    state = dict(theirs.state_dict())
    change(state)
    before = ours.state_dict()
    with pytest.raises(RuntimeError, match="in loading state_dict for LSTM") as refusal:
        theirs.load_state_dict(state)
    with pytest.raises(RuntimeError, match="in loading state_dict for LSTM") as mine:
        ours.load_state_dict(state)
    assert isinstance(mine.value, BridgeError)
    for line in str(refusal.value).splitlines()[1:]:
        assert line.strip() in str(mine.value)
    assert all(before[k] is v for k, v in ours.state_dict().items())
    expected = theirs.load_state_dict(state, strict=False)
    report = ours.load_state_dict(state, strict=False)
    assert (report.missing_keys, report.unexpected_keys) == tuple(expected)
    assert str(report) == str(expected)


def test_a_wrong_size_is_refused_in_either_mode_and_changes_nothing() -> None:
    ours, theirs = module_pair()
    state = theirs.state_dict() | {"bias_hh_l1": torch.zeros(7)}
    before = ours.state_dict()
    for strict in (True, False):
        with pytest.raises(RuntimeError, match=r"size mismatch for bias_hh_l1: .*\[7\].*\[20\]"):
            ours.load_state_dict(state, strict=strict)
    assert all(before[k] is v for k, v in ours.state_dict().items())


def test_what_is_no_mapping_or_no_array_is_refused() -> None:
    ours, _ = module_pair()
    with pytest.raises(TypeError, match="expected a mapping, got int"):
        ours.load_state_dict(3)
    with pytest.raises(RuntimeError, match="weight_ih_l0"):
        ours.load_state_dict({"weight_ih_l0": object()}, strict=False)


def test_dtypes_stay_unless_assigned() -> None:
    state = torch.nn.LSTM(3, 5).to(torch.bfloat16).state_dict()
    ours = nn.LSTM(3, 5)
    ours.load_state_dict(state)
    assert {v.dtype for v in ours.state_dict().values()} == {mx.float32}
    ours.load_state_dict(state, assign=True)
    assert {v.dtype for v in ours.state_dict().values()} == {mx.bfloat16}


def test_destination_and_prefix() -> None:
    ours = nn.LSTM(3, 5)
    found = ours.state_dict(destination={"here": mx.zeros(1)}, prefix="lstm.", keep_vars=True)
    theirs = torch.nn.LSTM(3, 5).state_dict(prefix="lstm.")
    assert list(found) == ["here", *theirs]


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells = [nn.LSTMCell(3, 3), nn.LSTMCell(3, 3)]
        self.head = nn.Linear(3, 2)


def test_nested_modules_and_lists_have_dotted_names() -> None:
    class Theirs(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells = torch.nn.ModuleList([torch.nn.LSTMCell(3, 3) for _ in range(2)])
            self.head = torch.nn.Linear(3, 2)

    ours, theirs = Model(), Theirs()
    assert ours.load_state_dict(theirs.state_dict()).missing_keys == []
    assert list(ours.state_dict()) == list(theirs.state_dict())
    np.testing.assert_array_equal(
        np.array(ours.cells[1].weight_hh), theirs.cells[1].weight_hh.detach().numpy()
    )


def test_frozen_parameters_are_part_of_the_state() -> None:
    ours = nn.LSTM(3, 5)
    ours.freeze()
    assert len(ours.state_dict()) == 4
    assert ours.load_state_dict(torch.nn.LSTM(3, 5).state_dict()).missing_keys == []
