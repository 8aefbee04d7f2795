"""Keras 1 Sequential models that begin with a Merge of models, and masks of older merging layers.

No framework of today loads such files: the truth is written here, in NumPy.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import lstm_bridge
from lstm_bridge.equivalence.judge import judge
from lstm_bridge.equivalence.whole.keras_file import read_keras
from lstm_bridge.errors import ConfigError, SemanticError
from lstm_bridge.keras.models import load_model, model_from_json

Array = np.ndarray
Weights = dict[str, dict[str, Array]]

N, L, D, H = 4, 5, 3, 2
GATES = "ifco"
EACH = {"trainable": True, "W_regularizer": None, "b_regularizer": None}
LSTM = {
    **EACH, "output_dim": H, "return_sequences": False, "go_backwards": False, "stateful": False,
    "inner_activation": "sigmoid", "activation": "tanh", "dropout_W": 0.0, "dropout_U": 0.0,
    "input_dim": D, "input_length": L,
}  # fmt: skip
DENSE = {**EACH, "activation": "linear", "bias": True, "input_dim": None}


def layer(class_name: str, name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": class_name, "config": {"name": name, **config}}


def merge(name: str, mode: str, *models: Any, **options: Any) -> dict[str, Any]:
    told = {"mode": mode, "mode_type": "raw", "concat_axis": -1, "dot_axes": -1, "arguments": {}}
    return layer("Merge", name, **{**told, "layers": list(models), **options})


def sequential(*layers: Any) -> dict[str, Any]:
    return {"class_name": "Sequential", "config": list(layers)}


def reading(name: str, **options: Any) -> dict[str, Any]:
    """A branch: an LSTM over a sequence of its own."""
    first = {"batch_input_shape": [None, L, D], "input_dtype": "float32"}
    return sequential(layer("LSTM", name, **{**LSTM, **options}, **first))


def functional(name: str) -> dict[str, Any]:
    """A branch that is a Functional model: an LSTM, and a Dense layer over it."""

    def called(made: Any, *sources: str) -> dict[str, Any]:
        nodes = [[[source, 0, 0] for source in sources]] if sources else []
        return {**made, "name": made["config"]["name"], "inbound_nodes": nodes}

    shape = {"batch_input_shape": [None, L, D], "input_dtype": "float32", "sparse": False}
    config = {
        "name": f"model_{name}",
        "layers": [
            called(layer("InputLayer", f"in_{name}", **shape)),
            called(layer("LSTM", name, **LSTM), f"in_{name}"),
            called(layer("Dense", f"out_{name}", **DENSE, output_dim=H), name),
        ],
        "input_layers": [[f"in_{name}", 0, 0]],
        "output_layers": [[f"out_{name}", 0, 0]],
    }
    return {"class_name": "Model", "config": config}


def weights_of(seed: int, **sizes: tuple[str, int, int]) -> Weights:
    """Arrays under Keras 1's names: per gate of an LSTM, W and b of a Dense layer."""
    rng = np.random.default_rng(seed)
    made: Weights = {}
    for name, (kind, wide, units) in sizes.items():
        gates = [f"_{g}" for g in "icfo"] if kind == "LSTM" else [""]  # as Keras 1 listed them
        shapes = {"W": (wide, units), "U": (units, units), "b": (units,)}
        roles = "WUb" if kind == "LSTM" else "Wb"
        made[name] = {
            f"{name}_{role}{gate}": rng.normal(0.1, 0.6, shapes[role]).astype(np.float32)
            for gate in gates
            for role in roles
        }
    return made


def saved(path: Path, config: Any, weights: Weights) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = b"1.2.2"
        file.attrs["model_config"] = json.dumps(config).encode()
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name in weights]
        for name, arrays in weights.items():
            inner = group.create_group(name)
            inner.attrs["weight_names"] = [one.encode() for one in arrays]
            for one, array in arrays.items():
                inner.create_dataset(one, data=array)
    return path


