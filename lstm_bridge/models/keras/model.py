"""A chain of recurrent layers as a Keras 3 Sequential: its config, and where its weights lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lstm_bridge.converters.keras_options import Reader
from lstm_bridge.converters.keras_tree import walk
from lstm_bridge.converters.layer import FoundLayer
from lstm_bridge.converters.recipe import Entry, shape_of

_ROLES = ("kernel", "recurrent_kernel", "bias")
_POLICIES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def sequential(layers: list[FoundLayer], facts: Mapping[str, Entry], dtype: str) -> dict[str, Any]:
    """Return the serialized Sequential of layers called one after the other.

    Args:
        layers: Keras layers, each reading the one before.
        facts: header facts of the source's tensors.
        dtype: code of their weights.
    """
    policy = _POLICIES[dtype]
    first = next(r for p, r in layers[0].parameters.items() if p.endswith("cell.kernel"))
    D = shape_of(first, facts)[0]
    input_layer = {"batch_shape": [None, None, D], "dtype": policy, "name": "input"}
    serialized = [_serialized("InputLayer", input_layer)]
    for layer in layers:
        class_name = layer.kind.rpartition(".")[2]
        serialized.append(_serialized(class_name, _typed(dict(layer.options), policy)))
    name = layers[0].path.split("_l0")[0].replace(".", "_") or "lstm"
    config = {"name": f"{name}_model", "layers": serialized}
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": config,
        "registered_name": None,
    }


def _serialized(class_name: str, config: dict[str, Any]) -> dict[str, Any]:
    known = {"module": "keras.layers", "registered_name": None}
    return {"class_name": class_name, "config": config, **known}


def _typed(options: dict[str, Any], policy: str) -> dict[str, Any]:
    """Give a layer and the layers or cells within it their dtype and Keras's module path."""
    typed: dict[str, Any] = {"dtype": policy, **options}
    if policy != "float32" and "units" in options:
        # Keras draws initial values before it loads ours, and cannot draw orthogonal ones here.
        typed["recurrent_initializer"] = "glorot_uniform"
    for key, value in options.items():
        if isinstance(value, dict) and "class_name" in value:
            typed[key] = _serialized(value["class_name"], _typed(value["config"], policy))
        elif key == "cells":
            typed[key] = [_serialized(v["class_name"], _typed(v["config"], policy)) for v in value]
    return typed


def places(model: dict[str, Any], version: str) -> dict[str, str]:
    """Return parameter name (``lstm.cell.kernel``) → dataset path in a Keras 3 weights file."""
    tree = walk(model, Reader("the model to write", version))
    return {
        f"{leaf.path}.{cell.prefix}{role}": f"{cell.vars_path}/vars/{k}"
        for leaf in tree.leaves
        for cell in leaf.cells
        for k, role in enumerate(_ROLES)
    }
