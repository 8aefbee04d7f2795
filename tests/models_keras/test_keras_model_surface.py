"""A loaded model shows and does what a Keras model shows and does."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import keras
import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx.utils import tree_flatten

import lstm_bridge
from lstm_bridge.errors import UsageError
from lstm_bridge.keras.models import load_model, model_from_json
from lstm_bridge.models.keras.runtime import KerasModel

# Keras says that a nested model loses masks behind it; within it they hold.
pytestmark = pytest.mark.filterwarnings("ignore:.*does not support masking")
L, D = 6, 4
layers = keras.layers


def web() -> Any:
    """Two inputs, a nested model called twice, a frozen layer, two outputs."""
    words, x = keras.Input((L,), dtype="int32", name="words"), keras.Input((L, D), name="x")
    i = keras.Input((L, D))
    inner = keras.Model(i, layers.LSTM(3, activity_regularizer="l2")(i), name="inner")
    y = layers.Embedding(9, D, mask_zero=True)(words)
    frozen = layers.Bidirectional(layers.LSTM(2, return_sequences=True), name="frozen")
    z = frozen(y)
    frozen.trainable = False
    z = layers.BatchNormalization()(layers.Concatenate()([z, x]))
    head = layers.Dense(2, name="head", kernel_regularizer="l1")
    found = [head(layers.Add()([inner(y), inner(x)])), layers.GRU(2, return_state=True)(z)[1]]
    return keras.Model([words, x], found, name="web")


def chain() -> Any:
    return keras.Sequential(
        [keras.Input((None, D)), layers.LSTM(300, return_sequences=True), layers.Dropout(0.5),
         keras.Sequential([layers.Dense(3), layers.BatchNormalization()]),
         layers.LSTM(2, return_state=True)],
        name="chain",
    )  # fmt: skip


def line() -> Any:
    x = keras.Input((L, D))
    return keras.Model(x, layers.Dense(2)(layers.Flatten()(x + 1)), name="line")


MODELS = {f.__name__: f for f in (web, chain, line)}


def pair(build: Any, parity: Any, folder: Path) -> tuple[Any, KerasModel]:
    theirs = build()
    parity.give_weights([theirs], 0)
    theirs.save(folder / "m.keras")
    return keras.saving.load_model(folder / "m.keras"), load_model(folder / "m.keras")


def printed(model: Any, **options: Any) -> str:
    lines: list[str] = []
    model.summary(print_fn=lambda text, line_break=False: lines.append(text), **options)
    return "\n".join(lines).rstrip("\n")


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "options",
    [{}, {"line_length": 130}, {"expand_nested": True, "line_length": 110},
     {"show_trainable": True, "line_length": 140}],
)  # fmt: skip
def test_the_summary_is_keras_s(parity: Any, tmp_path: Path, name: str, options: Any) -> None:
    theirs, ours = pair(MODELS[name], parity, tmp_path)
    assert printed(ours, **options) == printed(theirs, **options)


def test_part_of_a_summary(parity: Any, tmp_path: Path) -> None:
    theirs, ours = pair(web, parity, tmp_path)
    options = {"layer_range": ("embedding", "head"), "line_length": 120}
    assert printed(ours, **options) == printed(theirs, **options)
    with pytest.raises(UsageError, match="layer_range"):
        ours.summary(layer_range=("nothing", "head"))


@pytest.mark.parametrize("name", MODELS)
def test_layers_shapes_and_weights(parity: Any, tmp_path: Path, name: str) -> None:
    theirs, ours = pair(MODELS[name], parity, tmp_path)
    assert [one.name for one in ours.layers] == [one.name for one in theirs.layers]
    for k, layer in enumerate(theirs.layers):
        assert ours.get_layer(index=k).name == ours.get_layer(layer.name).name == layer.name
        assert ours.get_layer(index=k).count_params() == layer.count_params()
    assert ours.count_params() == theirs.count_params()
    assert (ours.name, ours.built, ours.trainable) == (theirs.name, theirs.built, theirs.trainable)
    assert ours.input_shape == theirs.input_shape
    # An output of which only one is used, and one that is returned alone, are the same here.
    assert parity.flatten(ours.output_shape) == parity.flatten(theirs.output_shape)
    assert [spec.shape for spec in ours.inputs] == [tuple(t.shape) for t in theirs.inputs]
    assert [spec.shape for spec in ours.outputs] == [tuple(t.shape) for t in theirs.outputs]
    for which in ("weights", "trainable_weights", "non_trainable_weights"):
        mine, others = getattr(ours, which), getattr(theirs, which)
        assert [w.name for w in mine] == [w.name for w in others]
        for one, other in zip(mine, others, strict=True):
            np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert ours.get_config()["name"] == theirs.name
    assert model_from_json(ours.to_json()).count_params() == theirs.count_params()


def test_set_weights_and_trainable(parity: Any, tmp_path: Path) -> None:
    theirs, ours = pair(web, parity, tmp_path)
    other = [w + 1 for w in theirs.get_weights()]
    ours.set_weights(other)
    for mine, wanted in zip(ours.get_weights(), other, strict=True):
        np.testing.assert_array_equal(mine, wanted)
    with pytest.raises(UsageError, match="arrays"):
        ours.set_weights(other[1:])
    ours.trainable = theirs.trainable = False
    assert ours.trainable is False
    assert ours.trainable_weights == theirs.trainable_weights == []
    assert tree_flatten(ours.trainable_parameters()) == []
    ours.trainable = theirs.trainable = True
    names = [w.name for w in theirs.trainable_weights]
    assert [w.name for w in ours.trainable_weights] == names
    assert len(tree_flatten(ours.trainable_parameters())) == len(names)


def test_losses_of_shared_layers_add_up(parity: Any, tmp_path: Path) -> None:
    """An activity loss per call, a penalty per weight; those of the last call only."""
    theirs, ours = pair(web, parity, tmp_path)
    xs = parity.inputs_of(theirs, 0)
    for _ in range(2):
        theirs(xs)
        ours(xs)
    mine = sorted(float(loss) for loss in ours.losses)
    wanted = sorted(float(loss.detach()) for loss in theirs.losses)
    assert len(mine) == len(wanted) == 3
    np.testing.assert_allclose(mine, wanted, rtol=1e-5)


def test_predict_in_batches(parity: Any, tmp_path: Path, capsys: Any) -> None:
    theirs, ours = pair(web, parity, tmp_path)
    xs = [np.concatenate([x, x[::-1], x[:1]]) for x in parity.inputs_of(theirs, 0)]
    wanted = [a.astype(np.float64) for a in theirs.predict(xs, batch_size=3, verbose=0)]
    capsys.readouterr()
    by_name = dict(zip(ours.input_names, xs, strict=True))
    for x, verbose in ((xs, 0), (tuple(xs), 1), (by_name, "auto"), (xs, 2)):
        found = ours.predict(x, batch_size=3, verbose=verbose)
        assert type(found) is list
        assert all(type(a) is np.ndarray for a in found)
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    shown = capsys.readouterr()
    assert shown.err == ""
    assert shown.out.startswith("3/3 - ")
    assert shown.out.count("\n") == 1
    whole = ours.predict(xs)
    for a, b in zip(whole, wanted, strict=True):
        assert a.shape == b.shape == (7, 2)
    with pytest.raises(UsageError, match="rows"):
        ours.predict([xs[0], xs[1][1:]])


def test_a_batch_that_is_cut_wrong_is_noticed(parity: Any, tmp_path: Path) -> None:
    """Negative control: rows in another order are not what predict returns."""
    theirs, ours = pair(web, parity, tmp_path)
    xs = parity.inputs_of(theirs, 0)
    wrong = ours.predict([x[::-1] for x in xs], verbose=0)
    assert not np.allclose(wrong[0], ours.predict(xs, verbose=0)[0], atol=1e-3)


@pytest.mark.parametrize("method", ["summary", "get_layer"])
def test_signatures(method: str) -> None:
    def named(cls: Any) -> list[str]:
        return list(inspect.signature(getattr(cls, method)).parameters)

    assert named(KerasModel) == named(keras.Model)


def test_it_is_a_module_of_mlx(parity: Any, tmp_path: Path) -> None:
    """It trains, quantizes, and is saved with what it shows."""
    theirs, ours = pair(web, parity, tmp_path)
    xs = [mx.array(x) for x in parity.inputs_of(theirs, 0)]
    target = mx.array(parity.numbers((3, 2), 5))

    def loss(model: Any) -> mx.array:
        head, state = model(xs, training=True)
        return mx.mean((head - target) ** 2) + mx.mean((state - target) ** 2) + sum(model.losses)

    step, optimizer = nn.value_and_grad(ours, loss), optim.Adam(0.03)
    frozen = ours.get_layer("frozen").get_weights()
    values = []
    for _ in range(40):
        value, grads = step(ours)
        optimizer.update(ours, grads)
        mx.eval(ours.parameters(), optimizer.state)
        values.append(float(value))
    assert values[-1] < 0.5 * values[0]
    for before, after in zip(frozen, ours.get_layer("frozen").get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    lstm_bridge.save(ours, tmp_path / "again")
    again = lstm_bridge.load(tmp_path / "again")
    assert printed(again) == printed(ours)
    assert again.get_config() == ours.get_config()
    with pytest.raises(UsageError, match="ask the model around it"):
        ours.get_layer("inner").get_config()
