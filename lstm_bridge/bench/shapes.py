"""What is timed: the shapes of everyday LSTMs, from streaming to what fills a machine."""

from __future__ import annotations

from typing import NamedTuple


class Shape(NamedTuple):
    """One case: N sequences of L steps, D inputs, H hidden units."""

    N: int
    L: int
    D: int
    H: int
    layers: int = 1
    bidirectional: bool = False

    @property
    def label(self) -> str:
        """Return the case as the tables spell it."""
        extra = f", {self.layers} layers" if self.layers > 1 else ""
        extra += ", both directions" if self.bidirectional else ""
        return f"{self.N},{self.L},{self.D},{self.H}{extra}"

    @property
    def flops(self) -> float:
        """Multiply-adds of one forward pass, counted as two operations each."""
        directions = 2 if self.bidirectional else 1
        first = 8.0 * self.H * (self.D + self.H)
        later = 8.0 * self.H * (self.H * directions + self.H) * (self.layers - 1)
        return self.N * self.L * directions * (first + later)

    @property
    def weight_bytes(self) -> float:
        """Bytes of recurrent weights that one layer's steps read, one after the other."""
        return self.L * 16.0 * self.H * self.H


SHAPES = (
    Shape(1, 64, 16, 32),
    Shape(1, 10, 1, 64),
    Shape(32, 10, 1, 64),
    Shape(1, 128, 128, 256),
    Shape(32, 64, 32, 64),
    Shape(32, 128, 128, 256),
    Shape(64, 100, 256, 512),
    Shape(1, 100, 512, 1024),
    Shape(8, 1000, 40, 128),
    Shape(1, 1, 16, 32),
    Shape(1, 1, 128, 256),
    Shape(8, 50, 32, 64, layers=3, bidirectional=True),
)
"""Every benchmark case: the only list of them."""

STREAMS = tuple(Shape(1, 1, D, H) for D, H in ((16, 32), (32, 64), (64, 128), (128, 256)))
"""Streaming: one step per call, its states carried to the next call."""

QUICK = SHAPES[:5]
"""What --quick runs: the cases that no implementation needs seconds for."""
