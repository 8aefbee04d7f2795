"""Whole models of Keras and torch whose layers are wide enough to be quantized."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

V, L, E, H = 40, 9, 64, 32


def uneven(model: Any, seed: int = 3) -> Any:
    """Give every weight a value of its own: zero biases would hide a lost one."""
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(0, 0.3, w.shape).astype("f4") for w in model.get_weights()])
    return model


def wide_keras() -> Any:
    """Embedding with a mask, LSTM, and three Dense layers, one of which nothing divides."""
    import keras

    layers = [
        keras.Input((L,), name="tokens"),
        keras.layers.Embedding(V, E, mask_zero=True, name="words"),
        keras.layers.LSTM(H, return_sequences=True, name="memory"),
        keras.layers.TimeDistributed(keras.layers.Dense(20, activation="tanh"), name="each"),
        keras.layers.LSTM(H, name="last"),
        keras.layers.Dense(E, activation="relu", name="wide"),
        keras.layers.Dense(10, use_bias=False, name="narrow"),
        keras.layers.Dense(2, name="odd"),
    ]
    return uneven(keras.Sequential(layers, name="wide_model"))


TOKENS = np.array([[1, 2, 3, 4, 5, 6, 7, 0, 0], [39, 8, 1, 1, 0, 0, 0, 0, 0]], "i4")


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the Keras model."""
    path = tmp_path_factory.mktemp("wide") / "wide.keras"
    wide_keras().save(path)
    return path
