"""A report as one web page: verdict, charts, table, versions."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from lstm_bridge.equivalence.html.charts import heat_map, over_time, traces, ulp_histogram
from lstm_bridge.equivalence.html.elements import Markup, element, joined, number
from lstm_bridge.equivalence.html.style import CSS
from lstm_bridge.equivalence.judge import ALLOWED_RATIO
from lstm_bridge.equivalence.report import ArrayResult, LayerResult, Report
from lstm_bridge.errors import FileSystemError

_HEAD = (
    *("array", "verdict", "ratio", "max abs", "source's", "ULP p50", "p99.9", "max"),
    *("worst at", "first step"),
)


def report_page(report: Report, title: str | None = None) -> str:
    """Return the whole page.

    Args:
        report: what to show.
        title: heading. Default: who was compared with whom.
    """
    heading = title or f"{report.ported} against {report.source or 'nothing'}"
    header = element(
        "header",
        element("h1", heading),
        element("p", badge(report.passed, "equivalent", "NOT equivalent"), " ", versions()),
        *([element("p", f"Not judged: {report.not_judged}")] if report.not_judged else []),
    )
    return document(heading, header, element("main", report_body(report)))


def document(title: str, *children: Markup) -> str:
    """Return an HTML document that needs nothing but itself."""
    head = element(
        "head",
        Markup('<meta charset="utf-8">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        element("title", title),
        element("style", Markup(CSS)),
    )
    rule = f"An array passes at a ratio up to {ALLOWED_RATIO:g}: its error over the source's own, "
    footer = element("footer", rule, "both measured from a float64 truth.")
    page = element("html", head, element("body", *children, footer), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def write_page(path: Path, page: str) -> None:
    """Write a page to a file.

    Raises:
        FileSystemError: it cannot be written.
    """
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise FileSystemError(
            str(path), expected="a file that can be written", got=error.strerror or str(error)
        ) from error


def badge(passed: bool, good: str = "pass", bad: str = "FAIL") -> Markup:
    """Return a verdict in words and colour."""
    mark, words, kind = ("✓", good, "pass") if passed else ("✗", bad, "fail")
    return element("span", f"{mark} {words}", class_=f"verdict {kind}")


def versions() -> Markup:
    """Return what the numbers were made with."""
    names = ("lstm-bridge", "mlx", "numpy")
    parts = [f"{name} {version(name)}" for name in names]
    parts += [f"Python {platform.python_version()}", f"{platform.system()} {platform.machine()}"]
    return element("span", " · ".join(parts), class_="soft")


def report_body(report: Report) -> Markup:
    """Return what stands below the heading: figures, heat map, and one section per layer."""
    return joined(
        _figures(report),
        *_notices(report),
        _figure("Layers against time", heat_map(report), "whole"),
        *(_section(layer) for layer in report.layers),
    )


def _figures(report: Report) -> Markup:
    path, name, index = report.worst
    found = report.first_divergence
    facts = {
        f"error ratio (allowed {ALLOWED_RATIO:g})": number(report.ratio),
        "largest error": number(report.max_abs),
        "worst place": f"{path or '(root)'} {name} {list(index)}" if name else "none",
        "first divergence": str(found) if found else "none",
    }
    pairs = (element("div", element("dt", k), element("dd", v)) for k, v in facts.items())
    return element("dl", *pairs, class_="figures")


def _notices(report: Report) -> Iterator[Markup]:
    for layer in report.layers:
        name = layer.path or "(root)"
        if layer.reason:
            yield element("p", element("b", name), f": {layer.reason}", class_="notice")
        if layer.diagnosis:
            yield element(
                "p", element("b", "Explained by"), f": {layer.diagnosis}", class_="notice"
            )


def _figure(title: str, chart: Markup, kind: str | None = None) -> Markup:
    return element("figure", element("h3", title), chart, class_=kind) if chart else Markup("")


def _section(layer: LayerResult) -> Markup:
    whole = layer.kind == layer.source  # nothing more is known of it
    name = layer.path or ("Whole model" if whole else layer.kind)
    told = f"{'' if whole else layer.kind + '; '}source: {layer.source}; truth: {layer.oracle}"
    if layer.ill_conditioned:
        told += "; ill-conditioned, so that single steps decide"
    return element(
        "section",
        element("h2", f"{name} ", badge(layer.passed)),
        element("p", told, class_="soft"),
        element("div", *_charts(layer), class_="charts"),
        _table(layer),
        _parts(layer),
    )


def _charts(layer: LayerResult) -> Iterator[Markup]:
    shown = layer.worst
    timed = next((a for a in layer.arrays if not a.verdict.passed and a.over_time), None)
    timed = timed or next((a for a in layer.arrays if a.over_time), None)
    if timed is not None:
        yield _figure(f"{timed.name}: error over time", over_time(timed))
        yield _figure(f"{timed.name}: source and ported", traces(timed))
    if shown is not None and shown.histogram:
        yield _figure(f"{shown.name}: errors in ULP", ulp_histogram(shown))
        if shown is not timed:
            yield _figure(f"{shown.name}: source and ported", traces(shown))


def _table(layer: LayerResult) -> Markup:
    rows = [_row(a, layer) for a in (*layer.arrays, *layer.one_step)]
    return scrolled(_HEAD, rows) if rows else Markup("")


def _row(array: ArrayResult, layer: LayerResult) -> Markup:
    decides = not layer.ill_conditioned or array in layer.one_step
    return _cells(array.name, badge(array.verdict.passed) if decides else "not judged", array)


def _cells(name: str, word: object, array: ArrayResult) -> Markup:
    v, u = array.verdict, array.ulp
    step = "" if array.first_step is None else array.first_step
    figures = map(number, (v.ratio, v.max_abs, v.source_error, *u))
    return element("tr", *(element("td", c) for c in (name, word, *figures, list(v.worst), step)))


def scrolled(head: tuple[str, ...], rows: list[Markup]) -> Markup:
    """Return a table that scrolls by itself where it is wider than the page."""
    top = element("tr", *(element("th", text, scope="col") for text in head))
    table = element("table", element("thead", top), element("tbody", *rows))
    # A table wider than a phone is scrolled: with the keyboard too.
    return element("div", table, class_="scroll", tabindex=0)


def _parts(layer: LayerResult) -> Markup:
    if not layer.parts:
        return Markup("")
    rows = []
    for part in layer.parts:
        calls = f" ({part.calls} calls)" if part.calls > 1 else ""
        name = f"{part.path} {part.kind}{calls}"
        if part.note:
            note = element("td", part.note, colspan=len(_HEAD) - 1)
            rows.append(element("tr", element("td", name), note))
        for array in part.arrays:
            word = badge(array.verdict.passed, "agrees", "differs")
            rows.append(_cells(f"{name}: {array.name}", word, array))
    summary = element("summary", f"{len(layer.parts)} sub-modules, in the order of their calls")
    opened = None if layer.passed else ""
    return element("details", summary, scrolled(_HEAD, rows), open=opened)
