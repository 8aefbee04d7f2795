"""``torch.nn.Linear``, the layer that stands behind nearly every LSTM, and ``Bilinear``."""

from __future__ import annotations

from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn

from lstm_bridge.core.affine import affine
from lstm_bridge.torch.dtypes import float_dtype
from lstm_bridge.torch.nn import functional
from lstm_bridge.torch.nn.arguments import (
    DEVICE_NOTE,
    DTYPE_NOTE,
    array_like,
    integer,
    positive,
    uniform,
    width,
)
from lstm_bridge.torch.nn.module import Module


class Linear(Module):
    r"""An affine map of the last axis.

    .. math:: y = x W^T + b

    Args:
        in_features: width of the input.
        out_features: width of the output.
        bias: add ``b``. Default: True.
        device: no effect here (``ARGUMENT_NOTES`` says why).
        dtype: torch or MLX floating dtype of the parameters, or its name. Default: float32.

    Raises:
        ArgumentTypeError: a size is no int.

    Source: torch.nn.Linear 2.13.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {"device": DEVICE_NOTE, "dtype": DTYPE_NOTE}

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.in_features = integer(in_features, "torch.nn.Linear in_features")
        self.out_features = integer(out_features, "torch.nn.Linear out_features")
        dtype = float_dtype(dtype, "torch.nn.Linear dtype")
        self.weight = mx.zeros((out_features, in_features), dtype)
        self.bias = mx.zeros((out_features,), dtype) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw both parameters anew from U(−1/√in_features, 1/√in_features)."""
        for name in ("weight", "bias"):
            old = getattr(self, name)
            if old is not None:
                setattr(self, name, uniform(old.shape, self.in_features, old.dtype))

    def forward(self, input: Any) -> mx.array:  # noqa: A002  torch's own name
        """Return ``input W^T + b``.

        Args:
            input: ``[..., in_features]``.

        Returns:
            ``[..., out_features]``.

        Raises:
            ShapeError: the last axis or the dtype is another one.
        """
        x = array_like(input, "torch.nn.Linear input", self.weight)
        width(x, self.in_features, "torch.nn.Linear input")
        return affine(x, self.weight, self.bias)

    def to_quantized(
        self, group_size: int | None = None, bits: int | None = None, mode: str = "affine"
    ) -> mlx.nn.Module:
        """Return MLX's quantized linear layer of the same weights."""
        return mlx.nn.QuantizedLinear.from_linear(self, group_size, bits, mode)

    def extra_repr(self) -> str:
        """Return torch's text."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class Bilinear(Module):
    r"""A bilinear map of two inputs.

    .. math:: y_o = x_1^T W_o x_2 + b_o

    Parameters: ``weight [O, I1, I2]``, ``bias [O]``.

    Args:
        in1_features: I1.
        in2_features: I2.
        out_features: O.
        bias: add ``b``. Default: True.
        device: no effect here (``ARGUMENT_NOTES`` says why).
        dtype: torch or MLX floating dtype of the parameters, or its name. Default: float32.

    Raises:
        UsageError: a size below 1.

    Source: torch.nn.Bilinear 2.13.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {"device": DEVICE_NOTE, "dtype": DTYPE_NOTE}

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.in1_features = positive(in1_features, "torch.nn.Bilinear in1_features")
        self.in2_features = integer(in2_features, "torch.nn.Bilinear in2_features")
        self.out_features = integer(out_features, "torch.nn.Bilinear out_features")
        kind = float_dtype(dtype, "torch.nn.Bilinear dtype")
        self.weight = mx.zeros((out_features, in1_features, in2_features), kind)
        self.bias = mx.zeros((out_features,), kind) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw both parameters anew from U(−1/√I1, 1/√I1)."""
        for name in ("weight", "bias"):
            old = getattr(self, name)
            if old is not None:
                setattr(self, name, uniform(old.shape, self.in1_features, old.dtype))

    def forward(self, input1: Any, input2: Any) -> mx.array:
        """Return ``[*, O]`` for ``input1 [*, I1]`` and ``input2 [*, I2]``."""
        first = array_like(input1, "torch.nn.Bilinear input1", self.weight)
        second = array_like(input2, "torch.nn.Bilinear input2", self.weight)
        return functional.bilinear(first, second, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Return torch's text."""
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}"
        )
