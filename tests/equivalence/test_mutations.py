"""The mutation proof: every known mistake, made in every front-end, is seen and named."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_bridge.equivalence.compare import compare
from lstm_bridge.equivalence.mistakes import MISTAKES, Case, changes_something
from lstm_bridge.equivalence.parties import Party, party_of


def _load_pairs() -> Any:
    spec = importlib.util.spec_from_file_location(
        "equivalence_front_ends", Path(__file__).with_name("front_ends.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.PAIRS


PAIRS = _load_pairs()
for package in ("torch", "keras", "pytorch_forecasting"):
    pytest.importorskip(package, reason="the proof compares with the live frameworks")


def mutants(pair: Any) -> Iterator[tuple[str, str, Case]]:
    """Every mistake that shows in this class's outputs and that a port can make."""
    case = pair.case()
    for name, variants in MISTAKES.items():
        for sentence, variant in variants(case):
            if "unreversed" not in variant.options and changes_something(case, variant):
                yield name, sentence, variant


def with_mistake(pair: Any, case: Case, name: str, sentence: str) -> Party:
    """The front-end with the mistake in its parameters, its options, its inputs or its outputs."""

    def call(inputs: Any) -> Any:
        variant = dict(MISTAKES[name](replace(case, inputs=tuple(inputs))))[sentence]
        party = party_of(pair.front_end(variant.params, variant.options), "ported")
        return variant.after(party.call(variant.inputs))

    return Party(f"{pair.label} with a mistake", call)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.label)
def test_the_front_end_without_a_mistake_passes(pair: Any) -> None:
    params = pair.params()
    report = compare(pair.source(params), pair.front_end(params), gradients=True)
    assert report.passed, report.layers[0].reason


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.label)
def test_every_mistake_is_caught_and_named(pair: Any) -> None:
    case = pair.case()
    source = party_of(pair.source(case.params), "source")
    source = replace(source, kind=case.kind, options=case.options, params=case.params)
    survivors, misnamed, kinds = [], [], set()
    for name, sentence, variant in mutants(pair):
        kinds.add(name)
        report = compare(source, with_mistake(pair, case, name, sentence), case.inputs)
        if report.passed:
            survivors.append(sentence)
        if not same_effect(case, variant, report.diagnosis):
            misnamed.append(f"{sentence!r} diagnosed as {report.diagnosis!r}")
    assert len(kinds) >= 3
    assert survivors == []
    assert misnamed == []


def same_effect(case: Case, variant: Case, diagnosis: str) -> bool:
    """Whether the diagnosed mistake gives the same outputs, be it the one made or its equal."""
    found = next((v for f in MISTAKES.values() for s, v in f(case) if s == diagnosis), None)
    return found is not None and not changes_something(variant, found)


def test_every_known_mistake_is_made_somewhere() -> None:
    made = {name for pair in PAIRS for name, _, _ in mutants(pair)}
    assert made == set(MISTAKES)


def test_a_backward_direction_that_reads_forwards_is_caught_and_named() -> None:
    pair = next(p for p in PAIRS if "bidirectional" in p.label)
    case = pair.case()
    sentence, variant = next(
        (s, v) for s, v in MISTAKES["direction"](case) if "unreversed" in v.options
    )

    def ported(*inputs: Any) -> Any:
        return variant.outputs(np.float32)

    report = compare(pair.source(case.params), ported, case.inputs)
    assert not report.passed
    # Single steps cannot tell the directions apart: the trajectories do.
    assert "not reversed" in sentence
