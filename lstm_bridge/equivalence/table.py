"""A report as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

from lstm_bridge.equivalence.judge import ALLOWED_RATIO

if TYPE_CHECKING:
    from lstm_bridge.equivalence.report import ArrayResult, LayerResult, Report

_NUMBERS = ("ratio", "max abs", "source's", "ULP p50/p99.9/max")


def table(report: Report) -> Table:
    """Return one row per judged array, and what a reader should know below it."""
    made = Table(
        title=escape(_headline(report)),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        caption=escape("\n".join(_notes(report))),
        caption_justify="left",
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    made.add_column("layer and array", overflow="fold")
    made.add_column("verdict")
    for column in _NUMBERS:
        made.add_column(column, justify="right", no_wrap=True)
    for layer in report.layers:
        made.add_row(f"[bold]{escape(layer.path or '(root)')}[/bold] {escape(layer.kind)}")
        for array in (*layer.arrays, *layer.one_step):
            made.add_row(*map(escape, _row(array, layer)))
        for path, array in ((p.path, a) for p in layer.parts for a in p.arrays):
            made.add_row(*map(escape, (f"  in {path}: {array.name}", *_numbers(array, "differs"))))
    return made


def _headline(report: Report) -> str:
    word = "equivalent" if report.passed else "NOT equivalent"
    if report.quantization is not None and report.passed:
        word = f"{report.quantization}\nequivalent but for that"
    return f"{word}: {report.ported} against {report.source or 'nothing'}"


def _row(array: ArrayResult, layer: LayerResult) -> tuple[str, ...]:
    decides = not layer.ill_conditioned or array in layer.one_step
    word, *numbers = _numbers(array, "FAIL")
    return f"  {array.name}", word if decides else "n/a", *numbers


def _numbers(array: ArrayResult, failed: str) -> tuple[str, ...]:
    v = array.verdict
    return (
        "pass" if v.passed else failed,
        f"{v.ratio:.3g}",
        f"{v.max_abs:.1e}",
        f"{v.source_error:.1e}",
        "/".join(f"{n:.0f}" if 9.5 < n < 1e5 else f"{n:.1g}" for n in array.ulp),
    )


def _notes(report: Report) -> Iterator[str]:
    if report.not_judged:
        yield f"not judged: {report.not_judged}"
    for layer in report.layers:
        name = layer.path or "(root)"
        if layer.ill_conditioned:
            yield f"{name}: ill-conditioned: trajectories are not comparable, single steps decide"
        if layer.reason:
            yield f"{name}: {layer.reason}"
        if layer.diagnosis:
            yield f"{name}: explained by: {layer.diagnosis}"
    if report.first_divergence is not None:
        yield f"diverges first: {report.first_divergence}"
    path, name, index = report.worst
    if name:
        yield f"worst: {path or '(root)'} {name} at {list(index)}"
    oracles = ", ".join(dict.fromkeys(layer.oracle for layer in report.layers))
    if oracles:
        yield f"passes at a ratio up to {ALLOWED_RATIO:g}; truth: {oracles}"
