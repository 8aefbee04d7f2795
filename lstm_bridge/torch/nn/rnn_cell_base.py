"""What torch's cells with a single state share."""

from __future__ import annotations

from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.errors import ShapeError, UsageError
from lstm_bridge.torch.dtypes import float_dtype
from lstm_bridge.torch.nn.arguments import (
    DEVICE_NOTE,
    DTYPE_NOTE,
    array_like,
    integer,
    shape,
    uniform,
    width,
)
from lstm_bridge.torch.nn.module import Module


class RNNCellBase(Module):
    """Parameters and checks of a cell with one state.

    N batch, D input, H hidden, G gates.

    Source: torch.nn.RNNCellBase 2.13.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {"device": DEVICE_NOTE, "dtype": DTYPE_NOTE}
    OWNER: ClassVar[str]
    GATES: ClassVar[int]

    def __init__(self, input_size: int, hidden_size: int, bias: bool, dtype: Any) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        for name in ("input_size", "hidden_size"):
            if integer(getattr(self, name), f"{self.OWNER} {name}") < 0:
                raise ShapeError(
                    f"{self.OWNER} {name}", expected="zero or more", got=str(getattr(self, name))
                )
        kind = float_dtype(dtype, f"{self.OWNER} dtype")
        rows = self.GATES * hidden_size
        self.weight_ih = mx.zeros((rows, input_size), kind)
        self.weight_hh = mx.zeros((rows, hidden_size), kind)
        self.bias_ih = mx.zeros((rows,), kind) if bias else None
        self.bias_hh = mx.zeros((rows,), kind) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew from U(−1/√H, 1/√H)."""
        for name, array in self.parameters().items():
            setattr(self, name, uniform(array.shape, self.hidden_size, array.dtype))

    def extra_repr(self) -> str:
        """Return torch's text."""
        tail = "" if self.bias is True else f", bias={self.bias}"
        return f"{self.input_size}, {self.hidden_size}{tail}"

    @staticmethod
    def _are_arrays(value: Any, hx: Any) -> bool:
        """Say whether the kernel may look at them first: it takes nothing that does not fit."""
        return isinstance(value, mx.array) and (hx is None or isinstance(hx, mx.array))

    def _checked(self, value: Any, hx: Any) -> tuple[mx.array, mx.array | None]:
        """Return the input and the state of one step, ``[N, ·]`` or ``[·]``."""
        x = array_like(value, f"{self.OWNER} input", self.weight_ih)
        _rank(x, f"{self.OWNER} input")
        width(x, self.input_size, f"{self.OWNER} input")
        if hx is None:
            return x, None
        state = array_like(hx, f"{self.OWNER} hx", self.weight_hh)
        _rank(state, f"{self.OWNER} hx")
        shape(state, (*x.shape[:-1], self.hidden_size), f"{self.OWNER} hx")
        return x, state


def _rank(x: mx.array, owner: str) -> None:
    if x.ndim not in (1, 2):
        raise UsageError(owner, expected="1D or 2D", got=f"{x.ndim}D {list(x.shape)}")
