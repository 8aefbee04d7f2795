"""One benchmark run: every shape, every peer, forward and training, as a report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstm_bridge.bench.machine import describe, limits
from lstm_bridge.bench.peers import Peer, installed
from lstm_bridge.bench.shapes import QUICK, SHAPES, Shape
from lstm_bridge.bench.timing import Timing, interleaved

if TYPE_CHECKING:
    from rich.table import Table

MODES = ("forward", "train")
OURS = "lstm_bridge"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Case:
    """The timings of one shape in one mode."""

    shape: Shape
    mode: str
    timings: dict[str, Timing]

    def ratio(self, peer: str) -> float | None:
        """Return how many times faster we are than a peer: its median over ours."""
        if peer not in self.timings:
            return None
        return self.timings[peer].median / self.timings[OURS].median


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What a benchmark run measured.

    Args:
        command: the command that repeats it.
        machine: processor, cores, load, versions.
        limits: measured matmul rate and bandwidth.
        cases: one per shape and mode.
    """

    command: str
    machine: dict[str, Any]
    limits: dict[str, float]
    cases: tuple[Case, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data, ready for ``json.dumps``."""
        return {
            "command": self.command,
            "machine": self.machine,
            "limits": self.limits,
            "cases": [
                {
                    "shape": case.shape.label,
                    "mode": case.mode,
                    "gflop": case.shape.flops / 1e9,
                    "seconds": {name: t._asdict() for name, t in case.timings.items()},
                }
                for case in self.cases
            ],
        }

    def to_table(self, mode: str) -> Table:
        """Return one mode's medians in milliseconds, and how many times faster we are."""
        from rich import box
        from rich.table import Table

        peers = list(dict.fromkeys(name for case in self.cases for name in case.timings))
        title = f"{mode}: median ms (times as long as {OURS})"
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
        table.add_column("N,L,D,H")
        for peer in peers:
            table.add_column(peer, justify="right")
        for case in self.cases:
            if case.mode == mode:
                table.add_row(case.shape.label, *(_cell(case, peer) for peer in peers))
        return table

    def plot(self, path: Path) -> None:
        """Draw the ratios as bars.

        Raises:
            UsageError: matplotlib is not installed.
        """
        from lstm_bridge.bench.plot import draw

        draw(self, path)


def _cell(case: Case, peer: str) -> str:
    if peer not in case.timings:
        return "–"
    took = f"{1e3 * case.timings[peer].median:.3g}"
    ratio = case.ratio(peer)
    return took if peer == OURS or ratio is None else f"{took} ({ratio:.2g}×)"


def bench(quick: bool = False, progress: Progress | None = None) -> BenchReport:
    """Time our layer and its installed peers, interleaved, on this machine.

    Args:
        quick: five small shapes and short turns. Default: False.
        progress: called with cases done and cases in all. Default: None.

    Returns:
        BenchReport.
    """
    machine, measured = describe(), limits()
    shapes = QUICK if quick else SHAPES
    cases: list[Case] = []
    for shape in shapes:
        peers = {name: peer for name, make in installed().items() if (peer := make(shape))}
        for mode in MODES:
            cases.append(_case(shape, mode, peers, budget=0.3 if quick else 1.5))
            if progress is not None:
                progress(len(cases), len(shapes) * len(MODES))
    command = "lstm-bridge bench" + (" --quick" if quick else "")
    return BenchReport(command, machine, measured, tuple(cases))


def _case(shape: Shape, mode: str, peers: dict[str, Peer], budget: float) -> Case:
    sides = {name: getattr(peer, mode) for name, peer in peers.items()}
    return Case(shape, mode, interleaved(sides, budget))
