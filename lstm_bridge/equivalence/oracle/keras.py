"""keras.layers LSTM, LSTMCell, RNN over LSTM cells, and Bidirectional. Source: keras 3.15.

Keras' kernels are ``[D, 4H]`` and ``[H, 4H]`` with columns i, f, c, o, which is the row order
i, f, g, o after a transpose. Shape letters: N batch, L length, D input, H units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lstm_bridge.equivalence.oracle.gradients import RunGradients
from lstm_bridge.equivalence.oracle.layout import Layout, Pulled
from lstm_bridge.equivalence.oracle.lstm import Array, Direction, Options, Params, Run, direction
from lstm_bridge.errors import UnsupportedError


class KerasLSTMCell(Layout):
    """``(x, [h, c]) -> (h, [h, c])``."""

    def prepare(self, inputs: list[Any]) -> None:
        """Accept ``[h, c]``."""
        self.prefix = _prefix(self.params, "")
        self.x = self.x[:, None]
        self.layers = [[_from_keras(self.options, self.params, self.prefix)]]
        h, c = inputs[0] if inputs and inputs[0] is not None else (None, None)
        self.states = [(self.cast(h), self.cast(c))]

    def outputs(self, runs: list[list[Run]]) -> Any:
        """``(h, [h, c])``."""
        r = runs[0][0]
        return r.h, [r.h, r.c]

    def pull(self, runs: list[list[Run]], cotangents: list[Array]) -> tuple[Array, Pulled]:
        """Cotangents of the output, h and c."""
        dy, dh, dc = cotangents
        return np.zeros_like(runs[0][0].y), [(dy + dh, dc)]

    def named(self, dx: Array, grads: list[list[RunGradients]]) -> dict[str, Array]:
        """x, states and every weight."""
        found = {"x": dx[:, 0], "h0": grads[0][0].h0, "c0": grads[0][0].c0}
        return found | _to_keras(grads[0][0], self.params, self.prefix)


class KerasLSTM(Layout):
    """``(x, initial_state, mask) -> output`` or ``(output, *states)``; LSTM and RNN alike."""

    def prepare(self, inputs: list[Any]) -> None:
        """Accept initial_state ``[h, c]`` (or one such pair per stacked cell), then mask [N, L]."""
        state, mask = (*inputs, None, None)[:2]
        cells = _cells(self.options)
        self.stacked = len(cells) > 1
        self.prefixes = [
            _prefix(self.params, f"cell.cells.{k}." if self.stacked else "")
            for k in range(len(cells))
        ]
        backwards = bool(self.options.get("go_backwards", False))
        self.layers = [
            [_from_keras(o, self.params, prefix, reverse=backwards)]
            for o, prefix in zip(cells, self.prefixes, strict=True)
        ]
        pairs = state if self.stacked or state is None else [state]
        self.states = _pairs(self, pairs, len(cells))
        self.mask = None if mask is None else np.asarray(mask, bool)
        self.zero_masked = bool(self.options.get("zero_output_for_mask", False))

    def outputs(self, runs: list[list[Run]]) -> Any:
        """The output, and the states with return_state."""
        y = _emitted(runs[-1][0], self._sequences)
        if not self.options.get("return_state", False):
            return y
        if self.stacked:
            return (y, *([layer[0].h, layer[0].c] for layer in runs))
        return y, runs[0][0].h, runs[0][0].c

    @property
    def _sequences(self) -> bool:
        return bool(self.options.get("return_sequences", False))

    def pull(self, runs: list[list[Run]], cotangents: list[Array]) -> tuple[Array, Pulled]:
        """Cotangents of the output, then of each cell's h and c."""
        dy = _pull_emitted(runs[-1][0], cotangents[0], self._sequences)
        return dy, _pull_states(cotangents[1:], len(runs))

    def named(self, dx: Array, grads: list[list[RunGradients]]) -> dict[str, Array]:
        """x, initial states and every weight."""
        found = {"x": dx}
        for k, (prefix, (g,)) in enumerate(zip(self.prefixes, grads, strict=True)):
            end = str(k) if self.stacked else "0"
            found |= {f"h{end}": g.h0, f"c{end}": g.c0} | _to_keras(g, self.params, prefix)
        return found

    def one_step(self, states: list[tuple[Array, Array]], x: Array) -> tuple[Any, ...] | None:
        """``x, initial_state``."""
        pairs = [list(pair) for pair in states]
        return x, pairs if self.stacked else pairs[0]


