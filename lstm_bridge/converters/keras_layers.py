"""Every Keras layer a whole model may hold, and its config of any Keras since 1.0 as Keras 3's.

An option that changes results is carried or refused. What is dropped has no effect on a layer whose
weights are loaded: initializers, shapes that the graph implies, hints about speed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lstm_bridge.converters.keras_merge_modes import merge
from lstm_bridge.converters.keras_options import Config, Reader, child

Options = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """How one class's config becomes that of a Keras 3 class.

    Args:
        kind: the Keras 3 class.
        renames: old option → its name in Keras 3.
        must: option → the only values that are taken; the option itself is then dropped.
        drops: options without effect on results.
        finish: last changes, given the reader, the options so far and the layer's place.
    """

    kind: str
    renames: Mapping[str, str] = field(default_factory=dict)
    must: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    drops: tuple[str, ...] = ()
    finish: Callable[[Reader, Options, str], None] | None = None


_FALSE = (None, False, 0, 0.0)

_KERAS_1 = {
    "bias": "use_bias",
    "W_constraint": "kernel_constraint",
    "b_constraint": "bias_constraint",
}
_NO_EFFECT = {
    *("batch_input_shape", "batch_shape", "input_shape", "input_dtype", "input_dim", "weights"),
    *("input_length", "init", "inner_init", "forget_bias_init", "implementation", "consume_less"),
    *("gamma_init", "beta_init", "W_regularizer", "U_regularizer", "b_regularizer", "unroll"),
    *("cache_readonly", "autocast", "quantization_config", "registered_name", "module"),
}


def _window(reader: Reader, options: Options, where: str) -> None:
    """Join the sizes that Keras 1 kept apart; name the data format as Keras 3 does."""
    if "nb_row" in options:
        options["kernel_size"] = [options.pop("nb_row"), options.pop("nb_col", None)]
    if "dim_ordering" in options:
        formats = {"tf": "channels_last", "th": "channels_first", "default": "channels_last"}
        ordering = options.pop("dim_ordering")
        if ordering not in formats:
            raise reader.refuse(where, "dim_ordering tf or th", repr(ordering), "report it")
        options["data_format"] = formats[ordering]


def _number(reader: Reader, options: Options, where: str) -> None:
    """Take a slope out of the array that some releases wrap it in."""
    for key, value in options.items():
        if isinstance(value, dict) and "value" in value:
            options[key] = value["value"]


def _scaled(reader: Reader, options: Options, where: str) -> None:
    for key in ("scale", "offset"):
        if isinstance(options.get(key), dict):
            inner = options[key].get("config", options[key])
            options[key] = inner.get("value")


def _embedding(reader: Reader, options: Options, where: str) -> None:
    if reader.major == 1 and options.pop("dropout", 0):
        raise reader.refuse(where, "dropout=0", "dropout of whole words", "re-save it without")


def _moments(reader: Reader, options: Options, where: str) -> None:
    if isinstance(options.get("mean"), str):  # tf.keras writes a NumPy None as text
        options["mean"] = options["variance"] = None


_CONV = {
    "nb_filter": "filters",
    "filter_length": "kernel_size",
    "border_mode": "padding",
    "subsample_length": "strides",
    "subsample": "strides",
    "atrous_rate": "dilation_rate",
}
_POOL = {"pool_length": "pool_size", "stride": "strides", "border_mode": "padding"}
_ATTENTION = {"causal": _FALSE}
_SLOPE = {"alpha": "negative_slope"}


def _conv(kind: str) -> Rule:
    return Rule(kind, _CONV, finish=_window, drops=("lora_rank", "lora_alpha"))


def _pool(kind: str) -> Rule:
    return Rule(kind, _POOL, finish=_window)


_NOISE = {"p": "rate", "sigma": "stddev"}

_DENSE = Rule("Dense", {"output_dim": "units"}, drops=("lora_rank", "lora_alpha"))

RULES: dict[str, Rule] = {
    **{
        name: Rule(name)
        for name in (
            *("Masking", "Activation", "ELU", "Softmax", "PReLU", "UnitNormalization", "Permute"),
            *("RepeatVector", "ZeroPadding1D", "Cropping1D", "Add", "Subtract", "Multiply"),
            *("Average", "Maximum", "Minimum", "Concatenate", "Reshape"),
            "ActivityRegularization",
        )
    },
    **{name: Rule(name, {"ratio": "rate"} | _NOISE) for name in ("Dropout", "SpatialDropout1D")},
    **{
        name: Rule(name, _NOISE)
        for name in ("GaussianNoise", "GaussianDropout", "AlphaDropout")
    },
    "Flatten": Rule("Flatten", finish=_window),
    "Dot": Rule("Dot"),
    "Dense": _DENSE,
    "TimeDistributedDense": _DENSE,  # of Keras 1; Dense works on the last axis since Keras 2
    "LeakyReLU": Rule("LeakyReLU", _SLOPE, finish=_number),
    "ReLU": Rule("ReLU", finish=_number),
    "BatchNormalization": Rule(
        "BatchNormalization",
        must={"mode": _FALSE, "virtual_batch_size": _FALSE, "adjustment": _FALSE},
        drops=("fused", "renorm_clipping", "renorm_momentum"),
    ),
    "LayerNormalization": Rule("LayerNormalization", must={"rms_scaling": _FALSE}),
    "Conv1D": _conv("Conv1D"),
    "Convolution1D": _conv("Conv1D"),
    "AtrousConvolution1D": _conv("Conv1D"),
    "Conv2D": _conv("Conv2D"),
    "Convolution2D": _conv("Conv2D"),
    "AtrousConvolution2D": _conv("Conv2D"),
    "SeparableConv1D": Rule(
        "SeparableConv1D",
        must={"groups": (1, None)},
        drops=("kernel_constraint", "kernel_regularizer"),
    ),
    **{
        name: _pool(name)
        for name in (
            *("MaxPooling1D", "AveragePooling1D", "MaxPooling2D", "AveragePooling2D"),
            *("GlobalMaxPooling1D", "GlobalAveragePooling1D"),
            *("GlobalMaxPooling2D", "GlobalAveragePooling2D"),
        )
    },
    "UpSampling1D": Rule("UpSampling1D", {"length": "size"}),
    "Embedding": Rule(
        "Embedding",
        {"W_constraint": "embeddings_constraint"},
        must={"sparse": _FALSE},
        drops=("lora_rank", "lora_alpha"),
        finish=_embedding,
    ),
    "Attention": Rule("Attention", must=_ATTENTION),
    "AdditiveAttention": Rule(
        "AdditiveAttention", must={**_ATTENTION, "score_mode": ("dot", None)}
    ),
    "MultiHeadAttention": Rule(
        "MultiHeadAttention",
        must={"softmax_robust_masking": _FALSE},
        drops=("query_shape", "key_shape", "value_shape"),
    ),
    "Rescaling": Rule("Rescaling", finish=_scaled),
    "Normalization": Rule("Normalization", finish=_moments),
    "ConvLSTM1D": Rule("ConvLSTM1D"),
    "ConvLSTM2D": Rule(
        "ConvLSTM2D",
        {**_CONV, "inner_activation": "recurrent_activation", "dropout_W": "dropout",
         "dropout_U": "recurrent_dropout"},
        finish=_window,
    ),
}  # fmt: skip
"""Class name in a file → its rule: the layers a whole model may hold besides the recurrent ones."""

_GRUS = ("GRU", "CuDNNGRU", "GRUCell")
_SIMPLE = ("SimpleRNN", "SimpleRNNCell")
_LSTMS = ("LSTM", "CuDNNLSTM", "LSTMCell")
_RNN_FLAGS = (
    *("name", "trainable", "dtype", "return_sequences", "return_state", "go_backwards"),
    *("stateful", "unroll", "zero_output_for_mask"),
)
_NEVER_OPERATIONS = ("SpatialDropout1D",)
_KEPT_BY_WRAPPERS = ("name", "trainable", "dtype")

RECURRENT = (*_LSTMS, *_GRUS, *_SIMPLE, "RNN", "Bidirectional", "ConvLSTM1D", "ConvLSTM2D")
"""Classes whose further inputs are their initial state."""

SUPPORTED = tuple(
    sorted(
        {*RULES, *RECURRENT, "StackedRNNCells", "TimeDistributed", "InputLayer", "Merge"}
        | {"Sequential", "Functional", "Model"}
    )
)
"""Every class that a whole model may hold, as files name them."""


def layer_config(layer: Config, reader: Reader, where: str) -> tuple[str, Options]:
    """Return the Keras 3 class and arguments of a serialized layer.

    Args:
        layer: ``{"class_name": …, "config": …}`` of any era.
        reader: reads the options of one file.
        where: the layer's place, for refusals.

    Raises:
        ConfigError: the class or an option of it is not supported.
    """
    class_name = str(layer.get("class_name"))
    config = layer.get("config")
    if not isinstance(config, dict):
        raise reader.refuse(where, "a serialized layer", repr(config)[:80], "re-save the model")
    module = str(layer.get("module") or "keras.layers")
    foreign = module.partition(".")[0] not in ("keras", "tf_keras", "tensorflow")
    if class_name not in SUPPORTED or foreign or is_operation(layer):
        raise unsupported(class_name, reader, where)
    if class_name in _WRAPPERS:
        return _WRAPPERS[class_name](config, reader, where)
    if class_name in (*_LSTMS, *_GRUS, *_SIMPLE):
        return _recurrent(class_name, config, reader, where)
    if class_name == "Merge":
        return merge(config, reader, where)
    return _by_rule(RULES[class_name], config, reader, where)


def is_operation(layer: Config) -> bool:
    """Say whether a node of a Functional model is a function of ``keras.ops``, not a layer.

    The ``.h5`` of Keras 3 names no modules; but a layer's config says whether it is trainable.
    """
    if layer.get("module") is not None:
        return str(layer["module"]).startswith("keras.src.ops.")
    config, calls = layer.get("config"), layer.get("inbound_nodes")
    modern = isinstance(calls, list) and any(isinstance(call, dict) for call in calls)
    told = isinstance(config, dict) and ("trainable" in config or "layers" in config)
    # A layer's config may say less: SpatialDropout1D's.
    return modern and not told and str(layer.get("class_name")) not in _NEVER_OPERATIONS


def unsupported(class_name: str, reader: Reader, where: str) -> Exception:
    """Return the refusal of a layer outside the table."""
    return reader.refuse(
        where,
        "a layer of lstm_bridge.keras.layers",
        f"{class_name}, which is not one of them",
        "convert works layer by layer: its recurrent layers still load",
    )


def _by_rule(rule: Rule, config: Config, reader: Reader, where: str) -> tuple[str, Options]:
    options: Options = {}
    renames = {**_KERAS_1, **rule.renames}
    embedding = rule.kind == "Embedding"
    for key, value in config.items():
        name = renames.get(key, key)
        if name in rule.must:
            if value not in rule.must[name]:
                raise reader.refuse(
                    where, f"{key} of {rule.must[name]}", repr(value)[:80], "re-save"
                )
        elif not _droppable(name, embedding) and name not in rule.drops:
            options[name] = value
    if reader.major == 1 and options.pop("activity_regularizer", None):
        reader.note(where, "activity_regularizer of Keras 1 acts in training only: left out")
    for key in ("activation", "recurrent_activation"):
        if key in options:
            options[key] = _activation(options[key], reader, where, key)
    if rule.finish is not None:
        rule.finish(reader, options, where)
    return rule.kind, plain(options)


_ACTIVATION_LAYERS = ("LeakyReLU", "ReLU", "ELU", "Softmax")  # those without weights


def _activation(value: Any, reader: Reader, where: str, key: str) -> Any:
    """An activation's name, or the config of a layer that stands for one."""
    if isinstance(value, dict) and value.get("class_name") in _ACTIVATION_LAYERS:
        return serialized(value, reader, f"{where}.{key}")
    return reader.activation(value, where, key)


