"""``torch.nn``'s pooling layers; the functions are ``functional``'s."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from lstm_bridge.torch.nn import functional
from lstm_bridge.torch.nn.functional.convolution import Sizes
from lstm_bridge.torch.nn.module import Module


class _MaxPool(Module):
    def __init__(
        self,
        kernel_size: Sizes,
        stride: Any = None,
        padding: Sizes = 0,
        dilation: Sizes = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.keep(
            kernel_size=kernel_size,
            stride=kernel_size if stride is None else stride,
            padding=padding,
            dilation=dilation,
        )
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def extra_repr(self) -> str:
        """Return torch's text."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )

    def _options(self) -> tuple[Any, ...]:
        return (
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil_mode,
            self.return_indices,
        )


class MaxPool1d(_MaxPool):
    """The largest of each window over time.

    Args:
        kernel_size: width of a window.
        stride: steps between windows. Default: kernel_size.
        padding: steps put on either side. Default: 0.
        dilation: steps between a window's elements. Default: 1.
        return_indices: return the places of the largest too. Default: False.
        ceil_mode: a last window may reach beyond the end. Default: False.

    Source: torch.nn.MaxPool1d 2.13.
    """

    def forward(self, input: mx.array) -> Any:  # noqa: A002
        """Return ``[N, C, L']`` for ``input [N, C, L]``; both may lack N."""
        return functional.max_pool1d(input, *self._options())


class MaxPool2d(_MaxPool):
    """The largest of each window over two axes; arguments as of :class:`MaxPool1d`.

    Source: torch.nn.MaxPool2d 2.13.
    """

    def forward(self, input: mx.array) -> Any:  # noqa: A002
        """Return ``[N, C, H', W']`` for ``input [N, C, H, W]``; both may lack N."""
        return functional.max_pool2d(input, *self._options())


class AvgPool1d(Module):
    """The mean of each window over time.

    Args:
        kernel_size: width of a window.
        stride: steps between windows. Default: kernel_size.
        padding: zeros put on either side. Default: 0.
        ceil_mode: a last window may reach beyond the end. Default: False.
        count_include_pad: the zeros count. Default: True.

    Source: torch.nn.AvgPool1d 2.13.
    """

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Any = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        # As in torch, single sizes become tuples.
        self.keep(
            kernel_size=_single(kernel_size),
            stride=_single(kernel_size if stride is None else stride),
            padding=_single(padding),
        )
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``[N, C, L']`` for ``input [N, C, L]``; both may lack N."""
        return functional.avg_pool1d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
        )

    def extra_repr(self) -> str:
        """Return torch's text."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(Module):
    """The mean of each window over two axes; arguments as of :class:`AvgPool1d`.

    Args:
        kernel_size: size of a window.
        stride: steps between windows. Default: kernel_size.
        padding: zeros put on every side. Default: 0.
        ceil_mode: a last window may reach beyond the end. Default: False.
        count_include_pad: the zeros count. Default: True.
        divisor_override: divide by this instead of the count. Default: None.

    Source: torch.nn.AvgPool2d 2.13.
    """

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Any = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self.keep(
            kernel_size=kernel_size,
            stride=kernel_size if stride is None else stride,
            padding=padding,
        )
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad
        self.divisor_override = divisor_override

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``[N, C, H', W']`` for ``input [N, C, H, W]``; both may lack N."""
        return functional.avg_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )

    def extra_repr(self) -> str:
        """Return torch's text."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _AdaptiveAvgPool(Module):
    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.keep(output_size=_tuple(output_size))

    def extra_repr(self) -> str:
        """Return torch's text."""
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Means of ``output_size`` spans that cover the time axis.

    Args:
        output_size: how many spans.

    Source: torch.nn.AdaptiveAvgPool1d 2.13.
    """

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``[N, C, output_size]`` for ``input [N, C, L]``; both may lack N."""
        return functional.adaptive_avg_pool1d(input, self.output_size)


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Means of spans that cover two axes.

    Args:
        output_size: how many spans, for both axes or each; None keeps an axis.

    Source: torch.nn.AdaptiveAvgPool2d 2.13.
    """

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``[N, C, *output_size]`` for ``input [N, C, H, W]``; both may lack N."""
        return functional.adaptive_avg_pool2d(input, self.output_size)


class _AdaptiveMaxPool(_AdaptiveAvgPool):
    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """Largest elements of ``output_size`` spans that cover the time axis.

    Args:
        output_size: how many spans.
        return_indices: return their places too. Default: False.

    Source: torch.nn.AdaptiveMaxPool1d 2.13.
    """

    def forward(self, input: mx.array) -> Any:  # noqa: A002
        """Return ``[N, C, output_size]`` for ``input [N, C, L]``; both may lack N."""
        return functional.adaptive_max_pool1d(input, self.output_size, self.return_indices)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Largest elements of spans that cover two axes.

    Args:
        output_size: how many spans, for both axes or each; None keeps an axis.
        return_indices: refused when the layer is called, because each axis is reduced by itself.
            Default: False.

    Source: torch.nn.AdaptiveMaxPool2d 2.13.
    """

    def forward(self, input: mx.array) -> Any:  # noqa: A002
        """Return ``[N, C, *output_size]`` for ``input [N, C, H, W]``; both may lack N."""
        return functional.adaptive_max_pool2d(input, self.output_size, self.return_indices)


def _single(value: Any) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
