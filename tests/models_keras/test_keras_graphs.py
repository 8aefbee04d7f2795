"""Functional models of every wiring: states, masks, nesting, attention, operators on tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from lstm_bridge.keras.models import load_model

L, D = 6, 4
layers, ops = keras.layers, keras.ops


def words(length: int | None = L) -> Any:
    return keras.Input((length,), dtype="int32")


def seq(length: int | None = L, width: int = D) -> Any:
    return keras.Input((length, width))


def embedding() -> Any:
    return layers.Embedding(9, D, mask_zero=True)


def translator_training() -> Any:
    """keras.io's word-level sequence to sequence."""
    source, target = words(None), words(None)
    _, h, c = layers.LSTM(5, return_state=True)(embedding()(source))
    decoder = layers.LSTM(5, return_sequences=True, return_state=True)
    y, _, _ = decoder(embedding()(target), initial_state=[h, c])
    return keras.Model([source, target], layers.Dense(9, activation="softmax")(y))


def translator_decoder() -> Any:
    """Its decoder as used step by step: states in, states out."""
    target, states = seq(None, 3), [keras.Input((5,)), keras.Input((5,))]
    y, h, c = layers.LSTM(5, return_sequences=True, return_state=True)(target, initial_state=states)
    return keras.Model([target, *states], [layers.Dense(3)(y), h, c])


def bidirectional_states() -> Any:
    x, target = seq(None), seq(None, 2)
    _, *states = layers.Bidirectional(layers.LSTM(3, return_state=True))(x)
    y = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(target, initial_state=states)
    h = layers.Concatenate()([states[0], states[2]])
    return keras.Model([x, target], [y, layers.GRU(6)(target, initial_state=h)])


def stacked_states() -> Any:
    def cells() -> Any:
        return [layers.LSTMCell(3), layers.GRUCell(2)]

    x, target = seq(), seq()
    _, *states = layers.RNN(cells(), return_state=True)(x)
    y = layers.RNN(cells(), return_sequences=True)(target, initial_state=states)
    return keras.Model([x, target], y)


def conv_lstm_states() -> Any:
    x = keras.Input((3, 6, 5, 2))
    y, *states = layers.ConvLSTM2D(3, 2, padding="same", return_state=True)(x)
    again = layers.ConvLSTM2D(3, 2, padding="same", return_sequences=True)
    return keras.Model(x, [y, again(x, initial_state=states)])


def merged_masks() -> Any:
    """Every merging layer says its own about masked numbers."""
    a, b, plain, e = words(), words(), seq(), embedding()
    x, y = e(a), e(b)
    found = []
    for kind in ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum", "Concatenate"):
        made = getattr(layers, kind)()([x, y])
        found += [layers.LSTM(2)(made), layers.Flatten()(getattr(layers, kind)()([x, plain]))]
    found.append(layers.LSTM(2)(layers.Concatenate(axis=1)([x, y])))
    found.append(layers.LSTM(2)(layers.Dot(axes=2)([x, y])))
    return keras.Model([a, b, plain], found)


def one_layer_many_masks() -> Any:
    """The same LSTM on inputs with different masks, and with none."""
    a, b, shared = words(), seq(), layers.LSTM(3)
    found = [shared(embedding()(a)), shared(layers.Masking()(b)), shared(b)]
    return keras.Model([a, b], layers.Concatenate()(found))


def masks_given() -> Any:
    x, mask = seq(), keras.Input((L,), dtype="bool")
    return keras.Model(
        [x, mask],
        [
            layers.LSTM(2)(x, mask=mask),
            layers.Bidirectional(layers.LSTM(2, return_sequences=True))(x, mask=mask),
            layers.GlobalAveragePooling1D()(x, mask=mask),
            layers.TimeDistributed(layers.Dense(2))(x, mask=mask),
            layers.Attention()([x, x], mask=[mask, mask]),
        ],
    )


def masked_attention() -> Any:
    a = words()
    x = embedding()(a)
    y = layers.GRU(5, return_sequences=True)(x)
    z, scores = layers.AdditiveAttention()([y, y], return_attention_scores=True)
    heads, weights = layers.MultiHeadAttention(2, 3, dropout=0.1)(
        x, x, return_attention_scores=True, use_causal_mask=True
    )
    fused = layers.MultiHeadAttention(2, 3)(x, x)
    return keras.Model(a, [layers.LSTM(2)(z), scores, layers.LSTM(2)(heads), weights, fused])


