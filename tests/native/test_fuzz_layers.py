"""torch's LSTM with any arguments: the kernel, MLX's own operations and the float64 oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from native_conditioning import conditioning

from lstm_bridge.core import native
from lstm_bridge.equivalence.judge import judge
from lstm_bridge.equivalence.oracle.torch import TorchLSTM
from lstm_bridge.torch import nn
from lstm_bridge.torch.nn.utils import rnn

pytestmark = pytest.mark.skipif(
    not native.status().serves, reason=f"the fused kernel does not serve: {native.status().reason}"
)
VARIANTS = native.status().variants or ("none",)
EPS = {mx.float32: 2.0**-23, mx.float16: 2.0**-10, mx.bfloat16: 2.0**-7}

Named = dict[str, Any]


class Case(NamedTuple):
    """One call: what the layer is, what it is given, and how."""

    options: Named
    sizes: tuple[int, int, int, int]  # N, L, D, H
    form: str  # batch, single or packed
    lengths: list[int]
    states: bool
    layout: str  # of the input and the states in memory
    way: str  # at once, later or traced
    loss: str  # which outputs are used, and with what cotangent
    dtype: mx.Dtype
    scale: float
    variant: str
    seed: int


def _width(most: int) -> st.SearchStrategy[int]:
    """Small ones, and those around the kernel's tiles."""
    edges = [n for n in (15, 16, 17, 31, 33, 48, 63, 64, 65, 96, 130) if n <= most]
    return st.one_of(st.integers(1, 9), st.sampled_from(edges))


@st.composite
def cases(draw: Any) -> Case:
    H = draw(_width(130))
    projected = draw(st.booleans()) and H > 1
    N = draw(st.one_of(st.integers(1, 8), st.sampled_from([12, 13, 24, 33])))
    L = draw(st.integers(1, 9))
    options = {
        "num_layers": draw(st.integers(1, 3)),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "bidirectional": draw(st.booleans()),
        "proj_size": draw(st.integers(1, H - 1)) if projected else 0,
    }
    form = draw(st.sampled_from(["batch", "single", "packed"]))
    return Case(
        options,
        (N, L, draw(_width(96)), H),
        form,
        draw(st.lists(st.integers(1, L), min_size=N, max_size=N)),
        draw(st.booleans()),
        draw(st.sampled_from(["whole", "turned", "every second", "broadcast"])),
        draw(st.sampled_from(["at once", "later", "traced"])),
        draw(st.sampled_from(["all", "y", "h", "c", "sum"])),
        draw(st.sampled_from(list(EPS))),
        draw(st.sampled_from([1.0, 1.0, 1.0, 1e-3, 30.0, 1e-39])),
        draw(st.sampled_from(VARIANTS)),
        draw(st.integers(0, 2**16)),
    )


class Drawn(NamedTuple):
    """The layer, its inputs as float32 holds them, and the cotangents of its outputs."""

    model: nn.LSTM
    inputs: dict[str, np.ndarray]  # x and, if given, h0 and c0
    weights: dict[str, np.ndarray]
    down: list[np.ndarray]  # of y, h and c


def drawn(case: Case) -> Drawn:
    N, L, D, H = case.sizes
    rng = np.random.default_rng(case.seed)

    def of(shape: tuple[int, ...], scale: float) -> np.ndarray:
        a = mx.array(rng.normal(0, scale, shape).astype(np.float32))
        return np.array(a.astype(case.dtype).astype(mx.float32))

    model = nn.LSTM(D, H, **case.options)
    weights = {k: of(w.shape, w.shape[-1] ** -0.5) for k, w in sorted(model.parameters().items())}
    model.update({k: mx.array(w).astype(case.dtype) for k, w in weights.items()})
    single, first = case.form == "single", case.options["batch_first"]
    depth = case.options["num_layers"] * (2 if case.options["bidirectional"] else 1)
    lead = (L,) if single else (N, L) if first else (L, N)
    axis = () if single else (N,)
    P = case.options["proj_size"] or H
    inputs = {"x": of((*lead, D), case.scale)}
    if case.layout == "broadcast":
        inputs["x"] = np.broadcast_to(inputs["x"][:1], inputs["x"].shape).copy()
    if case.states:
        inputs |= {"h0": of((depth, *axis, P), 1), "c0": of((depth, *axis, H), 2)}
    lead = _trimmed(lead, case)
    wide = P * (2 if case.options["bidirectional"] else 1)
    shapes = {"y": (*lead, wide), "h": (depth, *axis, P), "c": (depth, *axis, H)}
    used = {name: case.loss in ("all", "sum", name) for name in shapes}
    down = [of(shape, 1) * used[name] for name, shape in shapes.items()]
    return Drawn(model, inputs, weights, [a * 0 + 1 for a in down] if case.loss == "sum" else down)


def _trimmed(lead: tuple[int, ...], case: Case) -> tuple[int, ...]:
    if case.form != "packed":
        return lead
    L = max(case.lengths)
    return (lead[0], L) if case.options["batch_first"] else (L, lead[1])


