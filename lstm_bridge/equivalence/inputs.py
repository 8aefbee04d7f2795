"""Inputs of a comparison by description: shapes, ranges, ragged lengths, extremes.

Shape letters: N batch, L length, D input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_bridge.equivalence.tree import apply
from lstm_bridge.errors import UsageError

Array = NDArray[Any]


@dataclass(frozen=True)
class InputSpec:
    """One input array by description, drawn anew for every comparison from its seed.

    Args:
        shape: of the array, e.g. ``(N, L, D)``.
        low: smallest value. Default: −1.
        high: largest value; integers stay below it. Default: 1.
        dtype: ``"float32"``, ``"int32"`` for token numbers, or ``"bool"`` for a mask. Default:
            ``"float32"``.
        lengths: valid steps per row, for ragged batches: a mask is True before them, another array
            is ``pad`` after them. Default: all steps are valid.
        pad: what stands after a row's length. Default: 0.
        plant: index → value set there, e.g. ``{(0, 2): float("nan")}`` for row 0 at step 2.
            Default: none.

    Raises:
        UsageError: dtype, range or lengths make no array.
    """

    shape: tuple[int, ...]
    low: float = -1.0
    high: float = 1.0
    dtype: str = "float32"
    lengths: tuple[int, ...] | None = None
    pad: float = 0.0
    plant: Mapping[tuple[int, ...], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "int32", "bool"):
            self._refuse("dtype", "float32, int32 or bool", repr(self.dtype))
        if not self.low <= self.high:
            self._refuse("range", "low ≤ high", f"{self.low} and {self.high}")
        if self.lengths is not None and (
            len(self.shape) < 2
            or len(self.lengths) != self.shape[0]
            or not all(0 <= n <= self.shape[1] for n in self.lengths)
        ):
            expected = "one length per row, none above the number of steps"
            self._refuse("lengths", expected, f"{self.lengths} for shape {self.shape}")

    def _refuse(self, what: str, expected: str, got: str) -> None:
        raise UsageError(f"InputSpec {what}", expected=expected, got=got)

    def draw(self, rng: np.random.Generator) -> Array:
        """Return the array that this generator makes of the description."""
        made = self._values(rng)
        if self.lengths is not None:
            valid = np.arange(self.shape[1]) < np.asarray(self.lengths)[:, None]
            made[~valid] = self.pad
        for index, value in self.plant.items():
            made[index] = value
        return made

    def _values(self, rng: np.random.Generator) -> Array:
        if self.dtype == "bool":
            return np.ones(self.shape, bool)
        if self.dtype == "int32":
            return rng.integers(int(self.low), int(self.high), self.shape, dtype=np.int32)
        # Halves, so that a range as wide as float32's own does not overflow.
        part = rng.random(self.shape)
        return (self.low * (1 - part) + self.high * part).astype(np.float32)


def drawn(inputs: Any, seed: int) -> Any:
    """Return call arguments with every InputSpec in them drawn."""
    rng = np.random.default_rng([seed, 2])
    return apply(lambda a: a.draw(rng) if isinstance(a, InputSpec) else a, inputs)
