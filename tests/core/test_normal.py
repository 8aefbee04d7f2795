"""Layer normalisation in double precision, which MLX's own computes to float32's."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from lstm_bridge.core.normal import layer_norm


def truth(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float) -> np.ndarray:
    from_mean = x - x.mean(-1, keepdims=True)
    return from_mean / np.sqrt((from_mean**2).mean(-1, keepdims=True) + eps) * gamma + beta


@pytest.mark.parametrize("around", [0.0, 1000.0])
def test_float64_keeps_its_digits(around: float) -> None:
    rng = np.random.default_rng(5)
    x, gamma, beta = rng.normal(around, 1, (3, 4, 7)), rng.normal(size=7), rng.normal(size=7)
    exact = truth(x, gamma, beta, 1e-3)
    with mx.stream(mx.cpu):
        wide = [mx.array(a, mx.float64) for a in (x, gamma, beta)]
        ours = np.array(layer_norm(*wide, 1e-3))
        bare = np.array(layer_norm(wide[0], None, None, 1e-3))
        theirs = np.array(mx.fast.layer_norm(*wide, 1e-3))
    assert np.abs(ours - exact).max() < 1e-12 < 1e-8 < np.abs(theirs - exact).max()
    assert np.abs(bare - truth(x, np.ones(7), np.zeros(7), 1e-3)).max() < 1e-12
