"""Every argument of the LSTM means what it means in torch: values and gradients."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_bridge.core import sequence
from lstm_bridge.torch import nn

SIZES = st.integers(1, 7)


@st.composite
def cases(draw: Any) -> dict[str, Any]:
    """Constructor arguments, and shapes and lengths of an input that fits them."""
    D, H, L, N = draw(SIZES), draw(SIZES), draw(SIZES), draw(st.integers(1, 5))
    layers, directions = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    P = draw(st.integers(0, H - 1))
    first, form = draw(st.booleans()), draw(st.sampled_from(["batch", "single", "packed"]))
    N_axis = () if form == "single" else (N,)
    shapes = {"x": (N, L, D) if first and form != "single" else (L, *N_axis, D)}
    if draw(st.booleans()):
        shapes["h"] = (layers * directions, *N_axis, P or H)
        shapes["c"] = (layers * directions, *N_axis, H)
    lengths = draw(st.lists(st.integers(1, L), min_size=N, max_size=N))
    return {
        "args": (D, H),
        "shapes": shapes,
        "lengths": lengths if form == "packed" else None,
        "num_layers": layers,
        "bias": draw(st.booleans()),
        "batch_first": first,
        "bidirectional": directions == 2,
        "proj_size": P,
    }


@given(cases())
def test_any_arguments_match_torch(compare: Any, case: dict[str, Any]) -> None:
    args, shapes = case.pop("args"), case.pop("shapes")
    verdicts = compare("LSTM", shapes, *args, **case)
    assert {"out y", "out h", "out c", "d x", "d weight_ih", "d weight_hh"} <= verdicts.keys()
    assert [(kind, v.reason) for kind, v in verdicts.items() if not v.passed] == []


FULL: dict[str, Any] = {"num_layers": 2, "bidirectional": True, "proj_size": 4}
FULL_SHAPES = {"x": (6, 3, 4), "h": (4, 3, 4), "c": (4, 3, 7)}


@settings(max_examples=4)
@given(lengths=st.lists(st.integers(1, 6), min_size=3, max_size=3), packed=st.booleans())
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_matches_torch(
    compare: Any, dtype: str, lengths: list[int], packed: bool
) -> None:
    verdicts = compare(
        "LSTM", FULL_SHAPES, 4, 7, dtype=dtype, lengths=lengths if packed else None, **FULL
    )
    assert [(kind, v.reason) for kind, v in verdicts.items() if not v.passed] == []


def swap_gates(module: Any) -> None:
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
        i, f, g, o = mx.split(module[name], 4)
        module[name] = mx.concatenate([f, i, g, o])


def drop_bias_hh(module: Any) -> None:
    module.bias_hh_l1 = mx.zeros_like(module.bias_hh_l1)


def double_forget_bias(module: Any) -> None:
    H = module.hidden_size
    module.bias_ih_l0[H : 2 * H] = module.bias_ih_l0[H : 2 * H] * 2


def swap_directions(module: Any) -> None:
    for name in [n for n in module.parameters() if n.endswith("_reverse")]:
        forward = name.removesuffix("_reverse")
        module[name], module[forward] = module[forward], module[name]


def swap_h_and_c(module: Any) -> None:
    original = module.forward

    def forward(*rest: Any) -> Any:
        y, (h, c) = original(*rest)
        return y, (c, h)

    object.__setattr__(module, "forward", forward)


def cross_layers(module: Any) -> None:
    module.weight_hh_l0, module.weight_hh_l1 = module.weight_hh_l1, module.weight_hh_l0


def transpose_recurrent(module: Any) -> None:
    blocks = mx.split(module.weight_hh_l0, 4)
    module.weight_hh_l0 = mx.concatenate([b.T for b in blocks])


@pytest.mark.parametrize("lengths", [None, [2, 6, 4]], ids=["batch", "packed"])
@pytest.mark.parametrize(
    "mutate",
    [
        swap_gates,
        drop_bias_hh,
        double_forget_bias,
        swap_directions,
        swap_h_and_c,
        cross_layers,
        transpose_recurrent,
    ],
)
def test_a_wrong_port_is_caught(compare: Any, mutate: Any, lengths: list[int] | None) -> None:
    shapes = {"x": (6, 3, 4), "h": (4, 3, 7), "c": (4, 3, 7)}
    arguments = {"num_layers": 2, "bidirectional": True}
    assert all(
        v.passed for v in compare("LSTM", shapes, 4, 7, lengths=lengths, **arguments).values()
    )
    wrong = compare("LSTM", shapes, 4, 7, lengths=lengths, mutate=mutate, **arguments)
    assert not all(v.passed for v in wrong.values())


FAULTS = {
    "second direction runs forwards": {"reverse": False},
    "padding is run through": {"mask": None},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_wrong_loop_is_caught(
    compare: Any, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any]
) -> None:
    def wrong(*args: Any, **kwargs: Any) -> Any:
        return sequence.run(*args, **kwargs | fault)

    monkeypatch.setattr("lstm_bridge.core.stack.run", wrong)
    verdicts = compare("LSTM", {"x": (6, 3, 4)}, 4, 7, lengths=[2, 6, 4], bidirectional=True)
    assert not all(v.passed for v in verdicts.values())


def test_both_biases_train_and_get_the_same_gradient() -> None:
    module = nn.LSTM(4, 7)
    x = mx.random.normal((5, 3, 4))
    gradient = mx.grad(lambda p: module.update(p)(x)[0].square().sum())(module.parameters())
    assert mx.array_equal(gradient["bias_ih_l0"], gradient["bias_hh_l0"]).item()
    assert mx.any(gradient["bias_ih_l0"] != 0).item()
