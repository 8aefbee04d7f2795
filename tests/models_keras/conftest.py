"""The same layer or model in Keras float32 (the source), Keras float64 (the truth) and here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

import lstm_bridge
from lstm_bridge.equivalence.judge import Verdict, judge
from lstm_bridge.keras.models import load_model, model_from_json

Arrays = dict[str, np.ndarray]


def numbers(shape: Sequence[int], seed: int, spread: float = 0.5) -> np.ndarray:
    """Return float32 samples that are distinct, around a mean that is not 0."""
    rng = np.random.default_rng(seed)
    return (rng.normal(0.1, spread, shape)).astype(np.float32)


def weights_for(layer: Any, seed: int) -> list[np.ndarray]:
    """Return weights for a Keras layer or model; variances positive, counts whole."""
    made = []
    for k, variable in enumerate(layer.weights):
        value = numbers(tuple(variable.shape), seed + k)
        if "variance" in variable.name:
            value = np.abs(value) + 0.3
        if "gamma" in variable.name:
            value = value + 1
        if "int" in str(variable.dtype):
            value = np.zeros(variable.shape, np.int32)
        made.append(value)
    return made


def flatten(value: Any) -> list[Any]:
    """Outputs in order."""
    if isinstance(value, dict):
        return [leaf for key in sorted(value) for leaf in flatten(value[key])]
    if isinstance(value, (list, tuple)):
        return [leaf for item in value for leaf in flatten(item)]
    return [value]


def ask_keras(layer: Any, inputs: list[np.ndarray], nested: bool, call: dict[str, Any]) -> Arrays:
    """Outputs and gradients in Keras on torch; torch arrays at the layer's precision."""
    import torch

    dtype = torch.float64 if "float64" in str(layer.dtype) else torch.float32
    tensors = []
    for x in inputs:
        tensor = torch.from_numpy(x)
        if x.dtype == np.float32:
            tensor = tensor.to(dtype).requires_grad_()
        tensors.append(tensor)
    call = {k: _torch(v) for k, v in call.items()}
    outputs = flatten(layer(tensors if nested else tensors[0], **call))
    loss = sum(
        (o * torch.from_numpy(numbers(tuple(o.shape), 7000 + k)).to(o.dtype)).sum()
        for k, o in enumerate(outputs)
    )
    wanted = {f"d x{k}": t for k, t in enumerate(tensors) if t.requires_grad}
    wanted |= {f"d w{k}": v.value for k, v in enumerate(layer.trainable_weights)}
    wanted = {k: v for k, v in wanted.items() if v.requires_grad}
    found = {f"out {k}": o for k, o in enumerate(outputs)}
    if wanted and loss.requires_grad:
        grads = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
        for (name, leaf), grad in zip(wanted.items(), grads, strict=True):
            found[name] = torch.zeros_like(leaf) if grad is None else grad
    return {k: v.detach().double().numpy() for k, v in found.items()}


def _torch(value: Any) -> Any:
    import torch

    if isinstance(value, list):
        return [_torch(v) for v in value]
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _mlx(value: Any) -> Any:
    if isinstance(value, list):
        return [_mlx(v) for v in value]
    return mx.array(value) if isinstance(value, np.ndarray) else value


def ask_ours(layer: Any, inputs: list[np.ndarray], nested: bool, call: dict[str, Any]) -> Arrays:
    """Outputs and gradients here."""
    arrays = [mx.array(x) for x in inputs]
    floats = [k for k, x in enumerate(inputs) if x.dtype == np.float32]
    call = {k: _mlx(v) for k, v in call.items()}

    def loss(parameters: Any, leaves: list[mx.array]) -> Any:
        layer.update(parameters)
        given = list(arrays)
        for k, leaf in zip(floats, leaves, strict=True):
            given[k] = leaf
        outputs = flatten(layer(given if nested else given[0], **call))
        total = sum(
            (o * mx.array(numbers(tuple(o.shape), 7000 + k))).sum() for k, o in enumerate(outputs)
        )
        return total, outputs

    own = layer.trainable_parameters()
    (_, outputs), (dp, dx) = mx.value_and_grad(loss, argnums=(0, 1))(
        own, [arrays[k] for k in floats]
    )
    layer.update(own)
    found = {f"out {k}": o for k, o in enumerate(outputs)}
    found |= {f"d x{k}": g for k, g in zip(floats, dx, strict=True)}
    by_id, grads = {id(v): k for k, v in tree_flatten(own)}, dict(tree_flatten(dp))
    for k, variable in enumerate(layer.trainable_weights):
        found[f"d w{k}"] = grads[by_id[id(variable.value)]]
    return {k: np.array(v, dtype=np.float64) for k, v in found.items()}


