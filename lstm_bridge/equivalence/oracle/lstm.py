"""The LSTM recurrence in plain NumPy, gate by gate as a textbook prints it: the float64 truth.

Shares no code with ``lstm_bridge.core``: nothing is fused, hoisted or blocked here.
Shape letters: N batch, L length, D input, H hidden, P projection (P = H without one).

::

    i_t = sigma(W_i x_t + U_i h_{t-1} + b_i)        f_t, o_t likewise
    g_t = phi  (W_g x_t + U_g h_{t-1} + b_g)
    c_t = f_t * c_{t-1} + i_t * g_t
    h_t = o_t * phi(c_t), or R (o_t * phi(c_t)) with a projection R
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lstm_bridge.equivalence.oracle.activations import ACTIVATIONS

Array = NDArray[Any]
Options = Mapping[str, Any]
Params = Mapping[str, Array]


class Gate(NamedTuple):
    """One gate's own weights."""

    W: Array  # [H, D]
    U: Array  # [H, P]
    b: Array  # [H]


@dataclass(frozen=True, slots=True)
class Direction:
    """One layer in one direction: four gates, in any framework's layout before translation."""

    i: Gate
    f: Gate
    g: Gate
    o: Gate
    projection: Array | None = None  # [P, H]
    reverse: bool = False
    phi: str = "tanh"
    sigma: str = "sigmoid"

    @property
    def H(self) -> int:
        """Width of the cell state."""
        return int(self.i.W.shape[0])

    @property
    def P(self) -> int:
        """Width of the hidden state."""
        return int(self.i.U.shape[1])


class Step(NamedTuple):
    """What one step saw and made; ``z`` are the gates before, ``a`` after their activation."""

    t: int
    x: Array
    h: Array
    c: Array
    z: dict[str, Array]
    a: dict[str, Array]
    c_new: Array
    phi_c: Array
    h_new: Array


@dataclass(slots=True)
class Run:
    """One direction over a whole sequence; outputs stand at the input's own time positions."""

    direction: Direction
    x: Array  # [N, L, D]
    y: Array  # [N, L, P]
    cs: Array  # [N, L, H]
    h: Array  # [N, P], last
    c: Array  # [N, H], last
    mask: Array | None
    zero_masked: bool
    steps: list[Step] = field(default_factory=list)  # in processing order


def blocks(rows: Array) -> tuple[Array, Array, Array, Array]:
    """Cut ``[4H, ...]`` into its four gates' rows."""
    H = rows.shape[0] // 4
    return rows[:H], rows[H : 2 * H], rows[2 * H : 3 * H], rows[3 * H :]


def direction(W: Array, U: Array, b: Array | None, **more: Any) -> Direction:
    """Build a Direction from ``W [4H, D]``, ``U [4H, P]``, ``b [4H]`` with gate rows i, f, g, o."""
    b = np.zeros(W.shape[0], W.dtype) if b is None else b
    i, f, g, o = (Gate(*parts) for parts in zip(blocks(W), blocks(U), blocks(b), strict=True))
    return Direction(i, f, g, o, **more)


def run(
    d: Direction,
    x: Array,
    h: Array | None = None,
    c: Array | None = None,
    mask: Array | None = None,
    zero_masked: bool = False,
) -> Run:
    """Run one direction over ``x [N, L, D]`` from ``h [N, P]`` and ``c [N, H]`` (default zeros).

    Where ``mask [N, L]`` is False a step carries h and c, and its output repeats the output before
    it in processing order, or is zero with ``zero_masked``.
    """
    N, L, _ = x.shape
    h = np.zeros((N, d.P), x.dtype) if h is None else h
    c = np.zeros((N, d.H), x.dtype) if c is None else c
    done = Run(
        d,
        x,
        np.zeros((N, L, d.P), x.dtype),
        np.zeros((N, L, d.H), x.dtype),
        h,
        c,
        mask,
        zero_masked,
    )
    y = np.zeros_like(h)
    # Overflow and NaN are facts about the inputs that the verdict looks at, not warnings.
    with np.errstate(all="ignore"):
        for t in reversed(range(L)) if d.reverse else range(L):
            step = _step(d, t, x[:, t], h, c)
            done.steps.append(step)
            keep = np.ones((N, 1), bool) if mask is None else mask[:, t, None]
            y = np.where(keep, step.h_new, np.zeros_like(y) if zero_masked else y)
            h, c = np.where(keep, step.h_new, h), np.where(keep, step.c_new, c)
            done.y[:, t], done.cs[:, t] = y, c
    done.h, done.c = h, c
    return done


def _step(d: Direction, t: int, x: Array, h: Array, c: Array) -> Step:
    sigma, phi = ACTIVATIONS[d.sigma].f, ACTIVATIONS[d.phi].f
    z = {
        k: x @ w.W.T + h @ w.U.T + w.b for k, w in (("i", d.i), ("f", d.f), ("g", d.g), ("o", d.o))
    }
    a = {k: (phi if k == "g" else sigma)(v) for k, v in z.items()}
    c_new = a["f"] * c + a["i"] * a["g"]
    phi_c = phi(c_new)
    h_new = a["o"] * phi_c
    if d.projection is not None:
        h_new = h_new @ d.projection.T
    return Step(t, x, h, c, z, a, c_new, phi_c, h_new)


def run_layers(
    layers: Sequence[Sequence[Direction]],
    x: Array,
    states: Sequence[tuple[Array | None, Array | None]],
    mask: Array | None = None,
    zero_masked: bool = True,
) -> list[list[Run]]:
    """Run stacked layers; each reads the directions of the one before, side by side.

    Args:
        layers: per layer, its directions.
        x: inputs, ``[N, L, D]``.
        states: initial (h, c) of every direction of every layer, in that order.
        mask: boolean, ``[N, L]``. Default: all valid.
        zero_masked: masked outputs are zero. Default: True.

    Returns:
        The runs, per layer and direction.
    """
    runs: list[list[Run]] = []
    k = 0
    for directions in layers:
        done = []
        for d in directions:
            done.append(run(d, x, *states[k], mask, zero_masked))
            k += 1
        runs.append(done)
        x = np.concatenate([r.y for r in done], axis=-1)
    return runs


def states_before(r: Run) -> tuple[Array, Array]:
    """Return h ``[N, L, P]`` and c ``[N, L, H]`` as each step found them, by time position."""
    N, L, _ = r.x.shape
    h = np.zeros((N, L, r.direction.P), r.x.dtype)
    c = np.zeros((N, L, r.direction.H), r.x.dtype)
    for step in r.steps:
        h[:, step.t], c[:, step.t] = step.h, step.c
    return h, c
