"""One layer or model judged: outputs, single steps, gradients, and every sub-module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lstm_bridge.equivalence.arrays import judge_array
from lstm_bridge.equivalence.judge import ILL_CONDITIONED, Verdict
from lstm_bridge.equivalence.kinds import output_names, time_axis
from lstm_bridge.equivalence.parties import Party
from lstm_bridge.equivalence.parties.base import Gradients
from lstm_bridge.equivalence.parts import diagnose_part, guessed_axis, judge_parts
from lstm_bridge.equivalence.report import ArrayResult, LayerResult
from lstm_bridge.equivalence.tree import leaves
from lstm_bridge.equivalence.truth import Inputs, Truth, diagnose
from lstm_bridge.errors import BridgeError, UnsupportedError, UsageError


def judge_layer(
    path: str,
    source: Party,
    ported: Party,
    truth: Truth,
    inputs: Inputs,
    *,
    gradients: bool = False,
    seed: int = 0,
    weights: str = "",
) -> LayerResult:
    """Judge one layer.

    Args:
        path: its place in the model.
        source: who is right but for rounding.
        ported: who is judged.
        truth: float64 answers.
        inputs: call arguments.
        gradients: compare gradients too. Default: False.
        seed: of the cotangents. Default: 0.
        weights: what differs between the weights, "" if nothing. Default: "".

    Returns:
        LayerResult, with a diagnosis when it failed and a known mistake explains it.
    """
    ours = _called(ported, inputs)
    arrays = _judge_outputs(source, ported, truth, inputs, ours)
    ill = any(_left_truth(a.verdict, ported.eps) for a in arrays)
    steps = None if truth.one_step is None else truth.one_step(inputs)
    if steps is not None and not ported.kind:
        steps = _as_called(steps, inputs)
    one_step: list[ArrayResult] = []
    alone = None if steps is None else _steps_called(ported, steps)
    if steps is not None and alone is not None:
        one_step = _judge_outputs(source, ported, truth, steps, alone, "one step: ")
    if gradients:
        arrays += _judge_gradients(source, ported, truth, inputs, seed)
    parts = judge_parts(source, ported, truth.trace, inputs)
    reason = _reason(arrays, one_step, ill, ported.eps, weights)
    diagnosis = ""
    if reason and truth.case is not None:
        given, made = (steps, alone) if ill and steps is not None else (inputs, ours)
        diagnosis = diagnose(truth.case(given), made)
    elif reason and (wrong := next((p for p in parts if p.diverged), None)) is not None:
        diagnosis = diagnose_part(source, ported, truth.trace, wrong.path, inputs)
    return LayerResult(
        path,
        source.kind or source.name,
        source.name,
        truth.name,
        tuple(arrays),
        tuple(one_step),
        ill,
        weights,
        reason,
        diagnosis,
        tuple(parts),
    )


def _called(ported: Party, inputs: Inputs) -> Any:
    """What the port returns; a port of one's own that cannot be called is told so in one line."""
    try:
        return ported.call(inputs)
    except BridgeError:
        raise
    except Exception as error:
        if ported.kind:
            raise
        shapes = ", ".join(str(list(np.shape(a))) for a in leaves(inputs))
        raise UsageError(
            "compare ported",
            expected=f"a port that takes what the source does: arrays of shapes {shapes}",
            got=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}",
        ) from error


def _steps_called(ported: Party, steps: Inputs) -> Any:
    """What the port makes of single steps; None of one's own that is made for one length."""
    try:
        return ported.call(steps)
    except Exception:
        if ported.kind:
            raise
        return None


def _as_called(steps: Inputs, inputs: Inputs) -> Inputs | None:
    """Single steps for a port of unknown arguments; None where it was not given states."""
    padded = (*steps, *(None for _ in inputs[len(steps) :]))
    pairs = zip(padded, inputs, strict=False)
    fits = len(padded) == len(inputs) and all(b is not None for a, b in pairs if a is not None)
    return padded if fits else None


