"""The mutation proof: every known mistake, made in every front-end and conversion, is seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lstm_bridge.converters.plan import DIALECTS
from lstm_bridge.equivalence.case import Case
from lstm_bridge.equivalence.compare import compare
from lstm_bridge.equivalence.live import live_party
from lstm_bridge.equivalence.mistakes import MISTAKES
from lstm_bridge.equivalence.parties import Party
from lstm_bridge.equivalence.proof.mutations import in_conversion, in_front_end, mutants
from lstm_bridge.equivalence.proof.pairs import PAIRS, Pair
from lstm_bridge.equivalence.proof.sources import TARGETS

for package in ("torch", "keras", "pytorch_forecasting"):
    pytest.importorskip(package, reason="the proof compares with the live frameworks")

BY_LABEL = {"ids": lambda pair: pair.label}


def live(case: Case) -> Party:
    return live_party(case.kind, case.options, case.params)


@pytest.mark.parametrize("pair", PAIRS, **BY_LABEL)
def test_the_front_end_without_a_mistake_passes(pair: Pair) -> None:
    params = pair.params()
    source = live_party(pair.kind, pair.options, params)
    report = compare(source, pair.front_end(params), gradients=True)
    assert report.passed, report.layers[0].reason


@pytest.mark.parametrize("pair", PAIRS, **BY_LABEL)
def test_every_mistake_is_caught_and_named(pair: Pair) -> None:
    found = list(in_front_end(pair, live))
    assert len({o.mutant.family for o in found}) >= 3
    assert [o.mutant.sentence for o in found if not o.caught] == []
    assert [o.mutant.sentence for o in found if not o.named] == []


@pytest.mark.parametrize("pair", PAIRS, **BY_LABEL)
@pytest.mark.parametrize("target", TARGETS)
def test_every_mistake_of_a_converter_is_caught_by_its_numbers(pair: Pair, target: str) -> None:
    found = list(in_conversion(pair, target))
    assert [o.mutant.sentence for o in found if not o.caught] == []
    converted = any(pair.kind in dialect.kinds for dialect in DIALECTS.values())
    if target == "a folder" and converted and not pair.label.startswith("keras LSTMCell"):
        assert len(found) >= 3


def test_every_known_mistake_is_made_somewhere() -> None:
    made = {mutant.family for pair in PAIRS for mutant in mutants(pair.case())}
    assert made == set(MISTAKES)


def test_a_harness_that_sees_nothing_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    blind = "lstm_bridge.equivalence.judging._reason"
    monkeypatch.setattr(blind, lambda *arguments: "")
    pair = next(p for p in PAIRS if p.label == "torch LSTMCell")
    assert not any(o.caught for o in in_front_end(pair, limit=1))


def test_a_backward_direction_that_reads_forwards_is_caught_and_named() -> None:
    pair = next(p for p in PAIRS if "bidirectional" in p.label)
    case = pair.case()
    sentence, variant = next(
        (s, v) for s, v in MISTAKES["direction"](case) if "unreversed" in v.options
    )

    def ported(*inputs: Any) -> Any:
        return replace(variant, inputs=inputs).outputs(np.float32)

    report = compare(live(case), ported, case.inputs)
    assert not report.passed
    assert report.diagnosis == sentence
