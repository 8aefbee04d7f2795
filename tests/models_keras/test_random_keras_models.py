"""Random Sequential and Functional models, saved by live Keras, give here what they give there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_bridge.errors import ConfigError
from lstm_bridge.keras.models import load_model

L, D = 6, 4
layers = keras.layers

SEQUENCE: dict[str, Any] = {
    "LSTM": lambda: layers.LSTM(3, return_sequences=True, activation="relu"),
    "BiLSTM": lambda: layers.Bidirectional(layers.LSTM(2, return_sequences=True)),
    "BiGRU sum": lambda: layers.Bidirectional(
        layers.GRU(3, return_sequences=True), merge_mode="sum"
    ),
    "GRU": lambda: layers.GRU(3, return_sequences=True, reset_after=False),
    "SimpleRNN": lambda: layers.SimpleRNN(3, return_sequences=True, go_backwards=True),
    "stacked RNN": lambda: layers.RNN(
        [layers.LSTMCell(3), layers.GRUCell(2), layers.LSTMCell(4)], return_sequences=True
    ),
    "TimeDistributed": lambda: layers.TimeDistributed(layers.Dense(3, activation="tanh")),
    "Dense": lambda: layers.Dense(5, activation="gelu"),
    "Dropout": lambda: layers.Dropout(0.4),
    "BatchNormalization": lambda: layers.BatchNormalization(),
    "LayerNormalization": lambda: layers.LayerNormalization(),
    "Conv1D": lambda: layers.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="relu"),
    "Conv1D same": lambda: layers.Conv1D(4, 2, padding="same", use_bias=False),
    "SeparableConv1D": lambda: layers.SeparableConv1D(3, 2, padding="same"),
    "MaxPooling1D": lambda: layers.MaxPooling1D(2, strides=1, padding="same"),
    "LeakyReLU": lambda: layers.LeakyReLU(negative_slope=0.2),
    "PReLU": lambda: layers.PReLU(shared_axes=[1]),
    "Activation": lambda: layers.Activation("softsign"),
    "ZeroPadding1D": lambda: layers.ZeroPadding1D((1, 0)),
    "UpSampling1D": lambda: layers.UpSampling1D(2),
    "UnitNormalization": lambda: layers.UnitNormalization(),
    "Rescaling": lambda: layers.Rescaling(0.5, offset=0.1),
    "Normalization": lambda: layers.Normalization(),
    "Masking": lambda: layers.Masking(0.0),
    "ELU": lambda: layers.ELU(alpha=0.7),
    "ReLU": lambda: layers.ReLU(max_value=0.8, negative_slope=0.1),
    "Softmax": lambda: layers.Softmax(),
    "SpatialDropout1D": lambda: layers.SpatialDropout1D(0.3),
    "ActivityRegularization": lambda: layers.ActivityRegularization(0.1, 0.2),
    "GaussianNoise": lambda: layers.GaussianNoise(0.3),
    "GaussianDropout": lambda: layers.GaussianDropout(0.3),
    "AlphaDropout": lambda: layers.AlphaDropout(0.3),
    "AveragePooling1D": lambda: layers.AveragePooling1D(2, strides=1),
    "Cropping1D": lambda: layers.Cropping1D((1, 0)),
    "LayerNormalization both": lambda: layers.LayerNormalization(axis=[1, 2]),
    "RNN": lambda: layers.RNN(layers.GRUCell(3), return_sequences=True, unroll=True),
    "BiLSTM own backward": lambda: layers.Bidirectional(
        layers.LSTM(3, return_sequences=True),
        backward_layer=layers.GRU(3, return_sequences=True, go_backwards=True),
        merge_mode="mul",
    ),
    "nested": lambda: keras.Sequential([layers.Dense(3), layers.GRU(2, return_sequences=True)]),
    "nested over time": lambda: layers.TimeDistributed(
        keras.Sequential([layers.Dense(4), layers.LayerNormalization()])
    ),
}
ENDS: dict[str, Any] = {
    "LSTM": lambda: [layers.LSTM(4)],
    "BiLSTM": lambda: [layers.Bidirectional(layers.LSTM(3), merge_mode="ave")],
    "mean": lambda: [layers.GlobalAveragePooling1D()],
    "max": lambda: [layers.GlobalMaxPooling1D(), layers.Dense(3, activation="softmax")],
    "flat": lambda: [layers.Flatten(), layers.Dense(2)],
    "none": list,
    "repeated": lambda: [layers.LSTM(3), layers.RepeatVector(2), layers.GRU(2)],
    "turned": lambda: [layers.Permute((2, 1)), layers.Flatten(), layers.Reshape((-1, 1))],
    "states": lambda: [layers.LSTM(3, return_state=True)],
}
LOSES_MASKS = "ignore:.*does not support masking"


@pytest.mark.filterwarnings(LOSES_MASKS, "ignore:You are saving your model as an HDF5")
@settings(max_examples=12)
@given(
    middle=st.lists(st.sampled_from(sorted(SEQUENCE)), min_size=1, max_size=4),
    end=st.sampled_from(sorted(ENDS)),
    era=st.sampled_from(["keras", "h5", "json"]),
)
def test_sequential(parity: Any, tmp_path_factory: Any, middle: Any, end: str, era: str) -> None:
    folder = tmp_path_factory.mktemp("m")

    def make(dtype: str) -> Any:
        keras.config.set_floatx(dtype)
        try:
            chain = [SEQUENCE[name]() for name in middle] + ENDS[end]()
            return keras.Sequential([keras.Input((L, D)), *chain])
        finally:
            keras.config.set_floatx("float32")

    def xs(seed: int) -> list[np.ndarray]:
        x = parity.numbers((3, L, D), seed)
        x[0, -2:] = 0  # masked, where there is a Masking
        return [x]

    parity.assert_same(lambda seed: parity.compared(make, xs, folder, seed, era))


JOINS: dict[str, Any] = {
    **{
        name: (lambda a, b, name=name: getattr(layers, name)()([a, b]))
        for name in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Attention",
                     "AdditiveAttention", "Concatenate")
    },
    "Dot": lambda a, b: layers.Dot(axes=(2, 2))([a, b]),
    "after one another": lambda a, b: layers.Concatenate(axis=1)([a, b]),
    "heads": lambda a, b: layers.MultiHeadAttention(2, 3)(a, b, use_causal_mask=True),
    "sum": lambda a, b: a * 2 + b,
    "states": lambda a, b: layers.LSTM(D, return_sequences=True)(
        a, initial_state=layers.LSTM(D, return_state=True)(b)[1:]
    ),
}  # fmt: skip
KEEPS: dict[str, Any] = {
    "LSTM": lambda: layers.LSTM(D, return_sequences=True),
    "BiGRU": lambda: layers.Bidirectional(layers.GRU(2, return_sequences=True)),
    "Dense": lambda: layers.Dense(D, activation="tanh"),
    "BatchNormalization": layers.BatchNormalization,
    "Dropout": lambda: layers.Dropout(0.2),
    "Conv1D": lambda: layers.Conv1D(D, 2, padding="causal"),
    "model": lambda: keras.Sequential(
        [keras.Input((L, D)), layers.GRU(D, return_sequences=True), layers.Dropout(0.1)]
    ),
}
"""Layers that return what they take, so that any may follow any, and be called again."""


@pytest.mark.filterwarnings(LOSES_MASKS, "ignore:You are saving your model as an HDF5")
@settings(max_examples=15)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(sorted(KEEPS)), st.integers(0, 9), st.booleans()),
        min_size=2, max_size=5,
    ),
    joins=st.lists(
        st.tuples(st.sampled_from(sorted(JOINS)), st.integers(0, 9), st.integers(0, 9)),
        min_size=1, max_size=3,
    ),
    era=st.sampled_from(["keras", "h5", "json"]),
)  # fmt: skip
def test_any_graph(parity: Any, tmp_path_factory: Any, steps: Any, joins: Any, era: str) -> None:
    """Words and numbers through layers, some of them called again, and joined two by two."""

    def build() -> Any:
        words, x = keras.Input((L,), dtype="int32"), keras.Input((L, D))
        values = [layers.Embedding(9, D, mask_zero=True)(words), x]
        made: list[Any] = []
        for kind, source, again in steps:
            made.append(made[source % len(made)] if again and made else KEEPS[kind]())
            values.append(made[-1](values[source % len(values)]))
        found = [JOINS[k](values[a % len(values)], values[b % len(values)]) for k, a, b in joins]
        return keras.Model([words, x], [values[-1], *found, layers.LSTM(2)(values[-2])])

    folder = tmp_path_factory.mktemp("m")
    parity.assert_same(lambda seed: parity.saved_and_loaded(build, folder, seed, era))


def shared_and_merged() -> Any:
    """Two inputs through one LSTM; sums, products, attention over what both say."""
    a, b = keras.Input((L, D), name="a"), keras.Input((4, D), name="b")
    shared = layers.LSTM(3, return_sequences=True)
    u, v = shared(a), shared(b)
    context = layers.Attention()([u, v])
    added = layers.AdditiveAttention()([u, v])
    joined = layers.Concatenate()([u, context, layers.Multiply()([added, u])])
    return keras.Model([a, b], [layers.Dense(2)(joined), layers.GlobalMaxPooling1D()(v)])


def states_passed_on() -> Any:
    """An encoder whose states start a decoder, and words with a mask."""
    words = keras.Input((L,), dtype="int32", name="words")
    targets = keras.Input((4, D), name="targets")
    x = layers.Embedding(9, D, mask_zero=True)(words)
    _, h, c = layers.LSTM(5, return_state=True)(x)
    y = layers.LSTM(5, return_sequences=True)(targets, initial_state=[h, c])
    return keras.Model([words, targets], layers.Dense(3, activation="softmax")(y))


def heads() -> Any:
    """A block of a transformer behind a recurrent layer."""
    x = keras.Input((L, D))
    y = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
    z = layers.MultiHeadAttention(2, 3)(y, y, use_causal_mask=True)
    y = layers.LayerNormalization()(layers.Add()([y, z]))
    return keras.Model(x, layers.GlobalAveragePooling1D()(y))


def nested() -> Any:
    """A model twice inside another, one in a Sequential, and batch normalization within."""
    inner_in = keras.Input((L, D))
    inner = keras.Model(
        inner_in, layers.BatchNormalization()(layers.GRU(3, return_sequences=True)(inner_in))
    )
    tail = keras.Sequential([keras.Input((L, 3)), layers.LSTM(2), layers.Dense(2)])
    a, b = keras.Input((L, D)), keras.Input((L, D))
    return keras.Model([a, b], layers.Concatenate()([tail(inner(a)), tail(inner(b))]))


def images_over_time() -> Any:
    """Frames through a ConvLSTM and a convolution."""
    x = keras.Input((3, 6, 5, 2))
    y = layers.ConvLSTM2D(3, 3, padding="same")(x)
    y = layers.MaxPooling2D(2)(layers.Conv2D(4, 2, activation="relu")(y))
    return keras.Model(x, layers.Dense(2)(layers.Flatten()(y)))


def masked_branches() -> Any:
    """Masks through concatenation, dropout and a bidirectional layer."""
    words = keras.Input((L,), dtype="int32")
    x = layers.Embedding(9, D, mask_zero=True)(words)
    y = layers.Dropout(0.3)(layers.Dense(D)(x))
    z = layers.Concatenate()([x, y])
    z = layers.Bidirectional(layers.GRU(3, return_sequences=True))(z)
    return keras.Model(words, [layers.GlobalAveragePooling1D()(z), layers.LSTM(2)(z)])


def returned_by_name() -> Any:
    x = keras.Input((L, D))
    y = layers.LSTM(3)(x)
    return keras.Model(x, {"mean": layers.Dense(1)(y), "scale": layers.Dense(1)(y)})


GRAPHS = {
    f.__name__: f
    for f in (
        shared_and_merged, states_passed_on, heads, nested, images_over_time, masked_branches,
        returned_by_name,
    )
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
@pytest.mark.parametrize("era", ["keras", "h5", "json"])
@pytest.mark.parametrize("graph", GRAPHS)
def test_functional(parity: Any, tmp_path: Path, graph: str, era: str) -> None:
    parity.assert_same(lambda seed: parity.saved_and_loaded(GRAPHS[graph], tmp_path, seed, era))


def test_two_inputs_exchanged_are_noticed(parity: Any, tmp_path: Path) -> None:
    model = nested()
    keras.config.set_floatx("float64")
    try:
        exact = nested()
    finally:
        keras.config.set_floatx("float32")
    parity.give_weights([model, exact], 0)
    model.save(tmp_path / "m.keras")
    ours = load_model(tmp_path / "m.keras")
    a, b = parity.inputs_of(model, 0)
    right, wrong = (parity.outputs(ours, xs, "float32") for xs in ([a, b], [b, a]))
    source = parity.outputs(model, [a, b], "float32")
    truth = parity.outputs(exact, [a, b], "float64")
    assert parity.failures(right, source, truth) == {}
    assert parity.failures(wrong, source, truth)


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda x: layers.Lambda(lambda v: v)(x), "Lambda"),
        (keras.ops.sort, "Sort"),
        (lambda x: layers.SpectralNormalization(layers.Dense(2))(x), "SpectralNormalization"),
        (lambda x: layers.Conv1DTranspose(2, 2)(x), "Conv1DTranspose"),
    ],
)
def test_a_layer_outside_the_table_is_refused_by_name(
    build: Any, named: str, tmp_path: Path
) -> None:
    x = keras.Input((L, D))
    model = keras.Model(x, layers.LSTM(2)(build(x)))
    model.save(tmp_path / "m.keras")
    with pytest.raises(ConfigError, match=named):
        load_model(tmp_path / "m.keras")
