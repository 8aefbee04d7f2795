"""float16 and bfloat16 run on the kernel everywhere float32 does, and are its float32 rounded."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from native_ways import graph

from lstm_bridge.core import native, sequence
from lstm_bridge.core.affine import affine
from lstm_bridge.core.weights import LSTMWeights
from lstm_bridge.equivalence.judge import judge
from lstm_bridge.errors import ShapeError
from lstm_bridge.mlx import nn as mlx_front_end
from lstm_bridge.torch import nn

pytestmark = pytest.mark.skipif(
    not native.status().serves, reason=f"the fused kernel does not serve: {native.status().reason}"
)
N, L, D, H, P = 3, 6, 5, 18, 7
HALVES = {mx.float16: 2.0**-10, mx.bfloat16: 2.0**-7}  # and their rounding steps at 1

Arrays = list[mx.array]
Call = Callable[..., Sequence[mx.array]]


def draw(*shape: int, scale: float = 1.0) -> mx.array:
    rng = np.random.default_rng([*shape, int(scale * 8)])
    return mx.array(rng.normal(0, scale, shape).astype(np.float32))


def flat(tree: Any) -> Arrays:
    return [tree] if isinstance(tree, mx.array) else [leaf for part in tree for leaf in flat(part)]


def layers(**options: Any) -> tuple[Call, Arrays]:
    """A torch layer as a function of its input, states and weights."""
    model = nn.LSTM(D, H, **options)
    names = sorted(model.parameters())
    depth = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
    lead = (N, L) if options.get("batch_first") else (L, N)
    given = [draw(*lead, D), draw(depth, N, options.get("proj_size") or H), draw(depth, N, H)]

    def call(x: mx.array, h: mx.array, c: mx.array, *weights: mx.array) -> Arrays:
        model.update(dict(zip(names, weights, strict=True)))
        return flat(model(x, (h, c)))

    return call, given + [draw(*model[name].shape, scale=0.25) for name in names]


def one_step(lead: tuple[int, ...]) -> tuple[Call, Arrays]:
    cell = nn.LSTMCell(D, H)
    names = sorted(cell.parameters())

    def call(x: mx.array, h: mx.array, c: mx.array, *weights: mx.array) -> Arrays:
        cell.update(dict(zip(names, weights, strict=True)))
        return flat(cell(x, (h, c)))

    given = [draw(*lead, D), draw(*lead, H), draw(*lead, H, scale=2.0)]
    return call, given + [draw(*cell[name].shape, scale=0.25) for name in names]


def all_states(lead: tuple[int, ...]) -> tuple[Call, Arrays]:
    model = mlx_front_end.LSTM(D, H)

    def call(x: mx.array, h: mx.array, c: mx.array, *weights: mx.array) -> Arrays:
        model.update(dict(zip(("Wx", "Wh", "bias"), weights, strict=True)))
        return flat(model(x, h, c))

    given = [draw(*lead, L, D), draw(*lead, H), draw(*lead, H, scale=2.0)]
    weights = [draw(4 * H, D, scale=0.25), draw(4 * H, H, scale=0.25), draw(4 * H)]
    return call, given + weights


def masked() -> tuple[Call, Arrays]:
    mask = mx.arange(L)[:, None] < mx.array([L, 0, 3])[None, :]
    mx.eval(mask)

    def call(x: mx.array, h: mx.array, c: mx.array, *weights: mx.array) -> Arrays:
        done = sequence.run(LSTMWeights(*weights), x, h, c, mask=mask, reverse=True, cells=True)
        return flat([a for a in done if a is not None])

    given = [draw(L, N, D), draw(N, P), draw(N, H, scale=2.0)]
    shapes = ((4 * H, D), (4 * H, P), (4 * H,), (P, H))
    return call, given + [draw(*shape, scale=0.25) for shape in shapes]


def maps() -> tuple[Call, Arrays]:
    given = [draw(L, N, D), draw(H, D, scale=0.5), draw(H)]
    return lambda x, W, b: [affine(x, W, b, mx.tanh)], given


CASES = {
    "layers": lambda: layers(),
    "batch first": lambda: layers(batch_first=True),
    "a stack": lambda: layers(num_layers=2, bidirectional=True, proj_size=P),
    "a cell": lambda: one_step((N,)),
    "a cell of one": lambda: one_step(()),
    "all states": lambda: all_states((N,)),
    "all states of one": lambda: all_states(()),
    "masked": masked,
    "maps": maps,
}


def results(call: Call, given: Sequence[mx.array], down: Sequence[mx.array]) -> Arrays:
    """Values and all gradients, by whichever path is in force."""
    with mx.stream(mx.cpu):
        values, slopes = mx.vjp(lambda *a: list(call(*a)), list(given), list(down))
        mx.eval(values, slopes)
    return values + slopes


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_float32_rounded(
    variant: str, case: str, dtype: mx.Dtype
) -> None:
    call, given = CASES[case]()
    given = [a.astype(dtype) for a in given]
    wide = [a.astype(mx.float32) for a in given]
    down = [draw(*a.shape).astype(dtype) for a in call(*given)]
    ours = results(call, given, down)
    exact = results(call, wide, [a.astype(mx.float32) for a in down])
    assert {a.dtype for a in ours} == {dtype}
    for k, (a, b) in enumerate(zip(ours, exact, strict=True)):
        assert mx.array_equal(a, b.astype(dtype)), (variant, k)


def failures(case: str, dtype: mx.Dtype, mistaken: bool = False) -> list[str]:
    """What the policy does not pass: the source is MLX's own half precision, the truth float64."""
    call, given = CASES[case]()
    given = [a.astype(dtype) for a in given]
    down = [draw(*a.shape).astype(dtype) for a in call(*given)]
    with native.disabled():
        source = results(call, given, down)
        truth = results(call, *([a.astype(mx.float64) for a in s] for s in (given, down)))
    if mistaken:
        given[0] = given[0][..., ::-1]
    ours = results(call, given, down)
    verdicts = []
    for a, b, exact in zip(ours, source, truth, strict=True):
        mine, theirs = (np.array(one.astype(mx.float32)) for one in (a, b))
        verdicts.append(judge(mine, theirs, np.array(exact), HALVES[dtype]))
    return [v.reason for v in verdicts if not v.passed]


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_the_numeric_policy_passes_them(case: str, dtype: mx.Dtype) -> None:
    assert not failures(case, dtype)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_exchanged_features_are_noticed(case: str, dtype: mx.Dtype) -> None:
    """Negative control."""
    assert len(failures(case, dtype, mistaken=True)) >= 3


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_small_calls_are_computed_at_once_and_the_rest_by_the_kernel(
    case: str, dtype: mx.Dtype
) -> None:
    call, given = CASES[case]()
    given = [a.astype(dtype) for a in given]
    mx.eval(given)
    assert "shape=rectangle" not in graph(lambda: call(*given)), "an operation is left to do"
    later = graph(lambda: call(*(a + 0 for a in given)))
    assert "LSTMBridgeCast" in later
    assert "LSTMBridgeLSTM" in later or "LSTMBridgeAffine" in later
    assert not {"AsType", "Matmul", "AddMM", "Sigmoid"} & set(re.findall(r"\w+", later))
    with mx.stream(mx.cpu):
        for a, b in zip(call(*given), call(*(a + 0 for a in given)), strict=True):
            assert mx.array_equal(a, b)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("H", [18, 32])
