"""A report as a picture: error over time, ours and the source's, one panel per layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstm_bridge.equivalence.judge import ALLOWED_RATIO
from lstm_bridge.errors import UsageError

if TYPE_CHECKING:
    from lstm_bridge.equivalence.report import ArrayResult, LayerResult, Report

_OURS, _SOURCE, _LIMIT = "#0072b2", "#d55e00", "#666666"  # told apart by colour-blind eyes too


def draw(report: Report, path: Path) -> None:
    """Write the picture; see ``Report.plot``."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise UsageError(
            "plot",
            expected="matplotlib",
            got="no such package",
            fix="pip install 'lstm-bridge[plot]'",
        ) from error
    layers = report.layers
    figure = Figure(figsize=(8.0, 0.9 + 2.6 * max(1, len(layers))), layout="constrained")
    word = "equivalent" if report.passed else "NOT equivalent"
    figure.suptitle(f"Error against the float64 oracle: {word}", fontsize=12)
    for k, layer in enumerate(layers):
        _panel(figure.add_subplot(len(layers), 1, k + 1), layer, last=k == len(layers) - 1)
    try:
        figure.savefig(path, dpi=150)
    except ValueError as error:
        raise UsageError(
            f"plot {path.name}", expected="a picture's extension", got=str(error), fix="use .png"
        ) from error


def _panel(axes: Any, layer: LayerResult, *, last: bool) -> None:
    axes.set_title(f"{layer.path or layer.kind}  ({layer.source})", fontsize=10, loc="left")
    axes.set_ylabel("largest |error|")
    array = next((a for a in layer.arrays if a.over_time), None)
    if array is None:
        _bars(axes, layer)
        return
    steps = range(len(array.over_time))
    smallest = _smallest(array)
    marker = "o" if len(array.over_time) <= 30 else ""
    for values, colour, label in (
        (array.source_over_time, _SOURCE, "source"),
        (array.over_time, _OURS, "ported"),
    ):
        shown = [max(v, smallest) for v in values]
        axes.plot(steps, shown, color=colour, marker=marker, markersize=3, label=label)
    limit = ALLOWED_RATIO * max(array.verdict.source_error, array.verdict.floor)
    if limit:
        axes.axhline(limit, color=_LIMIT, linestyle="--", linewidth=1, label="limit")
    axes.set_yscale("log")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(fontsize=8, loc="best", ncols=3)
    if last:
        axes.set_xlabel(f"time step of {array.name!r}")


def _bars(axes: Any, layer: LayerResult) -> None:
    """A layer without an axis of time: one pair of bars per array."""
    names = [a.name for a in layer.arrays]
    places = range(len(names))
    tiny = 2.0**-40
    axes.bar(
        [p - 0.2 for p in places],
        [max(a.verdict.source_error, tiny) for a in layer.arrays],
        width=0.4, color=_SOURCE, label="source",
    )  # fmt: skip
    axes.bar(
        [p + 0.2 for p in places],
        [max(a.verdict.max_abs, tiny) for a in layer.arrays],
        width=0.4, color=_OURS, label="ported",
    )  # fmt: skip
    axes.set_xticks(list(places), names, fontsize=8)
    axes.set_yscale("log")
    axes.legend(fontsize=8)


def _smallest(array: ArrayResult) -> float:
    """What stands for an error of exactly zero, which a logarithmic axis cannot show."""
    positive = [e for e in (*array.over_time, *array.source_over_time) if e > 0]
    return min(positive) / 2 if positive else max(array.verdict.floor, 2.0**-40) / 16