def attention_over_axes() -> Any:
    x = keras.Input((3, 4, D))
    both = layers.MultiHeadAttention(2, 3, attention_axes=(1, 2))(x, x)
    one = layers.MultiHeadAttention(2, 3, attention_axes=2, use_gate=True)(x, x)
    return keras.Model(x, [both, one])


def attention_by_name() -> Any:
    x, y, mask = seq(), seq(5, 3), keras.Input((L, 5), dtype="bool")
    heads = layers.MultiHeadAttention(2, 3, value_dim=4, output_shape=5)
    return keras.Model([x, y, mask], heads(query=x, value=y, key=y, attention_mask=mask))


def branch() -> Any:
    """A model of words that is called twice."""
    a = words()
    y = layers.Bidirectional(layers.LSTM(4))(embedding()(a))
    return keras.Model(a, layers.Dense(3)(y))


def siamese() -> Any:
    model, a, b = branch(), words(), words()
    u, v = model(a), model(b)
    cosine = layers.Dot(axes=1, normalize=True)([u, v])
    return keras.Model([a, b], [cosine, layers.Dense(1)(layers.Subtract()([u, v]))])


def sequential_twice() -> Any:
    model = keras.Sequential([seq(), layers.Masking(), layers.LSTM(4), layers.Dense(2)])
    a, b = seq(), seq()
    return keras.Model([a, b], layers.Add()([model(a), model(b)]))


def masked_nested() -> Any:
    """Masks go into nested models and come out of them."""
    x, a = seq(), words()
    inner = keras.Model(x, layers.Dropout(0.2)(layers.LSTM(D, return_sequences=True)(x)))
    chain = keras.Sequential([seq(), layers.Dense(3), layers.Dropout(0.2)])
    return keras.Model(a, layers.LSTM(2)(chain(inner(embedding()(a)))))


def several_out_of_nested() -> Any:
    i, j, a, b = seq(), seq(), seq(), seq()
    inner = keras.Model([i, j], [layers.LSTM(3)(i), layers.GRU(2)(j)])
    u, v = inner([a, b])
    return keras.Model([a, b], {"y": layers.Dense(2)(u), "x": v})


def nested_by_name() -> Any:
    inputs = {"q": keras.Input((L, D), name="q"), "p": keras.Input((L, D), name="p")}
    found = {"z": layers.LSTM(3)(inputs["q"]), "m": layers.GRU(3)(inputs["p"])}
    inner = keras.Model(inputs, found)
    a, b = seq(), seq()
    returned = inner({"q": a, "p": b})
    return keras.Model([a, b], [layers.Dense(2)(returned["m"]), returned["z"]])


def models_over_time() -> Any:
    x = keras.Input((5, 4, 3))
    i = seq(4, 3)
    inner = keras.Model(i, layers.Dense(2)(layers.LSTM(3, return_sequences=True)(i)))
    chain = keras.Sequential([seq(4, 2), layers.BatchNormalization(), layers.GRU(3)])
    y = layers.TimeDistributed(chain)(layers.TimeDistributed(inner)(x))
    return keras.Model(x, layers.LSTM(2)(y))


def models_over_two_times() -> Any:
    x = keras.Input((2, 3, 4, 3))
    inner = keras.Sequential([seq(4, 3), layers.LSTM(2)])
    return keras.Model(x, layers.TimeDistributed(layers.TimeDistributed(inner))(x))


def characters_of_words() -> Any:
    """A tagger: characters by word through TimeDistributed, beside the words."""
    a, letters = words(None), keras.Input((None, 4), dtype="int32")
    y = layers.TimeDistributed(embedding())(letters)
    y = layers.TimeDistributed(layers.Bidirectional(layers.LSTM(3)))(y)
    x = layers.Dropout(0.5)(layers.Concatenate()([layers.Embedding(9, 4)(a), y]))
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True, recurrent_dropout=0.2))(x)
    return keras.Model([a, letters], layers.Dense(3, activation="softmax")(x))


