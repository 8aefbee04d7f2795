"""Constructor arguments, refusals, warnings, repr and attributes of LSTM against live torch."""

from __future__ import annotations

import warnings
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lstm_bridge.errors import BridgeError, ShapeError, UnsupportedError
from lstm_bridge.torch import nn


def quiet(make: Any) -> tuple[Any, list[warnings.WarningMessage]]:
    """Return what ``make`` returns or raises, and its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            return make(), caught
        except Exception as error:
            return error, caught


ODD = st.sampled_from([None, "2", 2.0, -1, 0, True, [], 5, 7])


@given(
    name=st.sampled_from(
        ["input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "proj_size"]
    ),
    value=ODD | st.floats(-0.5, 1.5),
)
def test_any_constructor_argument_is_taken_or_refused_as_in_torch(name: str, value: Any) -> None:
    arguments = {"input_size": 3, "hidden_size": 5, "num_layers": 2} | {name: value}
    theirs, _ = quiet(lambda: torch.nn.LSTM(**arguments))
    ours, _ = quiet(lambda: nn.LSTM(**arguments))
    if isinstance(theirs, Exception):
        assert isinstance(ours, BridgeError)
        assert isinstance(ours, type(theirs))
        assert "expected" in str(ours)
        assert name in str(ours)
    else:
        assert repr(ours) == repr(theirs)


@given(
    arguments=st.fixed_dictionaries(
        {},
        optional={
            "num_layers": st.integers(1, 3),
            "bias": st.booleans(),
            "batch_first": st.booleans(),
            "dropout": st.sampled_from([0, 0.0, 0.25, 1, 1.0]),
            "bidirectional": st.sampled_from([False, True, 0, 1]),
            "proj_size": st.integers(0, 4),
        },
    )
)
def test_repr_parameters_and_warnings_are_torchs(arguments: dict[str, Any]) -> None:
    theirs, their_warnings = quiet(lambda: torch.nn.LSTM(3, 5, **arguments))
    ours, our_warnings = quiet(lambda: nn.LSTM(3, 5, **arguments))
    assert repr(ours) == repr(theirs)
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [
        (k, tuple(v.shape)) for k, v in theirs.state_dict().items()
    ]
    assert [[w.shape for w in ws] for ws in ours.all_weights] == [
        [tuple(w.shape) for w in ws] for ws in theirs.all_weights
    ]
    assert [(w.category, str(w.message)) for w in our_warnings] == [
        (w.category, str(w.message)) for w in their_warnings
    ]
    for name in (*arguments, "mode", "input_size", "hidden_size"):
        assert getattr(ours, name) == getattr(theirs, name)


def test_the_warning_points_at_the_caller() -> None:
    with pytest.warns(UserWarning, match="num_layers greater than 1") as caught:
        nn.LSTM(3, 5, dropout=0.5)
    assert caught[0].filename == __file__


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(shape)


def packed(x: torch.Tensor) -> Any:
    return torch.nn.utils.rnn.pack_padded_sequence(x, [3, 2, 1])


REFUSED: dict[str, tuple[Any, ...]] = {
    "no step": (zeros(0, 2, 3),),
    "no step, no sequence": (zeros(0, 0, 3),),
    "no step, unbatched": (zeros(0, 3),),
    "input of rank 4": (zeros(1, 2, 3, 4),),
    "input of rank 1": (zeros(3),),
    "input width": (zeros(4, 2, 4),),
    "input dtype": (zeros(4, 2, 3).half(),),
    "integer input": (zeros(4, 2, 3).int(),),
    "hidden width": (zeros(4, 2, 3), (zeros(2, 2, 4), zeros(2, 2, 5))),
    "cell batch": (zeros(4, 2, 3), (zeros(2, 2, 5), zeros(2, 1, 5))),
    "hidden layers": (zeros(4, 2, 3), (zeros(1, 2, 5), zeros(1, 2, 5))),
    "unbatched states": (zeros(4, 2, 3), (zeros(2, 5), zeros(2, 5))),
    "batched states": (zeros(4, 3), (zeros(2, 2, 5), zeros(2, 2, 5))),
    "hidden dtype": (zeros(4, 2, 3), (zeros(2, 2, 5).half(), zeros(2, 2, 5))),
    "cell dtype": (zeros(4, 2, 3), (zeros(2, 2, 5), zeros(2, 2, 5).half())),
    "three states": (zeros(4, 2, 3), (zeros(2, 2, 5),) * 3),
    "packed width": (packed(zeros(4, 3, 2)),),
    "packed dtype": (packed(zeros(4, 3, 3).half()),),
    "packed rank": (packed(zeros(4, 3, 3, 3)),),
    "packed states": (packed(zeros(4, 3, 3)), (zeros(2, 2, 5), zeros(2, 2, 5))),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED.keys())
def test_what_torch_refuses_is_refused_with_the_same_type(call: tuple[Any, ...]) -> None:
    with pytest.raises(Exception) as theirs:  # noqa: PT011  whatever torch raises
        torch.nn.LSTM(3, 5, 2)(*call)
    with pytest.raises(BridgeError, match=r"torch.nn.LSTM .*expected .*, got ") as ours:
        nn.LSTM(3, 5, 2)(*call)
    assert isinstance(ours.value, theirs.type)


def test_messages_name_expected_and_received() -> None:
    module = nn.LSTM(3, 5, 2)
    with pytest.raises(ValueError, match=r"input: expected last axis 3, got \[4, 2, 4\]"):
        module(mx.zeros((4, 2, 4)))
    with pytest.raises(ValueError, match=r"hx\[1\]: expected shape \[2, 2, 5\], got \[2, 1, 5\]"):
        module(mx.zeros((4, 2, 3)), (mx.zeros((2, 2, 5)), mx.zeros((2, 1, 5))))
    with pytest.raises(ValueError, match=r"dtype: expected float32.*got float16"):
        module(mx.zeros((4, 2, 3), mx.float16))
    with pytest.raises(ValueError, match=r"expected an mx\.array, a NumPy array or an object with"):
        module(object())


def test_weights_that_do_not_fit_each_other_are_named() -> None:
    module = nn.LSTM(3, 5)
    module.bias_ih_l0 = mx.zeros(1)
    module.bias_hh_l0 = mx.zeros(1)
    with pytest.raises(ValueError, match=r"weight_ih_l0 bias: expected shape \[20\]"):
        module(mx.zeros((4, 2, 3)))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (None, mx.float32),
        (torch.float16, mx.float16),
        (torch.bfloat16, mx.bfloat16),
        (torch.double, mx.float64),
        (mx.float16, mx.float16),
        (mx.bfloat16, mx.bfloat16),
        ("float32", mx.float32),
        ("torch.bfloat16", mx.bfloat16),
        ("half", mx.float16),
    ],
)
def test_a_dtype_is_torchs_or_mlxs_or_a_name(dtype: Any, expected: mx.Dtype) -> None:
    if expected == mx.float64 and mx.default_device().type == mx.DeviceType.gpu:
        pytest.skip("MLX computes float64 on the CPU only")
    for module in (nn.LSTM(3, 5, dtype=dtype), nn.LSTMCell(3, 5, dtype=dtype)):
        assert {p.dtype for p in module.parameters().values()} == {expected}


def test_dtypes_that_cannot_be_had_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="got int32"):
        nn.LSTM(3, 5, dtype=torch.int32)
    with pytest.raises(UnsupportedError, match="no complex form"):
        nn.LSTM(3, 5, dtype=torch.complex64)
    with pytest.raises(TypeError, match="got 'quick'"):
        nn.LSTM(3, 5, dtype="quick")
    with pytest.raises(TypeError, match="expected one of"):
        nn.LSTM(3, 5, dtype=3)
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu))
    with pytest.raises(UnsupportedError, match="float64 on the CPU only"):
        nn.LSTM(3, 5, dtype="float64")


def test_a_device_changes_nothing_and_says_so() -> None:
    mx.random.seed(3)
    plain = nn.LSTM(3, 5)
    mx.random.seed(3)
    elsewhere = nn.LSTM(3, 5, device="mps")
    assert all(mx.array_equal(plain[k], elsewhere[k]).item() for k in plain.parameters())
    assert nn.LSTM.ARGUMENT_NOTES["device"].startswith("no effect here, because")
    assert nn.LSTMCell.ARGUMENT_NOTES["device"].startswith("no effect here, because")


class OnlyDLPack:
    """An array of which nothing is known but the protocol."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()


