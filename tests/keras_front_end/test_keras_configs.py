"""Configs go to real Keras and come back from it; nothing in them is dropped in silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import keras
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lstm_bridge.keras as ours
from lstm_bridge.errors import UnsupportedError, UsageError
from lstm_bridge.keras.saving import deserialize_keras_object, serialize_keras_object

Make = Callable[[Any], Any]

OPTIONS: dict[str, tuple[Any, ...]] = {
    "activation": ("tanh", "relu", "swish", "hard_sigmoid", None),
    "recurrent_activation": ("sigmoid", "hard_silu", "gelu"),
    "use_bias": (True, False),
    "kernel_initializer": ("glorot_uniform", "he_normal", "zeros", "lecun_uniform"),
    "recurrent_initializer": ("orthogonal", "identity", "uniform"),
    "bias_initializer": ("ones", "random_normal"),
    "unit_forget_bias": (True, False),
    "kernel_regularizer": (None, "l1", "l2", "l1l2", "orthogonal_regularizer"),
    "kernel_constraint": (None, "max_norm", "non_neg", "unit_norm", "min_max_norm"),
    "activity_regularizer": (None, "l2"),
    "dropout": (0.0, 0.25, 1.0),
    "recurrent_dropout": (0.0, 0.5),
    "seed": (None, 7),
    "return_sequences": (True, False),
    "return_state": (True, False),
    "go_backwards": (True, False),
    "stateful": (True, False),
    "unroll": (True, False),
    "zero_output_for_mask": (True, False),
    "trainable": (True, False),
    "dtype": (None, "float16", "bfloat16", "mixed_bfloat16", "float64"),
}


def round_trips(make: Make) -> None:
    """Same config on both sides, read back by both, through JSON."""
    mine, theirs = make(ours), make(keras)
    config = json.loads(json.dumps(mine.get_config()))
    assert config == json.loads(json.dumps(theirs.get_config()))
    assert type(theirs).from_config(json.loads(json.dumps(config))).get_config() == config
    assert type(mine).from_config(json.loads(json.dumps(config))).get_config() == config
    whole = json.loads(json.dumps(serialize_keras_object(mine)))
    assert whole == json.loads(json.dumps(keras.saving.serialize_keras_object(theirs)))
    assert serialize_keras_object(deserialize_keras_object(whole)) == whole


@given(st.fixed_dictionaries({name: st.sampled_from(v) for name, v in OPTIONS.items()}))
def test_lstm_configs_of_any_arguments(options: dict[str, Any]) -> None:
    round_trips(lambda lib: lib.layers.LSTM(3, name="lstm", **options))


WRAPPED: dict[str, Make] = {
    "cell": lambda lib: lib.layers.LSTMCell(3, name="cell", kernel_regularizer="l2"),
    "rnn": lambda lib: lib.layers.RNN(lib.layers.LSTMCell(3, name="c"), name="r"),
    "stack": lambda lib: lib.layers.RNN(
        lib.layers.StackedRNNCells(
            [lib.layers.LSTMCell(3, name="a"), lib.layers.LSTMCell(2, name="b")], name="s"
        ),
        return_state=True,
        name="r",
    ),
    "bidirectional": lambda lib: lib.layers.Bidirectional(
        lib.layers.LSTM(3, name="l"), merge_mode=None, name="b"
    ),
    "own backward": lambda lib: lib.layers.Bidirectional(
        lib.layers.LSTM(3, name="l"),
        backward_layer=lib.layers.LSTM(3, go_backwards=True, activation="relu", name="k"),
        name="b",
    ),
    "time distributed": lambda lib: lib.layers.TimeDistributed(
        lib.layers.Bidirectional(lib.layers.LSTM(3, name="l"), name="b"), name="t"
    ),
    "masking": lambda lib: lib.layers.Masking(-1.0, name="m"),
    "embedding": lambda lib: lib.layers.Embedding(
        5, 3, mask_zero=True, embeddings_constraint=lib.constraints.MaxNorm(3.0, axis=1), name="e"
    ),
    "initializers": lambda lib: lib.layers.LSTM(
        3,
        kernel_initializer=lib.initializers.VarianceScaling(2.0, "fan_out", "uniform", seed=3),
        recurrent_initializer=lib.initializers.Orthogonal(0.5, seed=4),
        bias_initializer=lib.initializers.Constant(0.25),
        name="l",
    ),
}


@pytest.mark.parametrize("kind", sorted(WRAPPED))
def test_configs_of_layers_around_layers(kind: str) -> None:
    round_trips(WRAPPED[kind])


@pytest.mark.parametrize("kind", sorted(set(WRAPPED) - {"cell", "masking"}))
def test_built_layers_have_keras_paths_shapes_and_build_configs(kind: str) -> None:
    shape = {"embedding": (2, 4), "time distributed": (2, 4, 5, 6)}.get(kind, (2, 4, 6))
    mine, theirs = WRAPPED[kind](ours), WRAPPED[kind](keras)
    for layer in (mine, theirs):
        layer.build(shape)
    assert [v.path for v in mine.weights] == [v.path for v in theirs.weights]
    assert [v.name for v in mine.weights] == [v.name for v in theirs.weights]
    assert [v.shape for v in mine.weights] == [tuple(v.shape) for v in theirs.weights]
    assert len(mine.trainable_weights) == len(theirs.trainable_weights)
    assert mine.count_params() == theirs.count_params()
    mine_config = json.loads(json.dumps(serialize_keras_object(mine)))
    assert mine_config == json.loads(json.dumps(keras.saving.serialize_keras_object(theirs)))
    assert deserialize_keras_object(mine_config).built
    if kind != "masking":
        assert mine.compute_output_shape(shape) == theirs.compute_output_shape(shape)


def test_a_changed_entry_is_seen() -> None:
    mine = ours.layers.LSTM(3, name="lstm", go_backwards=True).get_config()
    assert mine != keras.layers.LSTM(3, name="lstm").get_config()


KERAS_2_LSTM = {
    "name": "lstm_1", "trainable": True, "batch_input_shape": [None, 7, 3], "dtype": "float32",
    "return_sequences": True, "return_state": False, "go_backwards": False, "stateful": False,
    "unroll": False, "time_major": False, "units": 4, "activation": "tanh",
    "recurrent_activation": "hard_sigmoid", "use_bias": True,
    "kernel_initializer": {
        "class_name": "VarianceScaling",
        "config": {"scale": 1.0, "mode": "fan_avg", "distribution": "uniform", "seed": None},
    },
    "recurrent_initializer": {
        "class_name": "Orthogonal", "config": {"gain": 1.0, "seed": None}, "shared_object_id": 2,
    },
    "bias_initializer": {"class_name": "Zeros", "config": {"dtype": "float32"}},
    "unit_forget_bias": True, "kernel_regularizer": {"class_name": "L1L2", "config": {"l2": 0.1}},
    "recurrent_regularizer": None, "bias_regularizer": None, "activity_regularizer": None,
    "kernel_constraint": None, "recurrent_constraint": None, "bias_constraint": None,
    "dropout": 0.0, "recurrent_dropout": 0.0, "implementation": 1,
}  # fmt: skip


def test_a_keras_2_config_is_honoured() -> None:
    layer = ours.layers.LSTM.from_config(KERAS_2_LSTM)
    assert layer.cell.implementation == 1
    assert [v.shape for v in layer.weights] == [(3, 16), (4, 16), (16,)]
    assert layer.kernel_regularizer.l2 == 0.1
    old = {**KERAS_2_LSTM, "dtype": {"class_name": "Policy", "config": {"name": "mixed_float16"}}}
    assert ours.layers.LSTM.from_config(old).compute_dtype == "float16"
    wrapper = {"name": "b", "trainable": True, "dtype": "float32", "merge_mode": "sum",
               "layer": {"class_name": "LSTM", "config": KERAS_2_LSTM}}  # fmt: skip
    both = ours.layers.Bidirectional.from_config(wrapper)
    assert both.backward_layer.go_backwards is True


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"time_major": True}, UnsupportedError, "time_major"),
        ({"ragged": True}, UnsupportedError, "ragged"),
        ({"zoneout": 0.1}, UsageError, "zoneout"),
        ({"activation": "snake"}, UnsupportedError, "activation"),
        ({"kernel_initializer": {"class_name": "Mine", "config": {}}}, UnsupportedError, "Mine"),
        ({"kernel_initializer": {"class_name": "STFT", "config": {}}}, UnsupportedError, "STFT"),
        (
            {"kernel_initializer": {"class_name": "Zeros", "config": {"scale": 1}}},
            UsageError,
            "scale",
        ),
        (
            {"kernel_initializer": {"module": "evil", "class_name": "Zeros", "config": {}}},
            UnsupportedError,
            "evil",
        ),
        (
            {"dtype": {"class_name": "QuantizedDTypePolicy", "config": {}}},
            UnsupportedError,
            "dtype",
        ),
        ({"units": 4.0}, UsageError, "units"),
        ({"units": True}, UsageError, "units"),
        (
            {"activation": {"class_name": "Lambda", "config": {"function": "x"}}},
            UnsupportedError,
            "Lambda",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused(
    change: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match) as caught:
        ours.layers.LSTM.from_config({**KERAS_2_LSTM, **change})
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


def double(x: Any) -> Any:
    return 2 * x


def test_functions_and_classes_of_ones_own_come_back_by_name() -> None:
    layer = ours.layers.LSTM(3, activation=double, name="l")
    config = layer.get_config()
    assert config["activation"]["config"] == "double"
    with pytest.raises(UnsupportedError, match="double"):
        ours.layers.LSTM.from_config(config)
    again = ours.layers.LSTM.from_config(config, custom_objects={"double": double})
    assert again.activation is double
    with pytest.raises(UnsupportedError, match="lambda"):
        ours.layers.LSTM(3, activation=lambda x: x).get_config()

    @ours.saving.register_keras_serializable("tests")
    class Cell(ours.layers.LSTMCell):
        pass

    whole = serialize_keras_object(ours.layers.Bidirectional(ours.layers.RNN(Cell(3))))
    assert whole["config"]["layer"]["config"]["cell"]["registered_name"] == "tests>Cell"
    assert type(deserialize_keras_object(whole).forward_layer.cell) is Cell


def test_names_are_numbered_as_keras_numbers_them() -> None:
    from lstm_bridge.keras.naming import reset_uids

    keras.utils.clear_session()
    reset_uids()
    for lib in (keras, ours):
        names = [lib.layers.LSTM(2).name, lib.layers.LSTMCell(2).name, lib.layers.LSTM(2).name]
        names += [lib.layers.TimeDistributed(lib.layers.Masking()).name]
        assert names == ["lstm", "lstm_cell", "lstm_1", "time_distributed"]