def test_weights_are_read_in_any_order_of_their_axes(variant: str, H: int, dtype: mx.Dtype) -> None:
    """By rows and by columns, as Keras keeps them, in steps and in sequences."""
    shapes = ((N, D), (N, H), (N, H), (4 * H, D), (4 * H, H), (4 * H,))
    x, h, c, Wx, Wh, bias = (draw(*shape, scale=0.25).astype(dtype) for shape in shapes)
    steps = mx.stack([x, -x, x + x])
    columns = [mx.contiguous(W.T).T for W in (Wx, Wh)]
    with mx.stream(mx.cpu):
        mx.eval(steps, columns)
        for W, V in ((Wx, Wh), columns):
            cases: list[Call] = [
                lambda *a: native.cell(a[0], *a[4:7], None, *a[2:4]) or (),
                lambda *a: native.lstm(
                    LSTMWeights(*a[4:7]), a[1], *a[2:4], reverse=False, mask=None,
                    zero_masked=False, cells=True,
                ) or (),
            ]  # fmt: skip
            for call in cases:
                given = (x, steps, h, c, W, V, bias)
                exact = call(*(a.astype(mx.float32) for a in given))
                ours = call(*given)
                assert len(ours) == len(exact) > 0
                for a, b in zip(ours, exact, strict=True):
                    assert mx.array_equal(a, b.astype(dtype)), variant


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_every_number_is_converted_as_mlx_does(variant: str, dtype: mx.Dtype) -> None:
    """All halves, times some: exact in float32, then ties, overflows and subnormal numbers."""
    halves = mx.arange(2**16, dtype=mx.uint32).astype(mx.uint16).view(dtype)
    by = mx.array([1.0, 1.0009765625, 0.75, 3e-4, -2.0078125, 5.9e-8]).astype(dtype)
    with mx.stream(mx.cpu):
        exact = (halves.astype(mx.float32)[:, None] * by.astype(mx.float32)).astype(dtype)
        ours = affine(halves[:, None], by[:, None])
        assert ours.dtype == dtype
        assert mx.array_equal(ours, exact, equal_nan=True), variant
    assert int(mx.isnan(ours).sum()) == len(by) * int(mx.isnan(halves).sum())


