"""Dropout: one mask per sequence, scaled, per gate where Keras has it per gate."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from lstm_bridge.keras import layers

N, L, D, H = 4, 5, 3, 4


def share_masks(ours: Any, theirs: list[Any], x: np.ndarray) -> None:
    """Draw this sequence's masks here and put them into Keras's cells."""
    import torch

    ours.reset_dropout_mask()
    ours.reset_recurrent_dropout_mask()
    drawn = {
        "_dropout_mask": ours.get_dropout_mask(mx.array(x[:, 0])),
        "_recurrent_dropout_mask": ours.get_recurrent_dropout_mask(mx.zeros((x.shape[0], H))),
    }

    def copy(mask: mx.array, dtype: Any) -> Any:
        return torch.from_numpy(np.array(mask)).to(dtype)

    for cell in theirs:
        dtype = getattr(torch, cell.dtype)
        for name, masks in drawn.items():
            copies = [copy(m, dtype) for m in masks] if isinstance(masks, list) else masks
            copies = copy(masks, dtype) if isinstance(masks, mx.array) else copies
            setattr(cell, name, copies)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"dropout": 0.4},
        {"recurrent_dropout": 0.3},
        {"dropout": 0.4, "recurrent_dropout": 0.3},
        {"dropout": 0.4, "implementation": 1, "use_cudnn": False},
    ],
)
def test_equal_masks_give_keras_outputs_and_gradients(
    twins: SimpleNamespace, options: dict[str, Any], masked: bool
) -> None:
    twin = twins.build(
        lambda lib, dtype: lib.layers.LSTM(
            H, return_sequences=True, dtype=dtype, seed=5, **options
        ),
        (N, L, D),
    )
    theirs = [twin.source.cell, twin.truth.cell]
    answers: list[list[Any]] = [[], [], [], []]
    for seed in range(6):  # several sequences and masks: one is too small a sample of rounding
        x = twins.distinct((N, L, D), 20 + seed)
        mask = twins.random_mask("ragged", N, L, seed) if masked else None
        question = twins.Question(x, None, mask, seed, training=True)
        share_masks(twin.ours.cell, theirs, x)
        for layer, found in zip(twin.layers, answers[:3], strict=True):
            ask = twins.ask_ours if layer is twin.ours else twins.ask_keras
            found.append(ask(layer, question))
        answers[3].append(twins.ask_ours(twin.ours, question))  # the next masks: another answer
    source, truth, ours, other = (
        {name: np.stack([one[name] for one in found]) for name in found[0]} for found in answers
    )
    assert {k: v.reason for k, v in twins.judged(ours, source, truth).items() if v.reason} == {}
    assert not twins.judged(other, source, truth)["out 0"].passed


@pytest.mark.parametrize("use_cudnn", ["auto", False])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("recurrent_dropout", [0.0, 1.0])
def test_a_rate_of_one_does_what_it_does_in_keras(
    twins: SimpleNamespace, use_cudnn: Any, masked: bool, recurrent_dropout: float
) -> None:
    twin = twins.build(
        lambda lib, dtype: lib.layers.LSTM(
            H, dropout=1.0, recurrent_dropout=recurrent_dropout, use_cudnn=use_cudnn, dtype=dtype
        ),
        (N, L, D),
    )
    mask = twins.random_mask("ragged", N, L) if masked else None
    twin.assert_same(twins.Question(twins.distinct((N, L, D), 4), None, mask, 1, training=True))


def test_one_mask_holds_for_a_sequence_and_the_next_sequence_has_another() -> None:
    layer = layers.LSTM(H, dropout=0.5, seed=3, return_sequences=True)
    x = mx.random.normal((N, L, D))
    first, second = layer(x, training=True), layer(x, training=True)
    draws = layers.LSTMCell(H, dropout=0.5, seed=3)
    for output in (first, second):
        mask = draws.get_dropout_mask(x[:, 0])
        draws.reset_dropout_mask()
        np.testing.assert_allclose(output, layer(x * mask[:, None]), rtol=1e-5, atol=1e-6)
        wrong = layer(x * mx.concatenate([mask[:, None], mx.ones((N, L - 1, D))], axis=1))
        assert not np.allclose(output, wrong, atol=1e-3)
    assert not mx.array_equal(first, second)
    assert layer.cell.__dict__["_dropout_mask"] is None


@pytest.mark.parametrize(("implementation", "count"), [(1, 4), (2, None)])
def test_statistics_scale_and_number_of_masks(implementation: int, count: int | None) -> None:
    cell = layers.LSTMCell(H, dropout=0.3, seed=1, implementation=implementation)
    masks = cell.get_dropout_mask(mx.ones((1000, 50)))
    assert cell.get_dropout_mask(mx.ones((1000, 50))) is masks
    drawn = masks if isinstance(masks, list) else [masks]
    assert len(drawn) == (count or 1)
    for mask in drawn:
        values = np.unique(np.array(mask))
        np.testing.assert_allclose(values, [0, 1 / 0.7], rtol=1e-6)
        kept = float((mask != 0).astype(mx.float32).mean())
        assert abs(kept - 0.7) < 5 * (0.3 * 0.7 / 50_000) ** 0.5
    if count:
        assert not any(mx.array_equal(drawn[0], other) for other in drawn[1:])
    cell.reset_dropout_mask()
    assert not mx.array_equal(cell.get_dropout_mask(mx.ones((1000, 50)))[0], drawn[0])


def test_seeds_repeat_and_training_decides() -> None:
    x = mx.random.normal((N, L, D))
    outputs = []
    for seed in (3, 3, 4):
        layer = layers.LSTM(
            H, dropout=0.5, recurrent_dropout=0.5, seed=seed, kernel_initializer="ones",
            recurrent_initializer="identity",
        )  # fmt: skip
        outputs.append(layer(x, training=True))
        assert mx.array_equal(layer(x), layer(x, training=False))
        assert not mx.array_equal(layer(x), outputs[-1])
    assert mx.array_equal(outputs[0], outputs[1])
    assert not mx.array_equal(outputs[0], outputs[2])


def test_inner_layers_take_training_from_the_layer_around_them() -> None:
    class Around(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.inner = layers.Bidirectional(layers.LSTM(H, dropout=0.5))

        def call(self, inputs: mx.array, training: bool = False) -> Any:
            return self.inner(inputs)

    layer, x = Around(), mx.random.normal((N, L, D))
    assert mx.array_equal(layer(x), layer(x))
    assert not mx.array_equal(layer(x, training=True), layer(x, training=True))
