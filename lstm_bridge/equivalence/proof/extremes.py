"""Inputs and sizes at the edge of what floating point can do, and exactly what they poison.

Shape letters: N batch, L length, D input, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lstm_bridge.equivalence.compare import compare
from lstm_bridge.equivalence.kinds import example_inputs, time_axis
from lstm_bridge.equivalence.live import live_party
from lstm_bridge.equivalence.parties import Party, party_of
from lstm_bridge.equivalence.precision import Precision, precision
from lstm_bridge.equivalence.proof.pairs import PAIRS, Array, Pair, resized
from lstm_bridge.equivalence.tree import leaves
from lstm_bridge.errors import UsageError

ROW, STEP = 1, 2
"""Where a NaN or an infinity is planted."""


def _same(x: Array, time: int | None) -> Array:
    return x


@dataclass(frozen=True)
class Extreme:
    """One extreme.

    Args:
        label: for people.
        change: x and its axis of time (None for a cell) → the x to run on. Default: as drawn.
        rows: N. Default: 4.
        steps: L. Default: 7.
        D: width of the input. Default: 3.
        H: width of the state. Default: 5.
        dtype: to run in. Default: each in its own.
        lengths: valid steps per row, as a Keras mask. Default: no mask.
        only: labels of the classes that it is tried on. Default: all.
    """

    label: str
    change: Callable[[Array, int | None], Array] = _same
    rows: int = 4
    steps: int = 7
    D: int = 3
    H: int = 5
    dtype: str | None = None
    lengths: tuple[int, ...] | None = None
    only: tuple[str, ...] = ()


def _times(factor: float) -> Callable[[Array, int | None], Array]:
    return lambda x, time: (x * np.float32(factor)).astype(np.float32)


def _planted(value: float) -> Callable[[Array, int | None], Array]:
    def change(x: Array, time: int | None) -> Array:
        made = x.copy()
        if time is None:
            made[ROW, 0] = value
        else:
            made[(STEP, ROW, 0) if time == 0 else (ROW, STEP, 0)] = value
        return made

    return change


def _huge(x: Array, time: int | None) -> Array:
    return np.asarray(np.sign(x) * np.float32(1e38), np.float32)


_LONG = ("torch LSTM", "torch GRU", "keras LSTM", "mlx LSTM")
"""Classes that are run over very long sequences."""

EXTREMES = [
    Extreme("saturated gates: x to ±100", _times(60)),
    Extreme("x = ±1e38", _huge),
    Extreme("denormal x: 1e-40", _times(1e-40)),
    Extreme(f"NaN at row {ROW}, step {STEP}", _planted(np.nan)),
    Extreme(f"∞ at row {ROW}, step {STEP}", _planted(np.inf)),
    Extreme("float16", dtype="float16"),
    Extreme("bfloat16", dtype="bfloat16"),
    Extreme("L = 0", steps=0),
    Extreme("L = 1", steps=1),
    Extreme("L = 2", steps=2),
    Extreme("L = 500", steps=500, rows=2),
    Extreme("L = 10000", steps=10_000, rows=1, only=_LONG),
    Extreme("N = 0", rows=0),
    Extreme("N = 1", rows=1),
    Extreme("H = 1", H=1),
    Extreme("D = 1", D=1),
    Extreme("ragged: 7, 3, 1, 0 steps", lengths=(7, 3, 1, 0)),
]
"""Every extreme that is tried."""

COLUMNS = [
    p
    for p in PAIRS
    if p.label
    in (
        "torch LSTM",
        "torch bidirectional LSTM of two layers",
        "keras LSTM",
        "keras Bidirectional",
        "mlx LSTM",
        "torch GRU",
        "keras GRU",
        "mLSTMCell",
        "sLSTMCell",
    )
]
"""The classes that the extremes are tried on."""


@dataclass(frozen=True)
class Found:
    """What came of one extreme in one class.

    Args:
        refused: the error of the port, where it takes no such input; "" where it does.
        passed: the port agrees with its source by the rule.
        reason: what failed; "" if nothing did.
        poisoned: row → first step with a NaN or an infinity in the sequence output; step −1 where
            only states, or outputs without time, have one.
    """

    refused: str = ""
    passed: bool = False
    reason: str = ""
    poisoned: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        """The cell of a table."""
        if self.refused:
            return "refused"
        if not self.passed:
            return f"DIFFERS: {self.reason}"
        rows = (f"row {r}" + (f" from step {t}" if t >= 0 else "") for r, t in self.poisoned)
        return "; ".join(("agrees", *(f"not finite: {where}" for where in rows)))


KNOWN = {
    ("x = ±1e38", "mLSTMCell"): "layer normalisation squares what it is given: beyond 1.8e19 that "
    "overflows in float32, and torch's kernel then returns NaN where MLX's returns the bias",
}
"""Differences that stay, by extreme and class, with their reasons."""


def applies(pair: Pair, extreme: Extreme) -> bool:
    """Say whether a class has what the extreme is about: a length, or a mask."""
    if extreme.only and pair.label not in extreme.only:
        return False
    if pair.kind.endswith("Cell"):
        return extreme.steps == 7 and extreme.lengths is None
    return extreme.lengths is None or pair.kind.startswith("keras.")


def run(pair: Pair, extreme: Extreme) -> Found:
    """Run one extreme through the live source, the front-end and the oracle."""
    pair = resized(pair, extreme.D, extreme.H)
    params, chosen = pair.params(), precision(extreme.dtype)
    inputs = extreme_inputs(pair, params, extreme)
    port = party_of(pair.front_end(params), "ported", chosen)
    try:
        outputs = port.call(inputs)
    except UsageError as error:
        return Found(refused=str(error))
    report = compare(_source(pair, params, chosen), port, inputs, dtype=extreme.dtype)
    return Found("", report.passed, report.layers[0].reason, _poisoned(pair, outputs))


def _source(pair: Pair, params: Any, chosen: Precision | None) -> Party:
    return live_party(pair.kind, pair.options, params, chosen)


def extreme_inputs(pair: Pair, params: Any, extreme: Extreme) -> tuple[Any, ...]:
    """Return the call arguments of an extreme."""
    x, *states = example_inputs(
        pair.kind, pair.options, params, 0, rows=extreme.rows, steps=extreme.steps
    )
    changed = extreme.change(x, _time(pair, x, 0))
    if extreme.lengths is None:
        return changed, *states
    mask = np.arange(extreme.steps) < np.asarray(extreme.lengths)[:, None]
    return changed, *states, mask


def _time(pair: Pair, array: Array, index: int) -> int | None:
    return time_axis(pair.kind, pair.options, index, np.ndim(array))


def _poisoned(pair: Pair, outputs: Any) -> tuple[tuple[int, int], ...]:
    """Row → the first step that is not finite, over all outputs."""
    found: dict[int, int] = {}
    for index, array in enumerate(leaves(outputs)):
        time = _time(pair, array, index)
        # States are [N, H], or [K, N, H] in torch's stacks: the batch is the last axis but one.
        batch = np.ndim(array) - 2 if time is None else 1 - time
        for place in np.argwhere(~np.isfinite(array)):
            row, step = int(place[batch]), -1 if time is None else int(place[time])
            known = found.get(row, -1)
            if known < 0 or 0 <= step < known:
                found[row] = step
    return tuple(sorted(found.items()))
