"""torch.nn.LSTM and LSTMCell by their documentation. Source: torch 2.13.

Shape letters: N batch, L length, D input, H hidden, P projection, K layers · directions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_bridge.equivalence.oracle.gradients import RunGradients
from lstm_bridge.equivalence.oracle.layout import Layout, Pulled
from lstm_bridge.equivalence.oracle.lstm import Array, Direction, Params, Run, direction


class TorchLSTM(Layout):
    """``(x, (h0, c0), lengths) -> (output, (h_n, c_n))``.

    The option ``unreversed`` is no option of torch: it makes the backward direction read forwards,
    which is a mistake that the diagnosis looks for.
    """

    def prepare(self, inputs: list[Any]) -> None:
        """Accept ``(h0, c0)`` or None, then lengths ``[N]`` or None."""
        hx, lengths = (*inputs, None, None)[:2]
        self.unbatched = self.x.ndim == 2
        if self.unbatched:
            self.x = self.x[None]
        elif not self.options.get("batch_first", False):
            self.x = self.x.swapaxes(0, 1)
        names = self._names()
        self.layers = [[self._direction(name) for name in layer] for layer in names]
        K = sum(len(layer) for layer in names)
        self.states = [(None, None)] * K if hx is None else self._states(hx)
        if lengths is not None:
            valid = np.asarray(lengths)
            self.x = self.x[:, : int(valid.max(initial=0))]
            self.mask = np.arange(self.x.shape[1])[None] < valid[:, None]

    def _names(self) -> list[list[str]]:
        ends = ("", "_reverse") if self.options.get("bidirectional") else ("",)
        return [[f"l{k}{end}" for end in ends] for k in range(self.options.get("num_layers", 1))]

    def _direction(self, name: str) -> Direction:
        p = self.params
        backward = name.endswith("_reverse") and not self.options.get("unreversed")
        return _from_torch(p, "_" + name, projection=p.get(f"weight_hr_{name}"), reverse=backward)

    def _states(self, hx: Any) -> list[tuple[Array | None, Array | None]]:
        h0, c0 = (np.asarray(s, self.dtype) for s in hx)
        if self.unbatched:
            h0, c0 = h0[:, None], c0[:, None]
        return list(zip(h0, c0, strict=True))

    def _outward(self, y: Array) -> Array:
        if self.unbatched:
            return np.asarray(y[0])
        return np.asarray(y if self.options.get("batch_first", False) else y.swapaxes(0, 1))

    def outputs(self, runs: list[list[Run]]) -> Any:
        """``(output, (h_n, c_n))``."""
        y = self._outward(np.concatenate([r.y for r in runs[-1]], axis=-1))
        flat = [r for layer in runs for r in layer]
        h_n, c_n = np.stack([r.h for r in flat]), np.stack([r.c for r in flat])
        return y, ((h_n[:, 0], c_n[:, 0]) if self.unbatched else (h_n, c_n))

    def pull(self, runs: list[list[Run]], cotangents: list[Array]) -> tuple[Array, Pulled]:
        """Cotangents of output, h_n and c_n."""
        dy, dh, dc = cotangents
        if self.unbatched:
            return dy[None], list(zip(dh[:, None], dc[:, None], strict=True))
        return self._outward(dy), list(zip(dh, dc, strict=True))

    def named(self, dx: Array, grads: list[list[RunGradients]]) -> dict[str, Array]:
        """x, h0, c0 and every weight."""
        found: dict[str, Array] = {"x": self._outward(dx)}
        flat = [g for layer in grads for g in layer]
        h0, c0 = np.stack([g.h0 for g in flat]), np.stack([g.c0 for g in flat])
        found["h0"], found["c0"] = (h0[:, 0], c0[:, 0]) if self.unbatched else (h0, c0)
        for name, g in zip([n for layer in self._names() for n in layer], flat, strict=True):
            found |= _to_torch(g, self.params, "_" + name)
            if g.projection is not None:
                found[f"weight_hr_{name}"] = g.projection
        return found

    def one_step(self, states: list[tuple[Array, Array]], x: Array) -> tuple[Any, ...] | None:
        """``x, (h0, c0)``."""
        h0, c0 = (np.stack(s) for s in zip(*states, strict=True))
        return (x if self.options.get("batch_first", False) else x.swapaxes(0, 1)), (h0, c0)


class TorchLSTMCell(Layout):
    """``(x, (h, c)) -> (h, c)``."""

    def prepare(self, inputs: list[Any]) -> None:
        """Accept ``(h, c)`` or None."""
        hx = inputs[0] if inputs else None
        self.unbatched = self.x.ndim == 1
        self.x = self.x[None, None] if self.unbatched else self.x[:, None]
        self.layers = [[_from_torch(self.params, "")]]
        h, c = (None, None) if hx is None else (self.cast(s) for s in hx)
        if self.unbatched and h is not None and c is not None:
            h, c = h[None], c[None]
        self.states = [(h, c)]

    def _outward(self, a: Array) -> Array:
        return a[0] if self.unbatched else a

    def outputs(self, runs: list[list[Run]]) -> Any:
        """``(h, c)``."""
        return self._outward(runs[0][0].h), self._outward(runs[0][0].c)

    def pull(self, runs: list[list[Run]], cotangents: list[Array]) -> tuple[Array, Pulled]:
        """Cotangents of h and c."""
        dh, dc = (v[None] if self.unbatched else v for v in cotangents)
        return np.zeros_like(runs[0][0].y), [(dh, dc)]

    def named(self, dx: Array, grads: list[list[RunGradients]]) -> dict[str, Array]:
        """x, h0, c0 and every weight."""
        g = grads[0][0]
        outer = {"x": dx[:, 0], "h0": g.h0, "c0": g.c0}
        return {k: self._outward(v) for k, v in outer.items()} | _to_torch(g, self.params, "")


def _from_torch(p: Params, end: str, **more: Any) -> Direction:
    b = p[f"bias_ih{end}"] + p[f"bias_hh{end}"] if f"bias_ih{end}" in p else None
    return direction(p[f"weight_ih{end}"], p[f"weight_hh{end}"], b, **more)


def _to_torch(g: RunGradients, p: Params, end: str) -> dict[str, Array]:
    W, U, b = g.rows()
    found = {f"weight_ih{end}": W, f"weight_hh{end}": U}
    if f"bias_ih{end}" in p:
        found |= {f"bias_ih{end}": b, f"bias_hh{end}": b}
    return found


def torch_lstm(
    params: Params,
    x: Array,
    h0: Array | None = None,
    c0: Array | None = None,
    *,
    lengths: Array | None = None,
    dtype: Any = np.float64,
    **options: Any,
) -> Any:
    """torch.nn.LSTM's ``(output, (h_n, c_n))``.

    Args:
        params: ``weight_ih_l0`` … as in torch's state dict.
        x: ``[L, N, D]``, ``[N, L, D]`` with batch_first, or ``[L, D]``.
        h0: ``[K, N, P]``. Default: zeros.
        c0: ``[K, N, H]``. Default: zeros.
        lengths: valid steps per row, ``[N]``; outputs are trimmed to the longest. Default: all.
        dtype: what to compute in. Default: float64.
        options: torch's num_layers, bidirectional, batch_first, proj_size, bias.
    """
    hx = None if h0 is None else (h0, c0)
    layout = TorchLSTM(options, params, (x, hx, lengths), dtype)
    return layout.outputs(layout.run())


def torch_lstm_cell(
    params: Params, x: Array, h: Array | None = None, c: Array | None = None, **more: Any
) -> Any:
    """torch.nn.LSTMCell's ``(h, c)`` for ``x [N, D]`` or ``[D]``."""
    hx = None if h is None else (h, c)
    layout = TorchLSTMCell({}, params, (x, hx), more.get("dtype", np.float64))
    return layout.outputs(layout.run())