def test_inputs_may_be_numpy_torch_or_dlpack() -> None:
    module = nn.LSTM(3, 5)
    x = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    h = np.ones((1, 2, 5), np.float32)
    expected, _ = module(mx.array(x), (mx.array(h), mx.array(h)))
    for kind in (
        np.asarray,
        torch.from_numpy,
        OnlyDLPack,
        lambda a: a.astype(np.float64),
        lambda a: torch.from_numpy(a).requires_grad_(),
        lambda a: torch.from_numpy(np.asfortranarray(a)),
    ):
        y, _ = module(kind(x), (kind(h), kind(h)))
        assert isinstance(y, mx.array)
        assert mx.array_equal(y, expected).item()


def test_a_float64_model_keeps_float64_inputs() -> None:
    if mx.default_device().type == mx.DeviceType.gpu:
        pytest.skip("MLX computes float64 on the CPU only")
    x = np.full((1, 1, 1), 1 + 2.0**-40)
    module = nn.LSTM(1, 2, dtype="float64")
    module.weight_ih_l0 = module.weight_ih_l0 * 0 + 1
    y, (h, c) = module(x)
    assert {y.dtype, h.dtype, c.dtype} == {mx.float64}
    assert not mx.array_equal(y, module(np.ones((1, 1, 1)))[0]).item()


