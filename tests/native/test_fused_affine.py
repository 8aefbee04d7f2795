"""The kernel's affine maps and activations against MLX's own operations and float64."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from itertools import product

import mlx.core as mx
import numpy as np
import pytest
from native_ways import apart, at_once, graph, transformations

from lstm_bridge.core import native
from lstm_bridge.core.activations import relu
from lstm_bridge.core.affine import affine, sigmoid, tanh
from lstm_bridge.core.paths import portable
from lstm_bridge.equivalence.judge import judge

needs_kernel = pytest.mark.skipif(
    not native.status().serves or sys.platform == "darwin",
    reason=f"the kernel's affine maps do not serve: {native.status().reason or 'macOS'}",
)
SIZES = [(9, 1, 3), (1, 40, 70), (2, 16, 3), (5, 33, 200), (7, 3, 65), (40, 128, 17), (130, 5, 130)]
ACTIVATIONS = {"none": None, "sigmoid": mx.sigmoid, "tanh": mx.tanh, "relu": relu}

Arrays = list[mx.array]


def draw(sizes: tuple[int, int, int], turned: bool = False) -> Arrays:
    """x, W, bias, and a cotangent of y; W a transposed view where turned."""
    M, D, O = sizes  # noqa: E741
    rng = np.random.default_rng(sum(sizes))
    x, W, bias, dy = (
        mx.array(rng.normal(0, scale, shape).astype(np.float32))
        for scale, shape in ((1, (M, D)), (D**-0.5, (O, D)), (1, (O,)), (1, (M, O)))
    )
    return [x, mx.contiguous(W.T).T if turned else W, bias, dy]


def results(
    f: Callable[..., mx.array], arrays: Sequence[mx.array], dtype: mx.Dtype = mx.float32
) -> Arrays:
    """The value and all gradients."""
    *primals, dy = (a.astype(dtype) for a in arrays)
    with mx.stream(mx.cpu):
        values, slopes = mx.vjp(lambda *a: [f(*a)], primals, [dy])
        mx.eval(values, slopes)
    return values + slopes


def failures(
    f: Callable[..., mx.array], arrays: Arrays, mistaken: Callable[..., mx.array] | None = None
) -> list[str]:
    """What the numeric policy does not pass."""
    return judged(results(mistaken or f, arrays), f, arrays)


def judged(ours: Arrays, f: Callable[..., mx.array], arrays: Arrays) -> list[str]:
    """The same of results that are there."""
    with native.disabled():
        source = results(f, arrays)
    truth = results(f, arrays, mx.float64)
    triples = zip(ours, source, truth, strict=True)
    with mx.stream(mx.cpu):
        verdicts = [judge(*(np.array(a) for a in triple)) for triple in triples]
    return [v.reason for v in verdicts if not v.passed]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_variant_follows_float64(
    variant: str, sizes: tuple[int, int, int], name: str
) -> None:
    activation = ACTIVATIONS[name]
    for turned in (False, True):
        x, W, bias, dy = draw(sizes, turned)
        assert not failures(lambda *a: affine(*a, activation), [x, W, bias, dy]), variant
        assert not failures(lambda x, W: affine(x, W, None, activation), [x, W, dy]), variant


def test_a_transposed_weight_is_noticed(variant: str) -> None:
    """Negative control."""
    arrays = draw((6, 20, 20))
    assert len(failures(affine, arrays, lambda x, W, b: affine(x, W.T, b))) >= 3, variant


def test_any_axes_and_views(variant: str) -> None:
    x, W, bias, _ = draw((24, 10, 33))
    expected = affine(x, W, bias)
    for shape in ((24,), (4, 6), (2, 3, 4)):
        ways = {
            "whole": x.reshape(*shape, 10),
            "turned": mx.contiguous(x.reshape(*shape, 10).swapaxes(0, -2)).swapaxes(0, -2),
            "inner": mx.contiguous(x.reshape(*shape, 10).swapaxes(0, -1)).swapaxes(0, -1),
        }
        for name, view in ways.items():
            y = affine(view, W, bias)
            assert y.shape == (*shape, 33), name
            assert mx.allclose(y.reshape(24, 33), expected, rtol=1e-5, atol=1e-6), name
    rows = mx.contiguous(mx.concatenate([x, x], axis=-1))[:, :10]
    assert mx.array_equal(affine(rows, W, bias), expected), variant
    assert mx.allclose(affine(x[0], W, bias), expected[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30, 1e-40])
@pytest.mark.parametrize("M", [1, 3, 40])
def test_extremes_poison_what_they_poison_in_mlx(variant: str, M: int, value: float) -> None:
    x, W, bias, _ = (np.array(a) for a in draw((M, 20, 70)))
    x[M // 2, 7] = value
    for activation in ACTIVATIONS.values():
        ours = np.array(affine(*map(mx.array, (x, W, bias)), activation))
        with native.disabled():
            theirs = np.array(affine(*map(mx.array, (x, W, bias)), activation))
        assert np.allclose(ours, theirs, rtol=1e-5, atol=1e-6, equal_nan=True), variant


def test_sigmoid_and_tanh_of_many_numbers(variant: str) -> None:
    odd = [np.nan, np.inf, -np.inf, 1e30, -1e30, 1e-40, -1e-40, 0.0, 88.8, -88.8]
    x = mx.array(np.concatenate([odd, np.linspace(-20, 20, 70_001)]).astype(np.float32))
    for f, own in ((sigmoid, mx.sigmoid), (tanh, mx.tanh)):
        y, truth = np.array(f(x)), own(x)
        assert np.allclose(y, np.array(truth), rtol=3e-6, atol=1e-7, equal_nan=True), variant
        assert not failures(f, [x[10:], mx.ones_like(x[10:])])


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16], ids=str)
def test_half_precision_goes_through_float32(variant: str, dtype: mx.Dtype) -> None:
    arrays = [a.astype(dtype) for a in draw((9, 20, 33))]
    ours = results(affine, arrays, dtype)
    wide = results(affine, arrays)
    assert all(a.dtype == dtype for a in ours)
    for mine, exact in zip(ours, wide, strict=True):
        assert mx.array_equal(mine, exact.astype(dtype)), variant


@needs_kernel
def test_who_serves() -> None:
    x, W, bias, _ = draw((3, 4, 5))
    assert "LSTMBridge" not in graph(lambda: affine(x, W, bias)), "small: computed at the call"
    x = x + 0  # still to be computed
    assert "LSTMBridgeAffine" in graph(lambda: affine(x, W, bias))
    assert "LSTMBridgeSquash" in graph(lambda: tanh(x))
    with portable():
        assert "LSTMBridge" not in graph(lambda: tanh(affine(x, W, bias)))
    with native.disabled():
        assert "LSTMBridge" not in graph(lambda: tanh(affine(x, W, bias)))
    declined = {
        "float64": lambda: affine(x.astype(mx.float64), W.astype(mx.float64)),
        "mixed": lambda: affine(x.astype(mx.float16), W),
        "no rows": lambda: affine(x[:0], W, bias),
        "a broadcast bias": lambda: affine(x, W, bias[:1]),
    }
    for what, way in declined.items():
        assert "LSTMBridge" not in graph(way), what


def test_a_fused_activation_is_not_applied_twice() -> None:
    x, W, bias, _ = draw((3, 4, 5))
    with mx.stream(mx.cpu):
        for activation in (mx.sigmoid, mx.tanh, relu, mx.sin):
            y = affine(x, W, bias, activation)
            assert mx.allclose(y, activation(mx.addmm(bias, x, W.T)), rtol=1e-5, atol=1e-6)


def test_transformations_give_what_they_give_without_it() -> None:
    x, W, bias, _ = draw((6, 5, 18))

    def y(x: mx.array, W: mx.array) -> mx.array:
        return sigmoid(affine(x, W, bias, mx.tanh))

    assert not apart(transformations(y, x, W), 1e-6)


@needs_kernel
def test_it_compiles() -> None:
    """Of one primitive alone, which needs no C++ compiler at run time."""
    x, W, bias, _ = draw((6, 5, 18))
    with mx.stream(mx.cpu):
        compiled = mx.compile(lambda x: affine(x, W, bias, mx.tanh))
        assert mx.array_equal(compiled(x), affine(x, W, bias, mx.tanh))


def test_the_digits_do_not_depend_on_who_is_awake(variant: str) -> None:
    x, W, bias, _ = draw((200, 130, 33))
    found = []
    for pause in (0.0, 0.3, 0.0, 0.3):  # after which the kernel's other threads sleep
        mx.eval(affine(mx.ones((2000, 400)), mx.ones((400, 400)), None))
        time.sleep(pause)
        found.append(affine(x, W, bias))
    assert all(mx.array_equal(one, found[0]) for one in found), variant


def test_two_python_threads_at_once() -> None:
    cases = [draw(sizes) for sizes in ((300, 64, 96), (1, 900, 700))]
    found: list[list[Arrays]] = [[], []]

    def work(k: int) -> None:
        for _ in range(6):
            found[k].append(results(affine, cases[k]))

    at_once(work)
    for case, several in zip(cases, found, strict=True):
        assert not [reason for one in several for reason in judged(one, affine, case)]


def test_every_size_around_the_tiles(variant: str) -> None:
    for M, D, width in product((1, 5, 6, 25), (1, 15, 17), (1, 2, 15, 16, 63, 64, 66)):
        assert not failures(affine, draw((M, D, width), turned=M % 2 == 0)), (M, D, width)
