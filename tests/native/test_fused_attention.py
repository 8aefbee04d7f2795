"""The kernel's attention and batch norm, and the order in which element-wise results lie."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from native_judging import Arrays, draw, failures, not_passed, results
from native_ways import apart, graph, transformations

from lstm_bridge.core import native
from lstm_bridge.core.activations import gelu, relu
from lstm_bridge.core.affine import fused_squash
from lstm_bridge.core.attention import attend
from lstm_bridge.core.normal import batch_norm
from lstm_bridge.core.paths import portable
from lstm_bridge.core.sums import add
from lstm_bridge.torch.nn import MultiheadAttention
from lstm_bridge.torch.nn.functional import scaled_dot_product_attention

pytestmark = pytest.mark.skipif(
    not native.status().serves or sys.platform == "darwin",
    reason=f"the kernel's attention does not serve: {native.status().reason or 'macOS'}",
)

# N, L, S, h, width of a query's head, of a value's
SIZES = [
    (1, 1, 1, 1, 1, 1),
    (2, 5, 7, 3, 4, 6),
    (3, 19, 19, 2, 16, 16),
    (1, 70, 33, 4, 20, 17),
    (2, 130, 150, 1, 33, 70),
]
Result = tuple[mx.array, mx.array | None]


def plain(
    q: mx.array, k: mx.array, v: mx.array, h: int, scale: float, mistake: float = 0.0
) -> tuple[mx.array, mx.array]:
    q, k, v = (a.reshape(*a.shape[:2], h, -1).swapaxes(1, 2) for a in (q, k, v))
    scores = (q * scale) @ k.swapaxes(-1, -2)
    grown = mx.exp(scores - mx.stop_gradient(scores.max(axis=-1, keepdims=True)))
    weights = grown / (grown.sum(axis=-1, keepdims=True) + mistake)
    y = (weights @ v).swapaxes(1, 2)
    return y.reshape(*y.shape[:2], -1), weights


def ours(sides: Sequence[mx.array], h: int, scale: float) -> Result:
    with mx.stream(mx.cpu):
        done = attend(sides, h, scale, weighed=True)
    assert done is not None
    assert done[1] is not None
    return done


def both(found: Result) -> mx.array:
    """Outputs and weights side by side."""
    assert found[1] is not None
    return mx.concatenate([a.reshape(-1) for a in (found[0], found[1] * 3)])


def given(N: int, L: int, S: int, h: int, E: int, V: int) -> Arrays:
    return draw((N, L, h * E), (N, S, h * E), (N, S, h * V))


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_attention(variant: str, sizes: tuple[int, ...]) -> None:
    h, scale = sizes[3], 0.5
    arrays = given(*sizes)

    def only(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        done = attend((q, k, v), h, scale)
        assert done is not None
        assert done[1] is None
        return done[0]

    assert not failures(lambda *a: plain(*a, h, scale)[0], arrays, only), variant
    weighed = failures(
        lambda *a: both(plain(*a, h, scale)), arrays, lambda *a: both(ours(a, h, scale))
    )
    assert not weighed, variant


@pytest.mark.parametrize(("N", "L", "h", "E"), [(1, 1, 1, 1), (2, 9, 3, 5), (3, 64, 4, 16)])
def test_attention_of_one_array(variant: str, N: int, L: int, h: int, E: int) -> None:
    packed = draw((N, L, 3 * h * E))

    def of_parts(x: mx.array) -> mx.array:
        return both(plain(*mx.split(x, 3, axis=-1), h, 0.25))

    assert not failures(of_parts, packed, lambda x: both(ours([x], h, 0.25))), variant


def test_a_score_that_is_not_scaled_is_noticed(variant: str) -> None:
    """Negative control."""
    arrays = given(2, 5, 7, 3, 4, 6)
    found = failures(lambda *a: plain(*a, 3, 0.5)[0], arrays, lambda *a: ours(a, 3, 0.51)[0])
    assert len(found) == 4, variant
    found = failures(lambda *a: plain(*a, 3, 0.5, 1e-4)[0], arrays, lambda *a: ours(a, 3, 0.5)[0])
    assert found, variant


def test_attention_of_views(variant: str) -> None:
    """Time in front, parts of a wider array, features in front."""
    q, k, v = given(2, 6, 6, 2, 4, 4)
    y, _ = ours((q, k, v), 2, 0.5)
    wide = mx.concatenate([q, k, v], axis=-1)
    ways = [
        [mx.contiguous(a.swapaxes(0, 1)).swapaxes(0, 1) for a in (q, k, v)],
        mx.split(wide, 3, axis=-1),
        [mx.contiguous(a.swapaxes(1, 2)).swapaxes(1, 2) for a in (q, k, v)],
    ]
    for way in ways:
        assert mx.array_equal(ours(way, 2, 0.5)[0], y), variant


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("where", range(3))
def test_what_is_no_number_poisons_what_it_does_in_mlx(
    variant: str, where: int, value: float
) -> None:
    arrays = given(2, 5, 19, 2, 4, 4)
    arrays[where][1, 2, 5] = value
    found = ours(arrays, 2, 0.5)
    with mx.stream(mx.cpu):
        for a, b in zip(found, plain(*arrays, 2, 0.5), strict=True):
            assert np.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True), variant
        assert not mx.any(mx.isnan(found[0][0])), "the neighbour in the batch"


def test_scores_are_scaled_before_they_can_overflow(variant: str) -> None:
    rng = np.random.default_rng(0)
    q, k, v = np.zeros((1, 2, 64), "f4"), np.zeros((1, 3, 64), "f4"), rng.normal(size=(1, 3, 2))
    q[..., 0], k[0, :, 0] = 1e20, (1e19, 1, 2)
    found = scaled_dot_product_attention(*(mx.array(a, mx.float32) for a in (q, k, v)))
    assert np.allclose(np.array(found), v[:, :1].astype("f4")), variant


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16], ids=str)
def test_half_precision(variant: str, dtype: mx.Dtype) -> None:
    q, k, v = (a.astype(dtype) for a in given(2, 5, 7, 3, 4, 6))
    wide = [a.astype(mx.float32) for a in (q, k, v)]
    for a, b in zip(ours((q, k, v), 3, 0.5), ours(wide, 3, 0.5), strict=True):
        assert mx.array_equal(a, b.astype(dtype)), variant
    x, *rest = (a.astype(dtype) for a in channels((3, 4, 20)))
    y = batch_norm(x, *rest, 1e-3)
    assert mx.array_equal(
        y, batch_norm(*(a.astype(mx.float32) for a in (x, *rest)), 1e-3).astype(dtype)
    ), variant


def test_who_attends() -> None:
    q, k, v = given(2, 5, 7, 3, 4, 6)
    with mx.stream(mx.cpu):
        assert "LSTMBridgeAttention" in graph(lambda: ours((q + 0, k, v), 3, 0.5)[0])
        for heads, scale, values in ((5, 0.5, v), (3, -0.5, v), (3, 0.5, v[:1])):
            assert attend((q, k, values), heads, scale) is None, (heads, scale)
        assert attend((q.astype(mx.float16), k, v), 3, 0.5) is None
        with portable():
            assert attend((q, k, v), 3, 0.5) is None
        x, *rest = channels((3, 4, 20))
        assert "LSTMBridgeBatchNorm" in graph(lambda: batch_norm(x + 0, *rest, 1e-3))
        with portable():
            assert "LSTMBridge" not in graph(lambda: batch_norm(x + 0, *rest, 1e-3))


def test_transformations() -> None:
    q, W = draw((4, 6), (6, 18))

    def y(x: mx.array, W: mx.array) -> mx.array:
        packed = (x @ W)[None]
        done = attend([packed], 2, 0.4)
        return (plain(*mx.split(packed, 3, axis=-1), 2, 0.4) if done is None else done)[0]

    assert not apart(transformations(y, q, W), 1e-5)

    def z(x: mx.array, W: mx.array) -> mx.array:
        return batch_norm(x, W[0, :6], W[1, :6] ** 2 + 0.1, W[2, :6], W[3, :6], 1e-3)

    assert not apart(transformations(z, q, W), 1e-5)


def channels(shape: tuple[int, ...]) -> Arrays:
    x, mean, var, gamma, beta = draw(shape, *[shape[-1:]] * 4)
    return [x, mean, mx.abs(var) + 0.1, gamma, beta]


@pytest.mark.parametrize(
    "shape", [(3, 1), (7, 3), (2, 5, 16), (4, 3, 2, 20), (70, 33), (2, 2, 3, 2, 48)], ids=str
)
def test_batch_norm(variant: str, shape: tuple[int, ...]) -> None:
    x, mean, var, gamma, beta = channels(shape)
    assert not failures(lambda *a: batch_norm(*a, 1e-3), [x, mean, var, gamma, beta]), variant
    bare: Callable[..., mx.array] = lambda x, m, v: batch_norm(x, m, v, None, None, 1e-3)  # noqa: E731
    assert not failures(bare, [x, mean, var]), variant


def test_a_forgotten_epsilon_is_noticed(variant: str) -> None:
    """Negative control."""
    arrays = channels((4, 33))
    found = failures(lambda *a: batch_norm(*a, 1e-3), arrays, lambda *a: batch_norm(*a, 0.0))
    assert len(found) >= 4, variant


def test_what_is_no_number_stays_in_its_place(variant: str) -> None:
    x, *rest = channels((5, 37))
    for value, place in product((mx.nan, mx.inf), ((0, 0), (3, 36))):
        odd = mx.array(x)
        odd[place] = value
        y = np.array(batch_norm(odd, *rest, 1e-3))
        wrong = ~np.isfinite(y)
        assert wrong[place], variant
        assert wrong.sum() == 1, variant


def test_maps_keep_the_order_of_axes(variant: str) -> None:
    """As they lie in memory: nothing is copied around channels that are last."""
    (x,) = draw((2, 3, 5, 7))
    for order in ((0, 1, 2, 3), (0, 3, 1, 2), (3, 2, 1, 0)):
        turned = mx.transpose(x, order)
        for f in (lambda x: fused_squash(x, relu), gelu):
            with mx.stream(mx.cpu):
                expected = mx.transpose(f(mx.contiguous(x)), order)
                mx.eval(turned)
                for way in (turned, mx.transpose(x + 0, order), turned[:, 1:] + 0):
                    y = f(way)
                    like = expected if way.shape == turned.shape else expected[:, 1:]
                    assert mx.array_equal(y, like), (variant, order)
                slopes = mx.grad(
                    lambda x, f=f, order=order: (f(mx.transpose(x, order)) ** 2).sum()
                )(x)
                plainly = mx.grad(lambda x, f=f: (f(x) ** 2).sum())(x)
                assert mx.allclose(slopes, plainly, rtol=1e-6, atol=1e-7), (variant, order)


def test_what_others_read_is_left_as_it_is(variant: str) -> None:
    """A result takes its input's place only where nobody else reads that."""
    (x,) = draw((300, 1100))  # 1.3 MB: not computed at once in any case
    rows = draw((1100,), (1100,), (1100,), (1100,))
    with mx.stream(mx.cpu):
        a = x * 2
        y, z = fused_squash(a, relu), batch_norm(a, rows[0], rows[1] ** 2, rows[2], rows[3], 1e-3)
        assert y is not None
        w = fused_squash(x * 2, relu)
        mx.eval(y, z, w)
        assert mx.array_equal(a, x * 2), variant
        assert mx.array_equal(y, mx.maximum(x * 2, 0)), variant
        assert mx.array_equal(w, y), variant
        again = batch_norm(x * 2, rows[0], rows[1] ** 2, rows[2], rows[3], 1e-3)
        assert mx.array_equal(again, z), variant


