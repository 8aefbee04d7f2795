"""A whole Keras model on its way back: where its weights lie in a file of Keras 3.

What is written loads into the original architecture: ``model.load_weights("m.weights.h5")``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lstm_bridge.checkpoints.keras_writer import KERAS_VERSION
from lstm_bridge.converters.keras_options import Config
from lstm_bridge.errors import UnsupportedError
from lstm_bridge.models.keras.runtime import KerasModel
from lstm_bridge.models.keras.weights import slots_of

_RENAMED = {"CuDNNLSTM": "LSTM", "CuDNNGRU": "GRU", "Model": "Functional"}
"""Classes of old files → what Keras 3 has for them."""

_PRIVATE = re.compile(r"/((?:query|key|value|output)_dense)/")


def places_of(model: KerasModel) -> dict[str, str]:
    """Return parameter → dataset path in a weights file of Keras 3.

    Raises:
        UnsupportedError: the model does not know the Keras config that it came from.
    """
    config = _told(model)["config"]
    return {
        slot.name: _PRIVATE.sub(r"/_\1/", slot.vars_path) for slot in slots_of(model, _now(config))
    }


def architecture_of(model: KerasModel) -> dict[str, Any]:
    """Return the config for a ``.keras`` archive: the model's own, without its training.

    Raises:
        UnsupportedError: it came from a legacy file, whose configs archives do not hold.
    """
    told = _told(model)
    if "module" not in told["config"]:  # which Keras 3 finds classes by
        raise UnsupportedError(
            "a .keras archive",
            expected="a model that came from one",
            got=f"an older file of Keras {told['version']}",
            fix="write .weights.h5, and load it into the model that your code makes",
        )
    dropped = ("compile_config", "keras_version", "backend")
    return {key: value for key, value in told["config"].items() if key not in dropped}


def _told(model: KerasModel) -> Mapping[str, Any]:
    told = model._options.get("keras")
    if told is None:
        raise UnsupportedError(
            "a Keras file",
            expected="a model that knows its Keras config",
            got="one without it",
            fix=f"convert its Keras file again, then write for Keras {KERAS_VERSION}",
        )
    return told  # type: ignore[no-any-return]


def _now(config: Config) -> Config:
    """Return a config whose classes have the names of Keras 3."""
    made = {**config, "class_name": _RENAMED.get(config["class_name"], config["class_name"])}
    inner = made.get("config")
    if isinstance(inner, list):
        made["config"] = [_now(layer) for layer in inner]
    elif isinstance(inner, Mapping):
        made["config"] = {key: _now_within(value, key) for key, value in inner.items()}
    return made


def _now_within(value: Any, key: str) -> Any:
    if key == "layers" and isinstance(value, list):
        return [_now(layer) for layer in value]
    holds = isinstance(value, Mapping) and "class_name" in value and "config" in value
    return _now(value) if holds and key in ("layer", "backward_layer", "cell") else value
