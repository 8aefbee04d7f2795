"""One step: values, gradients, refusals, against the live torch.nn.LSTMCell."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lstm_bridge.errors import BridgeError
from lstm_bridge.torch import nn

SIZES = st.integers(1, 9)


@given(D=SIZES, H=SIZES, N=st.integers(0, 6), bias=st.booleans(), states=st.booleans())
def test_any_arguments_match_torch(
    compare: Any, D: int, H: int, N: int, bias: bool, states: bool
) -> None:
    lead = (N,) if N else ()
    shapes = {"x": (*lead, D)}
    if states:
        shapes |= {"h": (*lead, H), "c": (*lead, H)}
    verdicts = compare("LSTMCell", shapes, D, H, bias)
    assert {"out h", "out c", "d x", "d weight_ih", "d weight_hh"} <= verdicts.keys()
    assert [(kind, v.reason) for kind, v in verdicts.items() if not v.passed] == []


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_matches_torch(compare: Any, dtype: str) -> None:
    verdicts = compare("LSTMCell", {"x": (3, 4), "h": (3, 7), "c": (3, 7)}, 4, 7, dtype=dtype)
    assert [(kind, v.reason) for kind, v in verdicts.items() if not v.passed] == []


def swap_gates(module: Any) -> None:
    i, f, g, o = mx.split(module.weight_ih, 4)
    module.weight_ih = mx.concatenate([i, f, o, g])


def drop_bias_hh(module: Any) -> None:
    module.bias_hh = mx.zeros_like(module.bias_hh)


def swap_h_and_c(module: Any) -> None:
    original = module.forward
    object.__setattr__(module, "forward", lambda x, hx: original(x, (hx[1], hx[0])))


@pytest.mark.parametrize("mutate", [swap_gates, drop_bias_hh, swap_h_and_c])
def test_a_wrong_port_is_caught(compare: Any, mutate: Any) -> None:
    shapes = {"x": (3, 4), "h": (3, 7), "c": (3, 7)}
    wrong = compare("LSTMCell", shapes, 4, 7, mutate=mutate)
    assert not all(v.passed for v in wrong.values())


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(shape)


REFUSED: dict[str, tuple[Any, ...]] = {
    "input of rank 3": (zeros(1, 2, 3),),
    "input of rank 0": (torch.tensor(1.0),),
    "input width": (zeros(2, 4),),
    "hidden width": (zeros(2, 3), (zeros(2, 4), zeros(2, 5))),
    "hidden batch": (zeros(2, 3), (zeros(3, 5), zeros(2, 5))),
    "hidden batch of one": (zeros(2, 3), (zeros(1, 5), zeros(1, 5))),
    "cell batch": (zeros(2, 3), (zeros(2, 5), zeros(3, 5))),
    "unbatched hidden": (zeros(2, 3), (zeros(5), zeros(5))),
    "batched hidden": (zeros(3), (zeros(1, 5), zeros(1, 5))),
    "hidden rank": (zeros(2, 3), (zeros(2, 2, 5), zeros(2, 5))),
    "input dtype": (zeros(2, 3).half(),),
    "hidden dtype": (zeros(2, 3), (zeros(2, 5).half(), zeros(2, 5).half())),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED.keys())
def test_what_torch_refuses_is_refused_with_the_same_type(call: tuple[Any, ...]) -> None:
    with pytest.raises(Exception) as theirs:  # noqa: PT011  whatever torch raises
        torch.nn.LSTMCell(3, 5)(*call)
    with pytest.raises(BridgeError, match=r"expected .*, got ") as ours:
        nn.LSTMCell(3, 5)(*call)
    assert isinstance(ours.value, theirs.type)


@pytest.mark.parametrize(
    "arguments",
    [{"input_size": -1}, {"input_size": 2.0}, {"hidden_size": "5"}, {"dtype": torch.int32}],
)
def test_bad_constructor_arguments_raise_torchs_type(arguments: dict[str, Any]) -> None:
    arguments = {"input_size": 3, "hidden_size": 5} | arguments
    with pytest.raises(Exception) as theirs:  # noqa: PT011  whatever torch raises
        torch.nn.LSTMCell(**arguments)
    with pytest.raises(BridgeError, match=r"expected .*, got ") as ours:
        nn.LSTMCell(**arguments)
    assert isinstance(ours.value, theirs.type)


def test_zero_sizes_as_in_torch() -> None:
    assert [s.shape for s in nn.LSTMCell(0, 5)(mx.zeros((2, 0)))] == [(2, 5), (2, 5)]
    assert [s.shape for s in nn.LSTMCell(3, 0)(mx.zeros((2, 3)))] == [(2, 0), (2, 0)]
    assert [s.shape for s in nn.LSTMCell(3, 5)(mx.zeros((0, 3)))] == [(0, 5), (0, 5)]


def test_a_cell_state_of_another_dtype_is_promoted_as_in_torch() -> None:
    theirs = torch.nn.LSTMCell(3, 5)(zeros(2, 3), (zeros(2, 5), zeros(2, 5).half()))
    ours = nn.LSTMCell(3, 5)(zeros(2, 3), (zeros(2, 5), zeros(2, 5).half()))
    assert [s.dtype for s in theirs] == [torch.float32] * 2
    assert [s.dtype for s in ours] == [mx.float32] * 2


@pytest.mark.parametrize("bias", [True, False, 0, "x"])
def test_repr_and_attributes(bias: Any) -> None:
    ours, theirs = nn.LSTMCell(3, 5, bias), torch.nn.LSTMCell(3, 5, bias)
    assert repr(ours) == repr(theirs)
    assert (ours.bias_ih is None) == (theirs.bias_ih is None)
    assert list(ours.state_dict()) == list(theirs.state_dict())
