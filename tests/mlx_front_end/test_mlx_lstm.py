"""lstm_bridge.mlx.nn.LSTM is mlx.nn.LSTM: parameters, returns, states, shapes, gradients."""

from __future__ import annotations

import inspect
from typing import Any

import mlx.core as mx
import mlx.nn
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lstm_bridge.equivalence.judge import Verdict, judge
from lstm_bridge.errors import BridgeError
from lstm_bridge.mlx import nn

RECORDED = "input_size: 'int', hidden_size: 'int', bias: 'bool' = True"
"""The constructor of mlx.nn.LSTM 0.32."""

DRAWS = 16
"""Weights and inputs drawn for each case: one lucky rounding of the source's decides nothing."""


def samples(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.4, shape).astype(np.float32)


def weights(D: int, H: int, bias: bool, seed: int) -> dict[str, np.ndarray]:
    """Weights whose gates differ in mean and spread."""
    shapes = {"Wx": (4 * H, D), "Wh": (4 * H, H)} | ({"bias": (4 * H,)} if bias else {})
    found = {name: samples(shape, seed + k) for k, (name, shape) in enumerate(shapes.items())}
    for array in found.values():
        for k, rows in enumerate(np.split(array, 4)):
            rows *= 0.5 + 0.2 * k
            rows += (-0.3, 0.4, 0.1, -0.15)[k]
    return found


def ask_mlx(module: Any, own: dict[str, np.ndarray], inputs: dict[str, np.ndarray]) -> Any:
    """Outputs, and gradients of the sum of their squares."""

    def loss(parameters: Any, leaves: Any) -> Any:
        h, c = module.update(parameters)(**leaves)
        return mx.square(h).sum() + mx.square(c).sum(), (h, c)

    parameters = {k: mx.array(v) for k, v in own.items()}
    leaves = {k: mx.array(v) for k, v in inputs.items()}
    (_, (h, c)), (dp, dx) = mx.value_and_grad(loss, argnums=(0, 1))(parameters, leaves)
    found = {"out h": h, "out c": c} | {f"d {k}": v for k, v in (dp | dx).items()}
    return {k: np.array(v, np.float64) for k, v in found.items()}


