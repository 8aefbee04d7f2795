"""A torch module, its port and the float64 truth on the same inputs, and their verdicts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

import lstm_bridge
from lstm_bridge.equivalence.judge import Verdict, judge

torch = pytest.importorskip("torch", reason="ports start from live torch modules")

DRAWS = 4
"""Inputs drawn for each case: one lucky rounding of the source's decides nothing."""


@pytest.fixture(autouse=True)
def _seeded() -> None:
    mx.random.seed(0)
    torch.manual_seed(0)


def randomized(module: Any, seed: int = 0) -> Any:
    """Give every parameter and floating buffer values of its own, biases too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if not tensor.is_floating_point():
                continue
            drawn = torch.randn(tensor.shape, generator=generator) * 0.4
            tensor.copy_(drawn.abs() + 0.5 if "var" in name else drawn)
    return module


def leaves(value: Any) -> list[Any]:
    """Return the arrays of nested tuples, lists and dictionaries, in order."""
    if isinstance(value, Mapping):
        return [leaf for key in sorted(value) for leaf in leaves(value[key])]
    if isinstance(value, tuple | list):
        return [leaf for part in value for leaf in leaves(part)]
    return [value] if hasattr(value, "shape") else []


def to_mx(value: Any) -> Any:
    """Return torch tensors of nested containers as MLX arrays."""
    if isinstance(value, torch.Tensor):
        return mx.array(value.detach().numpy())
    if isinstance(value, tuple | list):
        return type(value)(to_mx(v) for v in value)
    if isinstance(value, Mapping):
        return {k: to_mx(v) for k, v in value.items()}
    return value


def widened(value: Any) -> Any:
    """Return floating tensors of nested containers in float64."""
    if isinstance(value, torch.Tensor):
        return value.double() if value.is_floating_point() else value
    if isinstance(value, tuple | list):
        return type(value)(widened(v) for v in value)
    if isinstance(value, Mapping):
        return {k: widened(v) for k, v in value.items()}
    return value


def as_numpy(value: Any) -> np.ndarray:
    """Return a tensor or an array in float64."""
    if isinstance(value, mx.array):
        return np.array(value).astype(np.float64)
    return value.detach().double().numpy()


def verdicts_of(
    module: Any,
    ported: Any,
    draw: Callable[[int], tuple[Any, ...]],
    gradients: bool = True,
    draws: int = DRAWS,
) -> dict[str, Verdict]:
    """Judge outputs and the parameters' gradients of a random function of them.

    Args:
        module: the source, in the mode to compare in.
        ported: what stands for it.
        draw: seed in, inputs out.
        gradients: compare them too.
        draws: how many inputs.
    """
    exact = copy.deepcopy(module).double()
    pools: dict[str, list[tuple[np.ndarray, ...]]] = {}
    for seed in range(draws):
        inputs = draw(seed)
        theirs = _asked(module, inputs, seed, gradients)
        torch.set_default_dtype(torch.float64)  # of the zeros that forward makes
        try:
            true = _asked(exact, widened(inputs), seed, gradients)
        finally:
            torch.set_default_dtype(torch.float32)
        mine = _asked_ported(ported, to_mx(inputs), seed, gradients)
        assert mine.keys() == theirs.keys() == true.keys()
        for key in mine:
            pools.setdefault(key, []).append((mine[key], theirs[key], true[key]))
    found = {}
    for key, drawn in pools.items():
        assert all(m.shape == t.shape == e.shape for m, t, e in drawn), key
        parties = zip(*drawn, strict=True)
        found[key] = judge(*(np.concatenate([a.ravel() for a in party]) for party in parties))
    held = dict(tree_flatten(ported.parameters()))
    true_state = dict(exact.named_buffers())
    for name, buffer in module.named_buffers():
        parties = (held[name], buffer, true_state[name])
        found[f"state {name}"] = judge(*(as_numpy(party) for party in parties))
    return found


def _weights(outputs: list[Any], seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed + 99)
    return [rng.normal(size=tuple(o.shape)).astype(np.float32) for o in outputs]


def _is_floating(value: Any) -> bool:
    if isinstance(value, mx.array):
        return bool(mx.issubdtype(value.dtype, mx.floating))
    return bool(value.is_floating_point())


def _asked(module: Any, inputs: Any, seed: int, gradients: bool) -> dict[str, np.ndarray]:
    module.zero_grad()
    outputs = leaves(module(*inputs))
    found = {f"out {k}": as_numpy(o) for k, o in enumerate(outputs)}
    parameters = dict(module.named_parameters())
    if not gradients or not parameters:
        return found
    floating = [o for o in outputs if _is_floating(o)]
    weights = _weights(floating, seed)
    loss = sum(
        (o * torch.from_numpy(w).to(o.dtype)).sum() for o, w in zip(floating, weights, strict=True)
    )
    loss.backward()
    for name, parameter in parameters.items():
        if parameter.requires_grad:
            missing = torch.zeros_like(parameter)
            found[f"d {name}"] = as_numpy(missing if parameter.grad is None else parameter.grad)
    return found


def _asked_ported(ported: Any, inputs: Any, seed: int, gradients: bool) -> dict[str, np.ndarray]:
    found = {f"out {k}": as_numpy(o) for k, o in enumerate(leaves(ported(*inputs)))}
    trainable = ported.trainable_parameters()
    if not gradients or not tree_flatten(trainable):
        return found
    state = ported.parameters()

    def loss(parameters: Any) -> mx.array:
        ported.update(parameters)
        floating = [o for o in leaves(ported(*inputs)) if _is_floating(o)]
        weights = _weights(floating, seed)
        return sum(
            (mx.sum(o * mx.array(w)) for o, w in zip(floating, weights, strict=True)), mx.array(0.0)
        )

    slopes = mx.grad(loss)(trainable)
    ported.update(state)
    return found | {f"d {name}": as_numpy(slope) for name, slope in tree_flatten(slopes)}


@pytest.fixture(scope="session")
def parity() -> Callable[..., dict[str, Verdict]]:
    """Port a module and return its verdicts; ``mutate`` spoils the port first."""

    def check(
        module: Any,
        draw: Callable[[int], tuple[Any, ...]],
        *,
        gradients: bool = True,
        mutate: Callable[[Any], Any] | None = None,
        example_inputs: Any = None,
        draws: int = DRAWS,
    ) -> dict[str, Verdict]:
        randomized(module).eval()
        ported = lstm_bridge.port(module, example_inputs)
        ported = (mutate(ported) or ported) if mutate else ported
        return verdicts_of(module, ported, draw, gradients, draws)

    return check


@pytest.fixture(scope="session")
def compared() -> Callable[..., dict[str, Verdict]]:
    """Return the verdicts on a layer that stands for another, both as they are."""
    return verdicts_of


@pytest.fixture(scope="session")
def failures() -> Callable[[dict[str, Verdict]], list[tuple[str, str]]]:
    """Return what did not pass."""
    return lambda verdicts: [(k, v.reason) for k, v in verdicts.items() if not v.passed]


@pytest.fixture(scope="session")
def given_values() -> Callable[[Any], Any]:
    """Return what gives a module values of its own."""
    return randomized
