"""The benchmark as a picture: how many times longer each peer takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lstm_bridge.errors import UsageError

if TYPE_CHECKING:
    from lstm_bridge.bench.run import BenchReport


def draw(report: BenchReport, path: Path) -> None:
    """Write a bar chart of the peers' time over ours, one panel per mode.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError(
            "bench --plot", expected="matplotlib", got="none", fix="pip install 'lstm-bridge[plot]'"
        ) from None
    modes = list(dict.fromkeys(case.mode for case in report.cases))
    figure = Figure(figsize=(10, 3.6 * len(modes)), layout="constrained")
    for axes, mode in zip(figure.subplots(len(modes), 1, squeeze=False)[:, 0], modes, strict=True):
        cases = [case for case in report.cases if case.mode == mode]
        peers = [name for name in cases[0].timings if cases[0].ratio(name) != 1.0]
        width = 0.8 / max(1, len(peers))
        for k, peer in enumerate(peers):
            ratios = [case.ratio(peer) or 0 for case in cases]
            axes.bar([x + k * width for x in range(len(cases))], ratios, width, label=peer)
        axes.axhline(1, color="black", linewidth=0.8)
        axes.set_yscale("log")
        axes.set_ylabel("time / ours")
        axes.set_title(f"{mode}: how many times longer than lstm_bridge", loc="left")
        ticks = [x + 0.4 - width / 2 for x in range(len(cases))]
        axes.set_xticks(ticks, [case.shape.label for case in cases], rotation=20, ha="right")
        axes.legend()
    figure.savefig(path)