def test_states_may_be_one_stacked_array_as_in_torch() -> None:
    module = nn.LSTM(3, 5)
    hx = mx.random.normal((2, 1, 5))
    x = mx.random.normal((4, 3))
    assert mx.array_equal(module(x, hx)[0], module(x, (hx[0], hx[1]))[0]).item()


def test_forward_and_keywords() -> None:
    module = nn.LSTM(3, 5)
    x, h = mx.random.normal((4, 2, 3)), mx.ones((1, 2, 5))
    expected, _ = module(x, (h, h))
    assert mx.array_equal(module.forward(x, (h, h))[0], expected).item()
    assert mx.array_equal(module(input=x, hx=(h, h))[0], expected).item()


def test_flatten_parameters_changes_nothing() -> None:
    module = nn.LSTM(3, 5)
    before = dict(module.state_dict())
    assert module.flatten_parameters() is None
    assert all(before[k] is v for k, v in module.state_dict().items())


@pytest.mark.parametrize("make", [nn.LSTM, nn.LSTMCell])
def test_initial_values_are_uniform_with_torchs_bound(make: Any) -> None:
    H = 25
    module = make(40, H, dtype="float32")
    first = {k: np.array(v) for k, v in module.state_dict().items()}
    module.reset_parameters()
    for name, array in module.state_dict().items():
        values = np.array(array)
        assert not np.array_equal(values, first[name])
        assert np.abs(values).max() <= H**-0.5
        assert np.abs(values).max() > 0.9 * H**-0.5
        # Mean 0 and variance bound²/3, within five standard errors.
        assert abs(values.mean()) < 5 * H**-0.5 / np.sqrt(3 * values.size)
        assert abs(values.var() * 3 * H - 1) < 5 * np.sqrt(0.8 / values.size)


def test_integers_are_not_met_by_advice_that_is_refused_too() -> None:
    with pytest.raises(ShapeError, match=r"convert the input with .astype\(mx.float32\)$"):
        nn.LSTM(3, 5)(mx.zeros((4, 2, 3), mx.int32))
    with pytest.raises(ShapeError, match=r"or the model with .to\('float16'\)$"):
        nn.LSTM(3, 5)(mx.zeros((4, 2, 3), mx.float16))