def _reason(
    arrays: Sequence[ArrayResult],
    one_step: Sequence[ArrayResult],
    ill: bool,
    eps: float,
    weights: str,
) -> str:
    """One line of what failed first; "" if nothing did."""
    if weights:
        return weights
    if ill and not one_step:
        return "ill-conditioned, and there is no one-step test for this layer"
    for a in one_step:
        if _left_truth(a.verdict, eps):
            return f"{a.name}: source and oracle disagree by {a.verdict.source_error:.3g}"
    for a in one_step if ill else [*arrays, *one_step]:
        if not a.verdict.passed:
            return f"{a.name}: {a.verdict.reason}"
    return ""


def _left_truth(verdict: Verdict, eps: float) -> bool:
    """Whether the source is so far from the truth that only single steps can be compared."""
    scale = max(1.0, verdict.floor / eps)
    coarse = max(ILL_CONDITIONED, 64 * eps)  # half precision is coarse, not ill-conditioned
    return verdict.source_error > coarse * scale


def _judge_outputs(
    source: Party, ported: Party, truth: Truth, inputs: Inputs, ours: Any, prefix: str = ""
) -> list[ArrayResult]:
    a, s, o = leaves(ours), leaves(source.call(inputs)), leaves(truth.outputs(inputs))
    if not len(a) == len(s) == len(o):
        raise UsageError(
            "compare outputs",
            expected=f"{len(s)} arrays from {ported.name}, as {source.name} returns",
            got=f"{len(a)}, and {len(o)} from the oracle",
            fix="wrap the port in a function that takes and returns what the source does",
        )
    names = output_names(source.kind, len(a))
    return [
        judge_array(
            prefix + name, *parties, ported.eps, _axis(source, inputs, k, parties[2], prefix)
        )
        for k, (name, parties) in enumerate(zip(names, zip(a, s, o, strict=True), strict=True))
    ]


def _axis(source: Party, inputs: Inputs, index: int, array: Any, prefix: str) -> int | None:
    if prefix:
        return None
    if source.kind:
        return time_axis(source.kind, source.options, index, np.ndim(array))
    return guessed_axis(source, inputs, array)


DRAWS = 4
"""Random cotangents per gradient: one draw is too little to know a small array's largest error."""


def _named(outer: Sequence[str], found: Gradients) -> dict[str, Any]:
    """Gradients of inputs, in order, and of parameters in one dictionary."""
    by_input, by_param = found
    return dict(zip(outer, by_input, strict=False)) | by_param


def _differentiated(party: Party) -> Callable[..., Gradients]:
    if party.gradients is None:
        raise UnsupportedError(
            "compare gradients",
            expected="a torch module, a Keras layer on torch or an MLX module",
            got=party.name,
        )
    return party.gradients


def _stacked(draws: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One array per name, the draws along its first axis."""
    return {name: np.stack([draw[name] for draw in draws]) for name in draws[0]}


def _judge_gradients(
    source: Party, ported: Party, truth: Truth, inputs: Inputs, seed: int
) -> list[ArrayResult]:
    """Gradients of the outputs' sum, each output weighted by a random cotangent; several draws."""
    if truth.gradients is None:
        raise UnsupportedError(
            "compare gradients", expected="a layer with a gradient oracle", got=source.name
        )
    rng = np.random.default_rng([seed, 1])
    shapes = [np.shape(o) for o in leaves(truth.outputs(inputs))]
    drawn = []
    for _ in range(DRAWS):
        ends = [rng.normal(0, 1, shape).astype(np.float32) for shape in shapes]
        by_name = truth.gradients(inputs, ends)
        outer = [name for name in by_name if name not in source.params]
        parties = (
            _named(outer, _differentiated(party)(inputs, ends)) for party in (ported, source)
        )
        drawn.append((*parties, by_name))
    ours, theirs, by_name = (_stacked(draws) for draws in zip(*drawn, strict=True))
    wanted = [n for n in by_name if n in theirs and (n in ours or n in source.params)]
    missing = [n for n in wanted if n not in ours]
    if missing:
        raise UsageError(
            "compare gradients",
            expected=f"a parameter named {missing[0]!r} in the port",
            got=", ".join(ported.params) or "none",
            fix="name the port's parameters as the source does",
        )
    return [
        judge_array(f"grad {n}", ours[n], theirs[n], by_name[n], ported.eps, None) for n in wanted
    ]
