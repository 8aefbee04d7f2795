"""The sub-modules of two running models side by side, to name the first that diverges.

Shape letters: N batch, L length.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lstm_bridge.equivalence.arrays import judge_array
from lstm_bridge.equivalence.case import Case
from lstm_bridge.equivalence.kinds import output_names
from lstm_bridge.equivalence.oracle import has_known_mistakes
from lstm_bridge.equivalence.parties.base import Party
from lstm_bridge.equivalence.parties.watch import Visit
from lstm_bridge.equivalence.precision import as_given
from lstm_bridge.equivalence.report import PartResult
from lstm_bridge.equivalence.tree import leaves
from lstm_bridge.equivalence.truth import diagnose

Inputs = tuple[Any, ...]


def judge_parts(
    source: Party,
    ported: Party,
    truth: Callable[[Inputs], list[Visit]] | None,
    inputs: Inputs,
) -> list[PartResult]:
    """Compare what the sub-modules of the same names return while both wholes run.

    Args:
        source: who is right but for rounding.
        ported: who is judged.
        truth: what the source's sub-modules return in float64; None if unknown.
        inputs: call arguments of the whole.

    Returns:
        One result per sub-module that the source calls, in the order in which those calls end;
        none where a side cannot be watched, or no name is on both.
    """
    if truth is None or source.trace is None or ported.trace is None:
        return []
    ours = {visit.path: visit for visit in ported.trace(inputs)}
    # Only the names are needed to know that there is nothing to compare.
    theirs = source.trace(inputs) if ours else []
    if not any(visit.path in ours for visit in theirs):
        return []
    true = {visit.path: visit for visit in truth(inputs)}
    return [
        _judge_part(source, inputs, visit, ours.get(visit.path), true.get(visit.path), ported.eps)
        for visit in theirs
        # What the truth does not look into, like the inside of a layer, is not judged by itself.
        if visit.path in true
    ]


def diagnose_part(
    source: Party,
    ported: Party,
    truth: Callable[[Inputs], list[Visit]] | None,
    path: str,
    inputs: Inputs,
) -> str:
    """Return the known mistake that explains why a sub-module diverges, with its path.

    Where none explains the sub-module, those around it are tried, from the inside out; "" if none
    is explained.

    Args:
        source: the whole that is right.
        ported: the whole that is judged.
        truth: what the source's sub-modules take and return in float64; None if unknown.
        path: of the first sub-module that diverges.
        inputs: call arguments of the whole.
    """
    if source.part is None or ported.part is None or source.trace is None:
        return ""
    given = {v.path: v.inputs for v in ([] if truth is None else truth(inputs))}
    given |= {v.path: v.inputs for v in source.trace(inputs) if v.inputs is not None}
    while path:
        # What is called with arguments by name is known from the truth alone.
        own = as_given(given.get(path), None)
        found = "" if own is None else _diagnosed(source.part(path), ported.part, path, own)
        if found:
            return f"{path}: {found}"
        path = path.rpartition(".")[0]
    return ""


def _diagnosed(known: Party, ported_part: Callable[[str], Party], path: str, inputs: Inputs) -> str:
    if not has_known_mistakes(known.kind, known.options):
        return ""
    case = Case(known.kind, known.options, known.params, inputs)
    return diagnose(case, ported_part(path).call(inputs))


def _judge_part(
    source: Party,
    inputs: Inputs,
    visit: Visit,
    ours: Visit | None,
    true: Visit | None,
    eps: float,
) -> PartResult:
    path, kind, arrays, calls, _ = visit
    if ours is None or true is None:
        return PartResult(path, kind, (), "not called in the port", calls)
    # A port may give back less (no attention weights), or in another layout: that is no mistake.
    held = list(zip(output_names("", len(arrays)), ours.arrays, arrays, true.arrays, strict=False))
    alike = [h for h in held if h[1].shape == h[2].shape == h[3].shape]
    if not alike:
        shapes = [tuple(a.shape) for a in ours.arrays]
        return PartResult(path, kind, (), f"other shapes in the port: {shapes}", calls)
    results = (
        judge_array(*h, eps, 0 if calls > 1 else guessed_axis(source, inputs, h[3])) for h in alike
    )
    return PartResult(path, kind, tuple(results), "", calls)


def guessed_axis(source: Party, inputs: Inputs, array: Any) -> int | None:
    """Return the axis of time of an array inside or after a model: where its input has its steps.

    An array counts as a sequence when it has three axes and the input's batch and length.
    """
    x = next((a for a in leaves(inputs) if np.ndim(a) >= 2), None)
    if x is None or np.ndim(array) != 3 or np.ndim(x) > 3:
        return None
    axis = 0 if source.steps_first else 1
    return axis if np.shape(array)[:2] == np.shape(x)[:2] else None