def _droppable(name: str, embedding: bool) -> bool:
    if embedding and name == "input_dim":
        return False
    return name in _NO_EFFECT or name.endswith("_initializer")


def plain(options: Options) -> Options:
    """Return options without None, the dtype by its name."""
    dtype = options.get("dtype")
    if isinstance(dtype, dict):
        options["dtype"] = dtype.get("config", {}).get("name")
    return {key: value for key, value in options.items() if value is not None}


def _recurrent(class_name: str, config: Config, reader: Reader, where: str) -> tuple[str, Options]:
    """The plain recurrent layers and cells, whose options are those of an LSTM and one more."""
    own = dict(config)
    reset_after = own.pop("reset_after", class_name == "CuDNNGRU")
    base = "CuDNNLSTM" if class_name.startswith("CuDNN") else class_name
    if class_name in _SIMPLE:
        own["recurrent_activation"] = "linear"
    options = reader.lstm(base, own, where)
    if class_name in _LSTMS:
        return class_name.removeprefix("CuDNN"), options
    options.pop("unit_forget_bias", None)
    if class_name in _GRUS:
        options["reset_after"] = bool(reset_after)
    else:
        options.pop("recurrent_activation", None)
    return class_name.removeprefix("CuDNN"), options


def serialized(layer: Config, reader: Reader, where: str) -> Options:
    """Return a serialized layer or cell in the form of Keras 3."""
    kind, options = layer_config(layer, reader, where)
    return {"class_name": kind, "config": options}


