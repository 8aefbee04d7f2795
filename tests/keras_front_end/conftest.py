"""The same layer in Keras float32 (the source), Keras float64 (the truth) and here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

import lstm_bridge.keras as ours_keras
from lstm_bridge.equivalence.judge import Verdict, judge

Make = Callable[[Any, str], Any]  # (keras or lstm_bridge.keras, dtype) -> layer
Arrays = dict[str, np.ndarray]
Ask = Callable[[Any, "Question"], Arrays]


@dataclass(frozen=True)
class Question:
    """What all three layers are asked: inputs, initial states, mask."""

    x: np.ndarray
    states: list[np.ndarray] | None = None
    mask: np.ndarray | None = None
    seed: int = 0
    training: bool = False

    def again(self, k: int) -> Question:
        """The same question with other numbers."""
        seed = self.seed + 1000 * k
        whole = np.issubdtype(self.x.dtype, np.integer)
        x = self.x if whole else distinct(self.x.shape, seed + 40)
        states = self.states and [
            distinct(s.shape, seed + 50 + i) for i, s in enumerate(self.states)
        ]
        return Question(x, states, self.mask, seed, self.training)

    def weight_of(self, k: int, shape: tuple[int, ...]) -> np.ndarray:
        """The k-th output's coefficients in the scalar whose gradient is asked for."""
        return distinct(shape, 7000 + self.seed + k)


@dataclass(frozen=True)
class Twin:
    """Three layers with the same weights."""

    source: Any
    truth: Any
    ours: Any

    @property
    def layers(self) -> list[Any]:
        """All three."""
        return [self.source, self.truth, self.ours]

    def verdicts(self, *questions: Question, ask: Ask | None = None) -> dict[str, Verdict]:
        """Judge outputs, and gradients with respect to inputs, states and every weight.

        Each question of several comes with new weights, and each array is judged over all of them:
        the source's largest error among a handful of numbers says little about its precision.
        ``ask`` puts the question to our layer; a negative control makes its mistake there.
        """
        ask = ask or ask_ours
        answers = []
        for question in questions:
            if len(questions) > 1:
                give_weights(self.layers, question.seed)
            source, truth = (ask_keras(layer, question) for layer in (self.source, self.truth))
            answers.append((ask(self.ours, question), source, truth))
        assert all(one.keys() == answers[0][0].keys() for three in answers for one in three)
        return judged(
            *({name: np.stack([a[k][name] for a in answers]) for name in answers[0][0]}
              for k in range(3))
        )  # fmt: skip

    def failures(
        self, question: Question, times: int = 2, ask: Ask | None = None
    ) -> dict[str, str]:
        """Why arrays fail on all of three sets of questions, by name; none: the layers agree.

        A ratio of two maxima of rounding noise exceeds the limit about once in 300 arrays, in
        either direction; what computes something else exceeds it on every set, by orders of
        magnitude, as the negative controls show, which are judged here too.
        """
        failed: dict[str, str] = {}
        for first in (0, times, 2 * times):
            questions = (question.again(first + k) for k in range(times))
            failed = {
                name: verdict.reason
                for name, verdict in self.verdicts(*questions, ask=ask).items()
                if not verdict.passed and (first == 0 or name in failed)
            }
            if not failed:
                break
        return failed

    def assert_same(self, question: Question, times: int = 2) -> None:
        """Fail with the reasons unless every array passes on one of three sets of questions."""
        assert self.failures(question, times) == {}

    def assert_caught(self, question: Question, ask: Ask) -> None:
        """Fail unless the layers agree, and the mistake that ``ask`` makes fails as they pass."""
        self.assert_same(question)
        assert "out 0" in self.failures(question, ask=ask)


def judged(ours: Arrays, source: Arrays, truth: Arrays) -> dict[str, Verdict]:
    """Judge arrays by name; all three have the same names."""
    assert ours.keys() == source.keys() == truth.keys()
    return {name: judge(ours[name], source[name], truth[name]) for name in ours}


def build(make: Make, shape: tuple[int | None, ...], seed: int = 0) -> Twin:
    """Build the three layers and give them weights whose gates differ in mean and spread."""
    import keras

    layers = [make(keras, "float32"), make(keras, "float64"), make(ours_keras, "float32")]
    for layer in layers:
        layer.build(shape)
    give_weights(layers, seed)
    return Twin(*layers)


def give_weights(layers: list[Any], seed: int) -> list[np.ndarray]:
    """Set the same distinct weights in every layer; return them."""
    shapes = [tuple(v.shape) for v in layers[0].weights]
    for layer in layers:
        assert [tuple(v.shape) for v in layer.weights] == shapes
    weights = [distinct(shape, seed + k, gated=True) for k, shape in enumerate(shapes)]
    for layer in layers:
        layer.set_weights(weights)
    return weights


