"""Transformations of what the kernel runs, and of what runs without it.

Shape letters: N batch, L length, D input, H hidden.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import nullcontext

import mlx.core as mx
import numpy as np
import pytest

from lstm_bridge.core import gru, native, sequence, simple_rnn
from lstm_bridge.core.affine import affine
from lstm_bridge.core.weights import LSTMWeights
from lstm_bridge.equivalence.judge import judge

Arrays = list[mx.array]


def arrays(*shapes: tuple[int, ...]) -> Arrays:
    rng = np.random.default_rng(len(shapes))
    return [mx.array(rng.normal(0, 0.3, shape).astype("f4")) for shape in shapes]


@pytest.mark.skipif(shutil.which("g++") is None, reason="mx.compile on a CPU calls g++")
@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize(("N", "H"), [(2, 5), (8, 33), (32, 33)])
def test_a_compiled_gradient_of_the_same_lstm_twice(N: int, H: int, kernel: bool) -> None:
    given = arrays((3, N, 4), (4 * H, 4), (4 * H, H), (4 * H,))

    def y(*a: mx.array) -> mx.array:
        return sequence.run(LSTMWeights(*a[1:]), a[0]).y

    def loss(*a: mx.array) -> mx.array:
        return y(*a).square().mean() + (y(*a) ** 3).mean()

    slope = mx.grad(loss, argnums=(0, 1, 2, 3))
    with mx.stream(mx.cpu), nullcontext() if kernel else native.disabled():
        plain, compiled = slope(*given), mx.compile(slope)(*given)
        for ours, source in zip(compiled, plain, strict=True):
            verdict = judge(np.array(ours), np.array(source), np.array(source))
            assert verdict.passed, verdict.reason


def of_affine(bias: mx.array) -> mx.array:
    x, W = arrays((3, 4), (24, 4))
    return affine(x, W, bias, mx.tanh)


def of_lstm(bias: mx.array) -> mx.array:
    x, Wx, Wh = arrays((5, 3, 4), (24, 4), (24, 6))
    return sequence.run(LSTMWeights(Wx, Wh, bias), x, reverse=True).y


def of_one_step(bias: mx.array) -> mx.array:
    x, Wx, Wh = arrays((1, 3, 4), (24, 4), (24, 6))
    return sequence.run(LSTMWeights(Wx, Wh, bias), x).y


def of_gru(bias: mx.array) -> mx.array:
    x, Wx, Wh, other = arrays((5, 3, 4), (24, 4), (24, 8), (24,))
    return gru.run(gru.GRUWeights(Wx, Wh, bias, other, True), x)[0]


def of_rnn(bias: mx.array) -> mx.array:
    x, Wx, Wh, other = arrays((5, 3, 4), (24, 4), (24, 24), (24,))
    return simple_rnn.run(simple_rnn.SimpleRNNWeights(Wx, Wh, bias, other), x)[0]


@pytest.mark.parametrize("layer", [of_affine, of_lstm, of_one_step, of_gru, of_rnn])
def test_the_kernel_is_mapped_over_a_bias_alone(layer: Callable[[mx.array], mx.array]) -> None:
    if not native.status().serves:
        pytest.skip("MLX 0.32's own addmm cannot be mapped over its first operand alone")
    biases = mx.stack(arrays((24,), (24,)))
    with mx.stream(mx.cpu):
        mapped, by_kernel = mx.vmap(layer)(biases), mx.stack([layer(b) for b in biases])
        with native.disabled():
            composed = mx.stack([layer(b) for b in biases])
        ours, source, kernel = (np.array(y) for y in (mapped, composed, by_kernel))
    verdict = judge(ours, source, kernel)
    assert verdict.passed, verdict.reason
    assert not judge(ours[::-1], source, kernel).passed