def ask_truth(own: dict[str, np.ndarray], inputs: dict[str, np.ndarray]) -> Any:
    """The same from torch's float64 functions, step by step."""
    leaves = {k: torch.from_numpy(v).double().requires_grad_() for k, v in (own | inputs).items()}
    x, H = leaves["x"], own["Wh"].shape[1]
    h = leaves.get("hidden", torch.zeros(H).double())
    c = leaves.get("cell", torch.zeros(H).double())
    hs, cs = [], []
    for t in range(x.shape[-2]):
        z = x[..., t, :] @ leaves["Wx"].T + h @ leaves["Wh"].T + leaves.get("bias", 0)
        i, f, g, o = z.split(H, dim=-1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        hs.append(h)
        cs.append(c)
    h, c = torch.stack(hs, dim=-2), torch.stack(cs, dim=-2)
    (h.square().sum() + c.square().sum()).backward()
    found = {"out h": h, "out c": c} | {f"d {k}": v.grad for k, v in leaves.items()}
    return {k: v.detach().numpy() for k, v in found.items()}


def compare(
    D: int, H: int, bias: bool, shapes: dict[str, tuple[int, ...]], mutate: Any = None
) -> dict[str, Verdict]:
    parties: list[tuple[Any, Any, Any]] = []
    for seed in range(0, 1000 * DRAWS, 1000):
        own = weights(D, H, bias, seed)
        inputs = {k: samples(shape, seed + 10 + n) for n, (k, shape) in enumerate(shapes.items())}
        given = own if mutate is None else mutate(own)
        ours = ask_mlx(nn.LSTM(D, H, bias), given, inputs)
        parties.append(
            (ours, ask_mlx(mlx.nn.LSTM(D, H, bias), own, inputs), ask_truth(own, inputs))
        )
    kinds = parties[0][2]
    assert all(p.keys() == kinds.keys() for party in parties for p in party)
    return {k: judge(*(np.stack([p[n][k] for p in parties]) for n in range(3))) for k in kinds}


@st.composite
def cases(draw: Any) -> Any:
    D, H, L = (draw(st.integers(1, 6)) for _ in range(3))
    lead = tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
    shapes = {"x": (*lead, L, D)}
    if draw(st.booleans()):
        shapes["hidden"] = (*lead, H)
    if draw(st.booleans()):
        shapes["cell"] = (*draw(st.sampled_from([lead, ()])), H)
    return D, H, draw(st.booleans()), shapes


@given(cases())
def test_any_shapes_and_states_match_mlx(case: Any) -> None:
    verdicts = compare(*case)
    assert [(kind, v.reason) for kind, v in verdicts.items() if not v.passed] == []


def test_a_batch_of_states_for_one_sequence_broadcasts_as_in_mlx() -> None:
    verdicts = compare(3, 5, True, {"x": (4, 3), "hidden": (2, 5), "cell": (2, 5)})
    assert [(kind, v.reason) for kind, v in verdicts.items() if not v.passed] == []


def test_one_hidden_state_for_a_whole_batch_broadcasts_too() -> None:
    """mlx's own refuses this one; the cell state it broadcasts."""
    module, x, h = nn.LSTM(3, 5), mx.random.normal((2, 4, 3)), mx.random.normal((5,))
    for mine, other in zip(module(x, h), module(x, mx.stack([h, h])), strict=True):
        assert mx.array_equal(mine, other).item()


def swap_gates(own: Any) -> Any:
    i, f, g, o = np.split(own["Wx"], 4)
    return own | {"Wx": np.concatenate([i, f, o, g])}


def drop_bias(own: Any) -> Any:
    return own | {"bias": np.zeros_like(own["bias"])}


def transpose(own: Any) -> Any:
    return own | {"Wh": np.concatenate([b.T for b in np.split(own["Wh"], 4)])}


@pytest.mark.parametrize("mutate", [swap_gates, drop_bias, transpose])
def test_a_wrong_port_is_caught(mutate: Any) -> None:
    shapes = {"x": (2, 4, 3), "hidden": (2, 5), "cell": (2, 5)}
    assert not all(v.passed for v in compare(3, 5, True, shapes, mutate).values())


def test_swapped_states_are_caught() -> None:
    own, h, c = weights(3, 5, True, 0), samples((5,), 1), samples((5,), 2)
    x = samples((4, 3), 3)
    ours = ask_mlx(nn.LSTM(3, 5), own, {"x": x, "hidden": c, "cell": h})
    stock, truth = (
        ask(own, {"x": x, "hidden": h, "cell": c})
        for ask in (lambda *a: ask_mlx(mlx.nn.LSTM(3, 5), *a), ask_truth)
    )
    assert not judge(ours["out h"], stock["out h"], truth["out h"]).passed


def test_the_signature_is_mlxs() -> None:
    ours = [p.replace(annotation=p.empty) for p in parameters(nn.LSTM)]
    assert ours == [p.replace(annotation=p.empty) for p in parameters(mlx.nn.LSTM)]
    assert ", ".join(map(str, parameters(nn.LSTM))) == RECORDED
    call = inspect.signature(mlx.nn.LSTM.__call__).parameters
    assert list(inspect.signature(nn.LSTM.__call__).parameters) == list(call)


def parameters(layer: Any) -> list[inspect.Parameter]:
    return list(inspect.signature(layer).parameters.values())


@pytest.mark.parametrize("bias", [True, False])
def test_parameters_repr_and_initial_values_are_mlxs(bias: bool) -> None:
    mx.random.seed(7)
    ours = nn.LSTM(3, 5, bias)
    mx.random.seed(7)
    stock = mlx.nn.LSTM(3, 5, bias)
    assert repr(ours) == repr(stock)
    assert ours.hidden_size == stock.hidden_size
    assert list(ours.parameters()) == list(stock.parameters())
    for name, array in stock.parameters().items():
        assert mx.array_equal(ours[name], array).item()
    assert (ours.bias is None) == (not bias)


def test_weights_of_the_one_load_into_the_other(tmp_path: Any) -> None:
    ours, stock = nn.LSTM(3, 5), mlx.nn.LSTM(3, 5)
    stock.save_weights(str(tmp_path / "w.safetensors"))
    ours.load_weights(str(tmp_path / "w.safetensors"))
    assert mx.array_equal(ours.Wh, stock.Wh).item()


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_dtypes_are_those_of_mlx(dtype: mx.Dtype) -> None:
    ours, stock = nn.LSTM(3, 5), mlx.nn.LSTM(3, 5)
    for module in (ours, stock):
        module.set_dtype(dtype)
    for x_dtype in (dtype, mx.float32):
        for state in (None, mx.zeros((2, 5), dtype), mx.zeros((2, 5))):
            x = mx.ones((2, 4, 3), x_dtype)
            mine, theirs = ours(x, state, state), stock(x, state, state)
            assert [a.dtype for a in mine] == [a.dtype for a in theirs]


def test_numpy_goes_in() -> None:
    module = nn.LSTM(3, 5)
    x, h = samples((2, 4, 3), 0), samples((2, 5), 1)
    assert mx.array_equal(module(x, h)[0], module(mx.array(x), mx.array(h))[0]).item()


@pytest.mark.parametrize(
    "call",
    [
        {"x": mx.zeros((2, 4, 4))},
        {"x": mx.zeros((2, 0, 3))},
        {"x": mx.zeros((2, 4, 3)), "hidden": mx.zeros((2, 4))},
        {"x": mx.zeros((2, 4, 3)), "hidden": mx.zeros((3, 5))},
    ],
    ids=["width", "no step", "hidden width", "hidden batch"],
)
def test_what_mlx_refuses_is_refused_with_the_same_type(call: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  whatever the text of mlx
        mlx.nn.LSTM(3, 5)(**call)
    with pytest.raises(ValueError, match=r"mlx.nn.LSTM .*expected .*, got ") as mine:
        nn.LSTM(3, 5)(**call)
    assert isinstance(mine.value, BridgeError)


def test_one_step_at_a_time_is_the_whole_sequence() -> None:
    module, x = nn.LSTM(3, 5), mx.random.normal((2, 6, 3))
    hs, cs = module(x)
    h = c = None
    for t in range(6):
        h, c = (s[:, -1] for s in module(x[:, t : t + 1], h, c))
    np.testing.assert_allclose(np.array(h), np.array(hs[:, -1]), rtol=0, atol=8 * 2.0**-23)
    np.testing.assert_allclose(np.array(c), np.array(cs[:, -1]), rtol=0, atol=8 * 2.0**-23)


def test_transformations() -> None:
    module, x = nn.LSTM(3, 5), mx.random.normal((4, 6, 3))
    expected = module(x)
    for mine, other in zip(mx.vmap(module)(x), expected, strict=True):
        np.testing.assert_allclose(np.array(mine), np.array(other), rtol=0, atol=8 * 2.0**-23)
    again = mlx.nn.utils.checkpoint(module)(x)
    assert all(mx.array_equal(a, b).item() for a, b in zip(again, expected, strict=True))
    loss, gradients = mlx.nn.value_and_grad(module, lambda m: m(x)[0].square().mean())(module)
    assert loss.item() > 0
    assert gradients.keys() == module.parameters().keys()
