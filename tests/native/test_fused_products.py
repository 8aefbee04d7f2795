"""The kernel's products, convolutions and normalisations against MLX's own and float64."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from native_judging import Arrays, Function, draw, failures, judged, not_passed, results
from native_ways import apart, at_once, graph, transformations

from lstm_bridge.core import native
from lstm_bridge.core.activations import gelu, relu, silu
from lstm_bridge.core.convolution import Windows, correlate
from lstm_bridge.core.normal import exact_softmax, layer_norm, softmax
from lstm_bridge.core.paths import portable
from lstm_bridge.core.pooling import Pools, max_pool
from lstm_bridge.core.products import einsum, matmul

needs_kernel = pytest.mark.skipif(
    not native.status().serves or sys.platform == "darwin",
    reason=f"the kernel's products do not serve: {native.status().reason or 'macOS'}",
)

PRODUCTS = [
    ((5, 7, 9), (5, 9, 11)),
    ((2, 3, 1, 40), (2, 3, 40, 70)),
    ((1, 4, 33, 17), (6, 1, 17, 1)),
    ((12, 30), (3, 30, 20)),
    ((2, 1, 2, 3, 4, 5), (3, 2, 1, 5, 6)),
    ((3, 128, 96), (3, 96, 64)),
    ((8, 3), (3, 5)),
]


@pytest.mark.parametrize("shapes", PRODUCTS, ids=str)
def test_products_of_batches(variant: str, shapes: Sequence[Sequence[int]]) -> None:
    a, b = draw(*shapes)
    assert not failures(matmul, [a, b]), variant
    turned = [mx.contiguous(x.swapaxes(-1, -2)) for x in (a, b)]

    def of_turned(a: mx.array, b: mx.array) -> mx.array:
        return matmul(a.swapaxes(-1, -2), b.swapaxes(-1, -2))

    assert not failures(of_turned, turned), variant


def test_vectors_in_products(variant: str) -> None:
    """As numpy has them."""
    for shapes in (
        ((7,), (7,)),
        ((7,), (7, 5)),
        ((4, 7), (7,)),
        ((3, 4, 7), (7,)),
        ((7,), (3, 7, 5)),
    ):
        a, b = draw(*shapes)
        with mx.stream(mx.cpu):
            assert mx.allclose(matmul(a, b), mx.matmul(a, b), rtol=1e-5, atol=1e-5), variant


@pytest.mark.parametrize(
    "subscripts",
    ["bij,bjk->bik", "bhid,bhjd->bhij", "nlhd,nshd->nhls", "ij,jk->ki", "abc,dcb->ad", "bi,bi->b"],
)
def test_sums_by_index(variant: str, subscripts: str) -> None:
    sizes = dict(zip("abcdhijklns", (3, 4, 5, 6, 2, 7, 8, 9, 10, 3, 11), strict=True))
    shapes = [[sizes[k] for k in name] for name in subscripts.split("->")[0].split(",")]
    assert not failures(lambda a, b: einsum(subscripts, a, b), draw(*shapes)), variant


def test_other_sums_are_left_to_mlx() -> None:
    a, b = draw((4, 4), (4, 5))
    for subscripts in ("ii,ij->j", "ij,jk", "ij,kl->ijkl", "...i,ij->...j", "ij,jk->k"):
        with mx.stream(mx.cpu):
            ours, theirs = (f(subscripts, a, b) for f in (einsum, mx.einsum))
            assert mx.allclose(ours, theirs, rtol=1e-5, atol=1e-6), subscripts


# x, W, strides, dilations, zeros before and behind, spreads
CONVOLUTIONS = {
    "one axis": ((2, 19, 5), (9, 3, 5), (1,), (1,), (1,), (1,), None),
    "causal and far apart": ((3, 30, 4), (70, 2, 4), (1,), (4,), (4,), (0,), None),
    "moved by two": ((2, 21, 33), (17, 4, 33), (2,), (1,), (0,), (3,), None),
    "two axes": ((2, 9, 11, 3), (20, 3, 3, 3), (1, 1), (1, 1), (1, 1), (1, 1), None),
    "uneven": ((1, 13, 8, 1), (5, 2, 4, 1), (3, 2), (2, 1), (2, 0), (0, 3), None),
    "pointwise": ((3, 6, 5, 40), (33, 1, 1, 40), (1, 1), (1, 1), (0, 0), (0, 0), None),
    "deep": ((1, 6, 6, 64), (66, 3, 3, 64), (1, 1), (1, 1), (1, 1), (1, 1), None),
    "many strips": ((3, 40, 37, 8), (24, 5, 5, 8), (1, 1), (1, 1), (2, 2), (2, 2), None),
    "spread": ((2, 5, 4, 6), (10, 3, 2, 6), (1, 1), (1, 2), (2, 2), (3, 2), (2, 3)),
}


def convolution(name: str) -> tuple[Function, Arrays]:
    x, W, strides, dilations, before, behind, spreads = CONVOLUTIONS[name]
    windows = Windows(strides, dilations, before, behind, spreads)
    x, W, bias = draw(x, W, W[:1])

    W = W * (W.size / W.shape[0]) ** -0.5
    mx.eval(W)

    def f(x: mx.array, W: mx.array, bias: mx.array | None = None) -> mx.array:
        return correlate(x, W, bias, windows=windows)

    return f, [x, W, bias]


def of_torch(case: str | Windows, arrays: Arrays, dtype: torch.dtype, phi: Any) -> list[Any]:
    """Value and gradients of a convolution by torch, with the cotangent of ``results``."""
    windows = Windows(*CONVOLUTIONS[case][2:]) if isinstance(case, str) else case
    strides, dilations, before, behind, spreads = windows
    primals = [torch.tensor(np.array(a), dtype=dtype, requires_grad=True) for a in arrays]
    x, W = (a.movedim(-1, 1) for a in primals[:2])
    axes = range(len(strides))
    spread = spreads or (1,) * len(strides)
    wide = [(size - 1) * by + 1 for size, by in zip(x.shape[2:], spread, strict=True)]
    image = torch.zeros((*x.shape[:2], *wide), dtype=dtype)
    image[(..., *(slice(None, None, by) for by in spread))] = x
    zeros = [size for axis in reversed(axes) for size in (before[axis], behind[axis])]
    convolve = F.conv1d if len(strides) == 1 else F.conv2d
    y = convolve(F.pad(image, zeros), W, *primals[2:], stride=strides, dilation=dilations)
    y = (y if phi is None else phi(y)).movedim(1, -1)
    y.backward(torch.cos(torch.arange(y.numel(), dtype=dtype)).reshape(y.shape))
    return [y.detach().numpy(), *(a.grad.numpy() for a in primals)]


def convolution_failures(
    f: Function, case: str | Windows, arrays: Arrays, phi: Any = None
) -> list[str]:
    return like_torch(results(f, arrays), case, arrays, phi)


def like_torch(ours: Arrays, case: str | Windows, arrays: Arrays, phi: Any = None) -> list[str]:
    source, truth = (of_torch(case, arrays, t, phi) for t in (torch.float32, torch.float64))
    return not_passed(ours, source, truth)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(variant: str, name: str) -> None:
    f, arrays = convolution(name)
    assert not convolution_failures(f, name, arrays), variant
    assert not convolution_failures(f, name, arrays[:2]), variant


def test_convolutions_of_views(variant: str) -> None:
    """Channels first, and windows as Keras keeps them."""
    f, (x, W, bias) = convolution("two axes")
    y = f(x, W, bias)
    first = mx.contiguous(mx.moveaxis(x, -1, 1))
    kernel = mx.contiguous(mx.moveaxis(W, 0, -1))
    weight = mx.contiguous(mx.moveaxis(W, -1, 1))
    ways = [
        lambda: f(mx.moveaxis(first, 1, -1), W, bias),
        lambda: f(x, mx.moveaxis(kernel, -1, 0), bias),
        lambda: f(x, mx.moveaxis(weight, 1, -1), bias),
        lambda: f(mx.concatenate([x, x], axis=-1)[..., :3], W, bias),
    ]
    for way in ways:
        assert mx.allclose(way(), y, rtol=1e-5, atol=1e-6), variant


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_windows_are_read_as_torch_keeps_them(variant: str, name: str) -> None:
    f, (x, W, bias) = convolution(name)
    kept = mx.contiguous(mx.moveaxis(W, -1, 1))
    with mx.stream(mx.cpu):
        y = f(x, mx.moveaxis(kept, 1, -1), bias)
        assert mx.array_equal(y, f(x, W, bias)), variant
        turned = f(x, mx.moveaxis(kept[..., ::-1], 1, -1), bias)
        assert kept.shape[-1] < 2 or not mx.allclose(y, turned), "windows that are turned"


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu", "sin"])
def test_convolutions_with_an_activation(variant: str, name: str) -> None:
    f, arrays = convolution("uneven")
    activation = relu if name == "relu" else getattr(mx, name)

    def g(*a: mx.array) -> mx.array:
        return correlate(*a, activation, windows=Windows((3, 2), (2, 1), (2, 0), (0, 3)))

    theirs = getattr(torch, name)
    assert not convolution_failures(g, "uneven", arrays, theirs), variant
    assert convolution_failures(f, "uneven", arrays, theirs), "a lost activation is noticed"


def test_a_window_that_is_turned_around_is_noticed(variant: str) -> None:
    """Negative control."""
    f, arrays = convolution("two axes")

    def mistaken(x: mx.array, W: mx.array, b: mx.array) -> mx.array:
        return f(x, W[:, ::-1], b)

    assert len(convolution_failures(mistaken, "two axes", arrays)) >= 2, variant


def test_every_width_around_the_tiles(variant: str) -> None:
    windows = Windows((1,), (1,), (0,), (0,))
    for M, C, width in product((1, 5, 8, 9, 13), (1, 3), (1, 4, 15, 16, 17, 33, 65)):
        arrays = draw((2, M + 2, C), (width, 3, C), (width,))
        wrong = convolution_failures(lambda *a: correlate(*a, windows=windows), windows, arrays)
        assert not wrong, (M, C, width)


@pytest.mark.parametrize(
    "shape", [(1,), (3, 1), (4, 7), (2, 3, 16), (5, 33), (1, 2, 3, 2, 70)], ids=str
)
def test_softmax(variant: str, shape: tuple[int, ...]) -> None:
    (x,) = draw(shape)
    assert not failures(lambda x: exact_softmax(x * 4), [x]), variant
    if len(shape) > 1:
        assert not failures(lambda x: exact_softmax(x, 0), [x]), variant
        assert not failures(lambda x: exact_softmax(x, -2), [x]), variant


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30, 1e-40])
def test_extremes_poison_what_they_poison_in_mlx(variant: str, value: float) -> None:
    def same(f: Function, *arrays: mx.array) -> None:
        with mx.stream(mx.cpu):
            ours = np.array(f(*arrays))
            with native.disabled():
                theirs = np.array(f(*arrays))
        assert np.allclose(ours, theirs, rtol=1e-5, atol=1e-6, equal_nan=True), variant

    x, W = (np.array(a) for a in draw((3, 9, 20), (3, 20, 18)))
    x[1, 4, 7] = value
    same(matmul, mx.array(x), mx.array(W))
    same(softmax, mx.array(x))
    f, (image, window, bias) = convolution("two axes")
    image = np.array(image)
    image[1, 4, 4, 1] = value
    same(f, mx.array(image), window, bias)
    if abs(value) != 1e30:  # whose square overflows, here before and there behind a sum
        same(lambda x: layer_norm(x, None, None, 1e-5), mx.array(x))


def test_softmax_of_nothing_but_minus_infinity(variant: str) -> None:
    x = mx.full((2, 19), -mx.inf)
    assert mx.all(mx.isnan(softmax(x))), variant
    x[0, 3] = 5.0
    assert softmax(x)[0].tolist() == [float(k == 3) for k in range(19)]


@pytest.mark.parametrize("shape", [(3, 3), (4, 7), (2, 3, 16), (70, 33), (2, 2, 1, 3, 65)], ids=str)
def test_layer_norm(variant: str, shape: tuple[int, ...]) -> None:
    x, gamma, beta = draw(shape, shape[-1:], shape[-1:])
    eps = 1e-3
    assert not failures(lambda x, g, b: layer_norm(x, g, b, eps), [x, gamma, beta]), variant
    assert not failures(lambda x, g: layer_norm(x, g, None, eps), [x, gamma]), variant
    assert not failures(lambda x: layer_norm(x, None, None, eps), [x]), variant


def test_a_lost_shift_is_noticed(variant: str) -> None:
    """Negative control."""
    arrays = draw((4, 33), (33,), (33,))

    def f(x: mx.array, gamma: mx.array, beta: mx.array) -> mx.array:
        return layer_norm(x, gamma, beta, 1e-5)

    assert failures(f, arrays, lambda x, g, b: layer_norm(x, g, b * 0, 1e-5)), variant


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16], ids=str)
def test_half_precision_goes_through_float32(variant: str, dtype: mx.Dtype) -> None:
    f, arrays = convolution("two axes")
    cases: list[tuple[Function, Arrays]] = [
        (f, arrays),
        (matmul, draw((2, 5, 20), (2, 20, 9))),
        (softmax, draw((4, 20))),
    ]
    for f, arrays in cases:
        rounded = [a.astype(dtype) for a in arrays]
        y = f(*rounded)
        wide = f(*(a.astype(mx.float32) for a in rounded))
        assert y.dtype == dtype
        assert mx.array_equal(y, wide.astype(dtype)), variant


@needs_kernel
def test_who_serves() -> None:
    f, (x, W, bias) = convolution("two axes")
    a, b = draw((2, 5, 20), (2, 20, 9))
    ways: dict[str, Callable[[], mx.array]] = {
        "Products": lambda: matmul(a + 0, b),
        "Convolution": lambda: f(x + 0, W, bias),
        "Softmax": lambda: softmax(a + 0),
        "LayerNorm": lambda: layer_norm(a + 0, None, None, 1e-5),
    }
    for name, way in ways.items():
        assert f"LSTMBridge{name}" in graph(way)
        with portable():
            assert "LSTMBridge" not in graph(way), name
    declined: dict[str, Callable[[], mx.array]] = {
        "float64": lambda: matmul(a.astype(mx.float64), b.astype(mx.float64)),
        "mixed": lambda: matmul(a.astype(mx.float16), b),
        "no rows": lambda: matmul(a[:, :0], b),
        "no image": lambda: f(x[:0], W, bias),
        "groups": lambda: correlate(
            x, W[:3, ..., :1], windows=Windows((1, 1), (1, 1), (0, 0), (0, 0)), groups=3
        ),
    }
    for what, way in declined.items():
        assert "LSTMBridge" not in graph(way), what
        assert way().shape[-1] > 0


def test_transformations_give_what_they_give_without_it() -> None:
    f, (x, W, _) = convolution("uneven")
    gamma = draw((5,))[0]

    def y(x: mx.array, W: mx.array) -> mx.array:
        z = f(x, W)
        z = layer_norm(exact_softmax(z), gamma, None, 1e-3)
        return matmul(z, z.swapaxes(-1, -2))

    ways = transformations(y, x, W)
    del ways["jvp"]  # of a convolution, MLX 0.32 has none
    assert not apart(ways, 1e-5)


@needs_kernel
def test_two_python_threads_at_once() -> None:
    f, arrays = convolution("deep")
    cases = [(f, arrays), (matmul, draw((4, 90, 64), (4, 64, 70)))]
    found: list[list[Arrays]] = [[], []]

    def work(k: int) -> None:
        for _ in range(6):
            found[k].append(results(*cases[k]))

    at_once(work)
    assert not [reason for one in found[0] for reason in like_torch(one, "deep", arrays)]
    assert not [reason for one in found[1] for reason in judged(one, *cases[1])]


# x, window, stride, padding, dilation
POOLS = {
    "halves": ((2, 3, 8, 6), 2, 2, 0, 1),
    "overlapping": ((2, 17, 9, 11), 3, 2, 1, 1),
    "far apart": ((1, 33, 12, 13), (2, 3), (1, 2), (1, 0), (2, 1)),
    "one axis": ((3, 20, 15), 4, 3, 2, 1),
}


@pytest.mark.parametrize("name", POOLS)
def test_pooling_takes_the_first_of_the_largest(variant: str, name: str) -> None:
    """Also of equal ones, as a relu leaves many: exactly torch's values and gradients."""
    from lstm_bridge.torch.nn import functional

    shape, *options = POOLS[name]
    (x,) = draw(shape)
    x = mx.maximum(mx.round(x), 0)
    mine, theirs = (
        getattr(module, f"max_pool{x.ndim - 2}d") for module in (functional, torch.nn.functional)
    )

    def ours(x: mx.array) -> mx.array:
        return mine(x, *options)  # type: ignore[no-any-return]

    leaf = torch.tensor(np.array(x), requires_grad=True)
    y = theirs(leaf, *options)
    y.backward(torch.cos(torch.arange(y.numel(), dtype=torch.float32)).reshape(y.shape))
    found = results(ours, [x])
    assert np.array_equal(np.array(found[0]), y.detach().numpy()), variant
    assert leaf.grad is not None
    assert np.allclose(np.array(found[1]), leaf.grad.numpy(), rtol=1e-5, atol=1e-5), variant
    with native.disabled():
        plain = results(ours, [x])
    assert np.array_equal(np.array(plain[0]), y.detach().numpy())
    assert np.allclose(np.array(plain[1]), leaf.grad.numpy(), rtol=1e-5, atol=1e-5)


