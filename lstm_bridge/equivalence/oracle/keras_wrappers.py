"""Keras's recurrent layers over any cells, and its wrappers of other layers. Source: keras 3.15.

Shape letters: N batch, L length, H units, F filters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lstm_bridge.equivalence.oracle.activations import ACTIVATIONS
from lstm_bridge.equivalence.oracle.keras import wrapped
from lstm_bridge.equivalence.oracle.keras_windows import window_conv
from lstm_bridge.equivalence.oracle.lstm import Array, Options, Params
from lstm_bridge.equivalence.tree import leaves

Layer = Callable[..., Any]
Step = Callable[[Array, Any], tuple[Array, Any]]
"""x_t and the states in, the output and the states out."""

Lookup = Callable[[str], Layer]
"""Class path → function of options, parameters and inputs."""


def looped(
    step: Step, o: Options, x: Array, states: Sequence[Array], mask: Array | None
) -> tuple[Array, list[Array]]:
    """Run steps over ``x [N, L, ...]``.

    Args:
        step: x_t and a flat list of states in, the output and such a list out.
        o: go_backwards, return_sequences, zero_output_for_mask.
        x: the sequence.
        states: where it begins.
        mask: valid steps, ``[N, L]``; others carry the states and repeat the output, or give 0.

    Returns:
        The output, of every step or of the last, and the last states.
    """
    if o.get("go_backwards"):
        x, mask = x[:, ::-1], None if mask is None else mask[:, ::-1]
    held, outs = list(states), []
    y: Any = None
    for t in range(x.shape[1]):
        new, after = step(x[:, t], held)
        y = np.zeros_like(new) if y is None else y
        keep = np.ones(len(x), bool) if mask is None else mask[:, t]
        rest = np.zeros_like(y) if o.get("zero_output_for_mask") else y
        y = np.where(_wide(keep, new), new, rest)
        held = [np.where(_wide(keep, a), a, b) for a, b in zip(after, held, strict=True)]
        outs.append(y)
    return (np.stack(outs, axis=1) if o.get("return_sequences") else y), held


def _wide(keep: Array, like: Array) -> Array:
    return keep.reshape(-1, *[1] * (like.ndim - 1))


def under(p: Params, prefix: str) -> dict[str, Array]:
    """Return the parameters below a prefix, without it."""
    return {n.removeprefix(prefix): v for n, v in p.items() if n.startswith(prefix)}


def class_of(layer: Any) -> str:
    """Return the class path of a serialised layer or of an object."""
    name = layer["class_name"] if isinstance(layer, Mapping) else type(layer).__name__
    return f"keras.layers.{str(name).rpartition('>')[2]}"


def parts_of(o: Options) -> list[tuple[str, Options]]:
    """Return class path and options of all that a layer of these options wraps."""
    found: list[Any] = [o[n] for n in ("layer", "backward_layer") if o.get(n) is not None]
    found += _cells(o) if "cell" in o else list(o.get("cells", ()))
    return [(class_of(part), wrapped(part)) for part in found]


def _cells(o: Options) -> list[Any]:
    cell = o["cell"]
    if isinstance(cell, list | tuple):
        return list(cell)
    return list(wrapped(cell).get("cells", [cell]))


def is_of_lstm_cells(o: Options) -> bool:
    """Whether an RNN, or what a Bidirectional wraps, holds LSTM cells only."""
    if "layer" in o:
        sides = [o["layer"], o.get("backward_layer") or o["layer"]]
        return all(_is_lstm(side) for side in sides)
    return all(class_of(cell).endswith(".LSTMCell") for cell in _cells(o))


def _is_lstm(layer: Any) -> bool:
    kind = class_of(layer)
    return kind == "keras.layers.LSTM" or (
        kind == "keras.layers.RNN" and is_of_lstm_cells(wrapped(layer))
    )


def _widths(cell: Any) -> list[int]:
    o = wrapped(cell)
    return [o["units"]] * (2 if class_of(cell).endswith(".LSTMCell") else 1)


def stacked_step(lookup: Lookup, cells: Sequence[Any], p: Params, prefixes: Sequence[str]) -> Step:
    """Return one step through cells, states flat from the first cell's to the last's."""
    widths = [len(_widths(cell)) for cell in cells]

    def step(x: Array, states: Any) -> tuple[Array, Any]:
        after: list[Array] = []
        for cell, prefix, count in zip(cells, prefixes, widths, strict=True):
            own = list(states[len(after) : len(after) + count])
            x, new = lookup(class_of(cell))(wrapped(cell), under(p, prefix), x, own)
            after += leaves(new)
        return x, after

    return step


def _prefixes(o: Options, p: Params) -> list[str]:
    cells = _cells(o)
    several = [f"cell.cells.{k}." for k in range(len(cells))]
    return several if any(n.startswith("cell.cells.") for n in p) else ["cell."]


def _nested(flat: Sequence[Array], cells: Sequence[Any]) -> list[Any]:
    """States as a layer returns them: of one cell alone, or a nest per stacked cell."""
    if len(cells) == 1:
        return list(flat)
    found, at = [], 0
    for cell in cells:
        own = list(flat[at : at + len(_widths(cell))])
        at += len(own)
        found.append(own if len(own) > 1 else own[0])
    return found


def _rnn(lookup: Lookup) -> Layer:
    def layer(o: Options, p: Params, x: Array, state: Any = None, mask: Array | None = None) -> Any:
        cells = _cells(o)
        start = leaves(state)
        if not start:
            start = [np.zeros((len(x), w), x.dtype) for cell in cells for w in _widths(cell)]
        step = stacked_step(lookup, cells, p, _prefixes(o, p))
        y, last = looped(step, o, x, start, mask)
        return (y, *_nested(last, cells)) if o.get("return_state") else y

    return layer


def _stacked_cells(lookup: Lookup) -> Layer:
    def cell(o: Options, p: Params, x: Array, states: Any) -> Any:
        cells = o["cells"]
        prefixes = [f"cells.{k}." for k in range(len(cells))]
        y, last = stacked_step(lookup, cells, p, prefixes)(x, leaves(states))
        return y, _nested(last, cells)

    return cell


_MERGES: dict[str, Callable[[Array, Array], Array]] = {
    "concat": lambda a, b: np.concatenate([a, b], axis=-1),
    "sum": np.add,
    "ave": lambda a, b: (a + b) / 2,
    "mul": np.multiply,
}


def _bidirectional(lookup: Lookup) -> Layer:
    def layer(o: Options, p: Params, x: Array, state: Any = None, mask: Array | None = None) -> Any:
        first, second = o["layer"], o.get("backward_layer")
        forward = wrapped(first)
        turned = {"go_backwards": not forward.get("go_backwards", False)}
        backward = forward | turned if second is None else wrapped(second)
        flat = leaves(state)
        half = len(flat) // 2
        halves = []
        for side, kind, options, own in (
            ("forward_layer.", first, forward, flat[:half]),
            ("backward_layer.", second or first, backward, flat[half:]),
        ):
            run = lookup(class_of(kind))
            given = ([own] if own else [None]) + ([] if mask is None else [mask])
            made = run(options, under(p, side), x, *given)
            halves.append(list(made) if isinstance(made, tuple) else [made])
        (a, *states), (b, *more) = halves
        b = b[:, ::-1] if forward.get("return_sequences") else b
        mode = o.get("merge_mode", "concat")
        outs = [a, b] if mode is None else [_MERGES[mode](a, b)]
        found = (*outs, *states, *more)
        return found if len(found) > 1 else found[0]

    return layer


def _time_distributed(lookup: Lookup) -> Layer:
    def layer(o: Options, p: Params, x: Array, mask: Array | None = None) -> Any:
        inner, own = o["layer"], under(p, "layer.")
        run, options = lookup(class_of(inner)), wrapped(inner)
        return np.stack([run(options, own, x[:, t]) for t in range(x.shape[1])], axis=1)

    return layer


def _conv_lstm(o: Options, p: Params, x: Array, state: Any = None, mask: Any = None) -> Any:
    first = o.get("data_format") == "channels_first"
    x = np.moveaxis(x, 2, -1) if first else x
    kernel, recurrent = p["cell.kernel"], p["cell.recurrent_kernel"]
    bias = p.get("cell.bias", np.zeros(kernel.shape[-1], kernel.dtype))
    phi = ACTIVATIONS[o.get("activation", "tanh") or "linear"].f
    sigma = ACTIVATIONS[o.get("recurrent_activation", "sigmoid") or "linear"].f

    def step(x_t: Array, states: Any) -> tuple[Array, Any]:
        h, c = states
        z = window_conv(o, x_t, kernel, 1) + bias
        z = z + window_conv({"padding": "same"}, h, recurrent, 1)
        i, f, g, out = np.split(z, 4, axis=-1)
        c = sigma(f) * c + sigma(i) * phi(g)
        h = sigma(out) * phi(c)
        return h, [h, c]

    start = [np.moveaxis(s, 1, -1) if first else s for s in leaves(state)]
    if not start:
        like = window_conv(o, x[:, 0], kernel, 1)[..., : recurrent.shape[-2]]
        start = [np.zeros_like(like), np.zeros_like(like)]
    y, last = looped(step, o, x, start, mask)
    if first:
        y = np.moveaxis(y, -1, 2 if o.get("return_sequences") else 1)
        last = [np.moveaxis(s, -1, 1) for s in last]
    return (y, *last) if o.get("return_state") else y


def wrappers(lookup: Lookup) -> dict[str, Layer]:
    """Return the layers that run other layers: class name → function.

    Args:
        lookup: finds what they run.
    """
    return {
        "RNN": _rnn(lookup),
        "StackedRNNCells": _stacked_cells(lookup),
        "Bidirectional": _bidirectional(lookup),
        "TimeDistributed": _time_distributed(lookup),
        "ConvLSTM1D": _conv_lstm,
        "ConvLSTM2D": _conv_lstm,
    }
