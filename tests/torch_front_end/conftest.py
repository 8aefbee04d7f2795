"""The same layer in torch (the source), in torch float64 (the truth) and here, and its verdicts."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from lstm_bridge.equivalence.judge import Verdict, judge
from lstm_bridge.torch import nn

Arrays = dict[str, Any]

DRAWS = 16
"""Weights and inputs drawn for each case: one lucky rounding of the source's decides nothing."""

EPS = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


@pytest.fixture(scope="session")
def compare() -> Callable[..., dict[str, Verdict]]:
    """Judge a layer's outputs and gradients against torch's, kind by kind, over several draws."""
    return _compare


@pytest.fixture(scope="session")
def distinct() -> Callable[..., np.ndarray]:
    """Samples whose four blocks of rows (the gates) differ in mean and spread."""
    return _distinct


def _compare(
    name: str,
    shapes: dict[str, tuple[int, ...]],
    *args: Any,
    lengths: list[int] | None = None,
    mutate: Callable[[Any], None] | None = None,
    dtype: str = "float32",
    **kwargs: Any,
) -> dict[str, Verdict]:
    """Compare ``name(*args, **kwargs)`` on inputs of these shapes (x and, if given, h and c)."""
    answers: list[tuple[Arrays, Arrays, Arrays]] = []
    for seed in range(0, 1000 * DRAWS, 1000):
        ours, source, truth = _build(name, seed, dtype, args, kwargs)
        if mutate is not None:
            mutate(ours)
        inputs = {
            key: _distinct(shape, seed + 50 + k) for k, (key, shape) in enumerate(shapes.items())
        }
        answers.append(
            (
                _ask_ours(ours, inputs, lengths, seed, dtype),
                _ask_torch(source, inputs, lengths, seed, dtype),
                _ask_torch(truth, inputs, lengths, seed, dtype),
            )
        )
    mine, theirs, true = (_pooled(party) for party in zip(*answers, strict=True))
    assert mine.keys() == theirs.keys() == true.keys()
    return {kind: judge(mine[kind], theirs[kind], true[kind], EPS[dtype]) for kind in mine}


def _pooled(answers: tuple[Arrays, ...]) -> Arrays:
    """Lay the draws, layers and directions of one kind of array end to end."""
    kinds: dict[str, list[np.ndarray]] = {}
    for answer in answers:
        for key in sorted(answer):
            kinds.setdefault(key.rsplit("_l", 1)[0], []).append(answer[key].ravel())
    return {kind: np.concatenate(parts) for kind, parts in kinds.items()}


def _build(name: str, seed: int, dtype: str, args: Any, kwargs: Any) -> tuple[Any, Any, Any]:
    """Make the layer here, in torch and in torch float64, all with the same weights."""
    import torch

    ours = getattr(nn, name)(*args, dtype=dtype, **kwargs)
    source = getattr(torch.nn, name)(*args, dtype=getattr(torch, dtype), **kwargs)
    truth = getattr(torch.nn, name)(*args, dtype=torch.float64, **kwargs)
    weights = {
        key: torch.from_numpy(_distinct(tuple(value.shape), seed + k, "hr" not in key))
        for k, (key, value) in enumerate(source.state_dict().items())
    }
    source.load_state_dict(weights)
    truth.load_state_dict(source.state_dict())
    ours.load_state_dict(source.state_dict())
    return ours, source, truth


def _distinct(shape: tuple[int, ...], seed: int, gated: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    array = rng.normal(0, 0.35, shape)
    if gated and len(array) % 4 == 0:
        for k, rows in enumerate(np.split(array, 4)):
            rows *= 0.6 + 0.2 * k
            rows += (-0.3, 0.4, 0.1, -0.15)[k]
    return array.astype(np.float32)


def _ask_torch(
    module: Any, inputs: Arrays, lengths: list[int] | None, seed: int, dtype: str
) -> Arrays:
    """Outputs, and gradients of a random linear function of them, in torch."""
    import torch
    from torch.nn.utils import rnn

    own = next(module.parameters()).dtype

    def leaf(array: np.ndarray) -> Any:
        return torch.from_numpy(array).to(getattr(torch, dtype)).to(own)

    leaves = {key: leaf(array).requires_grad_() for key, array in inputs.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="LSTM with projections is not supported")
        outputs = _call(module, leaves, lengths, rnn)
    sum((o * leaf(w)).sum() for o, w in _weighted(outputs, seed)).backward()
    found = {f"out {key}": value for key, value in outputs.items()}
    found |= {f"d {key}": value.grad for key, value in leaves.items()}
    found |= {f"d {key}": value.grad for key, value in module.named_parameters()}
    return {key: value.detach().double().numpy() for key, value in found.items()}


def _ask_ours(
    module: Any, inputs: Arrays, lengths: list[int] | None, seed: int, dtype: str
) -> Arrays:
    """Outputs, and gradients of the same function of them, here."""

    def leaf(array: np.ndarray) -> mx.array:
        return mx.array(array).astype(getattr(mx, dtype))

    def loss(parameters: Any, leaves: Any) -> Any:
        module.update(parameters)
        outputs = _call(module, leaves, lengths, nn.utils.rnn)
        return sum((o * leaf(w)).sum() for o, w in _weighted(outputs, seed)), outputs

    own = module.parameters()
    leaves = {key: leaf(array) for key, array in inputs.items()}
    (_, outputs), (dp, dx) = mx.value_and_grad(loss, argnums=(0, 1))(own, leaves)
    module.update(own)
    found = {f"out {key}": value for key, value in outputs.items()}
    found |= {f"d {key}": value for key, value in [*dx.items(), *tree_flatten(dp)]}
    assert {value.dtype for value in found.values()} == {getattr(mx, dtype)}
    return {key: np.array(value.astype(mx.float32), np.float64) for key, value in found.items()}


def _call(module: Any, leaves: Any, lengths: list[int] | None, rnn: Any) -> dict[str, Any]:
    """Call a cell, or a layer on padded or packed input; packed output comes back padded."""
    x, hx = leaves["x"], (leaves["h"], leaves["c"]) if "h" in leaves else None
    if type(module).__name__ == "LSTMCell":
        h, c = module(x, hx)
        return {"h": h, "c": c}
    first = module.batch_first
    if lengths is None:
        y, (h, c) = module(x, hx)
    else:
        packed = rnn.pack_padded_sequence(x, lengths, batch_first=first, enforce_sorted=False)
        y, (h, c) = module(packed, hx)
        y, _ = rnn.pad_packed_sequence(y, batch_first=first)
    return {"y": y, "h": h, "c": c}


def _weighted(outputs: dict[str, Any], seed: int) -> list[tuple[Any, np.ndarray]]:
    pairs = enumerate(outputs.values())
    return [(o, _distinct(tuple(o.shape), 7000 + seed + k)) for k, o in pairs]
