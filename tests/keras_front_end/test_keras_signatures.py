"""Signatures: as recorded from Keras 3.15, and as live Keras has them."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import pytest

import lstm_bridge.keras as ours

RECORDED_FROM = "3.15"
CELL = (
    "units, activation='tanh', recurrent_activation='sigmoid', use_bias=True, "
    "kernel_initializer='glorot_uniform', recurrent_initializer='orthogonal', "
    "bias_initializer='zeros', unit_forget_bias=True, kernel_regularizer=None, "
    "recurrent_regularizer=None, bias_regularizer=None, "
)
CONSTRAINTS = "kernel_constraint=None, recurrent_constraint=None, bias_constraint=None, "
DROPOUT = "dropout=0.0, recurrent_dropout=0.0, seed=None, "
RUN = "sequences, initial_state=None, mask=None, training="
RECORDED = {
    "LSTMCell.__init__": CELL + CONSTRAINTS + DROPOUT + "**kwargs",
    "LSTMCell.call": "inputs, states, training=False",
    "LSTMCell.build": "input_shape",
    "LSTMCell.get_initial_state": "batch_size=None",
    "LSTM.__init__": CELL + "activity_regularizer=None, " + CONSTRAINTS + DROPOUT
    + "return_sequences=False, return_state=False, go_backwards=False, stateful=False, "
    "unroll=False, use_cudnn='auto', **kwargs",
    "LSTM.call": RUN + "False",
    "RNN.__init__": "cell, return_sequences=False, return_state=False, go_backwards=False, "
    "stateful=False, unroll=False, zero_output_for_mask=False, **kwargs",
    "RNN.call": RUN + "False",
    "RNN.build": "sequences_shape, initial_state_shape=None",
    "RNN.compute_output_shape": "sequences_shape, initial_state_shape=None",
    "RNN.get_initial_state": "batch_size",
    "RNN.reset_state": "",
    "StackedRNNCells.__init__": "cells, **kwargs",
    "StackedRNNCells.get_initial_state": "batch_size=None",
    "Bidirectional.__init__": "layer, merge_mode='concat', weights=None, backward_layer=None, "
    "**kwargs",
    "Bidirectional.call": RUN + "None",
    "Bidirectional.build": "sequences_shape, initial_state_shape=None",
    "Bidirectional.reset_state": "",
    "TimeDistributed.__init__": "layer, **kwargs",
    "TimeDistributed.call": "inputs, training=None, mask=None",
    "Masking.__init__": "mask_value=0.0, **kwargs",
    "Masking.call": "inputs",
    "Embedding.__init__": "input_dim, output_dim, embeddings_initializer='uniform', "
    "embeddings_regularizer=None, embeddings_constraint=None, mask_zero=False, weights=None, "
    "lora_rank=None, lora_alpha=None, quantization_config=None, **kwargs",
    "Embedding.call": "inputs",
    "Masking.compute_mask": "inputs, mask=None",
    "Embedding.compute_mask": "inputs, mask=None",
    "Concatenate.compute_mask": "inputs, mask=None",
    "Add.compute_mask": "inputs, mask=None",
    "Attention.compute_mask": "inputs, mask=None",
    "LSTM.compute_mask": "_, mask",
    "Bidirectional.compute_mask": "_, mask",
    "Layer.compute_mask": "inputs, previous_mask",
    "Layer.quantize": "mode=None, type_check=True, config=None",
    "Layer.__init__": "*, activity_regularizer=None, trainable=True, dtype=None, autocast=True, "
    "name=None, **kwargs",
}  # fmt: skip


def signature_text(lib: Any, where: str) -> str:
    """Names, defaults and kinds, without annotations."""
    cls, _, method = where.partition(".")
    signature = inspect.signature(getattr(getattr(lib.layers, cls), method))
    bare = [p.replace(annotation=p.empty) for p in list(signature.parameters.values())[1:]]
    return str(inspect.Signature(bare))[1:-1]


@pytest.mark.parametrize("where", sorted(RECORDED))
def test_signatures_are_keras(where: str) -> None:
    assert signature_text(ours, where) == RECORDED[where]
    if keras.__version__.startswith(RECORDED_FROM):
        assert signature_text(keras, where) == RECORDED[where]


def test_a_changed_default_is_seen() -> None:
    def call(
        self: Any, sequences: Any, initial_state: Any = None, training: bool = True
    ) -> None: ...

    class Fake:
        layers = type("L", (), {"RNN": type("RNN", (), {"call": call})})

    assert signature_text(Fake, "RNN.call") != RECORDED["RNN.call"]


def test_the_documented_snippet_runs_with_the_prefix_changed() -> None:
    import numpy as np

    inputs = np.random.random((32, 10, 8))
    rnn = ours.layers.RNN(ours.layers.LSTMCell(4))
    assert rnn(inputs).shape == (32, 4)
    rnn = ours.layers.RNN(ours.layers.LSTMCell(4), return_sequences=True, return_state=True)
    whole_seq_output, final_h, final_c = rnn(inputs)
    assert whole_seq_output.shape == (32, 10, 4)
    assert final_h.shape == final_c.shape == (32, 4)
    assert np.allclose(whole_seq_output[:, -1], final_h)
    assert not np.allclose(final_h, final_c)