def test_sums(variant: str) -> None:
    a, b = draw((3, 5, 37), (3, 5, 37))
    assert not failures(add, [a, b]), variant
    assert failures(add, [a, b], lambda a, b: add(a, a)), "a lost side is noticed"
    with mx.stream(mx.cpu):
        turned = mx.transpose(mx.contiguous(mx.transpose(b, (2, 0, 1))), (1, 2, 0))
        a[1, 2, 3], b[0, 0, 0] = mx.nan, mx.inf
        for x, y in product((b, turned, b[::-1], b[:, :1] + 0 * b), repeat=2):
            mx.eval(x, y)
            assert mx.array_equal(add(x, y), x + y, equal_nan=True), variant
            assert mx.array_equal(add(x, a), x + a, equal_nan=True), variant
            assert mx.array_equal(add(a, x + 0), a + x, equal_nan=True), variant
        one = [mx.transpose(mx.contiguous(k[:, :1]), (2, 1, 0)) for k in (b, turned)]
        assert mx.array_equal(add(*one), one[0] + one[1], equal_nan=True), variant
        assert mx.array_equal(add(a + 0, a + 0), a * 2, equal_nan=True)
        x = a + 0
        assert mx.array_equal(add(x, x), a * 2, equal_nan=True)
        half = a.astype(mx.bfloat16)
        assert mx.array_equal(add(half, half), half + half, equal_nan=True)


