"""Back-propagation through time of the oracle's recurrence, written out by hand, and a check of it.

Shape letters: N batch, L length, D input, H hidden, P projection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lstm_bridge.equivalence.oracle.activations import ACTIVATIONS
from lstm_bridge.equivalence.oracle.lstm import Array, Direction, Gate, Run, Step

GATES = ("i", "f", "g", "o")


@dataclass(slots=True)
class RunGradients:
    """Gradients of one direction: its inputs, its initial states, its weights by gate."""

    x: Array  # [N, L, D]
    h0: Array  # [N, P]
    c0: Array  # [N, H]
    gates: dict[str, Gate]
    projection: Array | None

    def rows(self) -> tuple[Array, Array, Array]:
        """``dW [4H, D]``, ``dU [4H, P]``, ``db [4H]`` with gate rows i, f, g, o."""
        return (
            np.concatenate([self.gates[k].W for k in GATES]),
            np.concatenate([self.gates[k].U for k in GATES]),
            np.concatenate([self.gates[k].b for k in GATES]),
        )


def backward(
    r: Run,
    dy: Array | None = None,
    dh: Array | None = None,
    dc: Array | None = None,
    dcs: Array | None = None,
) -> RunGradients:
    """Pull cotangents of one run back to what went into it.

    Args:
        r: the forward run.
        dy: cotangent of every output, ``[N, L, P]``. Default: zeros.
        dh: of the last hidden state, ``[N, P]``. Default: zeros.
        dc: of the last cell state, ``[N, H]``. Default: zeros.
        dcs: of every cell state, ``[N, L, H]``. Default: zeros.

    Returns:
        RunGradients in the run's own dtype.
    """
    d = r.direction
    dy = np.zeros_like(r.y) if dy is None else dy
    dcs = np.zeros_like(r.cs) if dcs is None else dcs
    dh = np.zeros_like(r.h) if dh is None else dh
    dc = np.zeros_like(r.c) if dc is None else dc
    out = RunGradients(np.zeros_like(r.x), dh, dc, _zero_gates(d), _zeros(d.projection))
    repeated = np.zeros_like(dh)  # cotangent of this step's output from later masked repeats
    with np.errstate(all="ignore"):
        for step in reversed(r.steps):
            keep = np.ones((len(dh), 1), bool) if r.mask is None else r.mask[:, step.t, None]
            dy_t = dy[:, step.t] + repeated
            dc = dc + dcs[:, step.t]
            dx, dh_in, dc_in = _step_back(
                d, step, np.where(keep, dh + dy_t, 0), np.where(keep, dc, 0), out
            )
            out.x[:, step.t] = dx
            dh, dc = np.where(keep, dh_in, dh), np.where(keep, dc_in, dc)
            repeated = np.zeros_like(dh) if r.zero_masked else np.where(keep, 0, dy_t)
    out.h0, out.c0 = dh, dc
    return out


def _step_back(
    d: Direction, s: Step, dh: Array, dc: Array, out: RunGradients
) -> tuple[Array, Array, Array]:
    """One step's cotangents of (x, h, c); weights' gradients are added to ``out``."""
    sigma, phi = ACTIVATIONS[d.sigma].vjp, ACTIVATIONS[d.phi].vjp
    if d.projection is not None:
        out.projection = out.projection + dh.T @ (s.a["o"] * s.phi_c)
        dh = dh @ d.projection
    dc = dc + phi(s.c_new, s.phi_c, dh * s.a["o"])
    da = {"i": dc * s.a["g"], "f": dc * s.c, "g": dc * s.a["i"], "o": dh * s.phi_c}
    dx, dh_before = np.zeros_like(s.x), np.zeros_like(s.h)
    for k in GATES:
        w: Gate = getattr(d, k)
        dz = (phi if k == "g" else sigma)(s.z[k], s.a[k], da[k])
        dx += dz @ w.W
        dh_before += dz @ w.U
        so_far = out.gates[k]
        out.gates[k] = Gate(so_far.W + dz.T @ s.x, so_far.U + dz.T @ s.h, so_far.b + dz.sum(axis=0))
    return dx, dh_before, dc * s.a["f"]


def backward_layers(
    runs: Sequence[Sequence[Run]],
    dy: Array,
    dstates: Sequence[tuple[Array | None, ...]],
) -> tuple[Array, list[list[RunGradients]]]:
    """Pull cotangents back through stacked layers.

    Args:
        runs: what ``run_layers`` returned.
        dy: cotangent of the last layer's outputs, directions side by side, ``[N, L, ...]``.
        dstates: cotangents of the last (h, c) of every direction of every layer, and, third, of
            every cell state where those are an output.

    Returns:
        The cotangent of the stack's input, and the gradients per layer and direction.
    """
    found: list[list[RunGradients]] = []
    k = sum(len(layer) for layer in runs)
    for layer in reversed(runs):
        k -= len(layer)
        edges = np.cumsum([r.direction.P for r in layer])[:-1]
        parts = np.split(dy, edges, axis=-1)
        done = [
            backward(r, part, *dstates[k + j])
            for j, (r, part) in enumerate(zip(layer, parts, strict=True))
        ]
        found.insert(0, done)
        dy = np.sum([g.x for g in done], axis=0)
    return dy, found


def finite_differences(
    f: Callable[[Sequence[Array]], Sequence[Array]],
    at: Sequence[Array],
    cotangents: Sequence[Array],
    step: float = 1e-6,
) -> list[Array]:
    """Return d(sum of cotangent · f)/d(each array of ``at``) by central differences in float64.

    Args:
        f: arrays in, arrays out.
        at: where to differentiate.
        cotangents: one per output of ``f``.
        step: half the distance between the two evaluations. Default: 1e-6.

    Returns:
        One gradient per array of ``at``; good to about nine digits.
    """
    arrays = [np.array(a, dtype=np.float64) for a in at]

    def value() -> float:
        outs = f(arrays)
        return float(sum((c * o).sum() for c, o in zip(cotangents, outs, strict=True)))

    found = [np.zeros_like(a) for a in arrays]
    for a, grad in zip(arrays, found, strict=True):
        for at_index in np.ndindex(a.shape):
            kept = a[at_index]
            a[at_index] = kept + step
            high = value()
            a[at_index] = kept - step
            grad[at_index] = (high - value()) / (2 * step)
            a[at_index] = kept
    return found


def _zero_gates(d: Direction) -> dict[str, Gate]:
    return {k: Gate(*(np.zeros_like(part) for part in getattr(d, k))) for k in GATES}


def _zeros(array: Array | None) -> Array | None:
    return None if array is None else np.zeros_like(array)
