"""Problems of cells with a single state, for the fused kernel, MLX's own operations and float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from lstm_bridge.core import gru, native, simple_rnn
from lstm_bridge.core.activations import linear, relu
from lstm_bridge.equivalence.judge import judge

Arrays = list[mx.array]
Found = dict[str, Any]
Run = Callable[..., Arrays]

PHI = {"tanh": mx.tanh, "relu": relu, "sigmoid": mx.sigmoid, "linear": linear}
FORMS = {  # whether r acts after the product, and whether the weights begin with z
    "gru": (True, False),
    "gru, reset first": (False, False),
    "gru, update first": (True, True),
    "gru, both first": (False, True),
}
KINDS = (*FORMS, *PHI)


def gates(kind: str) -> int:
    """Rows of the weights, in H."""
    return 3 if kind.startswith("gru") else 1


def draw(kind: str, sizes: tuple[int, int, int, int], seed: int = 0) -> Arrays:
    """x, Wx, Wh, bias, bias_h and h of ``N, L, D, H``, then the cotangents of y and h."""
    N, L, D, H = sizes
    rng = np.random.default_rng(seed)
    rows = gates(kind) * H
    shapes = [(L, N, D), (rows, D), (rows, H), (rows,), (rows,), (N, H), (L, N, H), (N, H)]
    scales = [1, D**-0.5, 0.8 * H**-0.5, 0.7, 0.5, 1, 1, 1]
    pairs = zip(scales, shapes, strict=True)
    return [mx.array(rng.normal(0, s, shape).astype(np.float32)) for s, shape in pairs]


def drawn_mask(name: str | None, sizes: tuple[int, int, int, int], seed: int = 0) -> Any:
    """Boolean ``[L, N]``: lengths (one of them zero), or gaps."""
    N, L, *_ = sizes
    if name is None:
        return None
    if name == "lengths":
        return mx.arange(L)[:, None] < (mx.arange(N) * 5 % (L + 1))[None, :]
    return mx.array(np.random.default_rng(seed).random((L, N)) < 0.6)


def runner(kind: str, **options: Any) -> Run:
    """Inputs to y and h, by whichever path is in force."""

    def run(
        x: mx.array,
        Wx: mx.array,
        Wh: mx.array,
        bias: mx.array | None = None,
        bias_h: mx.array | None = None,
        h: mx.array | None = None,
    ) -> Arrays:
        if kind in PHI:
            weights = simple_rnn.SimpleRNNWeights(Wx, Wh, bias, bias_h)
            return list(simple_rnn.run(weights, x, h, activation=PHI[kind], **options))
        cell = gru.GRUWeights(Wx, Wh, bias, bias_h, *FORMS[kind])
        return list(gru.run(cell, x, h, **options))

    return run


def stepper(kind: str) -> Run:
    """The same of one step, [N, D] or [D]."""

    def run(x: mx.array, Wx: mx.array, Wh: mx.array, *more: mx.array) -> Arrays:
        bias, bias_h, h = more if len(more) == 3 else (None, None, *more) if more else (None,) * 3
        if kind in PHI:
            weights = simple_rnn.SimpleRNNWeights(Wx, Wh, bias, bias_h)
            return [simple_rnn.advance(weights, x, h, PHI[kind])]
        return [gru.advance(gru.GRUWeights(Wx, Wh, bias, bias_h, *FORMS[kind]), x, h)]

    return run


def results(run: Run, arrays: Arrays, dtype: mx.Dtype = mx.float32) -> dict[str, mx.array]:
    """Values and gradients of all inputs; the last arrays are the outputs' cotangents."""
    wide = [a.astype(dtype) for a in arrays]
    with mx.stream(mx.cpu):
        values, slopes = mx.vjp(run, wide[:-2], wide[-2:])
        mx.eval(values, slopes)
    names = ("y", "h_n", "dx", "dWx", "dWh", "dbias", "dbias_h", "dh")
    return dict(zip(names, values + slopes, strict=True))


def composed(run: Run, arrays: Arrays, dtype: mx.Dtype = mx.float32) -> dict[str, mx.array]:
    """The same by MLX's own operations."""
    with native.disabled():
        return results(run, arrays, dtype)


def judged(ours: Sequence[Found], source: Sequence[Found], truth: Sequence[Found]) -> list[str]:
    """What the numeric policy does not pass, over all draws together."""
    with mx.stream(mx.cpu):
        verdicts = {
            name: judge(
                *(np.stack([np.array(one[name]) for one in side]) for side in (ours, source, truth))
            )
            for name in truth[0]
        }
    return [f"{name}: {v.reason}" for name, v in verdicts.items() if not v.passed]


def failures(run: Run, draws: Sequence[Arrays], mistaken: Run | None = None) -> list[str]:
    """What the fused kernel gets wrong, judged by MLX's own operations in both precisions."""
    ours = [results(mistaken or run, arrays) for arrays in draws]
    source = [composed(run, arrays) for arrays in draws]
    return judged(ours, source, [composed(run, arrays, mx.float64) for arrays in draws])


def swapped(run: Run, kind: str) -> Run:
    """A mistake: two gates, or the units of a simple RNN, change places."""

    def wrong(x: mx.array, Wx: mx.array, Wh: mx.array, *more: mx.array) -> Arrays:
        if kind in PHI:
            return run(x, Wx, Wh[::-1], *more)
        r, z, n = mx.split(Wh, 3)
        return run(x, Wx, mx.concatenate([z, r, n]), *more)

    return wrong
