"""Dtypes, MLX's transformations, edge sizes and dropout of the xLSTM layers.

Shape letters: N batch, L length, D input, H hidden.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten

from lstm_bridge.core import native
from lstm_bridge.equivalence.judge import Verdict
from lstm_bridge.pytorch_forecasting import layers
from lstm_bridge.pytorch_forecasting._dropout import Dropout

torch = pytest.importorskip("torch", reason="parity tests need the live framework")
upstream = pytest.importorskip(
    "pytorch_forecasting.layers", reason="parity tests need the live framework"
)

STATES = {"m": 3, "s": 2}


def inputs(kind: str, seed: int, N: int, L: int, D: int, H: int, layers: int = 2) -> list[Any]:
    rng = np.random.default_rng(seed)
    states: list[Any] = [rng.normal(0.2, 0.8, (layers, N, H)) for _ in range(STATES[kind])]
    if kind == "s":
        states = [list(state) for state in states]
    return [rng.normal(0.2, 0.8, (L, N, D)), *states]


def made(kind: str, D: int = 3, H: int = 6, layers_: int = 2, **options: Any) -> Any:
    """Return a layer in eval mode whose layer norms are not the default ones."""
    layer = getattr(layers, f"{kind}LSTMLayer")(D, H, layers_, **options)
    mx.random.seed(3)
    layer.apply(lambda p: p + 0.4 * mx.random.normal(p.shape))
    layer.eval()
    return layer


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("kind", STATES)
def test_half_precision_is_as_good_as_torchs(
    parity: Any, settled: Any, kind: str, norm: bool, dtype: str
) -> None:
    options = {"input_size": 3, "hidden_size": 8, "num_layers": 2}
    options["layer_norm" if kind == "m" else "use_layer_norm"] = norm

    def verdict(seed: int) -> Verdict:
        three = parity(f"{kind}LSTMLayer", options, seed, dtype=getattr(torch, dtype))
        return three.both(*inputs(kind, seed, 4, 5, 3, 8), seed=seed)

    assert settled(verdict, 1) == ""


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize(
    "sizes", [(1, 1, 1, 1), (1, 4, 2, 1), (3, 1, 2, 6), (1, 5, 3, 6), (4, 3, 1, 7), (2, 2, 2, 2)]
)
@pytest.mark.parametrize("kind", STATES)
def test_smallest_sizes(
    parity: Any, settled: Any, kind: str, sizes: tuple[int, int, int, int], norm: bool
) -> None:
    N, L, D, H = sizes
    options = {"input_size": D, "hidden_size": H, "num_layers": 2}
    options["layer_norm" if kind == "m" else "use_layer_norm"] = norm

    def verdict(seed: int) -> Verdict:
        three = parity(f"{kind}LSTMLayer", options, seed)
        return three.both(*inputs(kind, seed, N, L, D, H), seed=seed)

    assert settled(verdict, 2) == ""


@pytest.mark.parametrize("kind", STATES)
def test_an_empty_batch_gives_empty_outputs(kind: str) -> None:
    source = getattr(upstream, f"{kind}LSTMLayer")(3, 6, 2)
    theirs, (h, *_) = source(torch.zeros(4, 0, 3))
    ours, (mine, *_) = made(kind)(mx.zeros((4, 0, 3)))
    assert ours.shape == tuple(theirs.shape) == (4, 0, 6)
    assert [s.shape for s in mine] == [tuple(s.shape) for s in h]


def test_a_normaliser_of_zero_has_a_finite_gradient_as_in_torch() -> None:
    """With H = 1 and the default layer norm the keys, and so the normaliser, are exactly 0."""
    source, ours = upstream.mLSTMCell(2, 1).eval(), layers.mLSTMCell(2, 1)
    ours.load_state_dict(source.state_dict())
    ours.eval()
    x = torch.ones(3, 2, requires_grad=True)
    sum(y.sum() for y in source(x, *source.init_hidden(3))).backward()
    assert torch.isfinite(x.grad).all()

    def loss(params: Any) -> mx.array:
        ours.update(params)
        h, c, n = ours(mx.ones((3, 2)), *ours.init_hidden(3))
        return (h + c + n).sum()

    for name, gradient in tree_flatten(mx.grad(loss)(ours.parameters())):
        assert mx.isfinite(gradient).all().item(), name


@pytest.mark.parametrize("kind", STATES)
def test_value_and_grad_gives_a_gradient_to_every_weight_that_matters(kind: str) -> None:
    layer = made(kind)
    x = mx.random.normal((5, 4, 3))
    _, gradients = nn.value_and_grad(layer, lambda x: (layer(x)[0] ** 2).sum())(x)
    still = {name for name, g in tree_flatten(gradients) if not g.any().item()}
    unused = {name for name in layer.state_dict() if "Wq" in name or "ln_q" in name}
    assert still == unused
    assert bool(unused) == (kind == "m")


@pytest.mark.parametrize("kind", STATES)
def test_vmap_over_series_is_the_batch(kind: str) -> None:
    layer = made(kind)
    x = mx.random.normal((5, 4, 3))
    mapped = mx.vmap(lambda x: layer(x[:, None])[0][:, 0], in_axes=1, out_axes=1)(x)
    with native.disabled():  # what is mapped runs on MLX's own operations too
        batch = layer(x)[0]
    np.testing.assert_array_max_ulp(np.array(mapped), np.array(batch), maxulp=64)
    whole = mx.grad(lambda x: layer(x)[0].sum())(x)
    one = mx.grad(lambda x: layer(x[:, None])[0].sum())
    parts = mx.vmap(one, in_axes=1, out_axes=1)(x)
    assert mx.abs(parts - whole).max().item() <= 1e-5 * mx.abs(whole).max().item()


TRANSFORMS: dict[str, Callable[[Callable[[mx.array], mx.array]], Callable[[mx.array], mx.array]]]
TRANSFORMS = {
    "checkpoint": mx.checkpoint,
    "grad of checkpoint": lambda f: mx.grad(lambda x: (mx.checkpoint(f)(x) ** 2).sum()),
    "second derivative": lambda f: mx.grad(
        lambda x: (mx.grad(lambda x: (f(x) ** 2).sum())(x) ** 2).sum()
    ),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("kind", STATES)
def test_transformations_change_nothing(kind: str, transform: str) -> None:
    layer = made(kind)
    x = mx.random.normal((4, 3, 3))

    def f(x: mx.array) -> mx.array:
        y: mx.array = layer(x)[0]
        return y

    got = np.array(TRANSFORMS[transform](f)(x))
    assert np.isfinite(got).all()
    if transform == "checkpoint":
        assert np.array_equal(got, np.array(f(x)))
    elif transform == "grad of checkpoint":
        plain = np.array(mx.grad(lambda x: (f(x) ** 2).sum())(x))
        assert np.array_equal(got, plain)
    else:
        step = 1e-3 * mx.ones(x.shape)

        def slope(x: mx.array) -> float:
            return float((mx.grad(lambda x: (f(x) ** 2).sum())(x) ** 2).sum())

        numeric = (slope(x + step) - slope(x - step)) / 2e-3
        assert got.sum() == pytest.approx(numeric, rel=0.05)


@pytest.mark.skipif(
    not mx.metal.is_available() and shutil.which("g++") is None,
    reason="mx.compile on the CPU calls a C++ compiler, and there is none",
)
@pytest.mark.parametrize("kind", STATES)
def test_compiled_is_as_good(parity: Any, settled: Any, kind: str) -> None:
    options = {"input_size": 3, "hidden_size": 6, "num_layers": 1}

    def verdict(seed: int) -> Verdict:
        three = parity(f"{kind}LSTMLayer", options, seed)
        three.ours = mx.compile(three.ours)
        return three.forward(*inputs(kind, seed, 4, 3, 3, 6, layers=1))

    assert settled(verdict, 4) == ""


@pytest.mark.parametrize("kind", STATES)
def test_full_dropout_falls_exactly_where_upstream_drops(
    parity: Any, settled: Any, kind: str
) -> None:
    """With p = 1 nothing is random: cells see zeros, residual connections see the input."""
    options = {"input_size": 6, "hidden_size": 6, "num_layers": 3, "dropout": 1.0}

    def verdict(seed: int) -> Verdict:
        three = parity(f"{kind}LSTMLayer", options, seed)
        three.train()
        return three.both(*inputs(kind, seed, 4, 5, 6, 6, layers=3), seed=seed)

    assert settled(verdict, 3) == ""
    three = parity(f"{kind}LSTMLayer", options, 3)
    three.source.train()
    three.oracle.train()
    assert not three.both(*inputs(kind, 3, 4, 5, 6, 6, layers=3)).passed


@pytest.mark.parametrize("kind", STATES)
def test_dropouts_first_two_moments_are_upstreams(kind: str) -> None:
    """Thousands of equal rows draw their masks independently: means and squares must agree."""
    rows, L = 6000, 3
    source = getattr(upstream, f"{kind}LSTMLayer")(3, 5, 2, dropout=0.3)
    torch.manual_seed(5)
    mx.random.seed(5)
    with torch.no_grad():
        for name, p in source.named_parameters():
            p.copy_(0.7 * torch.randn_like(p) + ("ln_" in name and name.endswith("weight")))
    x = np.random.default_rng(5).normal(size=(L, 1, 3)).astype(np.float32).repeat(rows, axis=1)
    with torch.no_grad():
        theirs = source(torch.tensor(x))[0].double().numpy()

    def worst_deviation(p: float) -> float:
        """Return the largest difference of a mean, in standard deviations of that difference."""
        ours = getattr(layers, f"{kind}LSTMLayer")(3, 5, 2, dropout=p)
        ours.load_state_dict(source.state_dict())
        mine = np.array(ours(mx.array(x))[0]).astype(np.float64)
        deviations = []
        for power in (1, 2):
            a, b = mine**power, theirs**power
            spread = np.sqrt((a.var(axis=1) + b.var(axis=1)) / rows)
            deviations.append((np.abs(a.mean(axis=1) - b.mean(axis=1)) / spread).max())
        return float(max(deviations))

    assert worst_deviation(0.3) < 5
    assert worst_deviation(0.4) > 8


@pytest.mark.parametrize("kind", STATES)
def test_masks_are_fresh_for_every_step_row_and_cell(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real = Dropout.__call__

    def record(self: Dropout, x: mx.array) -> mx.array:
        seen.append(np.array(real(self, mx.ones(x.shape))) > 0)
        return real(self, x)

    monkeypatch.setattr(Dropout, "__call__", record)
    L, N, D, H = 6, 40, 7, 9
    layer = getattr(layers, f"{kind}LSTMLayer")(D, H, 2, dropout=0.25)
    layer(mx.ones((L, N, D)))
    states = [(L, N, H)] if kind == "s" else []  # what goes into all steps, drawn at once
    assert [mask.shape for mask in seen] == [(L, N, D), *states, (L, N, H), *states]
    steps = [step for mask in seen for step in mask]
    assert len({step.tobytes() for step in steps}) == len(steps)
    kept = np.concatenate([step.ravel() for step in steps])
    assert abs(kept.mean() - 0.75) < 5 * np.sqrt(0.25 * 0.75 / kept.size)
    layer.eval()
    x = mx.random.normal((L, N, D))
    assert np.array_equal(np.array(layer(x)[0]), np.array(layer(x)[0]))