def test_a_mixture_is_what_mlx_makes_of_it(variant: str) -> None:
    """float32 as soon as one array is; torch's layers refuse it instead."""
    dtypes = (mx.float32, mx.float16, mx.bfloat16)
    call, given = all_states((N,))
    for chosen in product(dtypes, repeat=3):
        kinds = (chosen[0], chosen[1], chosen[1], *[chosen[2]] * 3)
        mixed = [a.astype(kind) for a, kind in zip(given, kinds, strict=True)]
        ours = call(*mixed)
        with native.disabled():
            theirs = call(*mixed)
        assert [a.dtype for a in ours] == [a.dtype for a in theirs], chosen
        wide = call(*(a.astype(mx.float32) for a in mixed))
        for a, b in zip(ours, wide, strict=True):
            assert mx.array_equal(a, b.astype(a.dtype)), (variant, chosen)
    for model, x in ((nn.LSTM(D, H), draw(L, N, D)), (nn.LSTMCell(D, H), draw(N, D))):
        with pytest.raises(ShapeError, match="dtype"):
            model(x.astype(mx.float16))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_transformations_of_half_precision(dtype: mx.Dtype) -> None:
    """Within a rounding step of half precision of what float32 gives."""
    call, given = all_states((N,))
    x, *rest = (a.astype(dtype) for a in given)

    def y(x: mx.array) -> mx.array:
        return call(x, *(a.astype(x.dtype) for a in rest))[0]

    def loss(x: mx.array) -> mx.array:
        return y(x).astype(mx.float32).square().sum()

    ways: dict[str, Callable[[mx.array], mx.array]] = {
        "vmap": lambda x: mx.vmap(y)(mx.stack([x, -x])),
        "vmap(grad)": lambda x: mx.vmap(mx.grad(loss))(mx.stack([x, -x])),
        "jvp": lambda x: mx.jvp(y, (x,), (x * 2,))[1][0],
        "grad(grad)": lambda x: mx.grad(lambda x: mx.grad(loss)(x).square().sum())(x),
        "checkpoint": lambda x: mx.grad(mx.checkpoint(loss))(x),
    }
    with mx.stream(mx.cpu):
        for name, way in ways.items():
            ours, exact = way(x), way(x.astype(mx.float32))
            assert ours.dtype == dtype, name
            far = mx.abs(ours.astype(mx.float32) - exact).max()
            assert float(far) <= 2 * HALVES[dtype] * float(mx.abs(exact).max()), name
