"""One benchmark run: every shape, every peer, forward and training, as a report."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lstm_bridge.bench import models
from lstm_bridge.bench.machine import describe, limits, mlx_limits
from lstm_bridge.bench.models import Subject
from lstm_bridge.bench.peers import Peer, Work, installed
from lstm_bridge.bench.shapes import QUICK, SHAPES, STREAMS, Shape
from lstm_bridge.bench.startup import startup
from lstm_bridge.bench.streams import STEPS, streamers
from lstm_bridge.bench.timing import Timing, interleaved
from lstm_bridge.core import native

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
        if self.shape.N == 1 and self.shape.H >= 1024 and "read_gbytes" in limits:
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
        found = self.limits
        lines = [f"limits: matmul {found['matmul_gflops']:.0f} GFLOP/s"]
        if "read_gbytes" in found:
            lines[0] += f", reading {found['read_gbytes']:.1f} GB/s"
        for case in self.cases:
            for limit, share in case.shares(found).items():
                medians = {name: t.median for name, t in case.timings.items()}
                most = (f"{name} {times(r)}" for name, r in at_most(medians, share).items())
                line = f"{case.shape.label}: {share:.0%} of the {limit} limit; at it, "
                lines.append(line + ", ".join(most))
        took = (f"{what} {1e3 * seconds:.0f} ms" for what, seconds in self.startup.items())
        return [*lines, "start-up: " + ", ".join(took)] if self.startup else lines

    def plot(self, path: Path) -> None:
        """Draw the ratios as bars.

        Raises:
            UsageError: matplotlib is not installed.
        """
        from lstm_bridge.bench.plot import draw

        draw(self, path)


def at_most(medians: dict[str, float], share: float) -> dict[str, float]:
    """Return how many times as long as a limit allows each peer takes: the most to be had.

    Args:
        medians: seconds of every side.
        share: the part of the limit that we reach.
    """
    least = medians[OURS] * share
    # Sides of our own are at no distance of interest.
    return {name: s / least for name, s in medians.items() if not name.startswith(OURS)}


def times(ratio: float) -> str:
    """Return a ratio with two decimals where these tell something."""
    return f"{ratio:.2f}×" if ratio < 9.995 else f"{ratio:.0f}×"


def _cell(case: Case, peer: str) -> str:
    if peer not in case.timings:
        return "–"
    took = f"{1e3 * case.timings[peer].median:.3g}"
    ratio = case.ratio(peer)
    return took if peer == OURS or ratio is None else f"{took} ({times(ratio)})"


class _Scope(NamedTuple):
    """What a run times, and for how long."""

    shapes: tuple[Shape, ...]
    streams: tuple[Shape, ...]
    subjects: tuple[Subject, ...]
    only: tuple[str, ...]  # the distributions whose sides take part, or none for all
    budget: float  # seconds for each side
    slow: float  # seconds beyond which a side is called once
    least: int  # calls of each side that are not slow


def _scope(quick: bool, composed: bool) -> _Scope:
    shapes, streams = (QUICK, STREAMS[:2]) if quick else (SHAPES, STREAMS)
    if composed:
        single = tuple(s for s in shapes if s.layers == 1 and not s.bidirectional)
        return _Scope(single, streams, (), ("mlx",), 0.3 if quick else 0.4, 0.5, 5)
    if quick:
        return _Scope(shapes, streams, (), (), 0.3, 5.0, 3)
    return _Scope(shapes, streams, models.installed(), (), 1.5, 5.0, 3)


def bench(
    quick: bool = False,
    progress: Progress | None = None,
    *,
    composed: bool = False,
    blas: str | None = None,
) -> BenchReport:
    """Time our layer and its installed peers, interleaved, on this machine.

    Args:
        quick: five small shapes, single LSTMs only, and short turns. Default: False.
        progress: called with cases done and cases in all. Default: None.
        composed: compute with MLX's own operations, as without the fused kernel, beside MLX's own
            layer alone. Default: False.
        blas: name of the library that ``blas.preload`` has put in the place of MLX's own BLAS, for
            the report. Default: None.

    Returns:
        BenchReport.
    """
    machine, measured = describe(), mlx_limits() if composed else limits()
    scope = _scope(quick, composed)
    total = len(scope.shapes) * len(MODES) + len(scope.streams)
    total += sum(len(s.modes) for s in scope.subjects)
    cases: list[Case] = []

    def add(shape: Shape | Subject, mode: str, sides: dict[str, Work]) -> None:
        cases.append(Case(shape, mode, interleaved(sides, scope.budget, scope.slow, scope.least)))
        if progress is not None:
            progress(len(cases), total)

    with native.disabled() if composed else nullcontext():
        for shape in scope.shapes:
            makers = installed(*scope.only).items()
            peers = {name: peer for name, make in makers if (peer := make(shape))}
            for mode in MODES:
                add(shape, mode, _of(peers, mode))
        for shape in scope.streams:
            add(shape, STREAM, streamers(shape, *scope.only))
        for subject in scope.subjects:
            peers = subject.make()
            for mode in subject.modes:
                add(subject, mode, _of(peers, mode))
    flags = {"--quick": quick, "--composed": composed, f"--blas {blas}": blas}
    command = " ".join(["lstm-bridge bench", *(flag for flag, given in flags.items() if given)])
    begun = {} if composed else startup()
    return BenchReport(command, machine, measured, begun, tuple(cases))


def _of(peers: dict[str, Peer], mode: str) -> dict[str, Work]:
    return {name: getattr(peer, mode) for name, peer in peers.items()}