# --- the truth ----------------------------------------------------------------------------------


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def lstm(w: dict[str, Array], name: str, x: Array, mask: Array | None = None) -> Array:
    """The last output; a masked step carries the states."""
    p = {k.removeprefix(f"{name}_"): v.astype(x.dtype) for k, v in w.items()}
    h = c = np.zeros((len(x), H), x.dtype)
    for t in range(x.shape[1]):
        z = {g: x[:, t] @ p[f"W_{g}"] + h @ p[f"U_{g}"] + p[f"b_{g}"] for g in GATES}
        new_c = sigmoid(z["f"]) * c + sigmoid(z["i"]) * np.tanh(z["c"])
        new_h = sigmoid(z["o"]) * np.tanh(new_c)
        counts = np.ones((len(x), 1), bool) if mask is None else mask[:, t, None]
        h, c = np.where(counts, new_h, h), np.where(counts, new_c, c)
    return h


def dense(w: dict[str, Array], name: str, x: Array) -> Array:
    return x @ w[f"{name}_W"].astype(x.dtype) + w[f"{name}_b"].astype(x.dtype)


def cosine(a: Array, b: Array) -> Array:
    lengths = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    return ((a * b).sum(1) / np.maximum(lengths, 1e-7))[:, None, None]


MODES: dict[str, Any] = {
    "concat": lambda a, b: np.concatenate([a, b], -1),
    "sum": np.add,
    "mul": np.multiply,
    "ave": lambda a, b: (a + b) / 2,
    "max": np.maximum,
    "dot": lambda a, b: (a * b).sum(-1, keepdims=True),
    "cos": cosine,
}


def drawn(seed: int, count: int) -> list[Array]:
    rng = np.random.default_rng(100 + seed)
    return [rng.normal(0, 1, (N, L, D)).astype(np.float32) for _ in range(count)]


def judged(model: Any, xs: list[Array], truth: Any) -> bool:
    ours = np.asarray(model.predict(xs if len(xs) > 1 else xs[0], verbose=0))
    source, oracle = truth(*xs), truth(*(x.astype(np.float64) for x in xs))
    assert ours.shape == oracle.shape
    return judge(ours, source, oracle).passed


# --- merged models ------------------------------------------------------------------------------


def two(mode: str, **options: Any) -> dict[str, Any]:
    after = [] if mode == "cos" else [layer("Dense", "d", **DENSE, output_dim=3)]
    both = merge("m", mode, reading("l1"), reading("l2"), **options)
    return sequential(both, *after)


def two_weights(mode: str, seed: int) -> Weights:
    sizes: dict[str, Any] = {"l1": ("LSTM", D, H), "l2": ("LSTM", D, H)}
    wide = {"concat": 2 * H, "dot": 1}.get(mode, H)
    made = weights_of(seed, **sizes, **({} if mode == "cos" else {"d": ("Dense", wide, 3)}))
    return {"l1": made["l1"], "l2": made["l2"], "m": {}, **{k: made[k] for k in made if k == "d"}}


def two_truth(mode: str, w: Weights) -> Any:
    def run(x: Array, y: Array) -> Array:
        made = MODES[mode](lstm(w["l1"], "l1", x), lstm(w["l2"], "l2", y))
        return made if mode == "cos" else dense(w["d"], "d", made)

    return run


@pytest.mark.parametrize("mode", MODES)
def test_a_sequential_that_begins_with_merge_has_an_input_for_each(
    mode: str, tmp_path: Path
) -> None:
    w = two_weights(mode, 1)
    model = load_model(saved(tmp_path / "m.h5", two(mode), w))
    assert model.input_names == ["l1_input", "l2_input"]
    xs = drawn(1, 2)
    assert judged(model, xs, two_truth(mode, w))
    lstm_bridge.save(model, tmp_path / "folder")
    again = lstm_bridge.load(tmp_path / "folder")
    np.testing.assert_array_equal(again.predict(xs, verbose=0), model.predict(xs, verbose=0))


def test_inputs_the_other_way_round_are_caught(tmp_path: Path) -> None:
    w = two_weights("concat", 2)
    model = load_model(saved(tmp_path / "m.h5", two("concat"), w))
    right = two_truth("concat", w)
    assert not judged(model, drawn(2, 2), lambda x, y: right(y, x))
    assert not judged(
        model, drawn(2, 2), two_truth("concat", {**w, "l1": two_weights("", 3)["l1"]})
    )