def verdicts(ours: Arrays, source: Arrays, truth: Arrays) -> dict[str, Verdict]:
    """Judge arrays by name; what the source has, we have."""
    assert source.keys() <= ours.keys(), (sorted(source), sorted(ours))
    return {name: judge(ours[name], source[name], truth[name]) for name in source}


def failures(ours: Arrays, source: Arrays, truth: Arrays) -> dict[str, str]:
    """Return what fails, by name."""
    return {k: v.reason for k, v in verdicts(ours, source, truth).items() if not v.passed}


def assert_same(run: Callable[[int], dict[str, str]]) -> None:
    """Fail with the reasons unless nothing fails on two sets of numbers in a row.

    A ratio of two maxima of rounding noise exceeds the limit now and then; what computes
    something else exceeds it every time.
    """
    failed: dict[str, str] = {}
    for attempt in range(3):
        found = run(1000 * attempt)
        failed = found if attempt == 0 else {k: v for k, v in found.items() if k in failed}
        if not failed:
            return
    assert failed == {}


def give_weights(models: list[Any], seed: int) -> None:
    for model in models:
        model.set_weights(weights_for(models[0], seed))


def outputs(model: Any, xs: list[np.ndarray], dtype: str) -> dict[str, np.ndarray]:
    given = [x.astype(dtype) if x.dtype == np.float32 else x for x in xs]
    found = flatten(model(given if len(given) > 1 else given[0]))
    return {
        f"out {k}": np.asarray(o.detach().numpy() if hasattr(o, "detach") else o, np.float64)
        for k, o in enumerate(found)
    }


def compared(make: Any, xs: Any, folder: Path, seed: int, era: str) -> dict[str, str]:
    """Save in Keras, load here, and judge; ``make`` builds the model in a dtype."""
    source, truth = make("float32"), make("float64")
    give_weights([source, truth], seed)
    if era == "json":
        source.save_weights(folder / "m.weights.h5")
        ours = model_from_json(source.to_json())
        ours.load_weights(folder / "m.weights.h5")
    else:
        source.save(folder / f"m.{era}")
        ours = load_model(folder / f"m.{era}")
    found = outputs(ours, xs(seed), "float32")
    want = [outputs(m, xs(seed), d) for m, d in ((source, "float32"), (truth, "float64"))]
    lstm_bridge.save(ours, folder / "again", force=True)
    again = outputs(lstm_bridge.load(folder / "again"), xs(seed), "float32")
    for name, value in found.items():
        np.testing.assert_array_equal(again[name], value)
    return failures(found, *want)


def inputs_of(model: Any, seed: int) -> list[np.ndarray]:
    made = []
    for k, tensor in enumerate(model.inputs):
        shape = (3, *(5 if n is None else n for n in tensor.shape[1:]))
        if tensor.dtype == "bool":
            made.append(np.random.default_rng(seed + k).random(shape) < 0.7)
            made[-1][:, 0] = True
        elif "int" in tensor.dtype:
            made.append(np.random.default_rng(seed).integers(0, 9, shape).astype(np.int32))
            made[-1][:, 0] = 1  # no row without a word
        else:
            made.append(numbers(shape, seed + k))
    return made


def saved_and_loaded(graph: Callable[[], Any], folder: Path, seed: int, era: str) -> dict[str, str]:
    """Judge a Functional model; ``graph`` builds it in Keras's default dtype."""

    def make(dtype: str) -> Any:
        keras.config.set_floatx(dtype)
        try:
            return graph()
        finally:
            keras.config.set_floatx("float32")

    model = make("float32")
    return compared(make, lambda s: inputs_of(model, s), folder, seed, era)


@pytest.fixture(scope="session")
def parity() -> SimpleNamespace:
    """The helpers above, for tests: test modules are not importable from each other."""
    return SimpleNamespace(
        numbers=numbers, weights_for=weights_for, flatten=flatten, ask_keras=ask_keras,
        ask_ours=ask_ours, give_weights=give_weights, inputs_of=inputs_of, outputs=outputs,
        compared=compared, saved_and_loaded=saved_and_loaded, failures=failures,
        verdicts=verdicts, assert_same=assert_same,
    )  # fmt: skip