def placed(a: np.ndarray, case: Case) -> mx.array:
    """The same numbers in another place in memory."""
    x = mx.array(a).astype(case.dtype)
    ways: dict[str, Callable[[], mx.array]] = {
        "whole": lambda: x,
        "turned": lambda: mx.contiguous(x.swapaxes(0, -1)).swapaxes(0, -1),
        "every second": lambda: mx.contiguous(mx.repeat(x, 2, axis=-1))[..., ::2],
        "broadcast": lambda: mx.broadcast_to(x[:1], x.shape) if (a == a[:1]).all() else x,
    }
    there = ways[case.layout]()
    mx.eval(there)
    return there


def ask(case: Case, of: Drawn) -> tuple[list[mx.array], Named]:
    """Outputs, and gradients by name, by whichever path is in force."""
    names = [*of.inputs, *of.weights]
    given_arrays = [placed(a, case) for a in of.inputs.values()]
    given_arrays += [of.model[name] for name in of.weights]

    def call(*arrays: mx.array) -> list[mx.array]:
        own = dict(zip(names, arrays, strict=True))
        of.model.update({name: own[name] for name in of.weights})
        hx = (own["h0"], own["c0"]) if case.states else None
        x = own["x"]
        if case.form != "packed":
            y, (h, c) = of.model(x, hx)
            return [y, h, c]
        first = case.options["batch_first"]
        packed = rnn.pack_padded_sequence(x, case.lengths, first, enforce_sorted=False)
        y, (h, c) = of.model(packed, hx)
        return [rnn.pad_packed_sequence(y, first)[0], h, c]

    with mx.stream(mx.cpu):
        values = call(*given_arrays)
        if case.way == "later":
            values = call(*(a + mx.zeros_like(a) for a in given_arrays))
        if case.loss == "sum":
            slopes = mx.grad(
                lambda *a: sum(o.astype(mx.float32).sum() for o in call(*a)),
                list(range(len(names))),
            )(*given_arrays)
        else:
            down = [mx.array(d).astype(case.dtype) for d in of.down]
            traced, slopes = mx.vjp(call, given_arrays, down)
            if case.way == "traced":
                values = traced
        mx.eval(values, slopes)
        of.model.update({k: mx.array(w).astype(case.dtype) for k, w in of.weights.items()})
    return values, dict(zip(names, slopes, strict=True))


def truth(case: Case, of: Drawn) -> Callable[..., Named]:
    """The oracle's outputs and gradients as a function of the inputs and weights, and a dtype."""

    def call(arrays: Named, dtype: Any = np.float64) -> Named:
        x, hx = arrays["x"], (arrays["h0"], arrays["c0"]) if case.states else None
        params = {name: arrays[name] for name in of.weights}
        lengths = case.lengths if case.form == "packed" else None
        layout = TorchLSTM(case.options, params, (x, hx, lengths), dtype)
        y, (h, c) = layout.outputs(layout.run())
        slopes = layout.gradients(of.down)
        trimmed, slopes["x"] = slopes["x"], np.zeros(x.shape)
        slopes["x"][tuple(slice(n) for n in trimmed.shape)] = trimmed
        names = [*of.inputs, *of.weights]
        return {"y": y, "h": h, "c": c} | {f"d {name}": slopes[name] for name in names}

    return call


def failures(case: Case, mistake: Callable[[Drawn], None] | None = None) -> list[str]:
    """What the numeric policy does not pass."""
    of = drawn(case)
    with native.disabled():
        source, source_slopes = ask(case, of)
    exact = {k: a.astype(np.float64) for k, a in (of.inputs | of.weights).items()}
    oracle = truth(case, of)
    expected, moves = oracle(exact), conditioning(oracle, exact, EPS[case.dtype])
    if mistake is not None:
        mistake(of)
    with native.using(case.variant):
        ours, slopes = ask(case, of)

    def party(values: list[mx.array], slopes: Named) -> Named:
        found = dict(zip("yhc", values, strict=True)) | {f"d {k}": a for k, a in slopes.items()}
        assert {a.dtype for a in found.values()} == {case.dtype}
        return {k: np.array(a.astype(mx.float32)) for k, a in found.items()}

    first, second = party(ours, slopes), party(source, source_slopes)
    verdicts = {
        k: judge(first[k], second[k], expected[k], EPS[case.dtype], moves[k]) for k in expected
    }
    return [f"{k}: {v.reason}" for k, v in verdicts.items() if not v.passed]


@settings(max_examples=4 * settings().max_examples)
@given(cases())
def test_any_call_follows_the_oracle(case: Case) -> None:
    event(case.form)
    assert not failures(case)


def _exchange(of: Drawn) -> None:
    name = "weight_hh_l0"
    of.weights[name] = np.concatenate(np.split(of.weights[name], 4)[::-1])
    of.model[name] = mx.array(of.weights[name])


@pytest.mark.parametrize("form", ["batch", "single", "packed"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_gates_in_another_order_are_noticed(variant: str, form: str) -> None:
    """Negative control."""
    options = {
        "num_layers": 2,
        "bias": True,
        "batch_first": True,
        "bidirectional": True,
        "proj_size": 3,
    }
    case = Case(
        options,
        (4, 5, 6, 7),
        form,
        [5, 1, 3, 2],
        True,
        "whole",
        "at once",
        "all",
        mx.float32,
        1.0,
        variant,
        0,
    )
    assert not failures(case)
    found = {f.partition(":")[0] for f in failures(case, _exchange)}
    assert {"y", "h", "c", "d x", "d h0", "d weight_hh_l0", "d weight_ih_l0_reverse"} <= found
