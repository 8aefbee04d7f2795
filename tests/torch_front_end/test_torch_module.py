"""What stands around an LSTM in a torch model: Module, Linear and the tensor makers."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch as real_torch

from lstm_bridge import torch
from lstm_bridge.equivalence.judge import judge
from lstm_bridge.errors import UnsupportedError
from lstm_bridge.torch import nn


@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_torchs(bias: bool, distinct: Any) -> None:
    theirs = real_torch.nn.Linear(9, 6, bias)
    truth = real_torch.nn.Linear(9, 6, bias).double()
    truth.load_state_dict(theirs.state_dict())
    ours = nn.Linear(9, 6, bias)
    ours.load_state_dict(theirs.state_dict())
    assert repr(ours) == repr(theirs)
    x = distinct((40, 3, 9), 1)
    leaf, true = real_torch.from_numpy(x), real_torch.from_numpy(x).double()
    verdict = judge(ours(x), theirs(leaf).detach(), truth(true).detach())
    assert verdict.passed, verdict.reason
    ours.weight = ours.weight[::-1]
    assert not judge(ours(x), theirs(leaf).detach(), truth(true).detach()).passed


def test_linear_starts_within_torchs_bound() -> None:
    for array in nn.Linear(400, 300).parameters().values():
        values = np.abs(np.array(array))
        assert 0.045 < values.max() <= 0.05


@pytest.mark.parametrize(
    "call",
    [lambda n, x: n.Linear(3, 2)(x(4, 2)), lambda n, x: n.Linear(3, 2)(x(4, 3).half())],
    ids=["width", "dtype"],
)
def test_linear_refuses_what_torch_refuses(call: Any) -> None:
    with pytest.raises(RuntimeError):
        call(real_torch.nn, real_torch.zeros)
    with pytest.raises(RuntimeError, match=r"torch.nn.Linear input.*expected .*, got "):
        call(nn, real_torch.zeros)


def test_a_module_without_forward_says_so() -> None:
    class Empty(nn.Module):
        pass

    with pytest.raises(UnsupportedError, match=r"Module \[Empty\]: expected a forward method"):
        Empty()(1)
    with pytest.raises(NotImplementedError):
        Empty().forward(1)


@pytest.mark.parametrize("name", ["randn", "zeros", "ones"])
def test_tensor_makers_take_torchs_forms(name: str) -> None:
    make = getattr(torch, name)
    for array in (make(2, 3), make((2, 3)), make([2, 3]), make(2, 3, device="mps")):
        assert isinstance(array, torch.Tensor)
        assert (array.shape, array.dtype) == ((2, 3), mx.float32)
    assert make(4, dtype=torch.bfloat16).dtype == mx.bfloat16
    assert make(4, dtype=real_torch.float16).dtype == torch.float16
    assert make(0).shape == (0,)
    values = np.array(make(3000))
    moments = {"randn": (0, 1), "zeros": (0, 0), "ones": (1, 0)}[name]
    assert abs(values.mean() - moments[0]) < 5 / np.sqrt(values.size)
    assert abs(values.std() - moments[1]) < 5 / np.sqrt(2 * values.size)
