"""The oracle against live pytorch-forecasting in float64, and gradients by finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lstm_bridge.equivalence.kinds import example_inputs
from lstm_bridge.equivalence.oracle import GRADIENTS, ORACLES
from lstm_bridge.equivalence.tree import apply, leaves

torch = pytest.importorskip("torch", reason="parity needs torch")
layers = pytest.importorskip(
    "pytorch_forecasting.layers", reason="parity needs pytorch-forecasting"
)

D, H = 4, 5
CELL = {"input_size": D, "hidden_size": H}
STACK = {**CELL, "num_layers": 2}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("mLSTMCell", {**CELL, "layer_norm": True}),
    ("mLSTMCell", {**CELL, "layer_norm": False}),
    ("mLSTMLayer", {**STACK, "layer_norm": True, "residual_conn": True}),
    ("mLSTMLayer", {**STACK, "layer_norm": False, "residual_conn": False}),
    ("mLSTMNetwork", {**STACK, "output_size": 2, "use_residual": True}),
    ("mLSTMNetwork", {**STACK, "output_size": 2, "use_residual": False}),
    ("sLSTMCell", {**CELL, "use_layer_norm": True}),
    ("sLSTMCell", {**CELL, "use_layer_norm": False}),
    ("sLSTMLayer", {**STACK, "use_layer_norm": True, "use_residual": True}),
    ("sLSTMLayer", {**STACK, "use_layer_norm": False, "use_residual": False}),
    ("sLSTMLayer", {**STACK, "input_size": H}),
    ("sLSTMNetwork", {**STACK, "output_size": 2}),
]


def make(name: str, options: dict[str, Any]) -> tuple[Any, dict[str, np.ndarray]]:
    torch.manual_seed(4)
    module = getattr(layers, name)(**options).double().eval()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn_like(p) * 0.6 + 0.1)
    return module, {k: v.detach().numpy() for k, v in module.state_dict().items()}


@pytest.mark.parametrize(("name", "options"), CASES)
def test_values_equal_pytorch_forecasting(name: str, options: dict[str, Any]) -> None:
    kind = f"pytorch_forecasting.layers.{name}"
    module, params = make(name, options)
    inputs = apply(np.float64, example_inputs(kind, options, params))
    theirs = leaves(module(*apply(torch.tensor, inputs)))
    for a, b in zip(leaves(ORACLES[kind](options, params, *inputs)), theirs, strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["mLSTMNetwork", "sLSTMNetwork"])
def test_states_may_be_left_out(name: str) -> None:
    options = {**STACK, "output_size": 2}
    kind = f"pytorch_forecasting.layers.{name}"
    module, params = make(name, options)
    if name == "mLSTMNetwork":
        module = module.float()  # its initial zeros are float32
    x = example_inputs(kind, options, params)[0]
    dtype = next(module.parameters()).dtype
    theirs = module(torch.tensor(x).to(dtype)) if name[0] == "m" else None
    ours = ORACLES[kind](options, params, x)
    zeros = apply(np.zeros_like, example_inputs(kind, options, params)[1:])
    for a, b in zip(leaves(ours), leaves(ORACLES[kind](options, params, x, *zeros)), strict=True):
        np.testing.assert_array_equal(a, b)
    if theirs is not None:
        np.testing.assert_allclose(ours[0], theirs[0].detach().numpy(), atol=1e-5)


@pytest.mark.parametrize(("name", "options"), [CASES[0], CASES[6], CASES[8]])
def test_gradients_equal_torch(name: str, options: dict[str, Any]) -> None:
    kind = f"pytorch_forecasting.layers.{name}"
    module, params = make(name, options)
    x, *states = apply(np.float64, example_inputs(kind, options, params))
    inputs = (x[:3] if name.endswith("Layer") else x, *states)
    # The layer writes into the lists it is given, so torch gets its own.
    held = [torch.tensor(a, requires_grad=True) for a in leaves(inputs)]
    fresh = iter(held)
    outs = leaves(module(*apply(lambda _: next(fresh), inputs)))
    rng = np.random.default_rng(5)
    ends = [rng.normal(size=tuple(o.shape)) for o in outs]
    live = [(o, torch.tensor(e)) for o, e in zip(outs, ends, strict=True) if o.requires_grad]
    wanted = torch.autograd.grad(
        [o for o, _ in live],
        [*held, *module.parameters()],
        [e for _, e in live],
        materialize_grads=True,
        allow_unused=True,
    )
    found = GRADIENTS[kind](options, params, inputs, ends)
    assert len(found) == len(wanted)
    for (label, a), b in zip(found.items(), wanted, strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-6, atol=1e-7, err_msg=label)


def test_a_swapped_gate_is_seen() -> None:
    name, options = CASES[0]
    kind = f"pytorch_forecasting.layers.{name}"
    _, params = make(name, options)
    inputs = example_inputs(kind, options, params)
    wrong = {**params, "Wi.weight": params["Wf.weight"], "Wf.weight": params["Wi.weight"]}
    a, b = (leaves(ORACLES[kind](options, p, *inputs))[0] for p in (params, wrong))
    assert np.abs(a - b).max() > 1e-3
