"""Training: the loss curve, the penalties, the constraints and the initial weights are Keras's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest

import lstm_bridge.keras as ours
from lstm_bridge.equivalence.judge import judge

N, L, D, H, STEPS = 8, 6, 3, 5, 200


def keras_curve(layer: Any, x: np.ndarray, target: np.ndarray) -> np.ndarray:
    import torch

    dtype = getattr(torch, layer.dtype)
    inputs, wanted = torch.from_numpy(x).to(dtype), torch.from_numpy(target).to(dtype)
    optimizer = torch.optim.SGD([v.value for v in layer.weights], lr=0.1, momentum=0.9)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = ((layer(inputs) - wanted) ** 2).mean() + sum(layer.losses)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


def our_curve(layer: Any, x: np.ndarray, target: np.ndarray) -> np.ndarray:
    inputs, wanted = mx.array(x), mx.array(target)

    def loss_of(model: Any) -> mx.array:
        return ((model(inputs) - wanted) ** 2).mean() + sum(model.losses)

    step, optimizer = nn.value_and_grad(layer, loss_of), optim.SGD(0.1, momentum=0.9)
    losses = []
    for _ in range(STEPS):
        loss, grads = step(layer)
        optimizer.update(layer, grads)
        mx.eval(layer.parameters(), optimizer.state)
        losses.append(loss.item())
    return np.array(losses)


@pytest.mark.parametrize("kind", ["lstm", "bidirectional"])
def test_the_loss_curve_is_keras(twins: SimpleNamespace, kind: str) -> None:
    def make(lib: Any, dtype: str) -> Any:
        lstm = lib.layers.LSTM(H, kernel_regularizer="l2", dtype=dtype)
        return lstm if kind == "lstm" else lib.layers.Bidirectional(lstm, "ave", dtype=dtype)

    twin = twins.build(make, (N, L, D))
    x, target = twins.distinct((N, L, D), 1), twins.distinct((N, H), 2)
    source, truth = (keras_curve(layer, x, target) for layer in (twin.source, twin.truth))
    mine = our_curve(twin.ours, x, target)
    verdict = judge(mine, source, truth)
    assert verdict.reason == ""
    assert mine[-1] < 0.5 * mine[0]
    twins.give_weights([twin.ours], 900)  # the same training from other weights
    assert not judge(our_curve(twin.ours, x, target), source, truth).passed


REGULARIZERS = {
    "kernel_regularizer": "l1",
    "recurrent_regularizer": "orthogonal_regularizer",
    "bias_regularizer": "l1l2",
    "activity_regularizer": "l2",
}


def test_losses_are_keras(twins: SimpleNamespace) -> None:
    def make(lib: Any, dtype: str) -> Any:
        given = REGULARIZERS | {"bias_regularizer": lib.regularizers.L1L2(0.1, 0.2)}
        return lib.layers.LSTM(H, dtype=dtype, return_sequences=True, **given)

    twin, x = twins.build(make, (N, L, D)), twins.distinct((N, L, D), 1)
    found = []
    for layer in twin.layers:
        layer(mx.array(x) if layer is twin.ours else x)
        found.append(np.array([loss.item() for loss in layer.losses]))
    source, truth, mine = found
    assert len(mine) == 4
    assert judge(mine, source, truth).reason == ""
    assert not judge(mine[::-1], source, truth).passed
    twin.ours(mx.array(x))
    assert len(twin.ours.losses) == 4  # the activity's of the last call only
    twin.ours.trainable = False
    assert len(twin.ours.losses) == 1  # Keras penalizes trainable weights only


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("MaxNorm", {"max_value": 0.5}),
        ("MaxNorm", {"max_value": 0.7, "axis": 1}),
        ("NonNeg", {}),
        ("UnitNorm", {"axis": 1}),
        ("MinMaxNorm", {"min_value": 0.6, "max_value": 0.9, "rate": 0.3}),
    ],
)
def test_constraints_are_keras_after_an_update(
    twins: SimpleNamespace, name: str, options: dict[str, Any]
) -> None:
    import keras
    import torch

    w = twins.distinct((D, 4 * H), 5)
    theirs = getattr(keras.constraints, name)(**options)
    source, truth = (theirs(torch.from_numpy(w.astype(t))).numpy() for t in ("float32", "float64"))
    layer = ours.layers.LSTM(H, kernel_constraint=getattr(ours.constraints, name)(**options))
    layer.build((None, None, D))
    layer.weights[0].assign(w)
    assert not judge(layer.get_weights()[0], source, truth).passed
    layer.apply_constraints()
    assert judge(layer.get_weights()[0], source, truth).reason == ""


INITIALIZERS = [
    ("GlorotUniform", {}), ("GlorotNormal", {}), ("HeUniform", {}), ("HeNormal", {}),
    ("LecunUniform", {}), ("LecunNormal", {}), ("RandomNormal", {"mean": 0.3, "stddev": 0.2}),
    ("RandomUniform", {"minval": -0.1, "maxval": 0.4}), ("TruncatedNormal", {"stddev": 0.3}),
    ("VarianceScaling", {"scale": 2.0, "mode": "fan_out", "distribution": "untruncated_normal"}),
    ("VarianceScaling", {"mode": "fan_avg", "distribution": "uniform"}),
    ("Orthogonal", {"gain": 1.5}), ("Zeros", {}), ("Ones", {}), ("Constant", {"value": 0.7}),
    ("Identity", {"gain": 2.0}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), INITIALIZERS)
def test_initializers_draw_from_keras_distributions(name: str, options: dict[str, Any]) -> None:
    import keras

    shape = (80, 400)
    keras.utils.set_random_seed(1)
    mx.random.seed(1)
    theirs = np.array(getattr(keras.initializers, name)(**options)(shape))
    mine = np.array(getattr(ours.initializers, name)(**options)(shape))
    spread = theirs.std() / np.sqrt(theirs.size)
    assert abs(mine.mean() - theirs.mean()) <= 7 * spread
    assert mine.std() == pytest.approx(theirs.std(), rel=0.03)
    if name == "TruncatedNormal":
        assert 0.55 < np.abs(mine).max() <= 0.6  # Keras on torch lets a few beyond the bound
    elif "Normal" not in name and options.get("distribution") != "untruncated_normal":
        assert np.abs(mine).max() == pytest.approx(np.abs(theirs).max(), rel=0.15)
    if name == "Orthogonal":
        np.testing.assert_allclose(mine @ mine.T, 1.5**2 * np.eye(80), atol=1e-5)


def test_initializers_repeat_unless_given_a_generator() -> None:
    init = ours.initializers
    for seed in (None, 5):
        one = init.GlorotUniform(seed=seed)
        assert mx.array_equal(one((3, 4)), one((3, 4)))
    assert mx.array_equal(init.HeNormal(seed=5)((3, 4)), init.HeNormal(seed=5)((3, 4)))
    assert not mx.array_equal(init.HeNormal()((3, 4)), init.HeNormal()((3, 4)))
    generator = ours.random.SeedGenerator(1)
    fresh = init.RandomNormal(seed=generator)
    assert not mx.array_equal(fresh((3, 4)), fresh((3, 4)))
    mx.random.seed(3)
    first = ours.layers.LSTM(2)(mx.ones((1, 2, 3)))
    mx.random.seed(3)
    assert mx.array_equal(ours.layers.LSTM(2)(mx.ones((1, 2, 3))), first)


def test_unit_forget_bias_is_added_once_and_only_at_the_start() -> None:
    layer = ours.layers.LSTM(2, bias_initializer="ones")
    layer.build((None, None, 3))
    assert layer.cell.bias.tolist() == [1, 1, 1, 1, 1, 1, 1, 1]
    layer = ours.layers.LSTM(2)
    layer.build((None, None, 3))
    assert layer.cell.bias.tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    layer.set_weights(layer.get_weights())
    assert layer.cell.bias.tolist() == [0, 0, 1, 1, 0, 0, 0, 0]


def test_frozen_layers_have_no_gradients_and_no_trainable_weights() -> None:
    layer = ours.layers.LSTM(2, trainable=False)
    layer(mx.ones((1, 2, 3)))
    assert layer.trainable_weights == []
    assert len(layer.non_trainable_weights) == 3
    assert layer.trainable_parameters()["cell"] == {}
    layer.trainable = True
    assert len(layer.trainable_weights) == 3
    assert set(layer.trainable_parameters()["cell"]) == {"kernel", "recurrent_kernel", "bias"}