def hand_made_attention() -> Any:
    x = seq()
    y = layers.LSTM(5, return_sequences=True)(x)
    weights = layers.Softmax()(layers.Flatten()(layers.Dense(1, activation="tanh")(y)))
    weights = layers.Permute([2, 1])(layers.RepeatVector(5)(weights))
    return keras.Model(x, ops.sum(layers.Multiply()([y, weights]), axis=1))


def words_through_windows() -> Any:
    a = words(12)
    x = layers.SpatialDropout1D(0.2)(layers.Embedding(9, 4)(a))
    found = [layers.GlobalMaxPooling1D()(layers.Conv1D(3, k)(x)) for k in (2, 3, 4)]
    return keras.Model(a, layers.Concatenate()(found))


def layers_for_activations() -> Any:
    x = seq()
    y = layers.Dense(3, activation=layers.LeakyReLU(negative_slope=0.1))(x)
    y = layers.Conv1D(3, 2, activation=layers.ReLU(max_value=0.5))(y)
    return keras.Model(x, layers.Dense(3, activation=layers.ELU(alpha=0.3))(y))


def arithmetic() -> Any:
    a, b = seq(), seq()
    z = (a + b) * (a * 2) - (1 - b) / 3 + a**2
    z = z @ ops.transpose(-b, (0, 2, 1)) @ a * np.arange(1.0, 5.0, dtype="float32")
    return keras.Model([a, b], layers.LSTM(3)(z))


def indexing() -> Any:
    x = seq()
    parts = [x[:, -1], x[:, 1:3, ::2], x[..., 0], x[:, None], *ops.split(x, 2, axis=-1)]
    return keras.Model(x, [*parts, *ops.unstack(x, axis=2), ops.take(x, [0, 2], axis=1)])


SHAPES = {
    "reshape": lambda x: ops.reshape(x, (-1, L * D)),
    "concatenate": lambda x: ops.concatenate([x, ops.square(x)], axis=-1),
    "stack": lambda x: ops.stack([x, x], axis=1),
    "flip": lambda x: ops.flip(x, axis=1),
    "roll": lambda x: ops.roll(x, 2, axis=1),
    "repeat": lambda x: ops.repeat(x, 2, axis=1),
    "tile": lambda x: ops.tile(x, (1, 2, 1)),
    "swapaxes": lambda x: ops.swapaxes(x, 1, 2),
    "moveaxis": lambda x: ops.moveaxis(x, 1, 2),
    "squeeze": lambda x: ops.squeeze(ops.expand_dims(x, 1), 1),
    "pad": lambda x: ops.pad(x, ((0, 0), (1, 2), (0, 0))),
    "einsum": lambda x: ops.einsum("abc,abd->acd", x, x),
    "one_hot": lambda x: ops.one_hot(ops.argmax(x, axis=-1), D),
    "where": lambda x: ops.where(x > 0, x, ops.zeros_like(x)),
    "full_like": lambda x: ops.full_like(x, 3.0),
    "tril": ops.tril,
    "dot": lambda x: ops.dot(x, np.ones((D, 2), np.float32)),
}
NUMBERS = {
    **{name: getattr(ops, name) for name in (
        "sin", "cos", "tanh", "sigmoid", "exp", "expm1", "abs", "sign", "negative", "floor",
        "ceil", "relu", "relu6", "elu", "selu", "gelu", "silu", "leaky_relu", "softplus",
        "softsign", "softmax", "log_softmax", "erf", "hard_sigmoid", "log_sigmoid", "celu",
    )},
    "log1p": lambda x: ops.log1p(ops.abs(x)),
    "rsqrt": lambda x: ops.rsqrt(ops.abs(x) + 1),
    "reciprocal": lambda x: ops.reciprocal(ops.abs(x) + 1),
    "power": lambda x: ops.power(ops.abs(x), 1.5),
    "clip": lambda x: ops.clip(x, -0.1, 0.3),
    "maximum": lambda x: ops.maximum(x, 0.1),
    "mod": lambda x: ops.mod(x, 0.3),
}  # fmt: skip
REDUCTIONS = {
    name: (lambda x, name=name: getattr(ops, name)(x, axis=1))
    for name in ("sum", "mean", "max", "min", "prod", "var", "std", "argmax", "cumsum", "norm",
                 "logsumexp", "normalize")
}  # fmt: skip


