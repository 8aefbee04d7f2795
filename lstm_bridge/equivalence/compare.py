"""Compare a port with its source: both and a float64 oracle on the same inputs."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import Any

from lstm_bridge.equivalence.inputs import drawn
from lstm_bridge.equivalence.judging import judge_layer
from lstm_bridge.equivalence.kinds import example_inputs
from lstm_bridge.equivalence.parties import Party, party_of
from lstm_bridge.equivalence.precision import as_given, precision
from lstm_bridge.equivalence.report import Report
from lstm_bridge.equivalence.truth import Inputs, truth_of


def compare(
    source: Any,
    ported: Any,
    inputs: Any = None,
    *,
    gradients: bool = False,
    dtype: str | None = None,
    oracle: Callable[..., Any] | None = None,
    seed: int = 0,
) -> Report:
    """Judge a port by the rule ``err(ported) ≤ 4 · max(err(source), rounding)``.

    Sub-modules of the same dotted names on both sides are watched while the whole runs, so that a
    failure names the first of them, and the first time step, where the port leaves the truth.

    Args:
        source: a torch module, a Keras layer or model, an MLX module, a checkpoint's path, or a
            function of NumPy arrays.
        ported: any of these, or a converted folder's path; it is called as the source is, and
            returns as many arrays.
        inputs: call arguments as a tuple, or one array; an ``InputSpec`` stands for an array to
            draw. Of a checkpoint with several layers: layer path → call arguments. Default: drawn
            with non-zero initial states, for single layers and for Keras models.
        gradients: compare the gradients of every input and weight too. Default: False.
        dtype: run both in ``"float32"``, ``"float16"`` or ``"bfloat16"``, with weights and inputs
            rounded to it; a function receives float16 arrays, or float32 arrays of bfloat16 values.
            Default: each in its own.
        oracle: function of float64 arrays that computes the truth. Default: this package's NumPy
            oracle for the layers it knows; the source itself in float64 for others.
        seed: of generated inputs and of the cotangents. Default: 0.

    Returns:
        Report; ``report.passed`` is the verdict, ``report.first_divergence`` the place.

    Raises:
        UsageError: an argument is of no comparable kind, or outputs do not correspond.
        UnsupportedError: gradients asked of what cannot be differentiated here.
        RefusedInput: a checkpoint cannot be read.
    """
    chosen = precision(dtype)
    if isinstance(source, str | PathLike) or isinstance(ported, str | PathLike):
        from lstm_bridge.equivalence.files import compare_files

        given = drawn(inputs, seed)
        return compare_files(source, ported, given, gradients=gradients, chosen=chosen, seed=seed)
    known, judged = party_of(source, "source", chosen), party_of(ported, "ported", chosen)
    truth = truth_of(known, oracle, judged)
    arguments = as_given(_arguments(known, inputs, seed), chosen)
    result = judge_layer("", known, judged, truth, arguments, gradients=gradients, seed=seed)
    return Report(judged.name, (result,))


def _arguments(source: Party, inputs: Any, seed: int) -> Inputs:
    if inputs is None and source.specs is not None and not source.kind:
        inputs = source.specs
    if inputs is None:
        return example_inputs(source.kind, source.options, source.params, seed)
    return tuple(drawn(inputs if isinstance(inputs, tuple) else (inputs,), seed))
