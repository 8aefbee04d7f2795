"""Errors have Keras's types and name what was expected and what was received."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from lstm_bridge.errors import BridgeError, UnsupportedError
from lstm_bridge.keras import initializers, layers, regularizers

X = np.ones((2, 3, 4), dtype="float32")


def built(**options: Any) -> layers.LSTM:
    layer = layers.LSTM(5, **options)
    layer.build((2, 3, 4))
    return layer


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "axes": (lambda: layers.LSTM(5)(X[0]), r"expected 3 axes, got shape \[3, 4\]"),
    "width": (lambda: built()(X[:, :, :2]), "expected width 4, got width 2"),
    "no steps": (lambda: built()(X[:, :0]), "expected at least one time step, got none"),
    "mask": (
        lambda: built()(X, mask=np.ones((3, 2))),
        r"mask: expected shape \[2, 3\], got \[3, 2\]",
    ),
    "states": (lambda: built()(X, initial_state=[np.ones((2, 5))]), "expected 2 states, got 1"),
    "state": (
        lambda: built()(X, initial_state=[np.ones((2, 5)), np.ones((2, 4))]),
        r"state c: expected shape \[2, 5\], got \[2, 4\]",
    ),
    "units": (lambda: layers.LSTM(0), "units: expected a positive integer, got 0"),
    "unknown": (lambda: layers.LSTM(2, unitz=3), "got 'unitz'"),
    "name": (lambda: layers.LSTM(2, name="a/b"), "got 'a/b'"),
    "trainable": (lambda: layers.LSTM(2, trainable=1), "expected a boolean"),
    "cudnn": (lambda: layers.LSTM(2, use_cudnn=True), "no cuDNN"),
    "cudnn word": (lambda: layers.LSTM(2, use_cudnn="yes"), "use_cudnn"),
    "dtype": (lambda: layers.LSTM(2, dtype="float8"), "dtype: expected one of float16"),
    "positional": (lambda: built()([[1.0, 2.0]]), "expected arrays"),
    "weights": (lambda: built().set_weights([X]), "expected 3 arrays, got 1"),
    "weight": (
        lambda: built().set_weights([np.ones((4, 20)), np.ones((5, 20)), np.ones(19)]),
        r"bias: expected shape \[20\], got \[19\]",
    ),
    "count": (lambda: layers.LSTM(2).count_params(), "not built yet"),
    "cell": (lambda: layers.RNN(object()), "object with call"),
    "stacked": (lambda: layers.StackedRNNCells([object()]), "objects with call"),
    "merge mode": (lambda: layers.Bidirectional(layers.LSTM(2), "max"), "merge_mode"),
    "no layer": (lambda: layers.Bidirectional(3), "expected a keras.layers.Layer"),
    "same direction": (
        lambda: layers.Bidirectional(layers.LSTM(2), backward_layer=layers.LSTM(2)),
        "go_backwards: expected True",
    ),
    "unlike": (
        lambda: layers.Bidirectional(
            layers.LSTM(2), backward_layer=layers.LSTM(2, go_backwards=True, return_state=True)
        ),
        "return_state: expected False",
    ),
    "time distributed": (lambda: layers.TimeDistributed(layers.LSTM(2))(X[0]), "3 axes or more"),
    "stateful": (lambda: layers.LSTM(2, stateful=True).build((None, 3, 4)), "known batch size"),
    "embedding": (lambda: layers.Embedding(0, 2), "input_dim: expected a positive integer"),
    "quantized": (lambda: layers.Embedding(2, 2, quantization_config={}), "quantization_config"),
    "seed": (lambda: layers.LSTM(2, seed="x"), "seed: expected an integer"),
    "penalty": (lambda: regularizers.L2(-1.0), "expected a non-negative float"),
    "initializer": (
        lambda: layers.LSTM(2, kernel_initializer="nope"),
        "initializer: expected one of Constant, .*, got 'nope'",
    ),
    "variance": (lambda: initializers.VarianceScaling(0.0), "scale: expected a positive float"),
    "identity": (lambda: initializers.Identity()((2, 3, 4)), "expected 2 axes"),
}  # fmt: skip


@pytest.mark.parametrize("what", sorted(WRONG))
def test_wrong_calls_are_value_errors_that_say_what_is_wrong(what: str) -> None:
    call, match = WRONG[what]
    with pytest.raises(ValueError, match=match) as caught:
        call()
    assert isinstance(caught.value, BridgeError)
    assert "\n" not in str(caught.value)


def test_a_batch_of_another_size_and_a_reset_without_state() -> None:
    layer = built(stateful=True)
    layer(X)
    with pytest.raises(ValueError, match="expected batch size 2, got 1"):
        layer(X[:1])
    with pytest.raises(AttributeError, match="stateful"):
        layers.Bidirectional(layers.LSTM(2)).reset_state()
    with pytest.raises(UnsupportedError):
        layers.LSTM(2, use_cudnn=True)
    with pytest.raises(TypeError):
        built()(X, unknown_argument=3)


@pytest.mark.filterwarnings("always")
def test_input_shape_is_accepted_with_keras_warning() -> None:
    with pytest.warns(UserWarning, match="input_shape"):
        layer = layers.LSTM(2, input_shape=(3, 4))
    assert layer(X).shape == (2, 2)
    with pytest.warns(UserWarning, match="input_length"):
        layers.Embedding(2, 3, input_length=4)


def test_inputs_of_every_kind_and_extreme_sizes() -> None:
    import torch

    layer = built()
    expected = layer(mx.array(X))
    for x in (X, X.astype("float64"), torch.from_numpy(X), X[::-1][::-1], np.asfortranarray(X)):
        assert mx.array_equal(layer(x), expected)
    assert layer(X.astype("int32")).dtype == mx.float32
    assert layer(X[:0]).shape == (0, 5)
    assert layers.LSTM(1)(np.ones((1, 1, 1))).shape == (1, 1)


def test_a_nan_poisons_its_own_row_from_its_own_step_on() -> None:
    layer = layers.LSTM(5, return_sequences=True)
    x = X.copy()
    x[1, 1, 2] = np.nan
    poisoned = np.isnan(np.array(layer(x)))
    assert not poisoned[0].any()
    assert not poisoned[1, 0].any()
    assert poisoned[1, 1:].all()
    mask = np.array([[True] * 3, [True, False, True]])
    assert not np.isnan(np.array(layer(x, mask=mask))).any()


@pytest.mark.parametrize("name", ["Dense", "Embedding"])
def test_quantize_names_what_packs_weights_here(name: str) -> None:
    layer = layers.Dense(2) if name == "Dense" else layers.Embedding(3, 2)
    assert layer.metrics == []
    with pytest.raises(UnsupportedError, match=r"mlx\.nn\.quantize"):
        layer.quantize("int8")
