"""What a comparison found, for people (table, plot) and for programs (JSON)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lstm_bridge.equivalence.judge import Verdict
from lstm_bridge.equivalence.ulp import Ulp

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA = 1
"""Version of ``Report.to_json``'s form."""


class Track(NamedTuple):
    """The values of both along one line through an array.

    Args:
        line: which line, in the array's own indices, e.g. ``"[2, :, 4]"``.
        start: index of the first value along it.
        source: the source's values.
        ported: ours.
    """

    line: str
    start: int
    source: tuple[float, ...]
    ported: tuple[float, ...]


class Divergence(NamedTuple):
    """Where a port first leaves its source.

    Args:
        layer: dotted path; "" for the whole.
        array: which output or gradient of it.
        step: the first time step that leaves the policy; None without time.
    """

    layer: str
    array: str
    step: int | None

    def __str__(self) -> str:
        at = "" if self.step is None else f" at step {self.step}"
        return f"{self.layer or '(root)'} {self.array}{at}"


@dataclass(frozen=True, slots=True)
class ArrayResult:
    """One output or gradient, judged.

    Args:
        name: e.g. ``"output"``, ``"h_n"``, ``"grad weight_ih_l0"``.
        verdict: by the three-party rule.
        ulp: our error in units in the last place.
        source_ulp: the source's.
        over_time: our largest error at each time step; empty without a time axis.
        source_over_time: the source's.
        first_step: the first time step that leaves the policy; None if none does, or without time.
        histogram: how many of our places have which error, by ``ulp.EDGES``.
        source_histogram: the source's.
        track: source and ported through the worst place.
    """

    name: str
    verdict: Verdict
    ulp: Ulp
    source_ulp: Ulp
    over_time: tuple[float, ...] = ()
    source_over_time: tuple[float, ...] = ()
    first_step: int | None = None
    histogram: tuple[int, ...] = ()
    source_histogram: tuple[int, ...] = ()
    track: Track | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        v = self.verdict
        return {
            "name": self.name,
            "passed": v.passed,
            "ratio": _number(v.ratio),
            "max_abs": _number(v.max_abs),
            "source_error": _number(v.source_error),
            "floor": _number(v.floor),
            "worst": list(v.worst),
            "reason": v.reason,
            "ulp": _ulp(self.ulp),
            "source_ulp": _ulp(self.source_ulp),
            "error_over_time": [_number(e) for e in self.over_time],
            "source_error_over_time": [_number(e) for e in self.source_over_time],
            "first_step": self.first_step,
            "ulp_histogram": list(self.histogram),
            "source_ulp_histogram": list(self.source_histogram),
        }


@dataclass(frozen=True, slots=True)
class PartResult:
    """One sub-module, as it ran inside the whole: it says where, the whole says whether.

    Args:
        path: dotted place below the layer.
        kind: its class's name.
        arrays: its outputs; empty where they cannot be compared.
        note: why they cannot; "" if they can.
        calls: how often the source called it; with several, their outputs are stacked in time.
    """

    path: str
    kind: str
    arrays: tuple[ArrayResult, ...] = ()
    note: str = ""
    calls: int = 1

    @property
    def diverged(self) -> ArrayResult | None:
        """The first output that leaves the policy."""
        return next((a for a in self.arrays if not a.verdict.passed), None)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "path": self.path,
            "kind": self.kind,
            "calls": self.calls,
            "note": self.note,
            "arrays": [a.to_json() for a in self.arrays],
        }


@dataclass(frozen=True, slots=True)
class LayerResult:
    """One layer, judged over whole trajectories and over single, teacher-forced steps.

    Args:
        path: dotted place in the model; "" for the whole.
        kind: class path, or the type's name where no class is known.
        source: who spoke for the source: a framework and its version, or the float32 oracle.
        oracle: what the truth was computed with.
        arrays: outputs and gradients over whole sequences.
        one_step: outputs of every step alone, from the true state; empty where there is no such
            test.
        ill_conditioned: the source's own trajectory leaves the truth, so that one_step decides.
        weights: "" when the weights are the source's, or what differs.
        reason: one line of what failed; empty when passed.
        diagnosis: the known mistake that explains a failure; empty if none does.
        parts: its sub-modules in the order in which the source's calls of them end.
    """

    path: str
    kind: str
    source: str
    oracle: str
    arrays: tuple[ArrayResult, ...]
    one_step: tuple[ArrayResult, ...] = ()
    ill_conditioned: bool = False
    weights: str = ""
    reason: str = ""
    diagnosis: str = ""
    parts: tuple[PartResult, ...] = ()

    @property
    def passed(self) -> bool:
        """Nothing failed."""
        return not self.reason

    @property
    def first_divergence(self) -> Divergence | None:
        """Where it first leaves its source: a sub-module if one does, or an output of its own."""
        if self.passed:
            return None
        for part in self.parts:
            if (a := part.diverged) is not None:
                path = f"{self.path}.{part.path}".lstrip(".")
                return Divergence(path, a.name, a.first_step)
        failed = (a for a in self.deciding if not a.verdict.passed)
        return next((Divergence(self.path, a.name, a.first_step) for a in failed), None)

    @property
    def deciding(self) -> tuple[ArrayResult, ...]:
        """The arrays that the verdict rests on."""
        return self.one_step if self.ill_conditioned else (*self.arrays, *self.one_step)

    @property
    def worst(self) -> ArrayResult | None:
        """The deciding array with the largest ratio."""
        return max(self.deciding, key=lambda a: a.verdict.ratio, default=None)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "path": self.path,
            "kind": self.kind,
            "source": self.source,
            "oracle": self.oracle,
            "passed": self.passed,
            "ill_conditioned": self.ill_conditioned,
            "weights": self.weights or "equal",
            "reason": self.reason,
            "diagnosis": self.diagnosis,
            "arrays": [a.to_json() for a in self.arrays],
            "one_step": [a.to_json() for a in self.one_step],
            "parts": [part.to_json() for part in self.parts],
        }


