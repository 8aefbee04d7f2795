"""Gradients through layers of another framework that stand in for one layer of the source.

Each layer differentiates itself; here their gradients are chained, and put under the source's own
names and layouts. Shape letters: N batch, L length, D input, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lstm_bridge.equivalence.oracle import LAYOUTS
from lstm_bridge.equivalence.oracle.gradients import GATES, RunGradients
from lstm_bridge.equivalence.oracle.lstm import Gate, Run
from lstm_bridge.equivalence.parties.base import Gradients, Party
from lstm_bridge.equivalence.tree import leaves

Array = NDArray[Any]
States = list[tuple[Array, Array]]
Weights = dict[str, Array]


class Pulled(NamedTuple):
    """What one link hands back.

    Args:
        x: gradient of its input.
        states: gradients of its initial (h, c), by direction.
        strands: gradients of its weights, as ``strands`` names them, in the link's own order.
    """

    x: Array
    states: States
    strands: list[Weights]


Pull = Callable[[Array, States, Array, States], Pulled]
"""Input, initial states, cotangents of the output and of the last states in; gradients out."""


def pull_torch(party: Party, x: Array, states: States, dy: Array, last: States) -> Pulled:
    """Pull through a torch LSTM over ``x [N, L, D]``."""
    pair = tuple(np.stack(s) for s in zip(*states, strict=True))
    ends = [dy, *(np.stack(s) for s in zip(*last, strict=True))]
    (dx, dh, dc), params = _gradients(party)((x, pair), ends)
    names = [n.removeprefix("weight_ih") for n in params if n.startswith("weight_ih")]
    held = [_torch_strand(params, name) for name in names]
    return Pulled(dx, list(zip(dh, dc, strict=True)), held)


def _torch_strand(params: Mapping[str, Array], name: str) -> Weights:
    found = {"Wx": params[f"weight_ih{name}"], "Wh": params[f"weight_hh{name}"]}
    bias = params.get(f"bias_ih{name}")  # both biases of torch have the one gradient
    return found if bias is None else {**found, "bias": bias}


def pull_keras(party: Party, x: Array, states: States, dy: Array, last: States) -> Pulled:
    """Pull through a Keras LSTM or Bidirectional that returns sequences and states."""
    flat = [s for pair in states for s in pair]
    by_input, params = _gradients(party)((x, flat), [dy, *(s for pair in last for s in pair)])
    starts = [n.removesuffix("kernel") for n in params if n.rpartition(".")[2] == "kernel"]
    held = []
    for start in starts:
        strand = {"Wx": params[f"{start}kernel"].T, "Wh": params[f"{start}recurrent_kernel"].T}
        bias = params.get(f"{start}bias")
        held.append(strand if bias is None else {**strand, "bias": bias})
    found = by_input[1:]
    return Pulled(by_input[0], list(zip(found[::2], found[1::2], strict=True)), held)


def pull_stock(sides: Sequence[Party], x: Array, states: States, dy: Array, last: States) -> Pulled:
    """Pull through forward and backward mlx.nn.LSTM side by side."""
    dx, starts, held = np.zeros_like(x), [], []
    parts = np.split(dy, len(sides), axis=-1)
    for turn, side, start, own, end in zip((1, -1), sides, states, parts, last, strict=False):
        dh, dc = own[:, ::turn].copy(), np.zeros_like(own)
        dh[:, -1] += end[0]
        dc[:, -1] += end[1]
        by_input, params = _gradients(side)((x[:, ::turn], *start), [dh, dc])
        dx = dx + by_input[0][:, ::turn]
        starts.append((by_input[1], by_input[2]))
        held.append(dict(params))
    return Pulled(dx, starts, held)


def _gradients(party: Party) -> Callable[..., Any]:
    if party.gradients is None:
        raise TypeError(f"{party.name} cannot be differentiated")
    return party.gradients


class Joint(NamedTuple):
    """One layer of a chain.

    Args:
        run: ``x [N, L, D]`` and its (h, c) by direction, or None for zeros, in; y and last (h, c)
            out.
        directions: how many pairs of states it has.
        pull: back through it.
    """

    run: Callable[[Array, States | None], tuple[Array, States]]
    directions: int
    pull: Pull


def chain_gradients(
    kind: str, options: Mapping[str, Any], params: Mapping[str, Array], joints: Sequence[Joint]
) -> Callable[[Sequence[Any], Sequence[Array]], Gradients]:
    """Return gradients of a chain as the source layer that it stands for has them.

    What the source does around its recurrence, like merging directions, has no weights: the
    oracle's translation of it leads from the outputs to the last layer's and back to the names.

    Args:
        kind: class path of the source layer.
        options: its constructor arguments.
        params: its parameters.
        joints: the layers.
    """

    def gradients(inputs: Sequence[Any], cotangents: Sequence[Array]) -> Gradients:
        layout = LAYOUTS[kind](options, params, inputs, np.float32)
        runs = layout.run()
        dy, ends = layout.pull(runs, [np.asarray(c, np.float32) for c in cotangents])
        flat = [run for layer in runs for run in layer]
        last = [_filled(pair, run) for pair, run in zip(ends, flat, strict=True)]
        starts = [_filled(pair, run) for pair, run in zip(layout.states, flat, strict=True)]
        found = _pulled(joints, layout.x, starts, dy, last)
        rows = iter(found[1])
        by_name = layout.named(found[0], [[next(rows) for _ in layer] for layer in runs])
        outer = [value for name, value in by_name.items() if name not in params]
        held = sum(np.issubdtype(a.dtype, np.floating) for a in leaves(tuple(inputs)))
        return outer[:held], {name: by_name[name] for name in params}

    return gradients


def _filled(pair: Sequence[Array | None], run: Run) -> tuple[Array, Array]:
    h, c = pair
    return (np.zeros_like(run.h) if h is None else h), (np.zeros_like(run.c) if c is None else c)


def _pulled(
    joints: Sequence[Joint], x: Array, starts: States, dy: Array, last: States
) -> tuple[Array, list[RunGradients]]:
    """Forwards through the joints and back: the gradient of x, and of every direction."""
    seen: list[tuple[Joint, Array, States, States]] = []
    at = 0
    for joint in joints:
        span = slice(at, at + joint.directions)
        seen.append((joint, x, starts[span], last[span]))
        x, _ = joint.run(x, starts[span])
        at += joint.directions
    found: list[RunGradients] = []
    for joint, given, own, end in reversed(seen):
        pulled = joint.pull(given, own, dy, end)
        dy = pulled.x
        parts = zip(pulled.states, pulled.strands, strict=True)
        found = [_by_gate(h, c, strand) for (h, c), strand in parts] + found
    return dy, found


def _by_gate(h: Array, c: Array, strand: Weights) -> RunGradients:
    bias = strand.get("bias", np.zeros(len(strand["Wx"]), np.float32))
    rows = zip(*(np.split(part, 4) for part in (strand["Wx"], strand["Wh"], bias)), strict=True)
    gates = {name: Gate(*parts) for name, parts in zip(GATES, rows, strict=True)}
    return RunGradients(np.zeros(0), h, c, gates, None)
