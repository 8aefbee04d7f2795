"""The charts of a report: error over time, errors in ULP, traces, and layers against time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from lstm_bridge.equivalence.html.axes import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Scale,
    frame,
    linear_scale,
    log_scale,
    picture,
    polyline,
)
from lstm_bridge.equivalence.html.elements import Markup, element, joined, number
from lstm_bridge.equivalence.judge import ALLOWED_RATIO
from lstm_bridge.equivalence.report import ArrayResult, Report
from lstm_bridge.equivalence.ulp import EDGES

MOST = 300
"""Points of a line at most; of more, the largest of each group is drawn."""


def limit(array: ArrayResult) -> float:
    """Return the largest error that passes."""
    return ALLOWED_RATIO * max(array.verdict.source_error, array.verdict.floor)


def legend(*entries: tuple[str, str]) -> Markup:
    """Return a legend of (kind of line, words)."""
    items = (
        element("span", element("i", class_=f"key {kind}", aria_hidden="true"), words)
        for kind, words in entries
    )
    return element("p", *items, class_="legend")


def over_time(array: ArrayResult) -> Markup:
    """Return the largest error at every time step, ours and the source's, and what is allowed."""
    count = len(array.over_time)
    groups = _groups(count, MOST)
    ours = [max(array.over_time[a:b]) for a, b in groups]
    theirs = [max(array.source_over_time[a:b]) for a, b in groups]
    allowed = limit(array)
    x = Scale(0, max(1, count - 1), LEFT, WIDTH - RIGHT)
    y = log_scale([*ours, *theirs, allowed])
    lines = [
        polyline([(x(a), y(v)) for (a, _), v in zip(groups, values, strict=True)], kind)
        for kind, values in (("source", theirs), ("ported", ours))
    ]
    edge = element(
        "line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(allowed), y2=y(allowed), class_="line limit"
    )
    hovers = [
        _hover(x(a), y(v), f"step {a}: ported {number(v)}, source {number(s)}")
        for (a, _), v, s in zip(groups, ours, theirs, strict=True)
    ]
    title = f"Error of {array.name} over time: largest {number(max(ours))} of {number(allowed)}"
    return joined(
        picture(title, frame(x, y, "time step", "largest |error|"), edge, *lines, *hovers),
        legend(("source", "source"), ("ported", "ported"), ("limit", "allowed")),
    )


def _groups(count: int, most: int) -> list[tuple[int, int]]:
    size = max(1, math.ceil(count / most))
    return [(a, min(a + size, count)) for a in range(0, count, size)]


def _hover(x: float, y: float, words: str) -> Markup:
    return element("circle", element("title", words), cx=x, cy=y, r=5, class_="hover")


def ulp_histogram(array: ArrayResult) -> Markup:
    """Return how many values have which error in units in the last place, ours and the source's."""
    ours, theirs = _shares(array.histogram), _shares(array.source_histogram)
    filled = [k for k, (a, s) in enumerate(zip(ours, theirs, strict=True)) if a or s]
    shown = range((max(filled) if filled else 0) + 1)
    top = max([*ours, *theirs, 1e-9])
    y = Scale(0, top * 1.06, HEIGHT - BOTTOM, TOP)
    width = (WIDTH - LEFT - RIGHT) / len(shown)
    bars, labels = [], []
    for k in shown:
        left = LEFT + k * width
        for kind, share, offset in (("source", theirs[k], 0.12), ("ported", ours[k], 0.52)):
            words = f"{kind}: {share:.2f} % of values, {_bin(k)} ULP"
            bars.append(
                element(
                    "rect",
                    element("title", words),
                    x=left + offset * width,
                    y=y(share),
                    width=0.36 * width,
                    height=HEIGHT - BOTTOM - y(share),
                    class_=f"bar {kind}",
                )
            )
        if len(shown) <= 12 or k % 2 == 0:
            at = left + width / 2
            text = element("text", _bin(k), x=at, y=HEIGHT - BOTTOM + 17, class_="tick middle")
            labels.append(text)
    x = Scale(0.4, 0.6, LEFT, WIDTH - RIGHT)  # no whole number in it: the bins have own labels
    title = f"Errors of {array.name} in units in the last place"
    return joined(
        picture(title, frame(x, y, "error in ULP", "% of values"), *bars, *labels),
        legend(("source", "source"), ("ported", "ported")),
    )


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    return [100 * n / total if total else 0.0 for n in counts]