_MERGES: dict[str, Callable[[Array, Array], Array]] = {
    "concat": lambda a, b: np.concatenate([a, b], axis=-1),
    "sum": lambda a, b: a + b,
    "ave": lambda a, b: (a + b) / 2,
    "mul": lambda a, b: a * b,
}


class KerasBidirectional(Layout):
    """``(x, [fh, fc, bh, bc], mask) -> output`` merged as merge_mode says, states after it."""

    def prepare(self, inputs: list[Any]) -> None:
        """Accept initial_state ``[fh, fc, bh, bc]`` and mask ``[N, L]``."""
        state, mask = (*inputs, None, None)[:2]
        first = wrapped(self.options["layer"])
        second = self.options.get("backward_layer")
        backward = first | {"go_backwards": True} if second is None else wrapped(second)
        self.prefixes = [_prefix(self.params, f"{end}_layer.") for end in ("forward", "backward")]
        self.layers = [
            [
                _from_keras(o, self.params, prefix, reverse=bool(o.get("go_backwards", False)))
                for o, prefix in zip((first, backward), self.prefixes, strict=True)
            ]
        ]
        self.sequences = bool(first.get("return_sequences", False))
        self.return_state = bool(first.get("return_state", False))
        self.merge = self.options.get("merge_mode", "concat")
        self.states = _pairs(self, None if state is None else [state[:2], state[2:]], 2)
        self.mask = None if mask is None else np.asarray(mask, bool)
        self.zero_masked = self.sequences

    def _halves(self, runs: list[list[Run]]) -> tuple[Array, Array]:
        forward, backward = (_emitted(r, self.sequences) for r in runs[0])
        return forward, backward[:, ::-1] if self.sequences else backward

    def outputs(self, runs: list[list[Run]]) -> Any:
        """The merged output (two of them when merge_mode is None), and the states."""
        halves = self._halves(runs)
        merged: Any = halves if self.merge is None else (_MERGES[self.merge](*halves),)
        if self.return_state:
            merged = (*merged, *(s for r in runs[0] for s in (r.h, r.c)))
        return merged if len(merged) > 1 else merged[0]

    def pull(self, runs: list[list[Run]], cotangents: list[Array]) -> tuple[Array, Pulled]:
        """Cotangents of the merged output, then of fh, fc, bh, bc."""
        count = 2 if self.merge is None else 1
        halves = self._unmerge(runs, cotangents[:count])
        if self.sequences:
            halves[1] = halves[1][:, ::-1]
        parts = [
            _pull_emitted(r, half, self.sequences) for r, half in zip(runs[0], halves, strict=True)
        ]
        return np.concatenate(parts, axis=-1), _pull_states(cotangents[count:], 2)

    def _unmerge(self, runs: list[list[Run]], d: list[Array]) -> list[Array]:
        if self.merge is None:
            return list(d)
        a, b = self._halves(runs)
        whole = d[0]
        if self.merge == "concat":
            return [whole[..., : a.shape[-1]], whole[..., a.shape[-1] :]]
        if self.merge == "mul":
            return [whole * b, whole * a]
        part = whole / 2 if self.merge == "ave" else whole
        return [part, part]

    def named(self, dx: Array, grads: list[list[RunGradients]]) -> dict[str, Array]:
        """x, initial states and every weight."""
        found = {"x": dx}
        for end, prefix, g in zip("fb", self.prefixes, grads[0], strict=True):
            found |= {f"{end}h0": g.h0, f"{end}c0": g.c0} | _to_keras(g, self.params, prefix)
        return found

    def one_step(self, states: list[tuple[Array, Array]], x: Array) -> tuple[Any, ...] | None:
        """``x, initial_state``."""
        return x, [s for pair in states for s in pair]


