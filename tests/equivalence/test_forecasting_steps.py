"""mLSTM and sLSTM layers step by step: every step alone, from the state it really started in."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import lstm_bridge
from lstm_bridge.equivalence.oracle import ONE_STEP, ORACLES
from lstm_bridge.equivalence.parties import party_of
from lstm_bridge.pytorch_forecasting import layers as ported_layers

torch = pytest.importorskip("torch", reason="single steps are compared with live torch")
layers = pytest.importorskip("pytorch_forecasting.layers", reason="the original's layers")


def pair(name: str) -> tuple[Any, Any]:
    torch.manual_seed(2)
    module = getattr(layers, name)(3, 5, 2).eval()
    port = getattr(ported_layers, name)(3, 5, 2).eval()
    state = {k: mx.array(v.numpy()) for k, v in module.state_dict().items()}
    port.load_weights(list(state.items()))
    return module, port


@pytest.mark.parametrize("name", ["mLSTMLayer", "sLSTMLayer"])
def test_every_step_alone_is_judged_too(name: str) -> None:
    module, port = pair(name)
    report = lstm_bridge.compare(module, port)
    assert report.passed, report.layers[0].reason
    assert [a.name.startswith("one step: ") for a in report.layers[0].one_step]
    assert len(report.layers[0].one_step) >= 3


@pytest.mark.parametrize("name", ["mLSTMLayer", "sLSTMLayer"])
def test_single_steps_give_the_sequence_s_own_outputs(name: str) -> None:
    module, _ = pair(name)
    party = party_of(module, "source")
    rng = np.random.default_rng(3)
    x = rng.normal(size=(6, 4, 3))
    if name == "mLSTMLayer":
        states: tuple[Any, ...] = tuple(rng.normal(size=(2, 4, 5)) for _ in range(3))
    else:
        states = tuple([rng.normal(size=(4, 5)) for _ in range(2)] for _ in range(2))
    whole = ORACLES[party.kind](party.options, party.params, x, *states)[0]
    steps = ONE_STEP[party.kind](party.options, party.params, (x, *states))
    alone = ORACLES[party.kind](party.options, party.params, *steps)[0]
    np.testing.assert_allclose(alone.reshape(whole.shape), whole, rtol=1e-12, atol=1e-14)


def test_a_wrong_step_is_caught() -> None:
    module, port = pair("mLSTMLayer")
    name = next(n for n, _ in module.named_parameters() if "Wf" in n and n.endswith("weight"))
    value = mx.array(dict(module.named_parameters())[name].detach().numpy())
    port.load_weights([(name, -value)], strict=False)
    assert not lstm_bridge.compare(module, port).passed
