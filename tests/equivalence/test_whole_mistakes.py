"""Mistakes of whole models, made on purpose in ports: each is caught, and its layer named."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

import lstm_bridge
from lstm_bridge.models.keras.load import model_from_json

pytestmark = pytest.mark.filterwarnings("ignore:Layer 'window':UserWarning")

keras = pytest.importorskip("keras", reason="the ports are compared with live Keras")
k = keras.layers
N, L = 4, 9


def original() -> Any:
    keras.utils.set_random_seed(7)
    tokens = keras.Input((L,), dtype="int32", name="tokens")
    x = k.Embedding(11, 6, mask_zero=True, name="table")(tokens)
    x = k.LSTM(6, return_sequences=True, name="first")(x)
    x = k.LSTM(6, return_sequences=True, name="second")(x)
    x = k.BatchNormalization(name="statistics", epsilon=1e-3)(x)
    x = k.LayerNormalization(name="norm")(x)
    x = k.Dense(6, activation="tanh", name="dense")(x)
    x = k.Conv1D(4, 3, padding="causal", name="window")(x)
    model = keras.Model(tokens, k.Flatten(name="flat")(x))
    rng = np.random.default_rng(8)
    for weight in model.weights:
        low = 0.3 if "variance" in weight.name else -0.6
        weight.assign(rng.uniform(low, 0.7, weight.shape).astype(np.float32))
    return model


def ported(model: Any, change: Callable[[str], str] = str) -> Any:
    """A port of the model's own config, perhaps changed, with the model's weights."""
    made = model_from_json(change(model.to_json()))
    arrays = {}
    for layer in model.layers:
        for weight in layer.weights:
            cell = "cell." if layer.name in ("first", "second") else ""
            name = f"{layer.name}.{cell}{weight.name}"
            arrays[name] = mx.array(weight.value.detach().numpy())
    made.load_weights(list(arrays.items()))
    return made


def swapped(port: Any) -> None:
    first, second = (dict(port.get_layer(n).parameters()) for n in ("first", "second"))
    port.get_layer("first").update(second)
    port.get_layer("second").update(first)


def replaced(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return change


def unmasked(text: str) -> str:
    """Keras writes masks as arguments of the calls, beside the option that made them."""
    config = json.loads(text.replace('"mask_zero": true', '"mask_zero": false'))
    for layer in config["config"]["layers"]:
        for node in layer["inbound_nodes"]:
            node["kwargs"].pop("mask", None)
    return json.dumps(config)


CONFIGS = {
    "the mask dropped": (unmasked, "first"),
    "the padding on the other side": (replaced('"causal"', '"same"'), "window"),
    "another epsilon": (replaced('"epsilon": 0.001', '"epsilon": 0.01'), "statistics"),
    "another activation": (
        replaced('"activation": "tanh", "use_bias"', '"activation": "softsign", "use_bias"'),
        "",
    ),
}


def inputs() -> Any:
    tokens = np.random.default_rng(9).integers(1, 11, (N, L), dtype=np.int32)
    tokens[0, 5:] = 0
    tokens[2, 2:] = 0
    return tokens


def test_the_right_port_passes() -> None:
    model = original()
    report = lstm_bridge.compare(model, ported(model), inputs())
    assert report.passed, report.layers[0].reason
    assert report.layers[0].oracle == "NumPy float64 oracle of the whole"


@pytest.mark.parametrize("mistake", CONFIGS)
def test_a_mistake_in_the_architecture_is_caught_where_it_is(mistake: str) -> None:
    change, layer = CONFIGS[mistake]
    model = original()
    report = lstm_bridge.compare(model, ported(model, change), inputs())
    assert not report.passed
    assert layer in str(report.first_divergence)


def test_two_layers_weights_swapped_are_caught() -> None:
    model = original()
    port = ported(model)
    swapped(port)
    report = lstm_bridge.compare(model, port, inputs())
    assert not report.passed
    assert "first" in str(report.first_divergence)


@pytest.mark.parametrize("name", ["norm", "statistics"])
def test_a_normalization_of_another_axis_is_caught(name: str) -> None:
    model = original()
    port = ported(model)
    layer = port.get_layer(name)
    right = type(layer).call

    class Turned(type(layer)):  # type: ignore[misc]
        def call(self, inputs: Any, *args: Any, **named: Any) -> Any:
            return right(self, inputs[:, ::-1], *args, **named)

    object.__setattr__(layer, "__class__", Turned)
    report = lstm_bridge.compare(model, port, inputs())
    assert not report.passed
    assert name in str(report.first_divergence)