def distinct(shape: tuple[int, ...], seed: int, gated: bool = False) -> np.ndarray:
    """Return float32 samples; with ``gated`` each quarter of the last axis has its own mean."""
    rng = np.random.default_rng(seed)
    array = rng.normal(0, 0.35, shape)
    if gated and shape[-1] % 4 == 0:
        for k, columns in enumerate(np.split(array, 4, axis=-1)):
            columns *= 0.6 + 0.2 * k
            columns += (-0.3, 0.4, 0.1, -0.15)[k]
    return array.astype(np.float32)


def random_mask(kind: str | None, N: int, L: int, seed: int = 0) -> np.ndarray | None:
    """Masks by what is special about them."""
    rng = np.random.default_rng(seed)
    if kind is None:
        return None
    if kind == "right padded":
        return np.arange(L)[None, :] < rng.integers(1, L + 1, N)[:, None]
    mask = rng.random((N, L)) < 0.6
    if kind == "empty row":
        mask[-1] = False
    if kind == "first step":
        mask[:, 0] = False
    if kind == "last step":
        mask[:, -1] = False
    return mask


def nest(flat: list[Any], like: Any) -> list[Any]:
    """Arrange states as ``state_size`` nests them."""
    rest = iter(flat)
    return [[next(rest) for _ in s] if isinstance(s, (list, tuple)) else next(rest) for s in like]


def flatten(value: Any) -> list[Any]:
    """Outputs in order."""
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in flatten(item)]
    return [value]


def state_size(layer: Any) -> list[Any]:
    """Widths of all states of an RNN or of both layers of a Bidirectional."""
    if hasattr(layer, "forward_layer"):
        return [*layer.forward_layer.state_size, *layer.backward_layer.state_size]
    return list(getattr(layer, "state_size", []))


def ask_keras(layer: Any, question: Question) -> Arrays:
    """Outputs and gradients in Keras on torch."""
    import torch

    dtype = getattr(torch, layer.dtype)
    leaves = {"x": question.x}
    leaves |= {f"state {k}": s for k, s in enumerate(question.states or [])}
    tensors = {k: torch.from_numpy(v).to(dtype).requires_grad_() for k, v in leaves.items()}
    call: dict[str, Any] = {"training": True} if question.training else {}
    if question.states is not None:
        states = [v for k, v in tensors.items() if k != "x"]
        call["initial_state"] = nest(states, state_size(layer))
    if question.mask is not None:
        call["mask"] = torch.from_numpy(question.mask)
    outputs = flatten(layer(tensors["x"], **call))
    loss = sum(
        (o * torch.from_numpy(question.weight_of(k, tuple(o.shape))).to(dtype)).sum()
        for k, o in enumerate(outputs)
    )
    wanted = {f"d {k}": v for k, v in tensors.items()}
    wanted |= {f"d weight {k}": v.value for k, v in enumerate(layer.weights)}
    grads = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
    found = {f"out {k}": v for k, v in enumerate(outputs)}
    for (name, leaf), grad in zip(wanted.items(), grads, strict=True):
        found[name] = torch.zeros_like(leaf) if grad is None else grad
    return {k: v.detach().double().numpy() for k, v in found.items()}


def ask_ours(layer: Any, question: Question) -> Arrays:
    """Outputs and gradients here."""
    leaves = {"x": mx.array(question.x)}
    leaves |= {f"state {k}": mx.array(s) for k, s in enumerate(question.states or [])}

    def loss(parameters: Any, leaves: Any) -> Any:
        layer.update(parameters)
        call: dict[str, Any] = {"training": True} if question.training else {}
        if question.states is not None:
            states = [v for k, v in leaves.items() if k != "x"]
            call["initial_state"] = nest(states, state_size(layer))
        if question.mask is not None:
            call["mask"] = question.mask
        outputs = flatten(layer(leaves["x"], **call))
        total = sum(
            (o * mx.array(question.weight_of(k, tuple(o.shape)))).sum()
            for k, o in enumerate(outputs)
        )
        return total, outputs

    own = layer.parameters()
    (_, outputs), (dp, dx) = mx.value_and_grad(loss, argnums=(0, 1))(own, leaves)
    layer.update(own)
    by_id = {id(v): k for k, v in tree_flatten(own)}
    grads = dict(tree_flatten(dp))
    found = {f"out {k}": v for k, v in enumerate(outputs)}
    found |= {f"d {k}": v for k, v in dx.items()}
    for k, variable in enumerate(layer.weights):
        found[f"d weight {k}"] = grads[by_id[id(variable.value)]]
    return {k: np.array(v, dtype=np.float64) for k, v in found.items()}


@pytest.fixture(scope="session")
def twins() -> SimpleNamespace:
    """The helpers above, for tests: test modules are not importable from each other."""
    return SimpleNamespace(
        Question=Question, ask_keras=ask_keras, ask_ours=ask_ours, build=build,
        distinct=distinct, flatten=flatten, give_weights=give_weights, judged=judged,
        random_mask=random_mask, ours=ours_keras,
    )  # fmt: skip