def test_merges_within_merges_and_functional_branches(tmp_path: Path) -> None:
    inner = sequential(
        merge("m1", "sum", reading("l1"), functional("l2")),
        layer("Dense", "d1", **DENSE, output_dim=2),
    )
    outer = merge("m2", "concat", inner, reading("l3"), concat_axis=1)
    w = weights_of(
        4, l1=("LSTM", D, H), l2=("LSTM", D, H), out_l2=("Dense", H, H), d1=("Dense", H, 2),
        l3=("LSTM", D, H), d2=("Dense", 4, 1),
    )  # fmt: skip
    config = sequential(outer, layer("Dense", "d2", **DENSE, output_dim=1))

    def truth(x: Array, y: Array, z: Array) -> Array:
        second = dense(w["out_l2"], "out_l2", lstm(w["l2"], "l2", y))
        left = dense(w["d1"], "d1", lstm(w["l1"], "l1", x) + second)
        return dense(w["d2"], "d2", np.concatenate([left, lstm(w["l3"], "l3", z)], 1))

    path = saved(tmp_path / "m.h5", config, w)
    assert judged(load_model(path), drawn(4, 3), truth)
    nested = sequential(config, layer("Dense", "d3", **DENSE, output_dim=2))
    nested["keras_version"] = "1.2.2"
    with pytest.raises(ConfigError, match="begins with a model of several inputs"):
        model_from_json(json.dumps(nested))


def test_such_a_file_converts_and_is_inspected(tmp_path: Path) -> None:
    w = two_weights("concat", 5)
    path = saved(tmp_path / "m.h5", two("concat"), w)
    report = lstm_bridge.convert(path, tmp_path / "folder")
    assert {layer["path"] for layer in report.layers} == {"l1", "l2"}
    assert judged(lstm_bridge.load(tmp_path / "folder"), drawn(5, 2), two_truth("concat", w))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c[0]["config"]["layers"].pop(), "m: expected a Merge of two models or more"),
        (lambda c: c[0]["config"]["layers"].append(layer("Dense", "x", **DENSE)),
         r"m.layers\[2\]: expected a Sequential or Model, got 'Dense'"),
        (lambda c: c[0]["config"]["layers"].append(reading("l1")), "a name of its own"),
        (lambda c: c[0]["config"].update(mode="<lambda>", mode_type="lambda"), "a mode of sum"),
        (lambda c: c[0]["config"]["layers"][1]["config"][0]["config"].pop("batch_input_shape")
         and c[0]["config"]["layers"][1]["config"][0]["config"].pop("input_dim"),
         "l2: expected an input shape, got none"),
    ],
)  # fmt: skip
def test_what_cannot_be_merged_is_named(change: Any, message: str) -> None:
    config = copy.deepcopy(two("concat"))
    change(config["config"])
    with pytest.raises(ConfigError, match=message):
        model_from_json(json.dumps({**config, "keras_version": "1.2.2"}))


def test_weights_of_another_branch_are_refused(tmp_path: Path) -> None:
    w = two_weights("sum", 6)
    del w["l2"]
    with pytest.raises(SemanticError, match="l2"):
        load_model(saved(tmp_path / "m.h5", two("sum"), w))


# --- TimeDistributedDense -----------------------------------------------------------------------


def test_time_distributed_dense_is_dense_at_every_step(tmp_path: Path) -> None:
    first = {"batch_input_shape": [None, L, D]}
    config = sequential(
        layer("TimeDistributedDense", "t", **{**DENSE, "activation": "softmax"}, output_dim=3,
              input_length=L, **first),
        layer("LSTM", "l", **LSTM),
    )  # fmt: skip
    w = weights_of(7, t=("Dense", D, 3), l=("LSTM", 3, H))

    def softmax(x: Array) -> Array:
        e = np.exp(x - x.max(-1, keepdims=True))
        return np.asarray(e / e.sum(-1, keepdims=True))

    def truth(x: Array, wrong: bool = False) -> Array:
        y = dense(w["t"], "t", x)
        return lstm(w["l"], "l", y if wrong else softmax(y))

    model = load_model(saved(tmp_path / "m.h5", config, w))
    assert judged(model, drawn(7, 1), truth)
    assert not judged(model, drawn(7, 1), lambda x: truth(x, wrong=True))


# --- masks of older merging layers --------------------------------------------------------------


