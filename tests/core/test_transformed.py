"""Transformations of what the kernel runs, and of what runs without it.

Shape letters: N batch, L length, D input, H hidden.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from lstm_bridge.core import gru, native, sequence, simple_rnn
from lstm_bridge.core.affine import affine
from lstm_bridge.core.weights import LSTMWeights
from lstm_bridge.equivalence.judge import judge
from lstm_bridge.torch import nn

Arrays = list[mx.array]


def arrays(*shapes: tuple[int, ...]) -> Arrays:
    rng = np.random.default_rng(len(shapes))
    return [mx.array(rng.normal(0, 0.3, shape).astype("f4")) for shape in shapes]


Layer = Callable[[mx.array], mx.array]


def of_x(L: int, N: int, H: int) -> tuple[Layer, mx.array]:
    x, *weights = arrays((L, N, 4), (4 * H, 4), (4 * H, H), (4 * H,))
    return lambda x: sequence.run(LSTMWeights(*weights), x).y, x


def same_twice(y: Layer) -> Layer:
    return mx.grad(lambda x: y(x).square().mean() + (y(x) ** 3).mean())


def of_two_inputs(y: Layer) -> Layer:
    return mx.grad(lambda x: y(x).square().mean() + (y(2 * x) ** 3).mean())


def steepness(y: Layer) -> Layer:
    slope = mx.grad(lambda x: mx.sin(y(x)).sum())
    return mx.grad(lambda x: slope(x).square().sum())


@pytest.mark.skipif(shutil.which("g++") is None, reason="mx.compile on a CPU calls g++")
@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("way", [same_twice, of_two_inputs, steepness])
@pytest.mark.parametrize("sizes", [(3, 2, 5), (3, 8, 33), (3, 32, 33), (40, 32, 33)], ids=str)
def test_what_is_compiled_is_what_is_not(
    sizes: tuple[int, int, int], way: Callable[[Layer], Layer], kernel: bool
) -> None:
    y, x = of_x(*sizes)
    with mx.stream(mx.cpu), nullcontext() if kernel else native.disabled():
        plain, compiled = (np.array(f(x)) for f in (way(y), mx.compile(way(y))))
    verdict = judge(compiled, plain, plain)
    assert verdict.passed, verdict.reason
    assert not judge(compiled[:, ::-1], plain, plain).passed


@pytest.mark.skipif(shutil.which("g++") is None, reason="mx.compile on a CPU calls g++")
@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_equal_calls_are_compiled(layer: Any) -> None:
    f, (x,) = layer(4, 5), arrays((3, 2, 4))
    with mx.stream(mx.cpu):
        twice = [
            mx.sin(f(x)[0]) + f(x)[0] ** 2,
            mx.compile(lambda x: mx.sin(f(x)[0]) + f(x)[0] ** 2)(x),
        ]
        assert mx.allclose(*twice, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kernel", [True, False])
def test_third_derivatives_where_a_candidate_is_large(kernel: bool) -> None:
    H = 16
    x, Wx, Wh, direction = arrays((33, 16, 3), (4 * H, 3), (4 * H, H), (4 * H,))
    bias = mx.concatenate([mx.zeros(2 * H), mx.full((H,), 17.5), mx.zeros(H)])

    def third(dtype: mx.Dtype) -> mx.array:
        own = [a.astype(dtype) for a in (x, Wx, Wh, bias, direction)]

        def y(t: mx.array) -> mx.array:
            weights = LSTMWeights(own[1], own[2], own[3] + t * own[4])
            return sequence.run(weights, own[0]).y.square().mean()

        return mx.grad(mx.grad(mx.grad(y)))(mx.array(0.3).astype(dtype))

    with mx.stream(mx.cpu), nullcontext() if kernel else native.disabled():
        ours, exact = float(third(mx.float32)), float(third(mx.float64))
    assert abs(ours - exact) <= 1e-4 * abs(exact)


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
