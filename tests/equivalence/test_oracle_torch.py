"""The oracle against live torch in float64: values, gradients, one-step inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_bridge.equivalence.oracle import GRADIENTS, ONE_STEP, ORACLES, torch_lstm, torch_lstm_cell
from lstm_bridge.equivalence.tree import leaves

torch = pytest.importorskip("torch", reason="parity with torch needs torch")

N, L, D, H = 3, 5, 4, 6


def make(seed: int = 0, **options: Any) -> tuple[Any, dict[str, np.ndarray]]:
    torch.manual_seed(seed)
    module = torch.nn.LSTM(D, H, **options).double()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn_like(p) * 0.6 + 0.1)
    return module, {k: v.detach().numpy() for k, v in module.state_dict().items()}


def draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(0.3, 0.8, shape)


OPTIONS = st.fixed_dictionaries(
    {
        "num_layers": st.integers(1, 3),
        "bidirectional": st.booleans(),
        "batch_first": st.booleans(),
        "bias": st.booleans(),
        "proj_size": st.sampled_from([0, 3]),
    }
)


@given(OPTIONS, st.booleans(), st.booleans(), st.integers(0, 99))
def test_values_and_gradients_equal_torch(
    options: dict[str, Any], batched: bool, with_state: bool, seed: int
) -> None:
    module, params = make(seed, **options)
    rng = np.random.default_rng(seed)
    K = options["num_layers"] * (1 + options["bidirectional"])
    P = options["proj_size"] or H
    x = draw(rng, *((N, L, D) if options["batch_first"] else (L, N, D)))
    h0, c0 = draw(rng, K, N, P), draw(rng, K, N, H)
    if not batched:
        x, h0, c0 = draw(rng, L, D), h0[:, 0], c0[:, 0]
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, h0, c0)]
    hx = tuple(tensors[1:]) if with_state else None
    outs = leaves(module(tensors[0], hx))
    inputs = (x, (h0, c0) if with_state else None)
    ours = leaves(ORACLES["torch.nn.LSTM"](options, params, *inputs))
    for a, b in zip(ours, outs, strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=0, atol=1e-13)

    cotangents = [draw(rng, *o.shape) for o in outs]
    torch.autograd.backward(outs, [torch.tensor(c) for c in cotangents])
    found = GRADIENTS["torch.nn.LSTM"](options, params, inputs, cotangents)
    wanted = {k: p.grad for k, p in module.named_parameters()} | {"x": tensors[0].grad}
    if with_state:
        wanted |= {"h0": tensors[1].grad, "c0": tensors[2].grad}
    assert set(wanted) <= set(found)
    for name, grad in wanted.items():
        np.testing.assert_allclose(found[name], grad.numpy(), rtol=1e-11, atol=1e-12, err_msg=name)


@given(OPTIONS.filter(lambda o: o["batch_first"]), st.integers(0, 99))
def test_packed_sequences_equal_torch(options: dict[str, Any], seed: int) -> None:
    module, params = make(seed, **options)
    rng = np.random.default_rng(seed)
    K = options["num_layers"] * (1 + options["bidirectional"])
    x, h0 = draw(rng, N, L, D), draw(rng, K, N, options["proj_size"] or H)
    c0, lengths = draw(rng, K, N, H), np.array([2, 4, 1])
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.tensor(x), torch.tensor(lengths), batch_first=True, enforce_sorted=False
    )
    y, state = module(packed, (torch.tensor(h0), torch.tensor(c0)))
    y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True)
    ours = torch_lstm(params, x, h0, c0, lengths=lengths, **options)
    for a, b in zip(leaves(ours), leaves((y, state)), strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("batched", [True, False])
def test_cell_values_and_gradients_equal_torch(batched: bool) -> None:
    torch.manual_seed(1)
    cell = torch.nn.LSTMCell(D, H).double()
    params = {k: v.detach().numpy() for k, v in cell.state_dict().items()}
    rng = np.random.default_rng(1)
    lead = (N,) if batched else ()
    tensors = [torch.tensor(draw(rng, *lead, w), requires_grad=True) for w in (D, H, H)]
    outs = cell(tensors[0], tuple(tensors[1:]))
    x, h, c = (t.detach().numpy() for t in tensors)
    for a, b in zip(torch_lstm_cell(params, x, h, c), outs, strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=0, atol=1e-14)
    cotangents = [draw(rng, *o.shape) for o in outs]
    torch.autograd.backward(outs, [torch.tensor(g) for g in cotangents])
    found = GRADIENTS["torch.nn.LSTMCell"]({}, params, (x, (h, c)), cotangents)
    wanted = dict(zip(("x", "h0", "c0"), (t.grad for t in tensors), strict=True))
    wanted |= {k: p.grad for k, p in cell.named_parameters()}
    assert set(wanted) == set(found)
    for name, grad in wanted.items():
        np.testing.assert_allclose(found[name], grad.numpy(), rtol=1e-12, atol=1e-13)


def test_one_step_inputs_repeat_the_sequence_step_by_step() -> None:
    options = {"num_layers": 2, "bidirectional": True, "batch_first": True}
    _, params = make(**options)
    rng = np.random.default_rng(2)
    inputs = (draw(rng, N, L, D), (draw(rng, 4, N, H), draw(rng, 4, N, H)))
    y, _ = ORACLES["torch.nn.LSTM"](options, params, *inputs)
    single = ONE_STEP["torch.nn.LSTM"](options, params, inputs)
    again, _ = ORACLES["torch.nn.LSTM"](options, params, *single)
    np.testing.assert_allclose(again.reshape(y.shape), y, rtol=0, atol=1e-15)


def test_a_permuted_gate_is_seen() -> None:
    module, params = make(batch_first=True)
    x = draw(np.random.default_rng(3), N, L, D)
    wrong = {k: np.concatenate([v[H : 2 * H], v[:H], v[2 * H :]]) for k, v in params.items()}
    y = module(torch.tensor(x))[0].detach().numpy()
    assert np.abs(torch_lstm(wrong, x, batch_first=True)[0] - y).max() > 1e-3
