"""The frame of a chart: scales, ticks, grid and labels, in SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lstm_bridge.equivalence.html.elements import Markup, element, joined, number

WIDTH, HEIGHT = 640.0, 260.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 14.0, 14.0, 44.0


class Scale(NamedTuple):
    """From a value to a place in the picture.

    Args:
        low: value at the start.
        high: value at the end.
        start: place of ``low``.
        end: place of ``high``.
        log: whether the scale is logarithmic.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the place of a value; beyond the ends it stands at the end."""
        low, high, v = self.low, self.high, value
        if self.log:
            low, high, v = math.log10(low), math.log10(high), math.log10(max(value, self.low))
        part = (v - low) / (high - low) if high > low else 0.5
        return self.start + (self.end - self.start) * min(1.0, max(0.0, part))

    def ticks(self) -> list[float]:
        """Return at most about seven round values between the ends."""
        if self.log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            step = max(1, math.ceil((last - first) / 6))
            return [10.0**k for k in range(first, last + 1, step)]
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        rough = span / 6
        power = 10.0 ** math.floor(math.log10(rough))
        step_size = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
        first_k = math.ceil(self.low / step_size - 1e-9)
        last_k = math.floor(self.high / step_size + 1e-9)
        return [k * step_size for k in range(first_k, last_k + 1)]


def log_scale(values: Iterable[float]) -> Scale:
    """Return a vertical logarithmic scale that holds all positive values."""
    positive = [v for v in values if v > 0 and math.isfinite(v)] or [1e-9, 1e-6]
    low = 10.0 ** math.floor(math.log10(min(positive)))
    high = 10.0 ** math.ceil(math.log10(max(positive)) + 1e-9)
    return Scale(low, max(high, 10 * low), HEIGHT - BOTTOM, TOP, True)


def linear_scale(values: Iterable[float]) -> Scale:
    """Return a vertical scale that holds all values, with some air."""
    finite = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    air = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return Scale(low - air, high + air, HEIGHT - BOTTOM, TOP)


def frame(x: Scale, y: Scale, x_label: str, y_label: str) -> Markup:
    """Return grid, ticks and labels; whole numbers along the bottom."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    lines: list[Markup] = []
    for value in y.ticks():
        at = y(value)
        lines.append(element("line", x1=LEFT, x2=right, y1=at, y2=at, class_="grid"))
        text = number(value) if not y.log else f"1e{round(math.log10(value))}"
        lines.append(element("text", text, x=LEFT - 8, y=at + 4, class_="tick end"))
    for value in x.ticks():
        if value == int(value):
            text = str(int(value))
            lines.append(element("text", text, x=x(value), y=bottom + 17, class_="tick middle"))
    middle = (TOP + bottom) / 2
    return joined(
        *lines,
        element("line", x1=LEFT, x2=right, y1=bottom, y2=bottom, class_="axis"),
        element("text", x_label, x=(LEFT + right) / 2, y=HEIGHT - 6, class_="label middle"),
        element(
            "text",
            y_label,
            x=14,
            y=middle,
            class_="label middle",
            transform=f"rotate(-90 14 {middle:g})",
        ),
    )


def polyline(points: Sequence[tuple[float, float]], kind: str) -> Markup:
    """Return a line through points; a lone point as a dot."""
    if len(points) == 1:
        return element("circle", cx=points[0][0], cy=points[0][1], r=3, class_=f"dot {kind}")
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return element("polyline", points=text, class_=f"line {kind}")


def picture(title: str, *children: Markup, width: float = WIDTH, height: float = HEIGHT) -> Markup:
    """Return the chart as an image that a screen reader names by its title."""
    return element(
        "svg",
        element("title", title),
        *children,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        class_="chart",
    )