def functions_of(table: dict[str, Any]) -> Any:
    def build() -> Any:
        x = seq()
        return keras.Model(x, [function(x) for function in table.values()])

    return build


GRAPHS = {
    f.__name__: f
    for f in (
        translator_training, translator_decoder, bidirectional_states, stacked_states,
        conv_lstm_states, merged_masks, one_layer_many_masks, masks_given, masked_attention,
        attention_over_axes, attention_by_name, siamese, sequential_twice, masked_nested,
        several_out_of_nested, nested_by_name, models_over_time, models_over_two_times,
        characters_of_words, hand_made_attention, words_through_windows, arithmetic, indexing,
        layers_for_activations,
    )
} | {
    "shapes": functions_of(SHAPES), "numbers": functions_of(NUMBERS),
    "reductions": functions_of(REDUCTIONS),
}  # fmt: skip


def eras_of(graph: str) -> tuple[str, str]:
    """The archive, and one of the other two forms: any of them holds the same config."""
    return "keras", ("h5", "json")[list(GRAPHS).index(graph) % 2]


@pytest.mark.filterwarnings(
    "ignore:You are saving your model as an HDF5", "ignore:.*does not support masking"
)
@pytest.mark.parametrize("graph", GRAPHS)
def test_any_wiring_gives_what_keras_gives(parity: Any, tmp_path: Path, graph: str) -> None:
    for era in eras_of(graph):
        parity.assert_same(
            lambda seed, era=era: parity.saved_and_loaded(GRAPHS[graph], tmp_path, seed, era)
        )


@pytest.mark.filterwarnings("ignore:.*does not support masking")
def test_masks_left_out_are_noticed(parity: Any, tmp_path: Path) -> None:
    model = merged_masks()
    parity.give_weights([model], 0)
    model.save(tmp_path / "m.keras")
    ours = load_model(tmp_path / "m.keras")
    xs = parity.inputs_of(model, 0)
    source = parity.outputs(model, xs, "float32")
    for part in ours.parts:
        if part.path.startswith("embedding"):
            part.module.mask_zero = False
    assert parity.failures(parity.outputs(ours, xs, "float32"), source, source)


SEVERAL = {
    "LSTM": lambda: layers.LSTM(3, return_state=True, return_sequences=True),
    "GRU": lambda: layers.GRU(3, return_state=True),
    "RNN": lambda: layers.RNN([layers.LSTMCell(3), layers.SimpleRNNCell(2)], return_state=True),
    "Bidirectional": lambda: layers.Bidirectional(layers.LSTM(3, return_state=True)),
    "both": lambda: layers.Bidirectional(layers.LSTM(3), merge_mode=None),
    "both with states": lambda: layers.Bidirectional(
        layers.GRU(3, return_state=True, return_sequences=True), merge_mode=None
    ),
}


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
@pytest.mark.parametrize("end", SEVERAL)
def test_a_sequential_that_returns_several(parity: Any, tmp_path: Path, end: str) -> None:
    for era in ("keras", "h5", "json"):
        parity.assert_same(
            lambda seed, era=era: parity.saved_and_loaded(
                lambda: keras.Sequential([seq(), layers.Dense(3), SEVERAL[end]()]),
                tmp_path, seed, era,
            )
        )  # fmt: skip


@pytest.mark.parametrize("told", [None, False, True])
@pytest.mark.parametrize("built", [None, False, True])
def test_training_as_keras_3_takes_it(built: Any, told: Any, tmp_path: Path) -> None:
    """What a call was built with holds until the model is told otherwise."""
    x = seq()
    model = keras.Model(x, layers.BatchNormalization()(x, training=built))
    model.save(tmp_path / "m.keras")
    ours = load_model(tmp_path / "m.keras")
    values = np.random.default_rng(0).normal(2, 3, (5, L, D)).astype(np.float32)
    want = model(values, training=told).detach().numpy()
    found = np.array(ours(values, training=told))
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-6)
    assert (abs(want.mean()) < 0.1) == bool(built if told is None else told)