class Cost(NamedTuple):
    """What quantization does to one output.

    Args:
        name: which.
        max_abs: the largest difference from the model in full precision.
        relative_rms: the differences' root mean square over that of the output.
    """

    name: str
    max_abs: float
    relative_rms: float


class Quantization(NamedTuple):
    """What quantization costs, measured and not judged.

    Args:
        bits: of a packed number; several where layers differ.
        costs: one per output of the whole model.
    """

    bits: tuple[int, ...]
    costs: tuple[Cost, ...]

    def __str__(self) -> str:
        worst = max(self.costs, key=lambda cost: cost.relative_rms)
        return (
            f"quantized to {' and '.join(map(str, self.bits))} bits: max abs error "
            f"{worst.max_abs:.2g}, relative RMS error {worst.relative_rms:.2g}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        costs = [
            {"name": c.name, "max_abs": _number(c.max_abs), "relative_rms": _number(c.relative_rms)}
            for c in self.costs
        ]
        return {"bits": list(self.bits), "outputs": costs}


@dataclass(frozen=True, slots=True)
class Report:
    """The result of ``compare`` or ``verify``.

    Args:
        ported: who was judged.
        layers: one result per layer.
        quantization: what quantization costs; None where nothing is quantized. A report with it
            passes where the port is right: the stored numbers stand for the source's, and the
            arithmetic on them is equivalent.
        not_judged: what could not be judged, and why; "" where all was.
    """

    ported: str
    layers: tuple[LayerResult, ...]
    quantization: Quantization | None = None
    not_judged: str = ""

    @property
    def passed(self) -> bool:
        """Every layer passed, and there was at least one."""
        return bool(self.layers) and all(layer.passed for layer in self.layers)

    @property
    def source(self) -> str:
        """Who spoke for the source; several are joined by commas."""
        return ", ".join(dict.fromkeys(layer.source for layer in self.layers))

    @property
    def ratio(self) -> float:
        """Our error over the source's own, at its largest."""
        return max((a.verdict.ratio for la in self.layers for a in la.deciding), default=0.0)

    @property
    def max_abs(self) -> float:
        """Our largest absolute error."""
        return max((a.verdict.max_abs for la in self.layers for a in la.deciding), default=0.0)

    @property
    def worst(self) -> tuple[str, str, tuple[int, ...]]:
        """Layer path, array name and index where the ratio is largest."""
        found = [(layer, layer.worst) for layer in self.layers]
        ranked = [(a.verdict.ratio, layer.path, a) for layer, a in found if a is not None]
        if not ranked:
            return ("", "", ())
        _, path, array = max(ranked, key=lambda item: item[0])
        return path, array.name, array.verdict.worst

    @property
    def diagnosis(self) -> str:
        """The first layer's diagnosis that there is."""
        return next((layer.diagnosis for layer in self.layers if layer.diagnosis), "")

    @property
    def first_divergence(self) -> Divergence | None:
        """The first layer, array and time step that leave the source; None if all pass."""
        return next((d for layer in self.layers if (d := layer.first_divergence)), None)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data, ready for ``json.dumps``; infinities as strings."""
        path, name, index = self.worst
        return {
            "schema": SCHEMA,
            "passed": self.passed,
            "ported": self.ported,
            "source": self.source,
            "ratio": _number(self.ratio),
            "max_abs": _number(self.max_abs),
            "worst": {"layer": path, "array": name, "index": list(index)},
            "first_divergence": _place(self.first_divergence),
            "diagnosis": self.diagnosis,
            "not_judged": self.not_judged,
            "quantization": None if self.quantization is None else self.quantization.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }

    def to_table(self) -> Table:
        """Return the report as a rich Table, one row per array."""
        from lstm_bridge.equivalence.table import table

        return table(self)

    def to_html(self, path: str | Path | None = None, *, title: str | None = None) -> str:
        """Return the report as one self-contained web page: charts, table, verdict, versions.

        Args:
            path: also write it to this file. Default: only return it.
            title: heading. Default: who was compared with whom.

        Raises:
            FileSystemError: the file cannot be written.
        """
        from lstm_bridge.equivalence.html import report_page, write_page

        page = report_page(self, title)
        if path is not None:
            write_page(Path(path), page)
        return page

    def plot(self, path: str | Path) -> None:
        """Draw error over time, one panel per layer, to a file.

        Args:
            path: file to write; the extension chooses the format (png, svg, pdf).

        Raises:
            UsageError: matplotlib is not installed, or it cannot write that format.
        """
        from lstm_bridge.equivalence.plot import draw

        draw(self, Path(path))


def _number(value: float) -> float | str:
    """JSON has no infinity and no NaN."""
    return value if math.isfinite(value) else str(value)


def _place(found: Divergence | None) -> dict[str, Any] | None:
    return None if found is None else found._asdict()


def _ulp(ulp: Ulp) -> dict[str, float]:
    return {"p50": ulp.p50, "p99.9": ulp.p999, "max": ulp.max}