def test_sums_of_all_else_are_left_to_python() -> None:
    a, b = draw((3, 5), (5,))
    others = [(a, b), (a, 2), (2, 3), ((1,), (2,)), (a, a.astype(mx.float16)), ("a", "b")]
    others += [(mx.arange(3), mx.arange(3)), (mx.array([True]), mx.array([True]))]
    others += [(a, a > 0), (a[:0], a[:0])]
    for x, y in others:
        with mx.stream(mx.cpu):
            found, expected = add(x, y), x + y
            if isinstance(expected, mx.array):
                assert found.dtype == expected.dtype
                assert mx.array_equal(found, expected)
            else:
                assert found == expected


def of_torch(arrays: Arrays, dtype: torch.dtype) -> list[Any]:
    """Value and gradients of torch's attention, with the cotangent of ``results``."""
    leaves = [torch.tensor(np.array(a), dtype=dtype, requires_grad=True) for a in arrays]
    y = torch.nn.functional.scaled_dot_product_attention(*leaves)
    y.backward(torch.cos(torch.arange(y.numel(), dtype=dtype)).reshape(y.shape))
    return [y.detach().numpy(), *(leaf.grad.numpy() for leaf in leaves if leaf.grad is not None)]


@pytest.mark.parametrize("lead", [(3,), (2, 3)], ids=str)
def test_torch_attention_of_heads(variant: str, lead: tuple[int, ...]) -> None:
    arrays = draw((*lead, 7, 5), (*lead, 19, 5), (*lead, 19, 6))
    source, truth = (of_torch(arrays, dtype) for dtype in (torch.float32, torch.float64))
    assert not not_passed(results(scaled_dot_product_attention, arrays), source, truth), variant
    wrong = results(lambda q, k, v: scaled_dot_product_attention(q, k * 1.01, v), arrays)
    assert len(not_passed(wrong, source, truth)) == 4, "a scaled key is noticed"
    with native.disabled():
        assert not not_passed(results(scaled_dot_product_attention, arrays), source, truth)


