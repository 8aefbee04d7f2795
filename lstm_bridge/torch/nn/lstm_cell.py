"""``torch.nn.LSTMCell``: one step of an LSTM."""

from __future__ import annotations

from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.core import native
from lstm_bridge.core.arrays import as_array
from lstm_bridge.core.lstm import input_part
from lstm_bridge.core.sequence import only_step
from lstm_bridge.core.unroll import advance
from lstm_bridge.core.weights import LSTMWeights
from lstm_bridge.errors import ShapeError, UsageError
from lstm_bridge.torch.dtypes import float_dtype
from lstm_bridge.torch.nn.arguments import (
    DEVICE_NOTE,
    DTYPE_NOTE,
    array_like,
    integer,
    pair,
    shape,
    uniform,
    width,
)
from lstm_bridge.torch.nn.module import Module

_NAME = "torch.nn.LSTMCell"


class LSTMCell(Module):
    r"""One LSTM step with torch's parameters. N batch, D input, H hidden.

    .. math::
        i, f, o &= \sigma(W_{ih} x + b_{ih} + W_{hh} h + b_{hh}) \text{ (each gate its own rows)} \\
        g &= \tanh(W_{ih} x + b_{ih} + W_{hh} h + b_{hh}) \\
        c' &= f \odot c + i \odot g \qquad h' = o \odot \tanh(c')

    Parameters ``weight_ih [4H, D]``, ``weight_hh [4H, H]``, ``bias_ih [4H]``, ``bias_hh [4H]``,
    rows in the order i, f, g, o.

    Args:
        input_size: D.
        hidden_size: H.
        bias: has the two biases. Default: True.
        device: no effect here (``ARGUMENT_NOTES`` says why).
        dtype: torch or MLX floating dtype of the parameters, or its name. Default: float32.

    Raises:
        ArgumentTypeError: a size is no int.
        ShapeError: a size is negative, or an integer dtype.

    Source: torch.nn.LSTMCell 2.13.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {"device": DEVICE_NOTE, "dtype": DTYPE_NOTE}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.bias = bias
        for name in ("input_size", "hidden_size"):
            if integer(getattr(self, name), f"{_NAME} {name}") < 0:
                raise ShapeError(
                    f"{_NAME} {name}", expected="zero or more", got=str(getattr(self, name))
                )
        dtype = float_dtype(dtype, f"{_NAME} dtype")
        rows = 4 * hidden_size
        self.weight_ih = mx.zeros((rows, input_size), dtype)
        self.weight_hh = mx.zeros((rows, hidden_size), dtype)
        self.bias_ih = mx.zeros((rows,), dtype) if bias else None
        self.bias_hh = mx.zeros((rows,), dtype) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew from U(−1/√H, 1/√H)."""
        for name, array in self.parameters().items():
            setattr(self, name, uniform(array.shape, self.hidden_size, array.dtype))

    def forward(
        self,
        input: Any,  # noqa: A002  torch's own name
        hx: tuple[Any, Any] | None = None,
    ) -> tuple[mx.array, mx.array]:
        """Advance one step.

        Args:
            input: ``[N, D]`` or ``[D]``.
            hx: ``(h_0, c_0)``, each ``[N, H]`` or ``[H]`` as the input. Default: zeros.

        Returns:
            ``(h_1, c_1)``, shaped like the states.

        Raises:
            ShapeError: wrong rank, size or dtype.
        """
        done = self._in_one_call(input, hx)
        return self._step(input, hx) if done is None else done

    def _in_one_call(self, x: Any, hx: Any) -> tuple[mx.array, mx.array] | None:
        """Do what most calls are; None where anything needs a closer look."""
        h, c = hx if isinstance(hx, tuple) and len(hx) == 2 else (None, None)
        states = isinstance(h, mx.array) and isinstance(c, mx.array) if hx is not None else True
        if not states or not isinstance(x, mx.array):
            return None
        get = self.__getitem__
        Wx, Wh = get("weight_ih"), get("weight_hh")
        bias_ih, bias_hh = (get("bias_ih"), get("bias_hh")) if self.bias else (None, None)
        done = native.cell(x, Wx, Wh, bias_ih, bias_hh, h, c)
        if done is not None:
            return done[0], done[1]
        return only_step(x, Wx, Wh, (bias_ih, bias_hh), h, c) if x.ndim == 2 else None

    def _step(self, input: Any, hx: Any) -> tuple[mx.array, mx.array]:  # noqa: A002
        x = array_like(input, f"{_NAME} input", self.weight_ih)
        _rank(x, f"{_NAME} input")
        batched = x.ndim == 2
        x = x if batched else x[None]
        width(x, self.input_size, f"{_NAME} input")
        weights = self._weights()
        zx = input_part(x, weights)
        h, c = advance(zx, *self._states(hx, len(x), batched), weights.Wh)
        return (h, c) if batched else (h[0], c[0])

    def extra_repr(self) -> str:
        """Return torch's text."""
        tail = "" if self.bias is True else f", bias={self.bias}"
        return f"{self.input_size}, {self.hidden_size}{tail}"

    def _states(self, hx: Any, N: int, batched: bool) -> tuple[mx.array | None, mx.array | None]:
        if hx is None:
            return None, None
        size = (N, self.hidden_size)
        h, c = pair(hx, f"{_NAME} hx")
        h = array_like(h, f"{_NAME} hx[0]", self.weight_hh)
        # As in torch, only h meets a weight; a cell state of another dtype is promoted.
        c = as_array(c, f"{_NAME} hx[1]")
        for k, state in enumerate((h, c)):
            _rank(state, f"{_NAME} hx[{k}]")
            shape(state, size if batched else size[1:], f"{_NAME} hx[{k}]")
        return (h, c) if batched else (h[None], c[None])

    def _weights(self) -> LSTMWeights:
        bias = self["bias_ih"] + self["bias_hh"] if self.bias else None
        return LSTMWeights(self.weight_ih, self.weight_hh, bias)


def _rank(x: mx.array, owner: str) -> None:
    if x.ndim not in (1, 2):
        raise UsageError(owner, expected="1D or 2D", got=f"{x.ndim}D {list(x.shape)}")
