"""The oracle of the layers around LSTMs: against live frameworks in float64, and by the policy."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import lstm_bridge.keras.layers
import lstm_bridge.torch.nn
from lstm_bridge.equivalence.compare import compare
from lstm_bridge.equivalence.kinds import example_inputs
from lstm_bridge.equivalence.oracle import ORACLES, PLAIN_KINDS, has_known_mistakes
from lstm_bridge.equivalence.parties import party_of
from lstm_bridge.equivalence.parties.keras import in_dtype, variables
from lstm_bridge.equivalence.parties.torch import torch_party
from lstm_bridge.equivalence.tree import leaves
from lstm_bridge.models.classes import FRONT_ENDS, find_class

torch = pytest.importorskip("torch", reason="the oracle is checked against live torch")
keras = pytest.importorskip("keras", reason="the oracle is checked against live Keras")

D, H = 6, 4
TORCH: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {
    "Linear": [((D, H), {}), ((D, H), {"bias": False})],
    "Embedding": [((9, 5), {"padding_idx": 2}), ((9, 5), {"max_norm": 1.5, "norm_type": 3.0})],
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
    "Unflatten": [((1, (2, 3)), {})],
    "Bilinear": [((D, H, 3), {}), ((D, H, 3), {"bias": False})],
    "EmbeddingBag": [
        ((9, 5), {}),
        ((9, 5), {"mode": "max", "padding_idx": 2}),
        ((9, 5), {"max_norm": 1.5}),
    ],
    "Conv2d": [
        ((D, H, 3), {"padding": (1, 2), "stride": (2, 1)}),
        ((D, H, (2, 3)), {"groups": 2, "padding_mode": "replicate", "padding": 1}),
    ],
    "ConvTranspose1d": [
        ((D, H, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
        ((D, H, 3), {"groups": 2, "dilation": 2, "bias": False}),
    ],
    "MaxPool2d": [((2,), {"ceil_mode": True}), (((2, 3),), {"stride": 2, "dilation": 2})],
    "AvgPool2d": [((3,), {"padding": 1, "count_include_pad": False, "ceil_mode": True})],
    "AdaptiveAvgPool1d": [((3,), {})],
    "AdaptiveMaxPool1d": [((3,), {})],
    "AdaptiveAvgPool2d": [(((3, None),), {})],
    "AdaptiveMaxPool2d": [((3,), {})],
    "BatchNorm2d": [((D,), {})],
    "InstanceNorm1d": [((D,), {"affine": True}), ((D,), {"track_running_stats": True})],
    "MultiheadAttention": [
        ((D, 2), {"batch_first": True}),
        ((D, 3), {"bias": False, "kdim": 5, "vdim": 4}),
        ((D, 2), {"add_bias_kv": True, "add_zero_attn": True}),
    ],
    "PReLU": [((), {}), ((D,), {})],
    "CELU": [((0.7,), {})],
    "GLU": [((), {}), ((-1,), {})],
    "Hardtanh": [((-0.3, 0.4), {})],
    "Hardshrink": [((0.3,), {})],
    "Softshrink": [((0.3,), {})],
    "Softplus": [((2.0, 1.0), {})],
    "Softmin": [((1,), {})],
    "LogSoftmax": [((1,), {})],
    "Threshold": [((0.1, -2.0), {})],
    "PairwiseDistance": [((3.0,), {"keepdim": True}), ((), {})],
    "CosineSimilarity": [((), {})],
    "ConstantPad1d": [(((2, 1), 0.5), {})],
    "ZeroPad1d": [((2,), {})],
    "ReflectionPad1d": [(((2, 1),), {})],
    "ReplicationPad1d": [((2,), {})],
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
    "ActivityRegularization": [{"l1": 0.5, "l2": 0.25}],
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
    "Conv2D": [
        {"filters": H, "kernel_size": (3, 2), "padding": "same", "strides": 2},
        {"filters": H, "kernel_size": 2, "groups": 2, "activation": "tanh", "dilation_rate": 2},
    ],
    "SeparableConv1D": [
        {"filters": H, "kernel_size": 3, "depth_multiplier": 2, "padding": "same", "strides": 2},
        {"filters": H, "kernel_size": 2, "use_bias": False, "dilation_rate": 2},
    ],
    "MaxPooling2D": [{"pool_size": (3, 2), "padding": "same"}],
    "AveragePooling2D": [{"pool_size": 3, "strides": (2, 1), "padding": "same"}],
    "GlobalMaxPooling2D": [{"keepdims": True}],
    "AlphaDropout": [{"rate": 0.5}],
    "Attention": [
        {"use_scale": True},
        {"score_mode": "concat"},
        {"use_scale": True, "score_mode": "concat"},
    ],
    "AdditiveAttention": [{}, {"use_scale": False}],
    "MultiHeadAttention": [
        {"num_heads": 3, "key_dim": 4},
        {
            "num_heads": 2,
            "key_dim": 4,
            "value_dim": 3,
            "use_bias": False,
            "output_shape": 5,
            "sliding_window": 3,
        },
    ],
    "Dot": [{"axes": 2, "normalize": True}, {"axes": (1, 2)}],
    "Normalization": [{}, {"invert": True, "axis": (1, 2)}],
    "UnitNormalization": [{"axis": 1}],
    "PReLU": [{}, {"shared_axes": [1]}],
    "Masking": [{"mask_value": 0.25}],
    "ConvLSTM1D": [
        {"filters": H, "kernel_size": 3, "return_sequences": True, "strides": 2},
        {
            "filters": H,
            "kernel_size": 2,
            "padding": "same",
            "go_backwards": True,
            "return_state": True,
            "recurrent_activation": "hard_sigmoid",
        },
    ],
    "ConvLSTM2D": [{"filters": H, "kernel_size": (3, 2), "dilation_rate": 2, "use_bias": False}],
}
ALL = {"return_sequences": True, "return_state": True}
WRAPPED: dict[str, Any] = {
    "RNN of GRU": lambda k: k.RNN(k.GRUCell(H, reset_after=False), **ALL),
    "RNN of cells": lambda k: k.RNN([k.LSTMCell(H), k.GRUCell(5), k.SimpleRNNCell(3)], **ALL),
    "StackedRNNCells": lambda k: k.StackedRNNCells([k.GRUCell(5), k.LSTMCell(H)]),
    "Bidirectional GRU": lambda k: k.Bidirectional(k.GRU(H, **ALL), merge_mode="ave"),
    "Bidirectional SimpleRNN": lambda k: k.Bidirectional(
        k.SimpleRNN(H, return_sequences=True),
        backward_layer=k.SimpleRNN(H, return_sequences=True, go_backwards=True, activation="relu"),
        merge_mode=None,
    ),
    "TimeDistributed": lambda k: k.TimeDistributed(k.Dense(H, activation="tanh")),
    "TimeDistributed Conv1D": lambda k: k.TimeDistributed(k.Conv1D(H, 3)),
}


def names_of(package: str) -> list[str]:
    """The classes of plain oracles, but for those that wrap others."""
    wrapping = {"RNN", "StackedRNNCells", "Bidirectional", "TimeDistributed"}
    names = [k.rpartition(".")[2] for k in sorted(PLAIN_KINDS) if k.startswith(package)]
    return [n for n in names if n not in wrapping]


def torch_cases() -> list[Any]:
    return [(n, *made) for n in names_of("torch.") for made in TORCH.get(n, [((), {})])]


def keras_cases() -> list[Any]:
    return [(n, options) for n in names_of("keras.") for options in KERAS.get(n, [{}])]


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
    build(port, shape)
    weights = {k: mx.array(v.value.detach().numpy()) for k, v in variables(layer).items()}
    port.load_weights(list(weights.items()))
    report = compare(layer, port, inputs, gradients=True)
    assert report.passed, report.to_json()["layers"][0]["reason"]


def keras_layer(name: str, options: Any) -> tuple[Any, tuple[Any, ...], Any]:
    """A built layer with random weights, inputs of it, and the shape it was built with."""
    keras.utils.set_random_seed(4)
    cls = getattr(keras.layers, name)
    layer = cls(**options)
    shape = shape_for(name)
    return (*randomised(layer, shape), shape)


SHAPES: dict[str, Any] = {
    **dict.fromkeys(("Reshape", "RepeatVector", "Embedding"), (None, D)),
    **dict.fromkeys(
        ("Add", "Multiply", "Maximum", "Minimum", "Subtract", "Average", "Concatenate"),
        [(None, 7, D)] * 2,
    ),
    "Dot": [(None, D, D)] * 2,
    "Attention": [(None, 7, D)] * 3,
    "AdditiveAttention": [(None, 7, D)] * 3,
    "MultiHeadAttention": ((None, 7, D), (None, 9, 5), (None, 9, 3)),
    "ConvLSTM1D": (None, 7, 8, D),
    "ConvLSTM2D": (None, 7, 8, 9, D),
    "Conv2D": (None, 7, 8, D),
}


def shape_for(name: str) -> Any:
    return SHAPES.get(name, (None, D) if name.endswith(("Cell", "Cells")) else (None, 7, D))


def build(layer: Any, shape: Any) -> None:
    if not layer.built:
        layer.build(*shape) if isinstance(shape[0], tuple) and isinstance(
            shape, tuple
        ) else layer.build(shape)


def randomised(layer: Any, shape: Any) -> tuple[Any, tuple[Any, ...]]:
    """The layer built, with random weights, and inputs of it."""
    build(layer, shape)
    rng = np.random.default_rng(5)
    for variable in variables(layer).values():
        if "float" in str(variable.dtype):
            variable.assign(rng.uniform(0.1, 0.9, variable.shape).astype(np.float32))
    if getattr(layer, "adapt", None):  # what the weights say counts only after this
        layer.finalize_state()
    party = party_of(layer, "source")
    inputs = example_inputs(party.kind, party.options, party.params)
    if type(layer).__name__ in ("LayerNormalization", "BatchNormalization", "Normalization"):
        inputs = (rng.normal(size=(4, 7, D)).astype(np.float32),)
    return layer, inputs


def exact(party: Any, double: Any, inputs: Any) -> None:
    """The oracle and the live framework, both in float64, agree to a few roundings."""
    truth = leaves(ORACLES[party.kind](party.options, party.params, *inputs))
    live = leaves(double.call(inputs))
    assert len(truth) == len(live)
    for a, b in zip(truth, live, strict=True):
        assert a.dtype == np.float64
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", WRAPPED)
def test_keras_layers_that_run_others(name: str) -> None:
    shape = (None, D) if name.endswith("Cells") else (None, 7, D)
    shape = (None, 4, 7, D) if name.endswith("Conv1D") else shape
    layer, inputs = randomised(WRAPPED[name](keras.layers), shape)
    party = party_of(layer, "source")
    assert party.kind.endswith(type(layer).__name__)
    exact(party, party_of(in_dtype(layer, "float64"), "source"), inputs)
    port = WRAPPED[name](lstm_bridge.keras.layers)
    build(port, shape)
    weights = {k: mx.array(v.value.detach().numpy()) for k, v in variables(layer).items()}
    port.load_weights(list(weights.items()))
    report = compare(layer, port, inputs)
    assert report.passed, report.to_json()["layers"][0]["reason"]


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


def test_known_mistakes_are_of_lstm_cells_alone() -> None:
    def known(layer: Any) -> bool:
        layer.build((None, 7, D))
        party = party_of(layer, "source")
        return bool(party.kind) and has_known_mistakes(party.kind, party.options)

    k = keras.layers
    assert not known(k.RNN([k.LSTMCell(H), k.GRUCell(H)]))
    assert known(k.RNN([k.LSTMCell(H), k.LSTMCell(H)]))
    assert known(k.Bidirectional(k.LSTM(H)))


def half(x: Any) -> Any:
    return x / 2


class Halved(keras.layers.Dense):
    def call(self, inputs: Any, training: Any = None) -> Any:
        return super().call(inputs) / 2


class Doubled(torch.nn.Linear):
    def forward(self, input: Any) -> Any:  # noqa: A002
        return 2 * super().forward(input)


def test_what_a_sub_class_computes_is_not_taken_for_the_layer() -> None:
    halved = Halved(H)
    halved.build((None, D))
    assert party_of(halved, "source").kind == ""
    assert party_of(Doubled(D, H), "source").kind == ""
    cells = keras.layers.RNN(keras.layers.GRUCell(H, activation=half))
    cells.build((None, 7, D))
    assert party_of(cells, "source").kind == ""


BASES = {"Layer", "Wrapper", "Module", "ModuleDict", "ModuleList", "ParameterDict",
         "ParameterList", "Sequential", "EvalOnly", "Mode"}  # fmt: skip
"""Containers and flags, which compute nothing."""


def test_every_layer_of_the_front_ends_has_an_oracle() -> None:
    missing = []
    for package in FRONT_ENDS:
        module = import_module(f"lstm_bridge.{package}")
        for name in module.__all__:
            kind = f"{package}.{name}"
            if find_class(kind) is not None and name not in BASES and kind not in ORACLES:
                missing.append(kind)
    assert missing == []
