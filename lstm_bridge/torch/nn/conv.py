"""``torch.nn``'s convolutions, channels first.

N batch, I channels in, O channels out, K kernel, G groups.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.errors import UnsupportedError, UsageError
from lstm_bridge.torch.dtypes import float_dtype
from lstm_bridge.torch.nn import functional
from lstm_bridge.torch.nn.arguments import DEVICE_NOTE, DTYPE_NOTE, positive, uniform
from lstm_bridge.torch.nn.functional.convolution import Sizes, several
from lstm_bridge.torch.nn.module import Module

_MODES = {"reflect": "reflect", "replicate": "replicate", "circular": "circular"}


class _Conv(Module):
    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {"device": DEVICE_NOTE, "dtype": DTYPE_NOTE}
    AXES: ClassVar[int]
    TRANSPOSED: ClassVar[bool] = False

    def _setup(
        self,
        channels: tuple[int, int],
        sizes: dict[str, Any],
        groups: int,
        bias: bool,
        padding_mode: str,
        dtype: Any,
    ) -> None:
        owner = f"torch.nn.{type(self).__name__}"
        self.in_channels, self.out_channels = channels
        self.groups, self.padding_mode = positive(groups, f"{owner} groups"), padding_mode
        if any(size % groups for size in channels):
            raise UsageError(
                f"{owner} channels", expected=f"multiples of groups {groups}", got=str(channels)
            )
        if padding_mode not in ("zeros", *_MODES):
            raise UsageError(
                f"{owner} padding_mode",
                expected=f"one of zeros, {', '.join(_MODES)}",
                got=repr(padding_mode),
            )
        for name, value in sizes.items():
            text = isinstance(value, str)
            self.keep(**{name: value if text else several(value, self.AXES, f"{owner} {name}")})
        kind = float_dtype(dtype, f"{owner} dtype")
        first, second = channels if self.TRANSPOSED else channels[::-1]
        self.weight = mx.zeros((first, second // groups, *self.kernel_size), kind)
        self.bias = mx.zeros((self.out_channels,), kind) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew from U(−1/√fan_in, 1/√fan_in)."""
        fan_in = math.prod(self.weight.shape[1:])
        self.weight = uniform(self.weight.shape, fan_in, self.weight.dtype)
        if self.bias is not None:
            self.bias = uniform(self.bias.shape, fan_in, self.bias.dtype)

    def extra_repr(self) -> str:
        """Return torch's text: what differs from the defaults."""
        extra = getattr(self, "output_padding", (0,))
        shown = {
            "padding": self.padding != (0,) * len(self.padding),
            "dilation": self.dilation != (1,) * len(self.dilation),
            "output_padding": extra != (0,) * len(extra),
            "groups": self.groups != 1,
        }
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
        text += f"stride={self.stride}"
        text += "".join(f", {name}={getattr(self, name)}" for name, odd in shown.items() if odd)
        text += ", bias=False" if self.bias is None else ""
        return text + (
            "" if self.padding_mode == "zeros" else f", padding_mode={self.padding_mode}"
        )

    def _padded(self, x: mx.array) -> tuple[mx.array, Any]:
        """Return the input with its border, and the padding that is left to the convolution."""
        if self.padding_mode == "zeros":
            return x, self.padding
        sizes: list[int] = []
        for axis in reversed(range(self.AXES)):
            span = self.dilation[axis] * (self.kernel_size[axis] - 1)
            if self.padding == "same":
                sizes += [span // 2, span - span // 2]
            else:
                sizes += [0, 0] if self.padding == "valid" else [self.padding[axis]] * 2
        return functional.pad(x, sizes, _MODES[self.padding_mode]), 0


class Conv1d(_Conv):
    """Slide K-wide windows over time.

    Parameters: ``weight [O, I/G, K]``, ``bias [O]``.

    Args:
        in_channels: I.
        out_channels: O.
        kernel_size: K.
        stride: steps between windows. Default: 1.
        padding: steps put on either side, "valid" or "same". Default: 0.
        dilation: steps between a window's elements. Default: 1.
        groups: G, channels in so many groups by themselves. Default: 1.
        bias: has ``bias``. Default: True.
        padding_mode: "zeros", "reflect", "replicate" or "circular". Default: "zeros".
        device: no effect here (``ARGUMENT_NOTES`` says why).
        dtype: torch or MLX floating dtype of the parameters, or its name. Default: float32.

    Raises:
        UsageError: channels that do not divide into the groups, or an unknown mode.

    Source: torch.nn.Conv1d 2.13.
    """

    AXES = 1

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Any = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        sizes = {
            "kernel_size": kernel_size,
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
        }
        self._setup((in_channels, out_channels), sizes, groups, bias, padding_mode, dtype)

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``[N, O, L']`` for ``input [N, I, L]``; both may lack N."""
        x, padding = self._padded(input)
        return functional.conv1d(
            x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )


class Conv2d(_Conv):
    """Slide windows over two axes; arguments as of :class:`Conv1d`, one size or two.

    Parameters: ``weight [O, I/G, K, K]``, ``bias [O]``.

    Source: torch.nn.Conv2d 2.13.
    """

    AXES = 2

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Any = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        sizes = {
            "kernel_size": kernel_size,
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
        }
        self._setup((in_channels, out_channels), sizes, groups, bias, padding_mode, dtype)

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``[N, O, H', W']`` for ``input [N, I, H, W]``; both may lack N."""
        x, padding = self._padded(input)
        return functional.conv2d(
            x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )


class ConvTranspose1d(_Conv):
    """The transposed map of :class:`Conv1d`.

    Parameters: ``weight [I, O/G, K]``, ``bias [O]``.

    Args:
        in_channels: I.
        out_channels: O.
        kernel_size: K.
        stride: steps between the places where windows are added. Default: 1.
        padding: steps cut from either side. Default: 0.
        output_padding: steps added at the end. Default: 0.
        groups: G. Default: 1.
        bias: has ``bias``. Default: True.
        dilation: steps between a window's elements. Default: 1.
        padding_mode: "zeros", as in torch. Default: "zeros".
        device: no effect here (``ARGUMENT_NOTES`` says why).
        dtype: torch or MLX floating dtype of the parameters, or its name. Default: float32.

    Raises:
        UsageError: channels that do not divide into the groups, or another mode.

    Source: torch.nn.ConvTranspose1d 2.13.
    """

    AXES = 1
    TRANSPOSED = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Sizes = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Sizes = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if padding_mode != "zeros":
            raise UsageError(
                "torch.nn.ConvTranspose1d padding_mode", expected="'zeros'", got=repr(padding_mode)
            )
        sizes = {
            "kernel_size": kernel_size,
            "stride": stride,
            "padding": padding,
            "output_padding": output_padding,
            "dilation": dilation,
        }
        self._setup((in_channels, out_channels), sizes, groups, bias, padding_mode, dtype)

    def forward(
        self,
        input: mx.array,  # noqa: A002
        output_size: Any = None,
    ) -> mx.array:
        """Return ``[N, O, L']`` for ``input [N, I, L]``; both may lack N.

        Raises:
            UnsupportedError: ``output_size`` is given.
        """
        if output_size is not None:
            raise UnsupportedError(
                "torch.nn.ConvTranspose1d output_size",
                expected="None, because output_padding says the same at construction",
                got=repr(output_size),
            )
        return functional.conv_transpose1d(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation,
        )
