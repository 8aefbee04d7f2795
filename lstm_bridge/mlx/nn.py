"""``mlx.nn.LSTM``, drop-in, on this package's core."""

from __future__ import annotations

from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn

from lstm_bridge.core import native
from lstm_bridge.core.arrays import as_array
from lstm_bridge.core.sequence import only_step, run
from lstm_bridge.core.weights import LSTMWeights
from lstm_bridge.errors import ShapeError

__all__ = ["LSTM"]


class LSTM(mlx.nn.Module):
    r"""An LSTM that returns the hidden and the cell state of every step.

    N batch (any number of leading axes, also none), L length, D input, H hidden.

    .. math::
        i_t, f_t, o_t &= \sigma(W_x x_t + W_h h_{t-1} + b) \text{ (each gate its own rows)} \\
        g_t &= \tanh(W_x x_t + W_h h_{t-1} + b) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t \qquad h_t = o_t \odot \tanh(c_t)

    Parameters ``Wx [4H, D]``, ``Wh [4H, H]``, ``bias [4H]``, rows in the order i, f, g, o.

    Args:
        input_size: D.
        hidden_size: H.
        bias: has a bias. Default: True.

    Source: mlx.nn.LSTM 0.32.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {}

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        rows, scale = 4 * hidden_size, hidden_size**-0.5
        self.Wx = mx.random.uniform(-scale, scale, (rows, input_size))
        self.Wh = mx.random.uniform(-scale, scale, (rows, hidden_size))
        self.bias = mx.random.uniform(-scale, scale, (rows,)) if bias else None

    def __call__(self, x: Any, hidden: Any = None, cell: Any = None) -> tuple[mx.array, mx.array]:
        """Run over ``x``.

        Args:
            x: ``[..., L, D]``.
            hidden: initial hidden state, ``[..., H]``; its leading axes and those of x and cell
                broadcast. Default: zeros.
            cell: initial cell state, likewise. Default: zeros.

        Returns:
            All hidden and all cell states, both ``[..., L, H]``.

        Raises:
            ShapeError: wrong rank or size, or no time step at all.
        """
        done = self._in_one_call(x, hidden, cell)
        return self._run(x, hidden, cell) if done is None else done

    def _in_one_call(self, x: Any, h: Any, c: Any) -> tuple[mx.array, mx.array] | None:
        """Run what most calls are; None where anything needs a closer look."""
        if not isinstance(x, mx.array) or not all(
            state is None or isinstance(state, mx.array) for state in (h, c)
        ):
            return None
        Wx, Wh, bias = self["Wx"], self["Wh"], self.get("bias")
        done = native.trajectory(x, Wx, Wh, bias, h, c)
        if done is not None:
            return done[0], done[1]
        if x.ndim not in (2, 3) or x.shape[-2] != 1:
            return None
        # One step: without a batch, the time axis serves as its axis.
        if x.ndim == 2:
            h, c = (s if s is None else s[None] for s in (h, c))
        only = only_step(x if x.ndim == 2 else x.squeeze(1), Wx, Wh, (bias,), h, c)
        return only if only is None or x.ndim == 2 else (only[0][:, None], only[1][:, None])

    def _run(self, x: Any, hidden: Any, cell: Any) -> tuple[mx.array, mx.array]:
        x = as_array(x, "mlx.nn.LSTM x")
        weights = LSTMWeights(self.Wx, self.Wh, self.bias).check("mlx.nn.LSTM")
        if x.ndim < 2 or x.shape[-1] != weights.D or x.shape[-2] == 0:
            raise ShapeError(
                "mlx.nn.LSTM x", expected=f"[..., L, {weights.D}], L > 0", got=str(list(x.shape))
            )
        states = [_state(hidden, "hidden", weights.H), _state(cell, "cell", weights.H)]
        lead = _lead(x, states)
        flat = [None if s is None else _rows(s, lead, 1) for s in states]
        done = run(weights, _rows(x, lead, 2).swapaxes(0, 1), *flat, cells=True)
        return _outputs(done.y, lead), _outputs(done.cs, lead)

    def _extra_repr(self) -> str:
        return (
            f"input_dims={self.Wx.shape[1]}, hidden_size={self.hidden_size}, "
            f"bias={self.bias is not None}"
        )


def _state(value: Any, name: str, H: int) -> mx.array | None:
    if value is None:
        return None
    state = as_array(value, f"mlx.nn.LSTM {name}")
    if not state.ndim or state.shape[-1] != H:
        raise ShapeError(f"mlx.nn.LSTM {name}", expected=f"[..., {H}]", got=str(list(state.shape)))
    return state


def _rows(x: mx.array, lead: tuple[int, ...], inner: int) -> mx.array:
    """``[..., *]`` with that many inner axes, its leading axes broadcast and joined to one."""
    own = x.shape[-inner:]
    if x.shape[:-inner] != lead:
        x = mx.broadcast_to(x, (*lead, *own))
    if len(lead) == 1:
        return x
    return x.reshape(-1, *own) if lead else x[None]


def _outputs(steps: Any, lead: tuple[int, ...]) -> mx.array:
    """``[L, N, H] -> [..., L, H]``."""
    if not lead:
        return mx.squeeze(steps, 1)
    L, _, H = steps.shape
    rows = mx.swapaxes(steps, 0, 1)
    return rows if len(lead) == 1 else rows.reshape(*lead, L, H)


def _lead(x: mx.array, states: list[mx.array | None]) -> tuple[int, ...]:
    """The leading axes that x and the given states broadcast to."""
    leads = [x.shape[:-2], *(s.shape[:-1] for s in states if s is not None)]
    try:
        return tuple(mx.broadcast_shapes(*leads))
    except ValueError:
        raise ShapeError(
            "mlx.nn.LSTM hidden and cell",
            expected=f"leading axes that broadcast to those of x {list(x.shape)}",
            got=str([list(lead) for lead in leads[1:]]),
        ) from None
