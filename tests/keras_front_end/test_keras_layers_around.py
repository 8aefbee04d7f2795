"""Masking, Embedding and TimeDistributed, and masks on their way from layer to layer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from lstm_bridge.keras import layers
from lstm_bridge.keras.masks import get_keras_mask

N, L, D, H = 4, 6, 3, 4


def padded(twins: SimpleNamespace, value: float = 0.0) -> np.ndarray:
    x = twins.distinct((N, L, D), 7)
    for row, length in enumerate((6, 3, 1, 0)):
        x[row, length:] = value
    return x


def run(lib: Any, layer_list: list[Any], x: Any) -> Any:
    for layer in layer_list:
        x = layer(x)
    return x


@pytest.mark.parametrize("mask_value", [0.0, -1.5])
@pytest.mark.parametrize("kind", ["lstm", "bidirectional", "stacked layers"])
def test_a_mask_reaches_later_layers(twins: SimpleNamespace, mask_value: float, kind: str) -> None:
    import keras
    import torch

    def make(lib: Any, dtype: str) -> list[Any]:
        lstm = lib.layers.LSTM
        chain = [lib.layers.Masking(mask_value, dtype=dtype)]
        if kind == "lstm":
            return [*chain, lstm(H, dtype=dtype)]
        if kind == "bidirectional":
            inner = lstm(H, return_sequences=True, dtype=dtype)
            return [*chain, lib.layers.Bidirectional(inner, dtype=dtype), lstm(2, dtype=dtype)]
        return [*chain, lstm(H, return_sequences=True, dtype=dtype), lstm(2, dtype=dtype)]

    x = padded(twins, mask_value)
    chains = [make(keras, "float32"), make(keras, "float64"), make(twins.ours, "float32")]
    answers = []
    for chain, dtype in zip(chains, ("float32", "float64", None), strict=True):
        inputs = mx.array(x) if dtype is None else torch.from_numpy(x.astype(dtype))
        run(None, chain, inputs)
        for k, layer in enumerate(chain[1:]):
            layer.set_weights(
                [
                    twins.distinct(w.shape, 80 + 10 * k + i, True)
                    for i, w in enumerate(layer.weights)
                ]
            )
        y = run(None, chain, inputs)
        answers.append({"y": np.array(y) if dtype is None else y.detach().numpy()})
    source, truth, ours = answers
    assert twins.judged(ours, source, truth)["y"].passed
    unmasked = {"y": np.array(run(None, chains[2][1:], mx.array(x)))}
    assert not twins.judged(unmasked, source, truth)["y"].passed


def test_an_operation_of_mlx_in_between_loses_the_mask_and_mask_argument_restores_it() -> None:
    x = mx.ones((2, 3, 4)) * mx.array([1.0, 0.0, 1.0])[None, :, None]
    masking, lstm = layers.Masking(), layers.LSTM(2)
    y = masking(x)
    assert get_keras_mask(y) is not None
    assert get_keras_mask(y * 2) is None
    expected = lstm(y)
    assert mx.array_equal(lstm(y + 0, mask=masking.compute_mask(x)), expected)
    assert not mx.array_equal(lstm(y + 0), expected)


def test_masks_do_not_outlive_their_arrays() -> None:
    from lstm_bridge.keras import masks

    before = len(masks._masks)
    y = layers.Masking()(mx.ones((2, 3, 4)))
    assert len(masks._masks) == before + 1
    del y
    assert len(masks._masks) == before


def test_a_layer_without_masking_warns_that_the_mask_is_lost() -> None:
    class Double(layers.Layer):
        def call(self, inputs: mx.array) -> mx.array:
            return 2 * inputs

    y = layers.Masking()(mx.ones((2, 3, 4)))
    with pytest.warns(UserWarning, match="does not support masking"):
        Double()(y)


@pytest.mark.parametrize("mask_zero", [False, True])
def test_embedding_gives_keras_outputs_and_gradients(
    twins: SimpleNamespace, mask_zero: bool
) -> None:
    import keras
    import torch

    ids = np.array([[1, 4, 0, 0], [3, 2, 2, 1], [-1, 0, 5, 0]])
    seed_weights = [twins.distinct((6, D), 1)]
    results = []
    for lib, dtype in ((keras, "float32"), (keras, "float64"), (twins.ours, "float32")):
        embedding = lib.layers.Embedding(6, D, mask_zero=mask_zero, dtype=dtype)
        lstm = lib.layers.LSTM(H, dtype=dtype)
        embedding.build()
        lstm.build((None, None, D))
        embedding.set_weights(seed_weights)
        lstm.set_weights([twins.distinct(w.shape, 5 + i, True) for i, w in enumerate(lstm.weights)])
        if lib is keras:
            y = lstm(embedding(torch.from_numpy(ids)))
            weight = embedding.weights[0].value
            grad = torch.autograd.grad(y.sum(), [weight])[0]
            results.append({"y": y.detach().numpy(), "grad": grad.numpy()})
        else:

            def loss(parameters: Any, e: Any = embedding, s: Any = lstm) -> Any:
                e.update(parameters)
                y = s(e(ids))
                return y.sum(), y

            (_, out), grads = mx.value_and_grad(loss)(embedding.parameters())
            results.append({"y": np.array(out), "grad": np.array(grads["embeddings"])})
    source, truth, ours = results
    verdicts = twins.judged(ours, source, truth)
    assert verdicts["y"].passed
    assert verdicts["grad"].passed
    wrong = {"y": ours["y"][::-1], "grad": ours["grad"][::-1]}
    assert not any(v.passed for v in twins.judged(wrong, source, truth).values())


def test_an_index_out_of_range_is_nan_and_touches_nothing_else() -> None:
    embedding = layers.Embedding(3, 2)
    rows = np.array(embedding(np.array([[0, 3, 2], [-4, 1, -1]])))
    assert np.isnan(rows[0, 1]).all()
    assert np.isnan(rows[1, 0]).all()
    assert np.isfinite(rows[[0, 0, 1, 1], [0, 2, 1, 2]]).all()


def test_embedding_weights_argument_and_lora(twins: SimpleNamespace) -> None:
    import keras

    matrix = twins.distinct((6, D), 1)
    for weights in (matrix, [matrix]):
        layer = layers.Embedding(6, D, weights=weights)
        np.testing.assert_array_equal(layer.get_weights()[0], matrix)
    in_constructor = [
        lib.layers.Embedding(6, D, lora_rank=2, lora_alpha=3.0) for lib in (keras, twins.ours)
    ]
    later = [lib.layers.Embedding(6, D) for lib in (keras, twins.ours)]
    for layer in (*in_constructor, *later):
        layer.build()
    for layer in later:
        layer.enable_lora(2, lora_alpha=3.0)
    ids, outputs = np.array([[0, 5, 2]]), []
    for theirs, ours in (in_constructor, later):
        for w in ours.weights:
            w.assign(twins.distinct(w.shape, sum(map(ord, w.name))))
        by_name = {w.name: w.numpy() for w in ours.weights}
        for w in theirs.weights:
            w.assign(by_name[w.name])
        outputs.append(np.array(ours(ids)))
        np.testing.assert_allclose(outputs[-1], theirs(ids).detach().numpy(), rtol=1e-6, atol=1e-7)
        assert set(ours.trainable_parameters()) == {"lora_embeddings_a", "lora_embeddings_b"}
    assert not np.allclose(*outputs)


def test_time_distributed_gives_keras_outputs_and_gradients(twins: SimpleNamespace) -> None:
    def make(lib: Any, dtype: str) -> Any:
        inner = lib.layers.Bidirectional(lib.layers.LSTM(H, dtype=dtype), dtype=dtype)
        return lib.layers.TimeDistributed(inner, dtype=dtype)

    twin = twins.build(make, (N, 3, L, D))
    question = twins.Question(twins.distinct((N, 3, L, D), 3))
    assert twin.ours.compute_output_shape((N, 3, L, D)) == (N, 3, 2 * H)

    def flipped(layer: Any, question: Any) -> Any:
        return twins.ask_ours(layer, twins.Question(question.x[:, ::-1].copy()))

    twin.assert_caught(question, flipped)


def test_time_distributed_hands_each_step_its_mask(twins: SimpleNamespace) -> None:
    import keras

    x, mask = twins.distinct((N, 3, L, D), 3), np.random.default_rng(0).random((N, 3, L)) < 0.5
    pair = [lib.layers.TimeDistributed(lib.layers.LSTM(H)) for lib in (keras, twins.ours)]
    for layer in pair:
        layer.build(x.shape)
    twins.give_weights(pair, 3)
    theirs = pair[0](x, mask=mask).detach().numpy()
    np.testing.assert_allclose(np.array(pair[1](x, mask=mask)), theirs, rtol=1e-5, atol=1e-6)
    assert not np.allclose(np.array(pair[1](x)), theirs)
    with pytest.raises(ValueError, match="expected shape"):
        pair[1](x, mask=mask[:, :2])
