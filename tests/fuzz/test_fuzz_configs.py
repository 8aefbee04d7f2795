"""Any JSON for a Keras config: it converts or is refused, and nothing else is ever raised."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_bridge.converters.layer import Tensors
from lstm_bridge.converters.plan import make_plan
from lstm_bridge.converters.recipe import Entry
from lstm_bridge.errors import BridgeError

TARGET = Path(__file__).with_name("fuzz_checkpoints.py")
D, H = 3, 5
ENTRIES = {
    "layers/lstm/cell/vars/0": Entry((D, 4 * H), "F32"),
    "layers/lstm/cell/vars/1": Entry((H, 4 * H), "F32"),
    "layers/lstm/cell/vars/2": Entry((4 * H,), "F32"),
}
METADATA = {"layout": "vars", "keras_version": "3.0.0", "weight_names": {}, "layer_names": []}

scalars = st.none() | st.booleans() | st.integers(-3, 7) | st.floats(allow_nan=False) | st.text()
CLASSES = ("LSTM", "Bidirectional", "RNN", "LSTMCell", "StackedRNNCells", "TimeDistributed")
words = st.sampled_from((*CLASSES, "Sequential", "Functional", "Lambda", "tanh", "concat", "lstm"))
KEYS = (
    *("class_name", "config", "layers", "layer", "backward_layer", "cell", "cells", "name"),
    *("units", "activation", "merge_mode", "inbound_nodes", "keras_history", "module"),
    *("build_config", "input_shape", "batch_input_shape", "dtype", "use_bias", "dropout"),
)
trees = st.recursive(
    scalars | words,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
    ),
    max_leaves=30,
)


def good() -> dict[str, Any]:
    inner = {"class_name": "LSTM", "config": {"name": "lstm", "units": H, "use_bias": True}}
    both = {"class_name": "Bidirectional", "config": {"name": "b", "layer": inner}}
    stacked = {"class_name": "StackedRNNCells", "config": {"cells": [inner]}}
    rnn = {"class_name": "RNN", "config": {"name": "r", "cell": stacked}}
    layers = [inner | {"inbound_nodes": [[["b", 0, 0, {}]]]}, both, rnn]
    return {"class_name": "Functional", "config": {"name": "m", "layers": layers}}


def places(tree: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found = [at] if at else []
    if isinstance(tree, dict | list):
        for key, child in children:
            found += places(child, (*at, key)) if isinstance(child, dict | list) else [(*at, key)]
    return found


def plan(config: Any) -> bool:
    """Return whether the config was taken; a refusal is one line."""
    try:
        make_plan(Tensors("m.keras", ENTRIES, METADATA | {"config": config})).require("m.keras")
    except BridgeError as error:
        refusal = error
    else:
        return True
    assert "\n" not in str(refusal)
    assert refusal.exit_status == 3
    return False


@given(trees)
def test_any_json_is_planned_or_refused(tree: Any) -> None:
    plan(tree)
    plan({"class_name": "Sequential", "config": {"layers": tree}})


@given(st.data(), trees)
def test_any_part_replaced_is_planned_or_refused(data: st.DataObject, tree: Any) -> None:
    config = json.loads(json.dumps(good()))
    *parents, last = data.draw(st.sampled_from(places(config)))
    node = config
    for key in parents:
        node = node[key]
    node[last] = tree
    plan(config)


def test_a_good_config_is_taken() -> None:
    """The control: what the tests above damage is not refused as it is."""
    lstm = {"class_name": "LSTM", "config": {"name": "lstm", "units": H}}
    assert plan({"class_name": "Sequential", "config": {"layers": [lstm]}})


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is not None, reason="atheris is here: make fuzz runs it"
)
def test_without_atheris_the_target_says_so() -> None:
    command = [sys.executable, str(TARGET), "one.npy"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "fuzz: skipped, atheris has no wheel for this Python and system\n"