def _wrapper_options(config: Config) -> Options:
    return plain({key: config[key] for key in _KEPT_BY_WRAPPERS if key in config})


def _time_distributed(config: Config, reader: Reader, where: str) -> tuple[str, Options]:
    inner = serialized(child(config, "layer", reader, where), reader, f"{where}.layer")
    return "TimeDistributed", {**_wrapper_options(config), "layer": inner}


def _bidirectional(config: Config, reader: Reader, where: str) -> tuple[str, Options]:
    options = _wrapper_options(config)
    options["merge_mode"] = config.get("merge_mode", "concat")
    forward = child(config, "layer", reader, where)
    options["layer"] = serialized(forward, reader, f"{where}.forward_layer")
    if config.get("backward_layer"):
        backward = child(config, "backward_layer", reader, where)
        options["backward_layer"] = serialized(backward, reader, f"{where}.backward_layer")
    return "Bidirectional", options


def _rnn(config: Config, reader: Reader, where: str) -> tuple[str, Options]:
    cell = config.get("cell")
    if isinstance(cell, list):
        cell = {"class_name": "StackedRNNCells", "config": {"cells": cell}}
    options = plain({key: config[key] for key in _RNN_FLAGS if key in config})
    if config.get("time_major"):
        raise reader.refuse(where, "time_major=False", "True", "re-save the model without it")
    inner = child({"cell": cell}, "cell", reader, where)
    return "RNN", {**options, "cell": serialized(inner, reader, f"{where}.cell")}


def _stacked(config: Config, reader: Reader, where: str) -> tuple[str, Options]:
    members = config.get("cells")
    if not isinstance(members, list) or not members:
        raise reader.refuse(where, "a list of cells", repr(members)[:80], "re-save the model")
    cells = [serialized(cell, reader, f"{where}.cells[{k}]") for k, cell in enumerate(members)]
    return "StackedRNNCells", {**_wrapper_options(config), "cells": cells}


_WRAPPERS = {
    "TimeDistributed": _time_distributed,
    "Bidirectional": _bidirectional,
    "RNN": _rnn,
    "StackedRNNCells": _stacked,
}
