"""MLX's function transformations and low precision work on the torch front-end's layers."""

from __future__ import annotations

import shutil
from typing import Any

import mlx.core as mx
import mlx.nn
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx.utils import tree_flatten

from lstm_bridge.torch import nn

LSTM: dict[str, Any] = {"num_layers": 2, "bidirectional": True, "proj_size": 3}


def close(a: mx.array, b: mx.array) -> None:
    """The same formulas in another order of operations: a few float32 roundings of values ≤ 1."""
    np.testing.assert_allclose(np.array(a), np.array(b), rtol=0, atol=8 * 2.0**-23)


@pytest.mark.skipif(
    mx.default_device().type == mx.DeviceType.cpu and shutil.which("g++") is None,
    reason="mx.compile needs a C++ compiler where MLX runs on the CPU",
)
def test_compile_gives_the_same_numbers() -> None:
    cell = nn.LSTMCell(2, 3)
    x, h, c = mx.ones((1, 2)), mx.ones((1, 3)), mx.zeros((1, 3))
    compiled = mx.compile(lambda x, h, c: cell(x, (h, c)))
    for a, b in zip(compiled(x, h, c), cell(x, (h, c)), strict=True):
        close(a, b)


@pytest.mark.parametrize("states", [False, True])
def test_vmap_over_the_batch_is_the_batch(states: bool) -> None:
    module = nn.LSTM(4, 6, **LSTM)
    x = mx.random.normal((5, 3, 4))
    h, c = mx.random.normal((4, 3, 3)), mx.random.normal((4, 3, 6))

    def one(x: mx.array, *hx: mx.array) -> tuple[mx.array, mx.array, mx.array]:
        y, (h, c) = module(x, hx or None)
        return y, h, c

    inputs = (x, h, c) if states else (x,)
    mapped = mx.vmap(one, in_axes=1, out_axes=1)(*inputs)
    y, (h_n, c_n) = module(x, (h, c) if states else None)
    for a, b in zip(mapped, (y, h_n, c_n), strict=True):
        close(a, b)


def test_vmap_shares_states_that_are_not_mapped() -> None:
    module = nn.LSTM(4, 6)
    x, h = mx.random.normal((5, 3, 4)), mx.random.normal((1, 6))
    mapped = mx.vmap(lambda x, h: module(x, (h, h))[0], in_axes=(1, None), out_axes=1)(x, h)
    every = mx.broadcast_to(h[:, None], (1, 3, 6))
    close(mapped, module(x, (every, every))[0])


@pytest.mark.parametrize("states", [False, True])
def test_vmap_of_a_cell(states: bool) -> None:
    cell = nn.LSTMCell(4, 6)
    x, h, c = (mx.random.normal((3, n)) for n in (4, 6, 6))
    if states:
        mapped = mx.vmap(lambda x, h, c: cell(x, (h, c)))(x, h, c)
        direct = cell(x, (h, c))
    else:
        mapped, direct = mx.vmap(cell)(x), cell(x)
    for a, b in zip(mapped, direct, strict=True):
        close(a, b)


def test_checkpoint_gives_the_same_gradients() -> None:
    module = nn.LSTM(4, 6, **LSTM)
    x = mx.random.normal((5, 3, 4))
    checkpointed = mlx.nn.utils.checkpoint(module)

    def gradient(call: Any) -> Any:
        return mlx.nn.value_and_grad(module, lambda x: call(x)[0].square().sum())(x)

    (a, da), (b, db) = gradient(checkpointed), gradient(module)
    close(a / abs(b), b / abs(b))
    for (name, g), (_, w) in zip(tree_flatten(da), tree_flatten(db), strict=True):
        scale = mx.abs(w).max()
        assert scale.item() > 0, name
        close(g / scale, w / scale)


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_a_model_keeps_its_dtype_through_training(dtype: mx.Dtype) -> None:
    module = nn.LSTM(4, 6, dropout=0.5, dtype=dtype, **LSTM)
    x = mx.random.normal((5, 3, 4)).astype(dtype)
    y, (h, c) = module(x)
    assert {y.dtype, h.dtype, c.dtype} == {dtype}
    packed = nn.utils.rnn.pack_padded_sequence(x, [5, 2, 4], enforce_sorted=False)
    y, (h, c) = module(packed)
    assert {y.data.dtype, h.dtype, c.dtype} == {dtype}
    step = mlx.nn.value_and_grad(module, lambda m: m(x)[0].square().mean())
    loss, gradients = step(module)
    optim.SGD(0.1).update(module, gradients)
    assert loss.dtype == dtype
    assert {p.dtype for p in module.parameters().values()} == {dtype}


def test_a_cell_keeps_its_dtype() -> None:
    for dtype in (mx.float16, mx.bfloat16):
        h, c = nn.LSTMCell(4, 6, dtype=dtype)(mx.ones((3, 4), dtype))
        assert {h.dtype, c.dtype} == {dtype}


def test_to_casts_the_parameters() -> None:
    module = nn.LSTM(4, 6)
    assert module.to("cpu") is module
    assert module.to(dtype="bfloat16") is module
    assert {p.dtype for p in module.parameters().values()} == {mx.bfloat16}


def test_parameters_are_all_and_only_torchs() -> None:
    """Settings must not leak into the tree that optimizers walk."""
    module = nn.LSTM(4, 6, num_layers=2)
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    assert list(module.parameters()) == [f"{k}_l{n}" for n in range(2) for k in kinds]
    assert module.trainable_parameters().keys() == module.parameters().keys()
