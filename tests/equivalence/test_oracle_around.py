"""The oracle of the layers around LSTMs: against live frameworks in float64, and by the policy."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import lstm_bridge.keras.layers
import lstm_bridge.torch.nn
from lstm_bridge.equivalence.compare import compare
from lstm_bridge.equivalence.kinds import example_inputs
from lstm_bridge.equivalence.oracle import GATED, KERAS_LAYERS, ONE_STATE, ORACLES, TORCH_LAYERS
from lstm_bridge.equivalence.parties import party_of
from lstm_bridge.equivalence.parties.keras import in_dtype, variables
from lstm_bridge.equivalence.parties.torch import torch_party
from lstm_bridge.equivalence.tree import leaves

torch = pytest.importorskip("torch", reason="the oracle is checked against live torch")
keras = pytest.importorskip("keras", reason="the oracle is checked against live Keras")

D, H = 6, 4
TORCH: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {
    "Linear": [((D, H), {}), ((D, H), {"bias": False})],
    "Embedding": [((9, 5), {"padding_idx": 2})],
    "Conv1d": [
        ((D, H, 3), {"padding": 2, "stride": 2}),
        ((D, H, 2), {"groups": 2, "dilation": 2, "bias": False}),
        ((D, H, 3), {"padding": "same"}),
    ],
    "MaxPool1d": [((3,), {"stride": 2, "padding": 1})],
    "AvgPool1d": [((2,), {}), ((3,), {"stride": 1, "padding": 1})],
    "LayerNorm": [((D,), {}), (((7, D),), {"eps": 1e-3})],
    "BatchNorm1d": [((D,), {}), ((D,), {"affine": False, "eps": 1e-2})],
    "GroupNorm": [((2, D), {})],
    "RMSNorm": [((D,), {"eps": 1e-4})],
    "LeakyReLU": [((0.2,), {})],
    "ELU": [((0.7,), {})],
    "GELU": [((), {}), ((), {"approximate": "tanh"})],
    "Softmax": [((1,), {}), ((-1,), {})],
    "Flatten": [((), {}), ((), {"start_dim": 0, "end_dim": 1})],
    "GRU": [((D, H), {}), ((D, H, 2), {"bidirectional": True, "batch_first": True})],
    "RNN": [((D, H), {"nonlinearity": "relu"}), ((D, H), {"bidirectional": True, "bias": False})],
    "GRUCell": [((D, H), {})],
    "RNNCell": [((D, H), {"nonlinearity": "relu"}), ((D, H), {})],
}
KERAS: dict[str, list[dict[str, Any]]] = {
    "Dense": [{"units": H, "activation": "gelu"}, {"units": H, "use_bias": False}],
    "Embedding": [{"input_dim": 9, "output_dim": 5}],
    "Conv1D": [
        {"filters": H, "kernel_size": 3, "padding": "same", "strides": 2},
        {"filters": H, "kernel_size": 2, "padding": "causal", "dilation_rate": 2},
        {"filters": H, "kernel_size": 3, "groups": 2, "activation": "tanh", "use_bias": False},
    ],
    "MaxPooling1D": [{"pool_size": 3, "strides": 2}, {"pool_size": 2, "padding": "same"}],
    "AveragePooling1D": [{"pool_size": 3, "padding": "same", "strides": 2}, {"pool_size": 2}],
    "GlobalMaxPooling1D": [{"keepdims": True}],
    "GlobalAveragePooling1D": [{}],
    "LayerNormalization": [{}, {"axis": [1, 2], "epsilon": 1e-2}],
    "BatchNormalization": [{}, {"scale": False, "axis": 1}],
    "Activation": [{"activation": "swish"}],
    "ReLU": [{"max_value": 0.5, "negative_slope": 0.1}],
    "Softmax": [{"axis": 1}],
    "Rescaling": [{"scale": 0.5, "offset": -2.0}],
    "Dropout": [{"rate": 0.5}],
    "SpatialDropout1D": [{"rate": 0.5}],
    "GaussianDropout": [{"rate": 0.5}],
    "GaussianNoise": [{"stddev": 0.5}],
    "Reshape": [{"target_shape": (3, 2)}],
    "Permute": [{"dims": (2, 1)}],
    "RepeatVector": [{"n": 3}],
    "ZeroPadding1D": [{"padding": (2, 1)}],
    "Cropping1D": [{"cropping": (2, 1)}],
    "UpSampling1D": [{"size": 2}],
    "GRU": [
        {"units": H, "return_sequences": True, "return_state": True},
        {"units": H, "reset_after": False, "go_backwards": True, "activation": "relu"},
    ],
    "SimpleRNN": [{"units": H, "return_sequences": True, "return_state": True, "use_bias": False}],
    "GRUCell": [{"units": H}, {"units": H, "reset_after": False}],
    "SimpleRNNCell": [{"units": H}],
}


def torch_cases() -> list[Any]:
    names = [k.rpartition(".")[2] for k in {**TORCH_LAYERS, **ONE_STATE} if k.startswith("torch.")]
    return [(n, *made) for n in names for made in TORCH.get(n, [((), {})])]


def keras_cases() -> list[Any]:
    names = [k.rpartition(".")[2] for k in {**KERAS_LAYERS, **ONE_STATE} if k.startswith("keras.")]
    return [(n, options) for n in names for options in KERAS.get(n, [{}])]


def torch_module(name: str, args: Any, options: Any) -> Any:
    torch.manual_seed(3)
    module = getattr(torch.nn, name)(*args, **options).eval()
    with torch.no_grad():
        for t in (*module.parameters(), *(b for b in module.buffers() if b.is_floating_point())):
            t.copy_(torch.rand_like(t) + 0.1)
    return module


@pytest.mark.parametrize(("name", "args", "options"), torch_cases())
def test_torch_layers(name: str, args: Any, options: Any) -> None:
    module = torch_module(name, args, options)
    party = party_of(module, "source")
    assert party.kind == f"torch.nn.{name}"
    inputs = example_inputs(party.kind, party.options, party.params)
    exact(party, torch_party(module, "", "float64"), inputs)
    port = getattr(lstm_bridge.torch.nn, name)(*args, **options)
    state = {k: mx.array(v.numpy()) for k, v in module.state_dict().items()}
    port.load_state_dict(state)
    report = compare(module, port, gradients=bool(party.params) or name != "Flatten")
    assert report.passed, report.to_json()["layers"][0]["reason"]


@pytest.mark.parametrize(("name", "options"), keras_cases())
def test_keras_layers(name: str, options: Any) -> None:
    layer, inputs, shape = keras_layer(name, options)
    party = party_of(layer, "source")
    assert party.kind == f"keras.layers.{name}"
    double = in_dtype(layer, "float64")
    exact(party, party_of(double, "source"), inputs)
    port = getattr(lstm_bridge.keras.layers, name).from_config(layer.get_config())
    if not port.built:
        port.build(shape)
    weights = {k: mx.array(v.value.detach().numpy()) for k, v in variables(layer).items()}
    port.load_weights(list(weights.items()))
    report = compare(layer, port, inputs, gradients=True)
    assert report.passed, report.to_json()["layers"][0]["reason"]


def keras_layer(name: str, options: Any) -> tuple[Any, tuple[Any, ...], Any]:
    """A built layer with random weights, inputs of it, and the shape it was built with."""
    keras.utils.set_random_seed(4)
    cls = getattr(keras.layers, name)
    layer = cls(**options)
    kind = f"keras.layers.{name}"
    shape: Any = (None, 7, D)
    if name.endswith("Cell") or (
        kind in KERAS_LAYERS and name in ("Reshape", "RepeatVector", "Embedding")
    ):
        shape = (None, D)
    elif name in ("Add", "Multiply", "Maximum", "Minimum", "Subtract", "Average", "Concatenate"):
        shape = [(None, 7, D)] * 2
    if not layer.built:
        layer.build(shape)
    rng = np.random.default_rng(5)
    for variable in variables(layer).values():
        variable.assign(rng.uniform(0.1, 0.9, variable.shape).astype(np.float32))
    party = party_of(layer, "source")
    if name == "LayerNormalization" and options:
        inputs: tuple[Any, ...] = (rng.normal(size=(4, 7, D)).astype(np.float32),)
    elif name == "BatchNormalization" and options:
        inputs = (rng.normal(size=(4, 7, D)).astype(np.float32),)
    else:
        inputs = example_inputs(kind, party.options, party.params)
    return layer, inputs, shape


def exact(party: Any, double: Any, inputs: Any) -> None:
    """The oracle and the live framework, both in float64, agree to a few roundings."""
    truth = leaves(ORACLES[party.kind](party.options, party.params, *inputs))
    live = leaves(double.call(inputs))
    assert len(truth) == len(live)
    for a, b in zip(truth, live, strict=True):
        assert a.dtype == np.float64
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("cls", ["GRU", "SimpleRNN"])
def test_keras_masks(cls: str) -> None:
    options = {"units": H, "return_sequences": True, "zero_output_for_mask": cls == "GRU"}
    layer = getattr(keras.layers, cls)(**options)
    layer.build((None, 7, D))
    rng = np.random.default_rng(6)
    x = rng.normal(size=(4, 7, D)).astype(np.float32)
    mask = np.arange(7) < np.array([7, 3, 1, 0])[:, None]
    exact(
        party_of(layer, "source"), party_of(in_dtype(layer, "float64"), "source"), (x, None, mask)
    )


def test_a_wrong_port_of_a_layer_around_is_caught() -> None:
    module = torch_module("GRU", (D, H), {})
    port = lstm_bridge.torch.nn.GRU(D, H)
    state = {k: mx.roll(mx.array(v.numpy()), H, 0) for k, v in module.state_dict().items()}
    port.load_state_dict(state)  # r, z, n in another order
    assert not compare(module, port).passed
    norm = torch_module("BatchNorm1d", (D,), {})
    other = lstm_bridge.torch.nn.BatchNorm1d(D).eval()
    own = {k: mx.array(v.numpy()) for k, v in norm.state_dict().items()}
    other.load_state_dict({**own, "running_var": own["running_mean"]})
    assert not compare(norm, other).passed


def test_wrappers_of_other_cells_are_not_taken_for_lstms() -> None:
    for layer in (
        keras.layers.Bidirectional(keras.layers.GRU(H)),
        keras.layers.RNN(keras.layers.GRUCell(H)),
        keras.layers.RNN([keras.layers.LSTMCell(H), keras.layers.GRUCell(H)]),
    ):
        layer.build((None, 7, D))
        assert party_of(layer, "source").kind == ""
    both = keras.layers.RNN([keras.layers.LSTMCell(H), keras.layers.LSTMCell(H)])
    both.build((None, 7, D))
    assert party_of(both, "source").kind == "keras.layers.RNN"


def test_only_layers_with_gates_have_the_known_mistakes() -> None:
    assert set(ORACLES) - GATED == {*TORCH_LAYERS, *KERAS_LAYERS, *ONE_STATE}