def _bin(k: int) -> str:
    if k == len(EDGES):
        return f">2^{len(EDGES) - 2}"
    edge = EDGES[k]
    return "≤½" if edge == 0.5 else f"≤{edge:.0f}" if edge <= 1024 else f"≤2^{math.log2(edge):.0f}"


def traces(array: ArrayResult) -> Markup:
    """Return the values of both through the worst place."""
    track = array.track
    if track is None:
        return Markup("")
    count = len(track.source)
    x = Scale(track.start, track.start + max(1, count - 1), LEFT, WIDTH - RIGHT)
    y = linear_scale([*track.source, *track.ported])
    lines = [
        polyline([(x(track.start + k), y(v)) for k, v in enumerate(values)], kind)
        for kind, values in (("source wide", track.source), ("ported", track.ported))
        if all(map(math.isfinite, values))
    ]
    hovers = [
        _hover(x(track.start + k), y(b), f"{track.start + k}: source {a:.7g}, ported {b:.7g}")
        for k, (a, b) in enumerate(zip(track.source, track.ported, strict=True))
        if math.isfinite(b)
    ]
    title = f"Values of {array.name} at {track.line}, source and ported"
    label = f"index along {track.line}"
    return joined(
        picture(title, frame(x, y, label, "value"), *lines, *hovers),
        legend(("source wide", "source"), ("ported", "ported")),
    )


BINS = (0.0, 0.01, 0.1, 0.25, 0.5, 1.0, 10.0, 1000.0)
"""Upper edges of the heat map's colours, as parts of what is allowed; the last has none."""
_WITHIN = BINS.index(1.0)
_ROW, _NAMES, _COLUMNS, _BROAD = 26.0, 220.0, 120, 1100.0


def heat_map(report: Report) -> Markup:
    """Return layers against time, coloured by the error as a part of what is allowed."""
    rows = list(_rows(report))
    if not rows:
        return Markup("")
    steps = max(len(array.over_time) for _, array in rows)
    height = TOP + len(rows) * _ROW + BOTTOM
    cells = [cell for k, (name, array) in enumerate(rows) for cell in _cells(k, name, array, steps)]
    right = _BROAD - RIGHT
    x = Scale(0, steps, _NAMES, right)
    ticks = [
        element("text", str(int(v)), x=x(v + 0.5), y=height - BOTTOM + 17, class_="tick middle")
        for v in x.ticks()
        if v == int(v) and v < steps
    ]
    label = element(
        "text", "time step", x=(_NAMES + right) / 2, y=height - 6, class_="label middle"
    )
    words = ("exact", "≤1 %", "≤10 %", "≤25 %", "≤50 %", "≤100 %", "≤10×", "≤1000×", "more")
    keys = legend(*((f"heat h{k}", word) for k, word in enumerate(words)))
    title = "Error of every layer at every time step, as a part of what is allowed"
    return joined(picture(title, *cells, *ticks, label, width=_BROAD, height=height), keys)


def _rows(report: Report) -> Iterator[tuple[str, ArrayResult]]:
    for layer in report.layers:
        for part in layer.parts:
            path = f"{layer.path}.{part.path}".lstrip(".")
            yield from ((path, a) for a in part.arrays if a.over_time)
        yield from ((f"{layer.path or '(root)'} {a.name}", a) for a in layer.arrays if a.over_time)


def _cells(row: int, name: str, array: ArrayResult, steps: int) -> Iterator[Markup]:
    top, allowed = TOP + row * _ROW, limit(array)
    shown = name if len(name) <= 30 else f"…{name[-29:]}"
    full = element("title", name)
    yield element("text", full, shown, x=_NAMES - 8, y=top + _ROW / 2 + 4, class_="name end")
    unit = (_BROAD - RIGHT - _NAMES) / steps
    for a, b in _groups(len(array.over_time), _COLUMNS):
        error = max(array.over_time[a:b])
        part = error / allowed if allowed else (0.0 if error == 0 else math.inf)
        level = next((k for k, edge in enumerate(BINS) if part <= edge), len(BINS))
        words = f"{name}, step {a}: {number(error)}, {number(100 * part)} % of what is allowed"
        x, width = _NAMES + a * unit, (b - a) * unit
        yield element(
            "rect",
            element("title", words),
            x=x + 0.5,
            y=top + 1,
            width=max(width - 1, 0.6),
            height=_ROW - 2,
            class_=f"heat h{level}",
        )
        if level > _WITHIN and width >= 8:  # not by colour alone
            yield element("text", "×", x=x + width / 2, y=top + _ROW / 2 + 4, class_="cross middle")
