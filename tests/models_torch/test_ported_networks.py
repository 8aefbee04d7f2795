"""Whole torch modules as MLX models: values and gradients, and spoilt ports that must be caught."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import lstm_bridge

torch = pytest.importorskip("torch", reason="ports start from live torch modules")

_SPEC = importlib.util.spec_from_file_location(
    "ported_networks", Path(__file__).with_name("ported_networks.py")
)
assert _SPEC is not None
assert _SPEC.loader is not None
networks = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(networks)


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_a_ported_network_is_torchs(parity: Any, failures: Any, name: str) -> None:
    verdicts = parity(networks.NETWORKS[name](), networks.draws(name))
    assert sum(key.startswith("d ") for key in verdicts) >= 2
    assert failures(verdicts) == []


def swap_weights(ported: Any) -> None:
    ported.lstm.weight_ih_l1, ported.lstm.weight_hh_l1 = (
        ported.lstm.weight_hh_l1,
        ported.lstm.weight_ih_l1,
    )


def keep_dropping(ported: Any) -> None:
    ported.train()


def shift_bias(ported: Any) -> None:
    ported.fc.bias = ported.fc.bias[::-1]


def read_the_first_step(ported: Any) -> Any:
    description = ported.describe()
    text = str(description["graph"]).replace(
        "{'tuple': [{'slice': [None, None, None]}, -1,",
        "{'tuple': [{'slice': [None, None, None]}, 0,",
    )
    assert text != str(description["graph"])
    import ast

    from mlx.utils import tree_flatten

    graph = ast.literal_eval(text)
    arrays = dict(tree_flatten(ported.parameters()))
    return type(ported).from_description(description | {"graph": graph}, arrays)


@pytest.mark.parametrize("mutate", [swap_weights, keep_dropping, shift_bias, read_the_first_step])
def test_a_spoilt_port_is_caught(parity: Any, failures: Any, mutate: Any) -> None:
    draw = networks.draws("LSTMModel")
    assert failures(parity(networks.LSTMModel(), draw)) == []
    assert failures(parity(networks.LSTMModel(), draw, mutate=mutate, gradients=False)) != []


def test_the_sequence_length_and_the_batch_stay_free() -> None:
    module = networks.LSTMModel().eval()
    ported = lstm_bridge.port(module)
    for shape in [(1, 1, 3), (5, 9, 3), (2, 30, 3)]:
        x = torch.randn(*shape)
        with torch.no_grad():
            wanted = module(x).numpy()
        assert np.abs(np.array(ported(mx.array(x.numpy()))) - wanted).max() < 1e-6


def test_names_are_torchs_and_a_call_takes_them() -> None:
    module = networks.TwoInputs()
    ported = lstm_bridge.port(module)
    assert list(ported.state_dict()) == list(module.state_dict()) or set(
        ported.state_dict()
    ) == set(module.state_dict())
    assert ported.graph.inputs == ("series", "features")
    series, features = mx.ones((2, 5, 3)), mx.ones((2, 2))
    a, b = ported(series, features), ported(features=features, series=series)
    assert mx.array_equal(a[0], b[0]).item()


def test_an_example_makes_inputs_of_optional_arguments(parity: Any, failures: Any) -> None:
    def draw(seed: int) -> tuple[Any, ...]:
        torch.manual_seed(seed)
        state = (torch.randn(1, 2, 6), torch.randn(1, 2, 6))
        return torch.randint(0, 11, (5, 2)), state

    verdicts = parity(networks.Tied(), draw, example_inputs=draw(0))
    assert failures(verdicts) == []


def test_an_example_fixes_plain_arguments() -> None:
    module = networks.TwoInputs().eval()
    ported = lstm_bridge.port(module, {"scale": 3.0})
    series, features = torch.randn(2, 5, 3), torch.randn(2, 2)
    with torch.no_grad():
        wanted = module(series, features, 3.0)[0].numpy()
    got = ported(mx.array(series.numpy()), mx.array(features.numpy()))[0]
    assert np.abs(np.array(got) - wanted).max() < 1e-6


def test_dropout_follows_train_and_eval() -> None:
    ported = lstm_bridge.port(networks.LSTMModel())
    x = mx.random.normal((4, 6, 3))
    ported.train()
    assert not mx.array_equal(ported(x), ported(x)).item()
    ported.eval()
    assert mx.array_equal(ported(x), ported(x)).item()


def test_a_port_keeps_the_modules_mode() -> None:
    module = networks.LSTMModel()
    assert lstm_bridge.port(module.eval()).training is False
    assert lstm_bridge.port(module.train()).training is True
    assert module.training
    assert module.lstm.training


def test_porting_leaves_the_module_and_its_source_as_they_were() -> None:
    module = networks.ConvRecurrent()
    before = {n: t.clone() for n, t in module.state_dict().items()}
    names = set(vars(module))
    lstm_bridge.port(module)
    assert set(vars(module)) == names
    assert all(torch.equal(t, before[n]) for n, t in module.state_dict().items())
    assert "len" not in vars(networks)


def test_a_single_layer_ports_to_the_layer_itself() -> None:
    module = torch.nn.GRU(3, 4).eval()
    ported = lstm_bridge.port(module)
    assert type(ported) is lstm_bridge.torch.nn.GRU
    x = torch.randn(5, 2, 3)
    with torch.no_grad():
        wanted = module(x)[0].numpy()
    assert np.abs(np.array(ported(mx.array(x.numpy()))[0]) - wanted).max() < 1e-6


def test_frozen_parameters_and_buffers_do_not_train() -> None:
    from mlx.utils import tree_flatten

    module = networks.ConvRecurrent()
    module.conv.weight.requires_grad_(False)
    ported = lstm_bridge.port(module)
    trainable = {name for name, _ in tree_flatten(ported.trainable_parameters())}
    wanted = {name for name, p in module.named_parameters() if p.requires_grad}
    assert trainable == wanted
    ported.unfreeze()
    trainable = {name for name, _ in tree_flatten(ported.trainable_parameters())}
    assert trainable == set(dict(module.named_parameters()))
