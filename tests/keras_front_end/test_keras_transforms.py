"""MLX's transforms, dtypes and module habits work on every layer."""

from __future__ import annotations

import copy
import pickle
import shutil
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from lstm_bridge.keras import layers

N, L, D, H = 3, 5, 4, 6

MAKERS: dict[str, Callable[..., Any]] = {
    "LSTM": lambda **more: layers.LSTM(H, return_sequences=True, **more),
    "RNN": lambda **more: layers.RNN(layers.LSTMCell(H, **more), **more),
    "stack": lambda **more: layers.RNN(
        [layers.LSTMCell(H, **more), layers.LSTMCell(2, **more)], **more
    ),
    "Bidirectional": lambda **more: layers.Bidirectional(layers.LSTM(H, **more), **more),
    "TimeDistributed": lambda **more: layers.TimeDistributed(OneStep(H, **more), **more),
}


class OneStep(layers.Layer):
    """A small layer to distribute over time."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight((input_shape[-1], self.units), name="kernel")

    def call(self, inputs: mx.array) -> mx.array:
        return mx.tanh(inputs @ self.kernel)


def built(kind: str, **more: Any) -> Any:
    mx.random.seed(0)
    layer = MAKERS[kind](**more)
    layer.build((None, L, D))
    return layer


def inputs(dtype: mx.Dtype = mx.float32) -> mx.array:
    return mx.random.normal((N, L, D), key=mx.random.key(1)).astype(dtype)


@pytest.mark.parametrize("kind", sorted(MAKERS))
@pytest.mark.skipif(
    not mx.metal.is_available() and shutil.which("c++") is None,
    reason="MLX compiles for a CPU with a C++ compiler, and there is none",
)
def test_compile(kind: str) -> None:
    layer, x = built(kind), inputs()
    np.testing.assert_allclose(mx.compile(layer)(x), layer(x), rtol=1e-5, atol=1e-6)
    wrong = mx.compile(lambda v: layer(v[:, ::-1]))(x)
    assert not np.allclose(wrong, layer(x), atol=1e-4)


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_vmap_over_the_batch(kind: str) -> None:
    layer, x = built(kind), inputs()
    mapped = mx.vmap(lambda row: layer(row[None])[0])(x)
    np.testing.assert_allclose(mapped, layer(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", sorted(MAKERS))
def test_checkpoint_and_value_and_grad(kind: str) -> None:
    layer, x = built(kind), inputs()

    def loss(parameters: Any, x: mx.array) -> mx.array:
        layer.update(parameters)
        return (layer(x) ** 2).sum()

    own = layer.parameters()
    plain = mx.grad(loss, argnums=(0, 1))(own, x)
    saved = mx.grad(mx.checkpoint(loss), argnums=(0, 1))(own, x)
    layer.update(own)
    for (name, a), (_, b) in zip(tree_flatten(plain), tree_flatten(saved), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7, err_msg=name)
        assert mx.any(a != 0).item()
    value, grads = nn.value_and_grad(layer, lambda v: (layer(v) ** 2).sum())(x)
    assert value.item() > 0
    assert [k for k, _ in tree_flatten(grads)] == [k for k, _ in tree_flatten(own)]


@pytest.mark.parametrize("kind", sorted(MAKERS))
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("way", ["argument", "set_dtype"])
def test_half_precision_stays_half_precision(kind: str, dtype: str, way: str) -> None:
    layer = built(kind, dtype=dtype) if way == "argument" else built(kind)
    if way == "set_dtype":
        layer.set_dtype(getattr(mx, dtype))
    wanted = getattr(mx, dtype)
    assert {v.dtype for _, v in tree_flatten(layer.parameters())} == {wanted}
    half = layer(inputs())  # Keras casts floating inputs to the layer's dtype
    assert half.dtype == wanted
    full = built(kind)
    full.update(_cast(layer.parameters(), mx.float32))
    np.testing.assert_allclose(
        np.array(half.astype(mx.float32)), np.array(full(inputs())), atol=0.03
    )
    assert layer.get_config()["dtype"]["config"]["name"] == dtype


def _cast(tree: Any, dtype: mx.Dtype) -> Any:
    from mlx.utils import tree_map

    return tree_map(lambda v: v.astype(dtype), tree)


def test_mixed_precision_keeps_weights_in_float32() -> None:
    layer = layers.LSTM(H, dtype="mixed_bfloat16", return_state=True)
    assert {out.dtype for out in layer(inputs())} == {mx.bfloat16}
    assert {v.dtype for v in layer.weights} == {"float32"}
    assert (layer.dtype, layer.compute_dtype) == ("float32", "bfloat16")


@pytest.mark.skipif(mx.metal.is_available(), reason="MLX has float64 on the CPU only")
def test_float64_keeps_all_digits_of_numpy_inputs() -> None:
    x = np.random.default_rng(0).normal(size=(N, L, D))
    layer = layers.LSTM(H, dtype="float64")
    layer.build(x.shape)
    y = layer(x)
    assert y.dtype == mx.float64
    narrow = layer(x.astype("float32"))
    assert 0 < abs(np.array(y) - np.array(narrow)).max() < 1e-6


def test_stateful_under_compile_with_its_state_captured() -> None:
    if not mx.metal.is_available() and shutil.which("c++") is None:
        pytest.skip("MLX compiles for a CPU with a C++ compiler, and there is none")
    layer = layers.LSTM(H, stateful=True)
    x = inputs()
    plain = [layer(x) for _ in range(1)] + [layer(x)]
    layer.reset_state()
    step = mx.compile(lambda v: layer(v), inputs=layer.state, outputs=layer.state)
    for expected in plain:
        np.testing.assert_allclose(step(x), expected, rtol=1e-5, atol=1e-6)


def test_a_layer_is_an_ordinary_mlx_module(tmp_path: Any) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = layers.Bidirectional(layers.LSTM(H))
            self.head = nn.Linear(2 * H, 2)

        def __call__(self, x: mx.array) -> mx.array:
            return self.head(self.rnn(x))

    model, x = Model(), inputs()
    y = model(x)
    names = [name for name, _ in tree_flatten(model.parameters())]
    assert names[:3] == [
        "rnn.forward_layer.cell.kernel",
        "rnn.forward_layer.cell.recurrent_kernel",
        "rnn.forward_layer.cell.bias",
    ]
    model.save_weights(str(tmp_path / "model.safetensors"))
    again = Model()
    again(x)
    assert not mx.array_equal(again(x), y)
    again.load_weights(str(tmp_path / "model.safetensors"))
    np.testing.assert_allclose(again(x), y, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", sorted(set(MAKERS) - {"TimeDistributed"}))
def test_a_layer_survives_copy_and_pickle(kind: str) -> None:
    layer = built(kind)
    for again in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_allclose(again(inputs()), layer(inputs()), rtol=1e-5, atol=1e-6)
        assert [v.path for v in again.weights] == [v.path for v in layer.weights]
