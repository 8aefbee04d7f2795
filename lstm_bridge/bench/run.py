"""One benchmark run: every shape, every peer, forward and training, as a report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstm_bridge.bench import models
from lstm_bridge.bench.machine import describe, limits
from lstm_bridge.bench.models import Subject
from lstm_bridge.bench.peers import Peer, installed
from lstm_bridge.bench.shapes import QUICK, SHAPES, STREAMS, Shape
from lstm_bridge.bench.startup import startup
from lstm_bridge.bench.streams import STEPS, streamers
from lstm_bridge.bench.timing import Timing, interleaved

if TYPE_CHECKING:
    from rich.table import Table

MODES = ("forward", "train")
STREAM = "stream"
OURS = "lstm_bridge"

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Case:
    """The timings of one shape in one mode."""

    shape: Shape | Subject
    mode: str
    timings: dict[str, Timing]

    def ratio(self, peer: str) -> float | None:
        """Return how many times faster we are than a peer: its median over ours."""
        if peer not in self.timings:
            return None
        return self.timings[peer].median / self.timings[OURS].median

    def shares(self, limits: dict[str, float]) -> dict[str, float]:
        """Return which part of the machine's limits our forward pass reaches, where one binds.

        Args:
            limits: of ``machine.limits``.
        """
        if self.mode != "forward" or not isinstance(self.shape, Shape):
            return {}
        seconds = self.timings[OURS].median
        found = {}
        if self.shape.N >= 8 and self.shape.flops >= 1e9:
            found["matmul"] = self.shape.flops / seconds / 1e9 / limits["matmul_gflops"]
        if self.shape.N == 1 and self.shape.H >= 1024:
            found["read"] = self.shape.weight_bytes / seconds / 1e9 / limits["read_gbytes"]
        return found


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What a benchmark run measured.

    Args:
        command: the command that repeats it.
        machine: processor, cores, load, versions.
        limits: measured matmul rate and bandwidth.
        startup: seconds that the import, the command and a first call take.
        cases: one per shape and mode; those of mode ``stream`` take ``streams.STEPS`` steps.
    """

    command: str
    machine: dict[str, Any]
    limits: dict[str, float]
    startup: dict[str, float]
    cases: tuple[Case, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data, ready for ``json.dumps``."""
        return {
            "command": self.command,
            "machine": self.machine,
            "limits": self.limits,
            "startup": self.startup,
            "cases": [
                {
                    "shape": case.shape.label,
                    "mode": case.mode,
                    "gflop": case.shape.flops / 1e9,
                    "share_of_limit": case.shares(self.limits),
                    "seconds": {name: t._asdict() for name, t in case.timings.items()},
                }
                for case in self.cases
            ],
        }

    def to_table(self, mode: str) -> Table:
        """Return one mode's medians in milliseconds, and how many times faster we are."""
        from rich import box
        from rich.table import Table

        cases = [case for case in self.cases if case.mode == mode]
        peers = list(dict.fromkeys(name for case in cases for name in case.timings))
        steps = f" for {STEPS} steps" if mode == STREAM else ""
        title = f"{mode}: median ms{steps} (times as long as {OURS})"
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
        table.add_column("N,L,D,H")
        for peer in peers:
            table.add_column(peer, justify="right")
        for case in cases:
            table.add_row(case.shape.label, *(_cell(case, peer) for peer in peers))
        return table

    def to_lines(self) -> list[str]:
        """Return the machine's limits, what of them we reach, and what starting costs."""
        lines = [
            f"limits: matmul {self.limits['matmul_gflops']:.0f} GFLOP/s, "
            f"reading {self.limits['read_gbytes']:.1f} GB/s"
        ]
        for case in self.cases:
            for limit, share in case.shares(self.limits).items():
                lines.append(f"{case.shape.label}: {share:.0%} of the {limit} limit")
        took = (f"{what} {1e3 * seconds:.0f} ms" for what, seconds in self.startup.items())
        return [*lines, "start-up: " + ", ".join(took)]

    def plot(self, path: Path) -> None:
        """Draw the ratios as bars.

        Raises:
            UsageError: matplotlib is not installed.
        """
        from lstm_bridge.bench.plot import draw

        draw(self, path)


def times(ratio: float) -> str:
    """Return a ratio with two decimals where these tell something."""
    return f"{ratio:.2f}×" if ratio < 9.995 else f"{ratio:.0f}×"


def _cell(case: Case, peer: str) -> str:
    if peer not in case.timings:
        return "–"
    took = f"{1e3 * case.timings[peer].median:.3g}"
    ratio = case.ratio(peer)
    return took if peer == OURS or ratio is None else f"{took} ({times(ratio)})"


def bench(quick: bool = False, progress: Progress | None = None) -> BenchReport:
    """Time our layer and its installed peers, interleaved, on this machine.

    Args:
        quick: five small shapes, single LSTMs only, and short turns. Default: False.
        progress: called with cases done and cases in all. Default: None.

    Returns:
        BenchReport.
    """
    machine, measured = describe(), limits()
    shapes, streams = (QUICK, STREAMS[:2]) if quick else (SHAPES, STREAMS)
    subjects = () if quick else models.installed()
    total = len(shapes) * len(MODES) + len(streams) + sum(len(s.modes) for s in subjects)
    cases: list[Case] = []
    for shape in shapes:
        peers = {name: peer for name, make in installed().items() if (peer := make(shape))}
        for mode in MODES:
            cases.append(_case(shape, mode, peers, budget=0.3 if quick else 1.5))
            if progress is not None:
                progress(len(cases), total)
    for shape in streams:
        timings = interleaved(streamers(shape), budget=0.3 if quick else 1.0)
        cases.append(Case(shape, STREAM, timings))
        if progress is not None:
            progress(len(cases), total)
    for subject in subjects:
        sides = subject.make()
        for mode in subject.modes:
            cases.append(_case(subject, mode, sides, budget=1.5))
            if progress is not None:
                progress(len(cases), total)
    command = "lstm-bridge bench" + (" --quick" if quick else "")
    return BenchReport(command, machine, measured, startup(), tuple(cases))


def _case(shape: Shape | Subject, mode: str, peers: dict[str, Peer], budget: float) -> Case:
    sides = {name: getattr(peer, mode) for name, peer in peers.items()}
    return Case(shape, mode, interleaved(sides, budget))
