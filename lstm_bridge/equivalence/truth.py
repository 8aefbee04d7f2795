"""The third party: what an answer is measured from, and the known mistakes tried against it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_bridge.equivalence.case import Case
from lstm_bridge.equivalence.judge import judge
from lstm_bridge.equivalence.mistakes import MISTAKES, changes_something
from lstm_bridge.equivalence.oracle import (
    GRADIENTS,
    ONE_STEP,
    ORACLES,
    has_exact_gradients,
    has_known_mistakes,
)
from lstm_bridge.equivalence.oracle.torch_model import TorchOracle
from lstm_bridge.equivalence.parties.base import Array, Gradients, Party, WholeOracle
from lstm_bridge.equivalence.parties.watch import Visit
from lstm_bridge.equivalence.tree import apply, leaves
from lstm_bridge.errors import UnsupportedError, UsageError

Inputs = tuple[Any, ...]
Labelled = dict[str, Array]


@dataclass(frozen=True, slots=True)
class Truth:
    """Float64 answers.

    Args:
        name: how they were computed.
        outputs: inputs in, nested float64 outputs out.
        gradients: inputs and cotangents in, gradients by name out (inputs first); None if unknown.
        one_step: inputs in, inputs of all single teacher-forced steps out; None if unknown.
        case: inputs in, the case that mistakes are tried on out; None if unknown.
        trace: inputs in, what every sub-module returns in float64 out; None if unknown.
    """

    name: str
    outputs: Callable[[Inputs], Any]
    gradients: Callable[[Inputs, Sequence[Array]], Labelled] | None = None
    one_step: Callable[[Inputs], Inputs | None] | None = None
    case: Callable[[Inputs], Case] | None = None
    trace: Callable[[Inputs], list[Visit]] | None = None


def truth_of(
    source: Party, oracle: Callable[..., Any] | None, ported: Party | None = None
) -> Truth:
    """Return the truth about a source.

    Args:
        source: the party that is right by definition, but for rounding.
        oracle: the caller's own function of float64 arrays, which goes before all else.
        ported: a port that holds a torch module's graph as data, which NumPy walks with the
            source's weights. Default: none.

    Raises:
        UsageError: nothing can compute the source in float64.
    """
    if oracle is not None:
        given = oracle
        return Truth("the given oracle", lambda inputs: given(*inputs))
    if source.kind:
        return _known(source)
    make = source.whole or _graph_of(source, ported)
    if make is not None:
        try:
            return of_whole(source, make())
        except UnsupportedError as error:
            reason = f" ({error.subject}: {error.got} has none)"
            if source.in_float64 is None:
                raise
            return _itself(source.name + reason, source.in_float64())
    if source.in_float64 is not None:
        return _itself(source.name, source.in_float64())
    raise UsageError(
        "compare source",
        expected="a torch module, a Keras layer or model, or a layer that an oracle computes",
        got=source.name,
        fix="pass oracle=, a function of float64 arrays that computes the truth",
    )


def _graph_of(source: Party, ported: Party | None) -> Callable[[], WholeOracle] | None:
    if ported is None or ported.described is None:
        return None
    described = ported.described
    # Constants of the graph are in no state dict.
    own = {n: source.params[n] for n in ported.params if n in source.params}
    return lambda: TorchOracle(described(), {**ported.params, **own})


def of_whole(source: Party, oracle: WholeOracle) -> Truth:
    """Return the truth about a whole model: its graph walked in NumPy.

    Args:
        source: the model; its float64 copy gives the gradients, and sees into layers.
        oracle: built from the source's own config and weights.
    """
    make = source.in_float64

    def trace(inputs: Inputs) -> list[Visit]:
        seen = [Visit(s.path, s.kind, s.arrays, s.calls, s.inputs) for s in oracle.trace(inputs)[1]]
        known = {visit.path for visit in seen}
        copied = None if make is None else make()
        if copied is None or copied.trace is None:
            return seen
        return seen + [v for v in copied.trace(inputs) if v.path not in known]

    return Truth(
        "NumPy float64 oracle of the whole",
        lambda inputs: oracle(*inputs),
        _whole_gradients(source),
        trace=trace,
    )


def _whole_gradients(
    source: Party,
) -> Callable[[Inputs, Sequence[Array]], Labelled]:
    def gradients(inputs: Inputs, ends: Sequence[Array]) -> Labelled:
        if source.in_float64 is None:
            raise UnsupportedError(
                "compare gradients",
                expected="the source's framework installed, which differentiates a whole model",
                got=source.name,
            )
        return _differentiating(source.name, source.in_float64())(inputs, ends)

    return gradients


def _known(source: Party) -> Truth:
    kind, options, params = source.kind, source.options, source.params
    step = ONE_STEP.get(kind)
    return Truth(
        "NumPy float64 oracle",
        lambda inputs: ORACLES[kind](options, params, *inputs),
        _gradients_of(source),
        None if step is None else lambda inputs: _float32(step(options, params, inputs)),
        (lambda inputs: Case(kind, options, params, inputs))
        if has_known_mistakes(kind, options)
        else None,
        _lazy_trace(source),
    )


def _lazy_trace(source: Party) -> Callable[[Inputs], list[Visit]] | None:
    """Watch a float64 copy of the source, which is made when it is first asked for."""
    make = source.in_float64
    if make is None:
        return None

    def trace(inputs: Inputs) -> list[Visit]:
        copied = make()
        return [] if copied.trace is None else copied.trace(inputs)

    return trace


def _itself(name: str, copied: Party) -> Truth:
    """The source's own float64 copy, for what no oracle is written for."""

    return Truth(
        f"{name} in float64", copied.call, _differentiating(name, copied), trace=copied.trace
    )


