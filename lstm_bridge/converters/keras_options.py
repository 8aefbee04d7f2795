"""A recurrent layer's config, of any Keras since 1.0, as constructor arguments of Keras 3's class.

An option that changes results is carried or refused. What is dropped has no effect on a layer whose
weights are loaded: initializers, shapes that the weights imply, hints about speed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from lstm_bridge.core.activations import ACTIVATIONS
from lstm_bridge.errors import ConfigError

Config = Mapping[str, Any]

_KERAS_1_NAMES = {
    "output_dim": "units",
    "inner_activation": "recurrent_activation",
    "dropout_W": "dropout",
    "dropout_U": "recurrent_dropout",
}
_TRAINING_ONLY = ("W_regularizer", "U_regularizer", "b_regularizer", "activity_regularizer")
_CARRIED = {
    *("name", "trainable", "dtype", "units", "activation", "recurrent_activation", "use_bias"),
    *("unit_forget_bias", "dropout", "recurrent_dropout", "seed", "return_sequences"),
    *("return_state", "go_backwards", "stateful", "unroll", "zero_output_for_mask"),
    *(f"{part}_{kind}" for part in ("kernel", "recurrent", "bias") for kind in ("regularizer",)),
    *(f"{part}_constraint" for part in ("kernel", "recurrent", "bias")),
    "activity_regularizer",
}
_NO_EFFECT = {
    *("kernel_initializer", "recurrent_initializer", "bias_initializer"),
    *("init", "inner_init", "forget_bias_init", "implementation", "consume_less", "use_cudnn"),
    *("batch_input_shape", "batch_shape", "input_shape", "input_dtype", "input_dim"),
    *("input_length", "W_regularizer", "U_regularizer", "b_regularizer", "module"),
}
_MUST_BE_FALSE = {"time_major", "sparse", "ragged", "num_constants", "reverse_state_order"}
_SWITCHES = (
    *("use_bias", "return_sequences", "return_state", "go_backwards", "stateful"),
    "zero_output_for_mask",
)
_MOST_UNITS = 2**24 - 1


@dataclass(slots=True)
class Reader:
    """Reads layer configs of one file.

    Args:
        file: the file's name, for refusals.
        version: Keras version that wrote the file, e.g. ``"2.2.4-tf"``.
        assume: options that a weights-only file does not hold, as the caller states them.
        notes: layer path → decisions made while reading, one line each.
    """

    file: str
    version: str
    assume: Mapping[str, Any] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def note(self, where: str, rule: str) -> None:
        """Record a decision about the layer at ``where``."""
        self.notes.setdefault(where, []).append(rule)

    def rules(self, path: str) -> list[str]:
        """Return the decisions about a layer and the parts of it, each once."""
        inside = (n for at, n in self.notes.items() if at == path or at.startswith(f"{path}."))
        return list(dict.fromkeys(rule for notes in inside for rule in notes))

    @property
    def major(self) -> int:
        """First number of the version."""
        head = self.version.split(".")[0]
        return int(head) if head.isascii() and head.isdigit() else 0

    def refuse(self, where: str, expected: str, got: str, fix: str) -> ConfigError:
        """Return the refusal of an option or layer."""
        return ConfigError(self.file, member=where, expected=expected, got=got, fix=fix)

    def lstm(self, class_name: str, config: Config, where: str) -> dict[str, Any]:
        """Return the Keras 3 arguments of an LSTM, LSTMCell or CuDNNLSTM config."""
        options = self.known(config, where)
        self._check_units(options.get("units"), where)
        if class_name == "CuDNNLSTM":
            options |= {"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True}
        if "recurrent_activation" not in options:
            options["recurrent_activation"] = self._default_recurrent_activation(where)
        for key in ("activation", "recurrent_activation"):
            if key in options:
                options[key] = self.activation(options[key], where, key)
        return options

    def activation(self, value: Any, where: str, key: str) -> str:
        """Return the name of an activation as the core spells it."""
        if isinstance(value, dict) and value.get("class_name") == "function":
            value = value.get("config")
        if value is None:
            return "linear"
        if not isinstance(value, str):
            expected = "a built-in activation's name"
            raise self.refuse(
                f"{where}.{key}", expected, repr(value)[:80], "custom code is not run"
            )
        if value not in ACTIVATIONS:
            raise self.refuse(
                f"{where}.{key}",
                f"one of {', '.join(ACTIVATIONS)}",
                repr(value)[:80],
                "state a built-in one, or compute the layer elsewhere",
            )
        if value == "hard_sigmoid" and self.major < 3:
            self.note(where, f"{key}: hard_sigmoid of Keras {self.version}, slope 0.2")
            return "hard_sigmoid_keras2"
        return value

    def _default_recurrent_activation(self, where: str) -> str:
        """Return the default of the version that wrote the file: it changed in Keras 2.3."""
        numbers = self.version.split("-")[0].split(".")
        old = tuple(int(n) for n in numbers[:2] if n.isascii() and n.isdigit()) < (2, 3)
        if old and self.version.endswith("-tf"):
            raise self.refuse(
                where,
                "to know recurrent_activation",
                f"no config, and Keras {self.version} had hard_sigmoid for its default under "
                "TensorFlow 1 and sigmoid under TensorFlow 2",
                "pass --assume recurrent_activation=NAME, or the architecture JSON as --config",
            )
        return "hard_sigmoid" if old else "sigmoid"

    def known(
        self, config: Config, where: str, carried: Collection[str] = _CARRIED
    ) -> dict[str, Any]:
        """Return the options that are carried, under Keras 3's names.

        What has no effect is dropped; what would be lost is refused.
        """
        options: dict[str, Any] = {}
        for key, value in config.items():
            name = _KERAS_1_NAMES.get(key, key)
            if name in carried:
                options[name] = value
            elif name in _MUST_BE_FALSE and value:
                raise self.refuse(
                    where, f"{key}=False", repr(value)[:80], "re-save the model without it"
                )
            elif name not in _NO_EFFECT | _MUST_BE_FALSE:
                raise self.refuse(
                    where, "options known to Keras 1-3", f"{key}={value!r}"[:80], "report it"
                )
        self._check_types(options, where)
        if self.major == 1:
            for key in _TRAINING_ONLY:
                if config.get(key):
                    self.note(where, f"{key} of Keras 1 acts in training only: left out")
            options.pop("activity_regularizer", None)
        return {key: value for key, value in options.items() if value is not None}

    def _check_types(self, options: dict[str, Any], where: str) -> None:
        for key in _SWITCHES:
            if not isinstance(options.get(key), bool | None):
                expected, got = "true or false", repr(options[key])[:80]
                raise self.refuse(f"{where}.{key}", expected, got, "the config is damaged")
        for key in ("dropout", "recurrent_dropout"):
            rate = options.get(key) or 0
            if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
                expected, got = "a rate from 0 to 1", repr(rate)[:80]
                raise self.refuse(f"{where}.{key}", expected, got, "the config is damaged")
        policy = options.get("dtype")
        if isinstance(policy, dict):
            inner = policy.get("config")
            options["dtype"] = inner.get("name") if isinstance(inner, dict) else None

    def _check_units(self, units: Any, where: str) -> None:
        if type(units) is not int or not 0 < units <= _MOST_UNITS:
            expected = f"an integer from 1 to {_MOST_UNITS}"
            raise self.refuse(f"{where}.units", expected, repr(units)[:80], "the config is damaged")


def child(config: Config, key: str, reader: Reader, where: str) -> Config:
    """Return the serialized layer under ``key``."""
    value = config.get(key)
    return serialized(value, reader, f"{where}.{key}")


def serialized(value: Any, reader: Reader, where: str) -> Config:
    """Return a serialized layer or cell, once it is one.

    Raises:
        ConfigError: it is something else.
    """
    whole = isinstance(value, dict) and isinstance(value.get("config"), dict)
    if not whole or not isinstance(value.get("class_name"), str):
        raise reader.refuse(where, "a serialized layer", repr(value)[:80], "re-save it")
    found: Config = value
    return found
