"""TensorFlow functions between the layers of tf.keras 2 files, against NumPy in float64.

No Keras 3 reads such files, so the configs stand here as tf.keras 2.15 writes them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import lstm_bridge
from lstm_bridge import keras
from lstm_bridge.converters.keras_tensorflow import RULES
from lstm_bridge.equivalence.judge import judge
from lstm_bridge.errors import ConfigError
from lstm_bridge.keras.models import model_from_json

Array = NDArray[Any]
L, D = 4, 3
ONE = ["one", 0, 0]
TWO = ["two", 0, 0]
SLICES = [{"start": None, "stop": None, "step": None}, -1]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def erf(x: Array) -> Array:
    import torch

    return torch.special.erf(torch.from_numpy(x)).numpy()


def gelu(x: Array, approximate: bool = False) -> Array:
    if approximate:
        return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return x / 2 * (1 + erf(x / np.sqrt(2)))


def softmax(x: Array, axis: int = -1) -> Array:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def logsumexp(x: Array, axis: Any = None, keepdims: bool = False) -> Array:
    return np.log(np.exp(x).sum(axis=axis, keepdims=keepdims))


SELU = (1.6732632423543772, 1.0507009873554805)

BINARY = {
    "__operators__.add": np.add, "math.add": np.add, "math.subtract": np.subtract,
    "math.multiply": np.multiply, "math.truediv": np.divide, "math.divide": np.divide,
    "math.floordiv": np.floor_divide, "math.maximum": np.maximum, "math.minimum": np.minimum,
    "math.equal": np.equal, "math.not_equal": np.not_equal, "math.greater": np.greater,
    "math.greater_equal": np.greater_equal, "math.less": np.less,
    "math.less_equal": np.less_equal, "__operators__.eq": np.equal,
    "__operators__.ne": np.not_equal, "math.logical_and": np.logical_and,
    "math.logical_or": np.logical_or,
}  # fmt: skip
UNARY = {
    "math.abs": np.abs, "math.negative": np.negative, "math.square": np.square,
    "math.exp": np.exp, "math.tanh": np.tanh, "math.sigmoid": sigmoid, "math.sign": np.sign,
    "nn.tanh": np.tanh, "nn.sigmoid": sigmoid, "nn.relu": lambda x: np.maximum(x, 0),
    "nn.relu6": lambda x: np.clip(x, 0, 6), "nn.elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "nn.selu": lambda x: SELU[1] * np.where(x > 0, x, SELU[0] * np.expm1(x)),
    "nn.softplus": lambda x: np.log1p(np.exp(x)), "math.softplus": lambda x: np.log1p(np.exp(x)),
    "nn.silu": lambda x: x * sigmoid(x), "nn.softsign": lambda x: x / (1 + np.abs(x)),
    "math.sin": np.sin, "math.cos": np.cos, "math.floor": np.floor, "math.ceil": np.ceil,
    "math.erf": erf, "stop_gradient": lambda x: x, "identity": lambda x: x,
    "zeros_like": np.zeros_like, "ones_like": np.ones_like,
}  # fmt: skip
REDUCTIONS = {
    "math.reduce_sum": np.sum, "math.reduce_mean": np.mean, "math.reduce_max": np.max,
    "math.reduce_min": np.min, "math.reduce_prod": np.prod, "math.reduce_std": np.std,
    "math.reduce_variance": np.var, "math.reduce_logsumexp": logsumexp,
}  # fmt: skip
# Function → what each call's entries and keywords are, and the same in NumPy.
Case = tuple[str, Any, dict[str, Any], Any]
CASES: list[Case] = [
    *((name, [*ONE], {"y": TWO, "name": None}, f) for name, f in BINARY.items()),
    ("math.multiply", [*ONE], {"y": 2.5}, lambda x, y: x * 2.5),
    ("math.subtract", ["_CONSTANT_VALUE", -1, 1.5], {"y": ONE}, lambda x, y: 1.5 - x),
    *((name, [*ONE], {"name": None}, lambda x, y, f=f: f(x)) for name, f in UNARY.items()),
    *((k, [*ONE], {"axis": 1}, lambda x, y, f=f: f(x, axis=1)) for k, f in REDUCTIONS.items()),
    ("math.reduce_sum", [*ONE], {"axis": -1, "keepdims": True},
     lambda x, y: x.sum(axis=-1, keepdims=True)),
    ("math.reduce_any", [*ONE], {"axis": 1}, lambda x, y: x.any(axis=1)),
    ("math.reduce_all", [*ONE], {"axis": 1}, lambda x, y: x.all(axis=1)),
    ("math.logical_not", [*ONE], {}, lambda x, y: np.logical_not(x)),
    ("math.pow", [*ONE], {"y": 3.0}, lambda x, y: x**3),
    ("math.cumsum", [*ONE], {"axis": 1, "exclusive": False}, lambda x, y: x.cumsum(axis=1)),
    ("math.cumsum", [*ONE], {}, lambda x, y: x.cumsum(axis=0)),
    ("__operators__.getitem", [*ONE], {"slice_spec": SLICES}, lambda x, y: x[:, -1]),
    ("cast", [*ONE], {"dtype": "int32"}, lambda x, y: np.trunc(x)),
    ("clip_by_value", [*ONE], {"clip_value_min": -0.5, "clip_value_max": 0.25},
     lambda x, y: np.clip(x, -0.5, 0.25)),
    ("concat", [ONE, TWO], {"axis": -1}, lambda x, y: np.concatenate([x, y], -1)),
    ("stack", [ONE, TWO], {"axis": 1}, lambda x, y: np.stack([x, y], 1)),
    ("expand_dims", [*ONE], {"axis": 1}, lambda x, y: x[:, None]),
    ("squeeze", [*ONE], {}, lambda x, y: x.squeeze()),
    ("reshape", [*ONE], {"shape": [-1, L * D]}, lambda x, y: x.reshape(-1, L * D)),
    ("transpose", [*ONE], {"perm": [0, 2, 1]}, lambda x, y: x.transpose(0, 2, 1)),
    ("reverse", [*ONE], {"axis": [1]}, lambda x, y: x[:, ::-1]),
    ("tile", [*ONE], {"multiples": [1, 2, 1]}, lambda x, y: np.tile(x, [1, 2, 1])),
    ("linalg.matmul", [*ONE], {"b": ["turned", 0, 0]}, lambda x, y: x @ y.transpose(0, 2, 1)),
    ("nn.softmax", [*ONE], {"axis": 1}, lambda x, y: softmax(x, 1)),
    ("nn.log_softmax", [*ONE], {"axis": 1}, lambda x, y: np.log(softmax(x, 1))),
    ("nn.leaky_relu", [*ONE], {"alpha": 0.3}, lambda x, y: np.where(x > 0, x, 0.3 * x)),
    ("nn.leaky_relu", [*ONE], {}, lambda x, y: np.where(x > 0, x, 0.2 * x)),
    ("nn.gelu", [*ONE], {}, lambda x, y: gelu(x)),
    ("nn.gelu", [*ONE], {"approximate": True}, lambda x, y: gelu(x, True)),
    ("linalg.matmul", [*ONE], {"b": TWO, "transpose_b": True},
     lambda x, y: x @ y.transpose(0, 2, 1)),
    ("linalg.matmul", [*ONE], {"b": TWO, "transpose_a": True},
     lambda x, y: x.transpose(0, 2, 1) @ y),
    ("compat.v1.transpose", [*ONE], {"perm": [0, 2, 1], "conjugate": False},
     lambda x, y: x.transpose(0, 2, 1)),
    ("compat.v1.gather", [*ONE], {"indices": [0, 2], "axis": 1}, lambda x, y: x[:, [0, 2]]),
    ("gather", [*ONE], {"indices": [2, 0]}, lambda x, y: x[[2, 0]]),
    ("math.l2_normalize", [*ONE], {"axis": -1},
     lambda x, y: x / np.sqrt((x**2).sum(axis=-1, keepdims=True))),
    ("split", [*ONE], {"num_or_size_splits": 2, "axis": 1}, lambda x, y: x[:, :2]),
    ("unstack", [*ONE], {"axis": 1}, lambda x, y: x[:, 0]),
    ("__operators__.getitem", [*ONE],
     {"slice_spec": [{"class_name": "__ellipsis__"}, {"start": 1, "stop": None, "step": None}]},
     lambda x, y: x[..., 1:]),
    ("where", ["more", 0, 0], {"x": ONE, "y": TWO}, lambda x, y: np.where(x > y, x, y)),
]  # fmt: skip
CASES += [
    ("math.floormod", [*ONE], {"y": TWO}, np.mod),
    ("repeat", [*ONE], {"repeats": 2, "axis": 1}, lambda x, y: x.repeat(2, axis=1)),
    ("one_hot", ["whole", 0, 0], {"depth": 3, "axis": -1, "dtype": "float32"},
     lambda x, y: (np.trunc(abs(x))[..., None] == np.arange(3)).astype(x.dtype)),
    ("pad", [*ONE], {"paddings": [[0, 0], [1, 0], [0, 2]], "mode": "CONSTANT"},
     lambda x, y: np.pad(x, [(0, 0), (1, 0), (0, 2)])),
    ("slice", [*ONE], {"begin": [0, 1, 0], "size": [-1, 2, 2]}, lambda x, y: x[:, 1:3, :2]),
]  # fmt: skip
THREE = ["_CONSTANT_VALUE", -1, 3]
BATCH, LENGTH, SIZES = (["batch", 0, 0], ["length", 0, 0], ["sizes", 0, 0])
# The same of inputs whose length is open, with what tf.shape says of it.
OPEN_CASES: list[Case] = [
    ("zeros", [BATCH, THREE], {"dtype": "float32"}, lambda x, y: np.zeros((len(x), 3))),
    ("ones", [*SIZES], {}, lambda x, y: np.ones_like(x)),
    ("fill", [BATCH, THREE], {"value": 2.5}, lambda x, y: np.full((len(x), 3), 2.5)),
    ("fill", [THREE, LENGTH], {"value": LENGTH},
     lambda x, y: np.full((3, x.shape[1]), float(x.shape[1]))),
    ("range", [*LENGTH], {"limit": 9, "delta": 2}, lambda x, y: np.arange(x.shape[1], 9.0, 2)),
    ("range", [*LENGTH], {}, lambda x, y: np.arange(float(x.shape[1]))),
    ("reshape", [*ONE], {"shape": [BATCH, -1]}, lambda x, y: x.reshape(len(x), -1)),
    ("reshape", [*ONE], {"shape": ["joined", 0, 0]}, lambda x, y: x.reshape(len(x), -1)),
    ("reshape", [*ONE], {"shape": [["rows", 0, 0], D]}, lambda x, y: x.reshape(-1, D)),
    ("tile", ["last", 0, 0], {"multiples": [1, LENGTH, 1]},
     lambda x, y: np.tile(x[:, -1:], (1, x.shape[1], 1))),
    ("broadcast_to", ["last", 0, 0], {"shape": SIZES},
     lambda x, y: np.broadcast_to(x[:, -1:], x.shape)),
    ("math.truediv", [*ONE], {"y": ["count", 0, 0]}, lambda x, y: x / x.shape[1]),
    ("math.multiply", [*LENGTH], {"y": ONE}, lambda x, y: x * x.shape[1]),
    ("math.add", [*ONE], {"y": ["all", 0, 0]}, lambda x, y: x + x.size),
    ("sequence_mask", ["lengths", 0, 0], {"maxlen": LENGTH, "dtype": "float32"},
     lambda x, y: (np.arange(x.shape[1]) < np.trunc(abs(x[:, :1, 0]) * 3)).astype(x.dtype)),
    ("__operators__.getitem", [*ONE],
     {"slice_spec": [SLICES[0], {"start": None, "stop": ["half", 0, 0], "step": None}]},
     lambda x, y: x[:, : x.shape[1] // 2]),
]  # fmt: skip
POSITIVE = {"math.sqrt": np.sqrt, "math.rsqrt": lambda x: 1 / np.sqrt(x), "math.log": np.log,
            "math.log1p": np.log1p}  # fmt: skip
CASES += [
    (name, ["size", 0, 0], {}, lambda x, y, f=f: f(np.abs(x))) for name, f in POSITIVE.items()
]


def config(function: str, node: Any, kwargs: dict[str, Any], length: int | None = L) -> str:
    """A Functional model as tf.keras 2.15 writes it: two inputs and functions of them."""

    def layer(name: str, class_name: str, options: dict[str, Any], nodes: list[Any]) -> Any:
        told = {"name": name, "trainable": True, "dtype": "float32", **options}
        return {"class_name": class_name, "config": told, "name": name, "inbound_nodes": nodes}

    def entry(node: Any) -> Any:
        return [*node, kwargs] if isinstance(node[0], str) else [[*n, kwargs] for n in node]

    def of(name: str, function: str, node: Any, **kwargs: Any) -> Any:
        kind = "SlicingOpLambda" if "getitem" in function else "TFOpLambda"
        return layer(name, kind, {"function": function}, [[*node, kwargs]])

    shape = {"batch_input_shape": [None, length, D], "sparse": False, "ragged": False}
    perm = {"perm": [0, 2, 1]}
    kind = "SlicingOpLambda" if "getitem" in function else "TFOpLambda"
    layers = [
        layer("one", "InputLayer", shape, []),
        layer("two", "InputLayer", shape, []),
        layer("turned", "TFOpLambda", {"function": "transpose"}, [[*TWO, perm]]),
        layer("more", "TFOpLambda", {"function": "math.greater"}, [[*ONE, {"y": TWO}]]),
        layer("size", "TFOpLambda", {"function": "math.abs"}, [[*ONE, {}]]),
        of("whole", "cast", ["size", 0, 0], dtype="int32"),
        of("sizes", "compat.v1.shape", ONE, out_type="int32"),
        of("batch", "__operators__.getitem", SIZES, slice_spec=0),
        of("length", "__operators__.getitem", SIZES, slice_spec=1),
        of("count", "cast", LENGTH, dtype="float32"),
        of("half", "math.floordiv", LENGTH, y=2),
        of("all", "compat.v1.size", ONE),
        of("rows", "math.multiply", BATCH, y=LENGTH),
        of("few", "__operators__.getitem", SIZES, slice_spec=[{**SLICES[0], "stop": 1}]),
        layer(
            "joined",
            "TFOpLambda",
            {"function": "concat"},
            [[["few", 0, 0, {"axis": 0}], [["_CONSTANT_VALUE", -1, -1, {"axis": 0}]]]],
        ),
        of(
            "last", "__operators__.getitem", ONE, slice_spec=[SLICES[0], {**SLICES[0], "start": -1}]
        ),
        of("thrice", "math.multiply", ["size", 0, 0], y=3),
        of("firsts", "__operators__.getitem", ["thrice", 0, 0], slice_spec=[SLICES[0], 0, 0]),
        of("lengths", "cast", ["firsts", 0, 0], dtype="int32"),
        layer("asked", kind, {"function": function}, [entry(node)]),
    ]
    wires = {"input_layers": [ONE, TWO], "output_layers": [["asked", 0, 0]]}
    model = {"name": "model", "layers": layers, **wires}
    return json.dumps({"class_name": "Functional", "config": model, "keras_version": "2.15.0"})


def arrays(length: int = L) -> tuple[Array, Array]:
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(2, 5, length, D))
    x.flat[::7], y.flat[::7] = 0.5, 0.5  # some equal numbers
    return x.astype(np.float32), y.astype(np.float32)


def run(case: Case, length: int | None = None) -> tuple[Array, Array, Array]:
    """Ours, and NumPy in both precisions; of a model with an open length where one is given."""
    function, node, kwargs, wanted = case
    x, y = arrays(length or L)
    model = model_from_json(config(function, node, kwargs, None if length else L))
    ours = np.asarray(model.predict([x, y], verbose=0))
    oracle = np.asarray(wanted(x.astype(np.float64), y.astype(np.float64)))
    return ours, np.asarray(wanted(x, y)), oracle


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {list(case[2])}")
def test_a_function_gives_what_tensorflow_documents(case: Case) -> None:
    ours, same_in_float32, oracle = run(case)
    assert ours.shape == oracle.shape
    assert judge(ours.astype(np.float32), same_in_float32.astype(np.float32), oracle).passed


@pytest.mark.parametrize("length", [4, 7])
@pytest.mark.parametrize("case", OPEN_CASES, ids=lambda case: f"{case[0]} {list(case[2])}")
def test_what_tf_shape_says_holds_at_every_call(case: Case, length: int) -> None:
    ours, same_in_float32, oracle = run(case, length)
    assert ours.shape == oracle.shape
    assert judge(ours.astype(np.float32), same_in_float32.astype(np.float32), oracle).passed


def test_another_size_in_its_place_is_caught() -> None:
    """The negative control: the batch's size for the length's."""
    ours, source, oracle = run(("math.truediv", [*ONE], {"y": ["count", 0, 0]},
                                lambda x, y: x / len(x)), 7)  # fmt: skip
    assert not judge(ours, source, oracle).passed


def test_every_function_has_a_case() -> None:
    everywhere = {"shape", "size"}  # in the config of all cases
    found = {case[0].removeprefix("compat.v1.") for case in [*CASES, *OPEN_CASES]} | everywhere
    assert found == set(RULES)


def started(value: float) -> str:
    """An LSTM that begins with states of a constant, made for as many rows as there are."""
    told = json.loads(config("fill", [BATCH, THREE], {"value": value}, None))
    lstm = {"name": "lstm", "units": 3, "activation": "tanh", "use_bias": True,
            "recurrent_activation": "sigmoid", "return_sequences": True}  # fmt: skip
    states = {"initial_state": [["asked", 0, 0], ["asked", 0, 0]]}
    told["config"]["layers"].append(
        {"class_name": "LSTM", "config": lstm, "name": "lstm",
         "inbound_nodes": [[[*ONE, states]]]}
    )  # fmt: skip
    told["config"]["output_layers"] = [["lstm", 0, 0]]
    return json.dumps(told)


def test_states_of_as_many_rows_as_the_input_start_an_lstm(tmp_path: Path) -> None:
    x, y = arrays(6)
    models = [model_from_json(started(value)) for value in (0.0, 0.5)]
    models[1].set_weights(models[0].get_weights())
    first, second = (np.asarray(m.predict([x, y], verbose=0)) for m in models)
    plain = keras.layers.LSTM(3, return_sequences=True)
    plain.build((None, None, D))
    plain.set_weights(models[0].get_weights())
    np.testing.assert_array_equal(first, np.asarray(plain(x)))
    half = np.full((len(x), 3), 0.5, np.float32)
    np.testing.assert_array_equal(second, np.asarray(plain(x, initial_state=[half, half])))
    assert not np.array_equal(first, second)
    lstm_bridge.save(models[1], tmp_path / "folder")
    again = lstm_bridge.load(tmp_path / "folder")
    np.testing.assert_array_equal(again.predict([x, y], verbose=0), second)
    assert again.predict([x[:2], y[:2]], verbose=0).shape == (2, 6, 3)


@pytest.mark.parametrize(
    ("output", "message"),
    [("sizes", "arrays for outputs, got sizes"), ("length", "arrays for outputs, got sizes")],
)
def test_a_size_is_no_output(output: str, message: str) -> None:
    told = json.loads(config("math.abs", [*ONE], {}))
    told["config"]["output_layers"] = [[output, 0, 0]]
    with pytest.raises(ConfigError, match=message):
        model_from_json(json.dumps(told))


def test_another_function_in_its_place_is_caught() -> None:
    """The negative control: subtraction the other way round."""
    ours, source, oracle = run(("math.subtract", [*ONE], {"y": TWO}, lambda x, y: y - x))
    assert not judge(ours, source, oracle).passed


@pytest.mark.parametrize(
    ("function", "kwargs", "message"),
    [
        ("math.bessel_i0", {}, r"asked \(layer 19\).*got tf.math.bessel_i0"),
        ("math.reduce_sum", {"axis": 1, "keep_dims": True}, "asked.*got keep_dims"),
        ("math.multiply", {}, "asked.*tf.math.multiply of y, got fewer"),
        ("__operators__.getitem", {"slice_spec": [{"class_name": "x"}]}, "plain values and slices"),
        ("einsum", {}, r"asked.*tf.einsum, of which tf.keras 2 writes the equation and not"),
        ("split", {"num_or_size_splits": [1, 3], "axis": 1}, "a number of equal parts"),
    ],
)
def test_what_has_no_operation_is_refused(
    function: str, kwargs: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        model_from_json(config(function, [*ONE], kwargs))


def test_a_file_with_constants_before_tensors_converts(tmp_path: Path) -> None:
    told = started(0.5)
    weights = [np.random.default_rng(k).normal(0, 0.5, s).astype(np.float32)
               for k, s in enumerate([(D, 12), (3, 12), (12,)])]  # fmt: skip
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["keras_version"], file.attrs["model_config"] = b"2.15.0", told.encode()
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [b"lstm"]
        names = [f"lstm/lstm_cell/{n}:0" for n in ("kernel", "recurrent_kernel", "bias")]
        group.create_group("lstm").attrs["weight_names"] = [name.encode() for name in names]
        for name, weight in zip(names, weights, strict=True):
            group["lstm"].create_dataset(name, data=weight)
    lstm_bridge.convert(tmp_path / "m.h5", tmp_path / "folder")
    model, (x, y) = lstm_bridge.load(tmp_path / "folder"), arrays(6)
    live = model_from_json(told)
    live.set_weights(weights)
    np.testing.assert_array_equal(model.predict([x, y], verbose=0), live.predict([x, y], verbose=0))