@pytest.mark.parametrize("weighed", [False, True])
def test_torch_attention_by_one_product(variant: str, weighed: bool) -> None:
    """Of one input for queries, keys and values, against torch's layer and its gradients."""
    theirs = torch.nn.MultiheadAttention(12, 3, batch_first=True).double()
    ours_ = MultiheadAttention(12, 3, batch_first=True)
    state = {name: p.detach().numpy() for name, p in theirs.named_parameters()}
    for value in state.values():
        value[...] = np.array(draw(value.shape)[0]) * 0.5
    (x,) = draw((2, 9, 12))

    def torchs(dtype: torch.dtype) -> list[Any]:
        model = theirs.to(dtype)
        leaf = torch.tensor(np.array(x), dtype=dtype, requires_grad=True)
        y, w = model(leaf, leaf, leaf, need_weights=weighed)
        all_ = torch.cat([y.reshape(-1), w.reshape(-1)]) if weighed else y.reshape(-1)
        all_.backward(torch.cos(torch.arange(all_.numel(), dtype=dtype)))
        assert leaf.grad is not None
        return [all_.detach().numpy(), leaf.grad.numpy()]

    truth, source = torchs(torch.float64), torchs(torch.float32)
    for name, value in state.items():
        owner = ours_.out_proj if name.startswith("out_proj.") else ours_
        owner[name.removeprefix("out_proj.")] = mx.array(value.astype(np.float32))

    def mine(x: mx.array) -> mx.array:
        y, w = ours_(x, x, x, need_weights=weighed)
        return mx.concatenate([y.reshape(-1), w.reshape(-1)]) if weighed else y.reshape(-1)

    assert not not_passed(results(mine, [x]), source, truth), variant
    assert "LSTMBridgeAttention" in graph(lambda: mine(x + 0))
    with native.disabled():
        assert not not_passed(results(mine, [x]), source, truth)