def _differentiating(name: str, copied: Party) -> Callable[[Inputs, Sequence[Array]], Labelled]:
    """Gradients by name of what can be differentiated itself."""

    def gradients(inputs: Inputs, ends: Sequence[Array]) -> Labelled:
        if copied.gradients is None:
            raise UnsupportedError(
                "compare gradients", expected="a source that can be differentiated", got=name
            )
        by_input, by_param = copied.gradients(inputs, ends)
        labels = ["x"] if len(by_input) == 1 else [f"input {k}" for k in range(len(by_input))]
        return dict(zip(labels, by_input, strict=True)) | by_param

    return gradients


def _gradients_of(source: Party) -> Callable[[Inputs, Sequence[Array]], Labelled]:
    """The oracle's gradients; those of the source in float64 where it has differences only."""
    kind, options, params = source.kind, source.options, source.params
    make = source.in_float64
    if make is not None and not has_exact_gradients(kind, options):
        held: list[Callable[[Inputs, Sequence[Array]], Labelled]] = []

        def copied(inputs: Inputs, ends: Sequence[Array]) -> Labelled:
            if not held:
                held.append(_differentiating(source.name, make()))
            return held[0](inputs, ends)

        return copied

    def own(inputs: Inputs, ends: Sequence[Array]) -> Labelled:
        found: Labelled = GRADIENTS[kind](options, params, inputs, ends)
        return found

    return own


def _float32(inputs: Any) -> Any:
    """Round the true states, so that all parties start from the very same numbers."""
    return apply(lambda a: a if a.dtype == bool else np.asarray(a, np.float32), inputs)


def stand_in(kind: str, options: Any, params: Any, why: str, dtype: Any = np.float32) -> Party:
    """Return the oracle run in float32, in place of a framework that cannot be run.

    Args:
        kind: class path.
        options: constructor arguments.
        params: parameters.
        why: why the framework itself is not there, for the report.
        dtype: what to compute in. Default: float32.
    """

    def gradients(inputs: Sequence[Any], cotangents: Sequence[Array]) -> Gradients:
        found: Labelled = GRADIENTS[kind](options, params, inputs, cotangents, dtype=dtype)
        outer = [found[name] for name in found if name not in params]
        count = sum(a.dtype != bool for a in leaves(inputs))
        return outer[:count], {name: found[name] for name in params}

    return Party(
        f"float32 oracle ({why})",
        lambda inputs: ORACLES[kind](options, params, *inputs, dtype=dtype),
        kind,
        options,
        params,
        gradients,
    )


def whole_stand_in(oracle: WholeOracle, why: str, specs: Any) -> Party:
    """Return a whole model's oracle run in float32, in place of a framework that cannot be run.

    Args:
        oracle: the model.
        why: why the framework itself is not there, for the report.
        specs: what the model takes.
    """

    def trace(inputs: Sequence[Any]) -> list[Visit]:
        seen = oracle.trace(inputs, np.float32)[1]
        return [Visit(s.path, s.kind, s.arrays, s.calls, s.inputs) for s in seen]

    def part(path: str) -> Party:
        kind, options, params = oracle.part(path)
        return stand_in(kind, options, params, why)

    return Party(
        f"float32 oracle ({why})",
        lambda inputs: oracle(*inputs, dtype=np.float32),
        trace=trace,
        specs=specs,
        part=part,
        whole=lambda: oracle,
    )


def diagnose(case: Case, ours: Any) -> str:
    """Return the known mistake that explains our outputs within the policy; "" if none does."""
    held = leaves(ours)
    for variants in MISTAKES.values():
        for sentence, variant in variants(case):
            # A variant that changes nothing here would explain any failure found elsewhere.
            if _explains(variant, held) and changes_something(case, variant):
                return sentence
    return ""


def _explains(variant: Case, held: list[Array]) -> bool:
    wrong = leaves(variant.outputs())
    if not _near(held, wrong):
        return False
    rounded = leaves(variant.outputs(np.float32))
    parties = zip(held, rounded, wrong, strict=True)
    return all(judge(a, s, o).passed for a, s, o in parties)


def _near(held: list[Array], wrong: list[Array]) -> bool:
    """Whether it is worth running the variant in float32 too."""
    return len(held) == len(wrong) and all(
        np.shape(a) == np.shape(b)
        and np.allclose(a, b, rtol=0, atol=0.01 * max(1, np.abs(b).max(initial=0)), equal_nan=True)
        for a, b in zip(held, wrong, strict=True)
    )