def masked(kind: str, era: str) -> dict[str, Any]:
    """Two masked sequences, merged, then read by an LSTM; as Keras 1 or tf.keras 2 wrote it."""
    old = era.startswith("1")

    def called(made: Any, *sources: str) -> dict[str, Any]:
        nodes = [[[s, 0, 0] if old else [s, 0, 0, {}] for s in sources]] if sources else []
        return {**made, "name": made["config"]["name"], "inbound_nodes": nodes}

    read: dict[str, Any] = LSTM
    if not old:
        told = {"units": H, "recurrent_activation": "sigmoid", "return_sequences": False}
        read = {"activation": "tanh", "use_bias": True, **told}
    joined = layer("Merge", "m", mode=kind, concat_axis=-1) if old else layer(kind, "m")
    sources = ("x", "b") if kind.endswith("one mask") else ("a", "b")
    joined["class_name"] = joined["class_name"].removesuffix(", one mask")
    if old:
        joined["config"]["mode"] = kind.removesuffix(", one mask")
    shape = {"batch_input_shape": [None, L, D], "sparse": False}
    config = {
        "name": "model",
        "layers": [
            called(layer("InputLayer", "x", **shape)),
            called(layer("InputLayer", "y", **shape)),
            called(layer("Masking", "a", mask_value=0.0), "x"),
            called(layer("Masking", "b", mask_value=0.0), "y"),
            called(joined, *sources),
            called(layer("LSTM", "l", **read), "m"),
        ],
        "input_layers": [["x", 0, 0], ["y", 0, 0]],
        "output_layers": [["l", 0, 0]],
    }
    return {"class_name": "Model", "config": config, "keras_version": era}


OLDER = {
    "sum": "Add", "mul": "Multiply", "max": "Maximum", "ave": "Average", "concat": "Concatenate",
}  # fmt: skip


@pytest.mark.parametrize("only", [False, True], ids=["two masks", "one mask"])
@pytest.mark.parametrize("era", ["1.2.2", "2.15.0"])
@pytest.mark.parametrize("mode", OLDER)
def test_a_step_counts_where_every_masked_input_has_it(mode: str, era: str, only: bool) -> None:
    kind = (mode if era.startswith("1") else OLDER[mode]) + (", one mask" if only else "")
    w = weights_of(8, l=("LSTM", 2 * D if mode == "concat" else D, H))["l"]
    model = model_from_json(json.dumps(masked(kind, era)))
    joined = [np.concatenate([w[f"l_{r}_{g}"] for g in GATES], -1) for r in "WUb"]
    model.set_weights(joined)
    xs = drawn(8, 2)
    xs[0][0, 3:], xs[0][1, 1:3], xs[1][1, 2:], xs[1][2, 4:] = 0, 0, 0, 0

    def truth(x: Array, y: Array, all_of: Any = np.logical_and) -> Array:
        a = np.ones((N, L), bool) if only else (x != 0).any(-1)
        return lstm(w, "l", MODES[mode](x, y), all_of(a, (y != 0).any(-1)))

    assert judged(model, xs, truth)
    assert not judged(model, xs, lambda x, y: truth(x, y, np.logical_or))


def test_the_oracle_of_such_a_file_takes_masks_as_its_era_did(tmp_path: Path) -> None:
    w = weights_of(9, l=("LSTM", 2 * D, H))["l"]
    config = masked("Concatenate", "2.15.0")
    joined = {
        f"l/lstm_cell/{role}:0": np.concatenate([w[f"l_{r}_{g}"] for g in GATES], -1)
        for r, role in zip("WUb", ("kernel", "recurrent_kernel", "bias"), strict=True)
    }
    path = saved(tmp_path / "m.h5", config, {"m": {}, "l": joined})
    with h5py.File(path, "a") as file:
        file.attrs["keras_version"] = b"2.15.0"
    xs = drawn(9, 2)
    xs[0][0, 3:], xs[1][1, 2:] = 0, 0
    mask = (xs[0] != 0).any(-1) & (xs[1] != 0).any(-1)
    wide = [x.astype(np.float64) for x in xs]
    truth = lstm(w, "l", np.concatenate(wide, -1), mask)
    np.testing.assert_allclose(read_keras(path).oracle(*xs), truth, rtol=1e-12)
    ours = np.asarray(load_model(path).predict(xs, verbose=0))
    assert judge(ours, np.float32(truth), truth).passed
