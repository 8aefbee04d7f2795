"""Values and gradients of the kernel's functions by the numeric policy: MLX's own, and float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from lstm_bridge.core import native
from lstm_bridge.equivalence.judge import judge

Arrays = list[mx.array]
Function = Callable[..., mx.array]


def draw(*shapes: Sequence[int]) -> Arrays:
    """Arrays of these shapes, scaled so that sums over a middle size stay near one."""
    rng = np.random.default_rng(sum(map(sum, shapes)))
    arrays = [mx.array(rng.normal(0, 1, shape).astype(np.float32)) for shape in shapes]
    mx.eval(arrays)
    return arrays


def results(f: Function, arrays: Arrays, dtype: mx.Dtype = mx.float32) -> Arrays:
    """The value, and all gradients for a cotangent that is the value's own cosine."""
    primals = [a.astype(dtype) for a in arrays]
    with mx.stream(mx.cpu):
        y = f(*primals)
        down = mx.cos(mx.arange(y.size)).reshape(y.shape).astype(dtype)
        values, slopes = mx.vjp(lambda *a: [f(*a)], primals, [down])
        mx.eval(values, slopes)
    return values + slopes


def failures(f: Function, arrays: Arrays, mistaken: Function | None = None) -> list[str]:
    """What the numeric policy does not pass, of the values and gradients."""
    return judged(results(mistaken or f, arrays), f, arrays)


def judged(ours: Arrays, f: Function, arrays: Arrays) -> list[str]:
    """The same of results that are there."""
    with native.disabled():
        source = results(f, arrays)
    return not_passed(ours, source, results(f, arrays, mx.float64))


def not_passed(ours: Arrays, source: Sequence[Any], truth: Sequence[Any]) -> list[str]:
    """What the numeric policy does not pass of arrays that are there."""
    triples = zip(ours, source, truth, strict=True)
    with mx.stream(mx.cpu):
        verdicts = [judge(*(np.array(a) for a in triple)) for triple in triples]
    return [v.reason for v in verdicts if not v.passed]
