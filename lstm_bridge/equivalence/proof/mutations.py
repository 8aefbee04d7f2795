"""Every known mistake, made in every front-end and by every converter: what the harness catches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from lstm_bridge.converters.plan import DIALECTS
from lstm_bridge.equivalence.case import Case
from lstm_bridge.equivalence.compare import compare
from lstm_bridge.equivalence.mistakes import MISTAKES, changes_something
from lstm_bridge.equivalence.parties import Party, party_of
from lstm_bridge.equivalence.proof.pairs import PAIRS, Pair
from lstm_bridge.equivalence.proof.sources import TARGETS, write_source
from lstm_bridge.equivalence.report import Report
from lstm_bridge.equivalence.truth import stand_in
from lstm_bridge.equivalence.verify import verify
from lstm_bridge.errors import UnsupportedError


class Mutant(NamedTuple):
    """A mistake in one place.

    Args:
        family: of ``MISTAKES``.
        sentence: what was done, in words.
        case: the layer with it done.
    """

    family: str
    sentence: str
    case: Case


class Outcome(NamedTuple):
    """What the harness made of a mutant.

    Args:
        where: front-end, or source and target of a conversion.
        mutant: the mistake.
        caught: the verdict was that source and port differ.
        named: the diagnosis was this mistake, or one of the same effect.
    """

    where: str
    mutant: Mutant
    caught: bool
    named: bool


def mutants(case: Case) -> Iterator[Mutant]:
    """Yield every mistake that shows in this layer's outputs and that a port can make."""
    for family, variants in MISTAKES.items():
        for sentence, variant in variants(case):
            if "unreversed" not in variant.options and changes_something(case, variant):
                yield Mutant(family, sentence, variant)


def oracle_source(case: Case) -> Party:
    """Return a source that needs no framework: the oracle in float32."""
    return stand_in(case.kind, case.options, case.params, "in place of its framework")


def in_front_end(
    pair: Pair, source: Callable[[Case], Party] = oracle_source, limit: int | None = None
) -> Iterator[Outcome]:
    """Make every mistake in a front-end: its parameters, options, inputs or outputs.

    Args:
        pair: the class.
        source: who is right. Default: the oracle in float32.
        limit: mistakes per family at most; gates can be permuted in 23 ways. Default: all.
    """
    case = pair.case()
    known = source(case)
    made: dict[str, int] = {}
    for mutant in mutants(case):
        made[mutant.family] = made.get(mutant.family, 0) + 1
        if limit is not None and made[mutant.family] > limit:
            continue
        report = compare(known, _port(pair, case, mutant), case.inputs)
        named = same_effect(case, mutant.case, report.diagnosis)
        yield Outcome(pair.label, mutant, not report.passed, named)


def _port(pair: Pair, case: Case, mutant: Mutant) -> Party:
    """The front-end with the mistake in it; a single step is another input, and mutated anew."""

    def call(inputs: Any) -> Any:
        family = MISTAKES[mutant.family](replace(case, inputs=tuple(inputs)))
        variant = dict(family)[mutant.sentence]
        party = party_of(pair.front_end(variant.params, variant.options), "ported")
        return variant.after(party.call(variant.inputs))

    return Party(f"{pair.label} with a mistake", call)


def same_effect(case: Case, variant: Case, diagnosis: str) -> bool:
    """Say whether the diagnosed mistake gives the same outputs, be it the one made or its equal."""
    found = next((v for f in MISTAKES.values() for s, v in f(case) if s == diagnosis), None)
    return found is not None and not changes_something(variant, found)


def in_conversion(pair: Pair, target: str) -> Iterator[Outcome]:
    """Make mistakes in a conversion: the file that a converter with the mistake would write.

    Args:
        pair: the class to convert.
        target: what to convert to, of ``TARGETS``.
    """
    case = pair.case()
    if not any(pair.kind in dialect.kinds for dialect in DIALECTS.values()):
        return
    with TemporaryDirectory() as name:
        folder = Path(name)
        true = write_source(folder / "true", pair, case.params, case.options)
        try:
            report = _verified(true, true, folder / "right", target)
        except UnsupportedError:
            return
        if not report.passed:
            raise AssertionError(f"{pair.label} to {target}: {report.layers[0].reason}")
        for k, mutant in enumerate(_in_weights(case)):
            wrong = write_source(folder / f"s{k}", pair, mutant.case.params, mutant.case.options)
            try:
                report = _verified(true, wrong, folder / f"t{k}", target)
            except UnsupportedError:  # nor can a converter with this mistake write it
                continue
            layer = report.layers[0]
            # That the weights differ bit by bit is not enough: numbers, or the options, must tell.
            told = any(not a.verdict.passed for a in layer.deciding)
            told = told or not (layer.passed or layer.weights)
            named = same_effect(case, mutant.case, report.diagnosis)
            yield Outcome(f"{pair.label} to {target}", mutant, told, named)


def _in_weights(case: Case) -> Iterator[Mutant]:
    """One mistake of each family that a converter can make: those in parameters and options."""
    seen = set()
    for mutant in mutants(case):
        in_weights = mutant.case.inputs is case.inputs and mutant.case.after is case.after
        if in_weights and mutant.family not in seen:
            seen.add(mutant.family)
            yield mutant


def _verified(true: Path, wrong: Path, made: Path, target: str) -> Report:
    """Convert the wrong source, and judge the result against the true one, by its numbers."""
    written = TARGETS[target](wrong, made)
    return verify(true, written)


@dataclass(frozen=True)
class Count:
    """How many mistakes were made, caught and named."""

    made: int = 0
    caught: int = 0
    named: int = 0

    def __add__(self, other: Outcome) -> Count:
        return Count(
            self.made + 1, self.caught + other.caught, self.named + (other.caught and other.named)
        )


def outcomes(limit: int | None = None) -> Iterator[Outcome]:
    """Make every mistake everywhere; of one family in one front-end at most ``limit``."""
    for pair in PAIRS:
        yield from in_front_end(pair, limit=limit)
    for pair in PAIRS:
        for target in TARGETS:
            yield from in_conversion(pair, target)


def counted(found: Iterator[Outcome]) -> Mapping[str, Mapping[str, Count]]:
    """Return counts by place and by family of mistakes."""
    table: dict[str, dict[str, Count]] = {}
    for outcome in found:
        row = table.setdefault(outcome.where, {})
        family = outcome.mutant.family
        row[family] = row.get(family, Count()) + outcome
    return table