def wrapped(layer: Any) -> dict[str, Any]:
    """Return the options of a layer given as options, as a serialised config, or as an object."""
    if hasattr(layer, "get_config"):
        layer = layer.get_config()
    for key in ("config", "options"):
        if key in layer and not {"units", "cell"} & set(layer):
            return dict(layer[key])
    return dict(layer)


def _cells(options: Options) -> list[dict[str, Any]]:
    """The cell options of an LSTM, of an RNN over one cell, or of an RNN over stacked cells."""
    if "cell" not in options:
        return [dict(options)]
    cell = options["cell"]
    cells = cell if isinstance(cell, Sequence) else wrapped(cell).get("cells", [cell])
    return [wrapped(c) for c in cells]


def _prefix(params: Params, start: str) -> str:
    """Where a cell's arrays are: under ``start``, its ``cell.``, or a name without either."""
    choices = [f"{start}cell.", start, "cell.", ""]
    for choice in choices:
        if f"{choice}kernel" in params:
            return choice
    raise UnsupportedError(
        "Keras LSTM parameters",
        expected=f"an array named {' or '.join(c + 'kernel' for c in choices[:2])}",
        got=", ".join(params),
    )


def _from_keras(options: Options, p: Params, prefix: str, **more: Any) -> Direction:
    return direction(
        p[f"{prefix}kernel"].T,
        p[f"{prefix}recurrent_kernel"].T,
        p.get(f"{prefix}bias"),
        phi=options.get("activation", "tanh") or "linear",
        sigma=options.get("recurrent_activation", "sigmoid") or "linear",
        **more,
    )


def _to_keras(g: RunGradients, p: Params, prefix: str) -> dict[str, Array]:
    W, U, b = g.rows()
    found = {f"{prefix}kernel": W.T, f"{prefix}recurrent_kernel": U.T}
    return found | ({f"{prefix}bias": b} if f"{prefix}bias" in p else {})


def _pairs(layout: Layout, pairs: Any, count: int) -> list[tuple[Array | None, Array | None]]:
    if pairs is None:
        return [(None, None)] * count
    return [(layout.cast(h), layout.cast(c)) for h, c in pairs]


def _emitted(r: Run, sequences: bool) -> Array:
    """Outputs in the order Keras emits them: processing order, or only the last processed."""
    y = r.y[:, ::-1] if r.direction.reverse else r.y
    return y if sequences else y[:, -1]


def _pull_emitted(r: Run, d: Array, sequences: bool) -> Array:
    dy = np.zeros_like(r.y)
    if not sequences:
        dy[:, 0 if r.direction.reverse else -1] = d
        return dy
    return d[:, ::-1] if r.direction.reverse else d


def _pull_states(cotangents: Sequence[Array], count: int) -> Pulled:
    if not cotangents:
        return [(None, None)] * count
    return list(zip(cotangents[::2], cotangents[1::2], strict=True))


def keras_lstm(
    params: Params,
    x: Array,
    states: Any = None,
    *,
    mask: Array | None = None,
    dtype: Any = np.float64,
    **options: Any,
) -> Any:
    """keras.layers.LSTM's output, or ``(output, h, c)`` with return_state.

    Args:
        params: kernel, recurrent_kernel, bias.
        x: ``[N, L, D]``.
        states: ``[h, c]``, each ``[N, H]``. Default: zeros.
        mask: boolean, ``[N, L]``. Default: all valid.
        dtype: what to compute in. Default: float64.
        options: Keras's activation, recurrent_activation, return_sequences, return_state,
            go_backwards, zero_output_for_mask.
    """
    layout = KerasLSTM(options, params, (x, states, mask), dtype)
    return layout.outputs(layout.run())
