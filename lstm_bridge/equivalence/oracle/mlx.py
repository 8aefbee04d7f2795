"""mlx.nn.LSTM by its documentation: every hidden and every cell state. Source: mlx 0.32."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstm_bridge.equivalence.oracle.gradients import RunGradients
from lstm_bridge.equivalence.oracle.layout import Layout, Pulled
from lstm_bridge.equivalence.oracle.lstm import Array, Params, Run, direction


class MlxLSTM(Layout):
    """``(x [..., L, D], hidden, cell) -> (hidden [..., L, H], cell [..., L, H])``."""

    def prepare(self, inputs: list[Any]) -> None:
        """Accept hidden and cell, each ``[..., H]`` or None."""
        hidden, cell = (*inputs, None, None)[:2]
        p = self.params
        self.lead = self.x.shape[:-2]
        self.x = self.x.reshape(-1, *self.x.shape[-2:])
        self.layers = [[direction(p["Wx"], p["Wh"], p.get("bias"))]]
        self.states = [(self._flat(hidden), self._flat(cell))]

    def _flat(self, state: Any) -> Array | None:
        if state is None:
            return None
        state = np.asarray(state, self.dtype)
        return np.broadcast_to(state, (*self.lead, state.shape[-1])).reshape(-1, state.shape[-1])

    def _unflat(self, a: Array) -> Array:
        return a.reshape(*self.lead, *a.shape[1:])

    def outputs(self, runs: list[list[Run]]) -> Any:
        """``(hidden, cell)`` at every step."""
        return self._unflat(runs[0][0].y), self._unflat(runs[0][0].cs)

    def pull(self, runs: list[list[Run]], cotangents: list[Array]) -> tuple[Array, Pulled]:
        """Cotangents of all hidden and all cell states."""
        r = runs[0][0]
        dy, dcs = (v.reshape(r.y.shape) for v in cotangents)
        return dy, [(None, None, dcs)]

    def named(self, dx: Array, grads: list[list[RunGradients]]) -> dict[str, Array]:
        """x, hidden, cell, Wx, Wh, bias."""
        g = grads[0][0]
        W, U, b = g.rows()
        outer = {"x": dx, "hidden": g.h0, "cell": g.c0}
        found = {k: self._unflat(v) for k, v in outer.items()} | {"Wx": W, "Wh": U}
        return found | ({"bias": b} if "bias" in self.params else {})

    def one_step(self, states: list[tuple[Array, Array]], x: Array) -> tuple[Any, ...] | None:
        """``x, hidden, cell``."""
        return x, states[0][0], states[0][1]


def mlx_lstm(
    params: Params,
    x: Array,
    hidden: Array | None = None,
    cell: Array | None = None,
    *,
    dtype: Any = np.float64,
) -> Any:
    """mlx.nn.LSTM's ``(hidden, cell)`` at every step, from ``Wx``, ``Wh`` and ``bias``."""
    layout = MlxLSTM({}, params, (x, hidden, cell), dtype)
    return layout.outputs(layout.run())
