"""``mlx.nn.LSTM``, drop-in, on this package's core."""

from __future__ import annotations

from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn

from lstm_bridge.core import native
from lstm_bridge.core.arrays import as_array
from lstm_bridge.core.sequence import run
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
        done = native.trajectory(x, self["Wx"], self["Wh"], self.get("bias"), h, c)
        return None if done is None else (done[0], done[1])

    def _run(self, x: Any, hidden: Any, cell: Any) -> tuple[mx.array, mx.array]:
        x = as_array(x, "mlx.nn.LSTM x")
        weights = LSTMWeights(self.Wx, self.Wh, self.bias).check("mlx.nn.LSTM")
        if x.ndim < 2 or x.shape[-1] != weights.D or x.shape[-2] == 0:
            raise ShapeError(
                "mlx.nn.LSTM x", expected=f"[..., L, {weights.D}], L > 0", got=str(list(x.shape))
            )
        states = [_state(hidden, "hidden", weights.H), _state(cell, "cell", weights.H)]
        lead = _lead(x, states)
        L, D = x.shape[-2:]
        steps = mx.moveaxis(mx.broadcast_to(x, (*lead, L, D)).reshape(-1, L, D), 1, 0)
        flat = [
            None if s is None else mx.broadcast_to(s, (*lead, weights.H)).reshape(-1, weights.H)
            for s in states
        ]
        done = run(weights, steps, *flat, cells=True)
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


def _outputs(steps: Any, lead: tuple[int, ...]) -> mx.array:
    """``[L, N, H] -> [..., L, H]``."""
    L, _, H = steps.shape
    return mx.moveaxis(steps, 0, 1).reshape(*lead, L, H)


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