def test_pooling_keeps_what_is_no_number(variant: str) -> None:
    (x,) = draw((1, 6, 6, 18))
    x[0, 2, 3, 4] = mx.nan
    x[0, 0, 0, 1] = -mx.inf
    pools = Pools((2, 2), (2, 2), (1, 1), (0, 0), (3, 3))
    y = max_pool(x, pools)
    with native.disabled():
        assert mx.array_equal(y, max_pool(x, pools), equal_nan=True), variant
    assert mx.isnan(y[0, 1, 1, 4])


@pytest.mark.parametrize("name", ["gelu", "silu"])
def test_maps_with_a_slope_of_their_own(variant: str, name: str) -> None:
    mine, theirs = {"gelu": (gelu, F.gelu), "silu": (silu, F.silu)}[name]
    x = mx.array(np.linspace(-9, 9, 3011).astype(np.float32)).reshape(1, 3011)

    def of_torch_itself(dtype: torch.dtype) -> list[Any]:
        leaf = torch.tensor(np.array(x), dtype=dtype, requires_grad=True)
        y = theirs(leaf)
        y.backward(torch.cos(torch.arange(3011, dtype=dtype)).reshape(y.shape))
        assert leaf.grad is not None
        return [y.detach().numpy(), leaf.grad.numpy()]

    source, truth = of_torch_itself(torch.float32), of_torch_itself(torch.float64)
    assert not not_passed(results(mine, [x]), source, truth), variant
    assert not_passed(results(lambda x: mine(x * 1.001), [x]), source, truth), "is noticed"
    odd = mx.array([[mx.nan, -200.0, 200.0, 0.0, -0.0, 1e-40]])
    assert np.allclose(np.array(mine(odd)), [[np.nan, 0, 200, 0, 0, 5e-41]], equal_nan=True), (
        variant
    )
    slope = mx.grad(lambda x: mine(x).sum())(mx.array([[-1e30, -200.0, 200.0, 1e30]]))
    assert mx.allclose(slope, mx.array([[0.0, 0.0, 1.0, 1.0]])), variant
