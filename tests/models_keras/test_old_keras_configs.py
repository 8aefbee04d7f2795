"""Architectures as Keras 1, Keras 2 and tf.keras 2 wrote them, against the same in Keras 3."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from lstm_bridge.errors import ConfigError
from lstm_bridge.keras.models import model_from_json

L, D = 6, 4
layers = keras.layers


@keras.saving.register_keras_serializable("old")
def old_sigmoid(x: Any) -> Any:
    """hard_sigmoid of Keras 1 and 2, which Keras 3 no longer has."""
    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


OLD = {"recurrent_activation": old_sigmoid}


def layer(class_name: str, name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": class_name, "config": {"name": name, "trainable": True, **config}}


def called(class_name: str, name: str, *sources: str, **config: Any) -> dict[str, Any]:
    nodes = [[[source, 0, 0] for source in sources]] if sources else []
    return {**layer(class_name, name, **config), "name": name, "inbound_nodes": nodes}


# --- Keras 1 ------------------------------------------------------------------------------------

NO_PENALTY_1 = {f"{p}_{k}": None for p in "WUb" for k in ("regularizer", "constraint")}
RUN_1 = {
    "return_sequences": True, "go_backwards": False, "stateful": False, "unroll": False,
    "consume_less": "gpu", "init": "glorot_uniform", "inner_init": "orthogonal",
    "W_regularizer": None, "U_regularizer": None, "b_regularizer": None, "dropout_W": 0.2,
    "dropout_U": 0.1, "input_dim": D, "input_length": L, "activation": "tanh",
}  # fmt: skip
GATED_1 = {**RUN_1, "inner_activation": "hard_sigmoid"}
LSTM_1 = {**GATED_1, "forget_bias_init": "one", "output_dim": 3}
FIRST = {"batch_input_shape": [None, L, D], "input_dtype": "float32"}
DENSE_1 = {
    "output_dim": 2, "init": "glorot_uniform", "activation": "linear", "W_regularizer": None,
    "b_regularizer": None, "activity_regularizer": None, "W_constraint": None,
    "b_constraint": None, "bias": True, "input_dim": None,
}  # fmt: skip
CONV_1 = {
    "nb_filter": 5, "filter_length": 3, "init": "glorot_uniform", "activation": "relu",
    "border_mode": "same", "subsample_length": 1, "W_regularizer": None, "b_regularizer": None,
    "activity_regularizer": None, "W_constraint": None, "b_constraint": None, "bias": True,
    "input_dim": D, "input_length": L,
}  # fmt: skip


def keras_1(*chain: dict[str, Any]) -> dict[str, Any]:
    return {"class_name": "Sequential", "config": list(chain), "keras_version": "1.2.2"}


def merged_1(mode: str, **options: Any) -> dict[str, Any]:
    run = {**LSTM_1, "return_sequences": False}
    merge = {
        "mode": mode, "mode_type": "raw", "concat_axis": -1, "dot_axes": [1, 1],
        "output_shape": None, "output_shape_type": "raw", "output_mask": None,
        "output_mask_type": "raw", "arguments": {}, **options,
    }  # fmt: skip
    config = {
        "name": "model_1",
        "layers": [
            called("InputLayer", "a", sparse=False, **FIRST),
            called("InputLayer", "b", sparse=False, **FIRST),
            called("LSTM", "lstm_1", "a", **run),
            called("LSTM", "lstm_2", "b", **run),
            called("Merge", "merge_1", "lstm_1", "lstm_2", **merge),
            called("Dense", "dense_1", "merge_1", **DENSE_1),
        ],
        "input_layers": [["a", 0, 0], ["b", 0, 0]],
        "output_layers": [["dense_1", 0, 0]],
    }
    return {"class_name": "Model", "config": config, "keras_version": "1.2.2"}


def two_lstms(join: Any) -> Callable[[], Any]:
    def build() -> Any:
        a, b = keras.Input((L, D)), keras.Input((L, D))
        x, y = layers.LSTM(3, **OLD)(a), layers.LSTM(3, **OLD)(b)
        return keras.Model([a, b], layers.Dense(2)(join()([x, y])))

    return build


# --- Keras 2 and tf.keras -----------------------------------------------------------------------

LSTM_2 = {
    "dtype": "float32", "return_sequences": True, "return_state": False, "go_backwards": False,
    "stateful": False, "unroll": False, "units": 3, "activation": "tanh",
    "recurrent_activation": "hard_sigmoid", "use_bias": True, "unit_forget_bias": True,
    "kernel_initializer": {"class_name": "VarianceScaling", "config": {
        "scale": 1.0, "mode": "fan_avg", "distribution": "uniform", "seed": None}},
    "recurrent_initializer": {"class_name": "Orthogonal", "config": {"gain": 1.0, "seed": None}},
    "bias_initializer": {"class_name": "Zeros", "config": {}}, "dropout": 0.0,
    "recurrent_dropout": 0.0, "implementation": 1, "kernel_regularizer": None,
    "recurrent_regularizer": None, "bias_regularizer": None, "activity_regularizer": None,
    "kernel_constraint": None, "recurrent_constraint": None, "bias_constraint": None,
}  # fmt: skip
FIRST_2 = {"batch_input_shape": [None, L, D]}


def less(config: dict[str, Any], *names: str) -> dict[str, Any]:
    return {k: v for k, v in config.items() if k not in names}


GRU_2 = less(LSTM_2, "unit_forget_bias")
CUDNN = less(
    LSTM_2, "activation", "recurrent_activation", "use_bias", "dropout", "recurrent_dropout",
    "implementation", "unroll",
)  # fmt: skip
CELL_2 = less(
    LSTM_2, "return_sequences", "return_state", "go_backwards", "stateful", "unroll",
    "activity_regularizer",
)  # fmt: skip


def keras_2(*chain: dict[str, Any], version: str = "2.2.4") -> dict[str, Any]:
    return {"class_name": "Sequential", "config": list(chain), "keras_version": version}


def tf_keras(*chain: dict[str, Any]) -> dict[str, Any]:
    config = {"name": "sequential", "layers": list(chain)}
    return {"class_name": "Sequential", "config": config, "keras_version": "2.9.0"}


def sequential(*makers: Callable[[], Any], words: bool = False) -> Callable[[], Any]:
    def build() -> Any:
        start = keras.Input((L,), dtype="int32") if words else keras.Input((L, D))
        return keras.Sequential([start, *(make() for make in makers)])

    return build


def old_lstm(**options: Any) -> Any:
    return layers.LSTM(3, return_sequences=True, **{**OLD, **options})


CASES: dict[str, tuple[dict[str, Any], Callable[[], Any]]] = {
    "Keras 1 LSTM and TimeDistributed": (
        keras_1(
            layer("LSTM", "lstm_1", **LSTM_1, **FIRST),
            layer("TimeDistributed", "td", layer=layer("Dense", "dense_1", **DENSE_1)),
        ),
        sequential(old_lstm, lambda: layers.TimeDistributed(layers.Dense(2))),
    ),
    "Keras 1 GRU": (
        keras_1(layer("GRU", "gru_1", **GATED_1, **FIRST, output_dim=3)),
        sequential(lambda: layers.GRU(3, return_sequences=True, reset_after=False, **OLD)),
    ),
    "Keras 1 SimpleRNN": (
        keras_1(layer("SimpleRNN", "rnn_1", **RUN_1, **FIRST, output_dim=3)),
        sequential(lambda: layers.SimpleRNN(3, return_sequences=True)),
    ),
    "Keras 1 TimeDistributedDense": (
        keras_1(
            layer("LSTM", "lstm_1", **LSTM_1, **FIRST),
            layer("TimeDistributedDense", "tdd", **{**DENSE_1, "activation": "softmax"},
                  input_length=None),
            layer("ActivityRegularization", "penalty", l1=0.1, l2=0.0),
        ),
        sequential(old_lstm, lambda: layers.TimeDistributed(layers.Dense(2, "softmax"))),
    ),
    "Keras 1 words": (
        keras_1(
            layer(
                "Embedding", "embedding_1", batch_input_shape=[None, L], input_dtype="int32",
                input_dim=9, output_dim=D, init="uniform", input_length=L, W_regularizer=None,
                activity_regularizer=None, W_constraint=None, mask_zero=True, dropout=0.0,
            ),
            layer("Bidirectional", "bi", layer=layer("LSTM", "l", **LSTM_1), merge_mode="concat"),
            layer("Dropout", "dropout_1", p=0.5),
            layer("LSTM", "lstm_2", **{**LSTM_1, "return_sequences": False}),
        ),
        sequential(
            lambda: layers.Embedding(9, D, mask_zero=True),
            lambda: layers.Bidirectional(old_lstm()),
            lambda: layers.LSTM(3, **OLD),
            words=True,
        ),
    ),
    "Keras 1 windows": (
        keras_1(
            layer("Convolution1D", "c", **CONV_1, **FIRST),
            layer("MaxPooling1D", "m", stride=2, pool_length=2, border_mode="valid"),
            layer("LSTM", "lstm_1", **LSTM_1),
            layer(
                "BatchNormalization", "b", epsilon=0.01, mode=0, axis=-1, momentum=0.9,
                gamma_regularizer=None, beta_regularizer=None,
            ),
            layer("PReLU", "p", init="zero", shared_axes=[1]),
        ),
        sequential(
            lambda: layers.Conv1D(5, 3, padding="same", activation="relu"),
            lambda: layers.MaxPooling1D(2),
            old_lstm,
            lambda: layers.BatchNormalization(epsilon=0.01),
            lambda: layers.PReLU(shared_axes=[1]),
        ),
    ),
    "Keras 1 without weights": (
        keras_1(
            layer("Masking", "m", mask_value=0.0, **FIRST),
            layer("LSTM", "lstm_1", **LSTM_1),
            layer("LeakyReLU", "l", alpha=0.1),
            layer("ELU", "e", alpha=0.5),
            layer("GaussianNoise", "gn", sigma=0.1),
            layer("GaussianDropout", "gd", p=0.1),
            layer("UpSampling1D", "u", length=2),
            layer("ZeroPadding1D", "z", padding=1),
            layer("Cropping1D", "c", cropping=[1, 1]),
            layer("Permute", "p", dims=[2, 1]),
            layer("Reshape", "r", target_shape=[36]),
            layer("RepeatVector", "v", n=3),
            layer("GlobalMaxPooling1D", "g"),
        ),
        sequential(
            layers.Masking, old_lstm, lambda: layers.LeakyReLU(negative_slope=0.1),
            lambda: layers.ELU(alpha=0.5), lambda: layers.UpSampling1D(2),
            lambda: layers.Permute((2, 1)), layers.Flatten,
        ),
    ),
    **{
        f"Keras 1 Merge {mode}": (merged_1(mode), two_lstms(join))
        for mode, join in {
            "concat": layers.Concatenate, "sum": layers.Add, "mul": layers.Multiply,
            "ave": layers.Average, "max": layers.Maximum, "dot": lambda: layers.Dot(axes=1),
        }.items()
    },
    "Keras 2 LSTM": (keras_2(layer("LSTM", "l", **LSTM_2, **FIRST_2)), sequential(old_lstm)),
    "Keras 2 GRU": (
        keras_2(layer("GRU", "g", **GRU_2, **FIRST_2)),
        sequential(lambda: layers.GRU(3, return_sequences=True, reset_after=False, **OLD)),
    ),
    "Keras 2 GRU reset_after": (
        keras_2(layer("GRU", "g", **GRU_2, **FIRST_2, reset_after=True)),
        sequential(lambda: layers.GRU(3, return_sequences=True, **OLD)),
    ),
    "Keras 2 CuDNNLSTM": (
        keras_2(layer("CuDNNLSTM", "l", **CUDNN, **FIRST_2)),
        sequential(lambda: layers.LSTM(3, return_sequences=True)),
    ),
    "Keras 2 CuDNNGRU both ways": (
        keras_2(
            layer(
                "Bidirectional", "b", merge_mode="sum", **FIRST_2,
                layer=layer("CuDNNGRU", "g", **less(CUDNN, "unit_forget_bias")),
            )
        ),
        sequential(
            lambda: layers.Bidirectional(layers.GRU(3, return_sequences=True), merge_mode="sum")
        ),
    ),
    "Keras 2 stacked cells": (
        keras_2(
            layer(
                "RNN", "r", **FIRST_2, return_sequences=True, return_state=False,
                go_backwards=True, stateful=False, unroll=True,
                cell=layer("StackedRNNCells", "s", cells=[
                    layer("LSTMCell", "c1", **CELL_2),
                    layer("GRUCell", "c2", **{**less(CELL_2, "unit_forget_bias"), "units": 2}),
                ]),
            )
        ),
        sequential(
            lambda: layers.RNN(
                [layers.LSTMCell(3, **OLD), layers.GRUCell(2, reset_after=False, **OLD)],
                return_sequences=True, go_backwards=True,
            )
        ),
    ),
    "tf.keras own backward layer": (
        tf_keras(
            {"class_name": "InputLayer", "config": {
                "name": "i", "dtype": "float32", "sparse": False, "ragged": False, **FIRST_2}},
            layer(
                "Bidirectional", "b", dtype="float32", merge_mode=None,
                layer=layer("LSTM", "f", **LSTM_2, time_major=False),
                backward_layer=layer(
                    "LSTM", "k", **{**LSTM_2, "go_backwards": True, "activation": "relu"}
                ),
            ),
        ),
        sequential(
            lambda: layers.Bidirectional(
                old_lstm(), merge_mode=None,
                backward_layer=old_lstm(go_backwards=True, activation="relu"),
            )
        ),
    ),
}  # fmt: skip


def answers(parity: Any, config: dict[str, Any], build: Any, seed: int) -> list[Any]:
    """Ours, Keras in float32 and in float64, all with the same weights."""
    made = []
    for dtype in ("float32", "float64"):
        keras.config.set_floatx(dtype)
        try:
            made.append(build())
        finally:
            keras.config.set_floatx("float32")
    parity.give_weights(made, seed)
    ours = model_from_json(json.dumps(config))
    ours.set_weights(made[0].get_weights())
    xs = parity.inputs_of(made[0], seed)
    for x in xs:
        if x.dtype == np.float32:
            x[0, -2:] = 0  # masked, where there is a Masking
    models = [ours, *made]
    return [
        parity.outputs(m, xs, d)
        for m, d in zip(models, ("float32", "float32", "float64"), strict=True)
    ]


@pytest.mark.filterwarnings("ignore:.*does not support masking")
@pytest.mark.parametrize("name", CASES)
def test_an_old_architecture_means_what_it_meant(parity: Any, name: str) -> None:
    parity.assert_same(lambda seed: parity.failures(*answers(parity, *CASES[name], seed)))


def test_the_newer_hard_sigmoid_is_noticed(parity: Any) -> None:
    config, _ = CASES["Keras 2 LSTM"]
    new = sequential(lambda: old_lstm(recurrent_activation="hard_sigmoid"))
    assert parity.failures(*answers(parity, config, new, 0))


REFUSED = {
    "MaxoutDense": keras_1(
        layer("LSTM", "l", **LSTM_1, **FIRST), layer("MaxoutDense", "x", output_dim=2)
    ),
    "mode": merged_1("<lambda>", mode_type="lambda"),
    "dot_axes=1": merged_1("cos", dot_axes=[2, 2]),
    "time_major": tf_keras(layer("LSTM", "l", **LSTM_2, **FIRST_2, time_major=True)),
    "Lambda": keras_2(
        layer("LSTM", "l", **LSTM_2, **FIRST_2),
        layer("Lambda", "x", function=["code"], function_type="lambda"),
    ),
    "TextVectorization": keras_2(
        layer("TextVectorization", "x", batch_input_shape=[None, 1], max_tokens=9)
    ),
    "StringLookup": keras_2(layer("StringLookup", "x", batch_input_shape=[None, 1])),
    "Custom>Own": keras_2(layer("LSTM", "l", **LSTM_2, **FIRST_2), layer("Custom>Own", "x")),
    "AttentionWithContext": keras_2(
        layer("LSTM", "l", **LSTM_2, **FIRST_2), layer("AttentionWithContext", "x")
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_is_named_with_its_place(what: str) -> None:
    with pytest.raises(ConfigError, match=what) as refusal:
        model_from_json(json.dumps(REFUSED[what]))
    named = str(refusal.value)
    assert "\n" not in named
    assert any(f"model_from_json:{place}" in named for place in ("x", "merge_1", "l:", "l "))
