"""A whole model as a folder: what is saved runs again, free of what it came from."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

import lstm_bridge
from lstm_bridge.errors import ConfigError, FileSystemError, UsageError
from lstm_bridge.models.graph import Graph, Node, Ref
from lstm_bridge.models.whole import Model, Part
from lstm_bridge.torch.nn import LSTM, Linear

D, H = 3, 5


def make(seed: int = 0) -> Model:
    """LSTM, the last step of which goes through a Linear, times an array of the model's own."""
    mx.random.seed(seed)
    lstm_options = {"input_size": D, "hidden_size": H, "batch_first": True}
    linear_options = {"in_features": H, "out_features": 32}
    graph = Graph(
        (
            Node("x", "input"),
            Node("run", "module", "layers.0", (Ref("x"),)),
            Node("y", "item", "", (Ref("run"), 0)),
            Node("last", "item", "", (Ref("y"), (slice(None), -1))),
            Node("head", "module", "head.out", (Ref("last"),)),
            Node("scale", "parameter", "_scale"),
            Node("out", "output", "", ([Ref("head"), Ref("scale")],)),
        )
    )
    parts = [
        Part("layers.0", "torch.nn.LSTM", lstm_options, LSTM(**lstm_options)),
        Part("head.out", "torch.nn.Linear", linear_options, Linear(**linear_options)),
    ]
    return Model(parts, graph, {"_scale": mx.array([0.5, -2.0])}).eval()


X = mx.array(np.random.default_rng(0).normal(size=(4, 7, D)).astype(np.float32))


def values(outputs: list[mx.array]) -> list[np.ndarray]:
    return [np.array(output) for output in outputs]


def test_saved_and_loaded_it_gives_the_same_bits(tmp_path: Path) -> None:
    model = make()
    lstm_bridge.save(model, tmp_path / "m")
    again = lstm_bridge.load(tmp_path / "m")
    assert isinstance(again, Model)
    assert again.graph == model.graph
    for ours, theirs in zip(values(again(X)), values(model(X)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    names = [name for name, _ in tree_flatten(again.parameters())]
    assert {"layers.0.weight_ih_l0", "head.out.bias", "_scale"} <= set(names)


def test_another_fine_tune_loads_by_name_digits_included(tmp_path: Path) -> None:
    other = make(seed=1)
    lstm_bridge.save(other, tmp_path / "other")
    model = make()
    assert not np.array_equal(values(model(X))[0], values(other(X))[0])
    model.load_weights(tmp_path / "other" / "model.safetensors")
    np.testing.assert_array_equal(values(model(X))[0], values(other(X))[0])
    model.load_weights(list(tree_flatten(make().parameters())))
    np.testing.assert_array_equal(values(model(X))[0], values(make()(X))[0])


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_weights_of_another_architecture_are_refused_and_change_nothing(change: str) -> None:
    model, weights = make(), dict(tree_flatten(make(seed=1).parameters()))
    if change == "missing":
        weights.pop("head.out.bias")
    elif change == "extra":
        weights["tail.bias"] = mx.zeros(3)
    else:
        weights["head.out.bias"] = mx.zeros(3)
    before = values(model(X))[0]
    with pytest.raises(UsageError, match=r"head\.out\.bias|tail\.bias"):
        model.load_weights(list(weights.items()))
    np.testing.assert_array_equal(values(model(X))[0], before)


def test_it_trains_like_any_module() -> None:
    model = make()
    model.train()

    def loss(model: Model) -> mx.array:
        return mx.mean(mx.square(model(X)[0]))

    value, grads = nn.value_and_grad(model, loss)(model)
    names = {name for name, _ in tree_flatten(grads)}
    assert {"layers.0.weight_hh_l0", "head.out.weight"} <= names
    from mlx.optimizers import SGD

    SGD(0.05).update(model, grads)
    assert loss(model).item() < value.item()


def damaged(folder: Path, edit: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    edits = {
        "foreign class": lambda: config["modules"][0].update({"class": "os.system"}),
        "class of another package": lambda: config["modules"][0].update({"class": "torch.os.path"}),
        "base that is no export": lambda: config["modules"][0].update({"class": "torch.nn.utils"}),
        "unknown operation": lambda: config["graph"][2].update({"op": "eval"}),
        "unknown kind": lambda: config.update({"model": "models.Other"}),
        "node to come": lambda: config["graph"].insert(0, config["graph"].pop(1)),
        "no such place": lambda: config["graph"][1].update({"target": "layers.1"}),
        "module missing": lambda: config["modules"].pop(1),
        "modules a text": lambda: config.update({"modules": "x"}),
        "options a list": lambda: config["modules"][0].update({"options": []}),
        "unknown option": lambda: config["modules"][0]["options"].update({"colour": 1}),
    }
    edits[edit]()
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    "edit",
    ["foreign class", "class of another package", "base that is no export", "unknown operation",
     "unknown kind", "node to come", "no such place", "module missing", "modules a text",
     "options a list", "unknown option"],
)  # fmt: skip
def test_a_damaged_description_is_refused(tmp_path: Path, edit: str) -> None:
    lstm_bridge.save(make(), tmp_path / "m")
    damaged(tmp_path / "m", edit)
    with pytest.raises(ConfigError, match=r"config\.json"):
        lstm_bridge.load(tmp_path / "m")


def test_saving_replaces_only_when_told_to(tmp_path: Path) -> None:
    lstm_bridge.save(make(), tmp_path / "m")
    with pytest.raises(FileSystemError):
        lstm_bridge.save(make(seed=1), tmp_path / "m")
    lstm_bridge.save(make(seed=1), tmp_path / "m", force=True)
    np.testing.assert_array_equal(
        values(lstm_bridge.load(tmp_path / "m")(X))[0], values(make(seed=1)(X))[0]
    )


@pytest.mark.parametrize("name", ["torch_forecaster.pt", "torch_forecaster.safetensors"])
def test_loading_weights_alone_names_the_verb_for_them(name: str) -> None:
    fixture = Path(__file__).parents[2] / "fixtures" / name
    with pytest.raises(ConfigError, match=r"weights without an architecture.*convert the file"):
        lstm_bridge.load(fixture)
