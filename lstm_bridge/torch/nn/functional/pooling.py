"""``torch.nn.functional``'s pooling over the last one or two axes.

A window is the stack of strided slices at its offsets: element-wise work that differentiates, and
ties go to the first element as in torch.

Source: torch.nn.functional 2.13.
"""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import mlx.core as mx

from lstm_bridge.core.pooling import Pools, max_pool
from lstm_bridge.errors import ShapeError, UnsupportedError, UsageError
from lstm_bridge.torch.nn.functional.convolution import Sizes, several


class _Windows(NamedTuple):
    """Where the windows of one axis lie: kernel, stride, padding, dilation, input and output."""

    kernel: int
    stride: int
    padding: int
    dilation: int
    L: int
    out: int

    @property
    def high(self) -> int:
        """What is put after the axis, so that the last window is whole."""
        last = (self.out - 1) * self.stride + self.dilation * (self.kernel - 1) + 1
        return max(0, last - self.L - self.padding)

    def slice_at(self, offset: int) -> slice:
        start = offset * self.dilation
        return slice(start, start + (self.out - 1) * self.stride + 1, self.stride)

    def counts(self, include_pad: bool) -> list[int]:
        """How many elements each window averages over."""
        found = []
        for k in range(self.out):
            start = k * self.stride - self.padding
            end = min(start + self.kernel, self.L + self.padding)
            found.append(end - start if include_pad else min(end, self.L) - max(start, 0))
        return found


def max_pool1d(
    input: mx.array,  # noqa: A002
    kernel_size: Sizes,
    stride: Any = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest of each window of ``[N, C, L]`` or ``[C, L]``."""
    return _max_pool(input, 1, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: mx.array,  # noqa: A002
    kernel_size: Sizes,
    stride: Any = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest of each window of ``[N, C, H, W]`` or ``[C, H, W]``."""
    return _max_pool(input, 2, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def avg_pool1d(
    input: mx.array,  # noqa: A002
    kernel_size: Sizes,
    stride: Any = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> mx.array:
    """The mean of each window of ``[N, C, L]`` or ``[C, L]``."""
    return _avg_pool(input, 1, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input: mx.array,  # noqa: A002
    kernel_size: Sizes,
    stride: Any = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> mx.array:
    """The mean of each window of ``[N, C, H, W]`` or ``[C, H, W]``."""
    return _avg_pool(
        input, 2, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def adaptive_avg_pool1d(input: mx.array, output_size: Any) -> mx.array:  # noqa: A002
    """Means of ``output_size`` spans that cover the last axis."""
    return _adaptive(input, _targets(input, output_size, 1), _mean)


def adaptive_avg_pool2d(input: mx.array, output_size: Any) -> mx.array:  # noqa: A002
    """Means of spans that cover the last two axes."""
    return _adaptive(input, _targets(input, output_size, 2), _mean)


def adaptive_max_pool1d(
    input: mx.array,  # noqa: A002
    output_size: Any,
    return_indices: bool = False,
) -> Any:
    """Largest elements of ``output_size`` spans that cover the last axis."""
    (n,) = _targets(input, output_size, 1)
    y = _adaptive(input, (n,), _largest)
    if not return_indices:
        return y
    places = [mx.argmax(input[..., a:b], axis=-1) + a for a, b in _spans(input.shape[-1], n)]
    return y, mx.stack(places, axis=-1).astype(mx.int64)


def adaptive_max_pool2d(
    input: mx.array,  # noqa: A002
    output_size: Any,
    return_indices: bool = False,
) -> mx.array:
    """Largest elements of spans that cover the last two axes.

    Raises:
        UnsupportedError: the indices are asked for.
    """
    if return_indices:
        raise UnsupportedError(
            "adaptive_max_pool2d return_indices",
            expected="False, because each axis is reduced by itself here",
            got="True",
        )
    return _adaptive(input, _targets(input, output_size, 2), _largest)


def _windows(
    x: mx.array,
    S: int,
    kernel: Sizes,
    stride: Any,
    padding: Sizes,
    dilation: Sizes,
    ceil_mode: bool,
    owner: str,
) -> list[_Windows]:
    if x.ndim not in (S + 1, S + 2):
        raise ShapeError(f"{owner} input", expected=f"{S + 1}D or {S + 2}D", got=str(list(x.shape)))
    kernels = several(kernel, S, owner)
    strides = kernels if stride is None or stride == () else several(stride, S, owner)
    found = []
    for k, s, p, d, L in zip(
        kernels,
        strides,
        several(padding, S, owner),
        several(dilation, S, owner),
        x.shape[-S:],
        strict=True,
    ):
        if not 0 <= p <= k // 2:
            raise UsageError(
                f"{owner} padding", expected="at most half of the kernel size", got=str(p)
            )
        room = L + 2 * p - d * (k - 1) - 1
        out = (room + (s - 1 if ceil_mode else 0)) // s + 1
        if ceil_mode and (out - 1) * s >= L + p:
            out -= 1
        if room < 0 or out < 1:
            raise ShapeError(
                f"{owner} input", expected="room for one window", got=str(list(x.shape))
            )
        found.append(_Windows(k, s, p, d, L, out))
    return found


def _stacked(x: mx.array, windows: list[_Windows], fill: float) -> mx.array:
    """Return the elements of every window along a new first axis."""
    pads = [(0, 0)] * (x.ndim - len(windows)) + [(w.padding, w.high) for w in windows]
    x = mx.pad(x, pads, constant_values=mx.array(fill).astype(x.dtype))
    offsets = product(*(range(w.kernel) for w in windows))
    return mx.stack(
        [
            x[(..., *(w.slice_at(o) for w, o in zip(windows, offset, strict=True)))]
            for offset in offsets
        ]
    )


def _max_pool(
    x: mx.array,
    S: int,
    kernel: Sizes,
    stride: Any,
    padding: Sizes,
    dilation: Sizes,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    owner = f"max_pool{S}d"
    windows = _windows(x, S, kernel, stride, padding, dilation, ceil_mode, owner)
    if not return_indices:
        return _largest_of(x, windows)
    stacked = _stacked(x, windows, float("-inf"))
    best = mx.stop_gradient(mx.argmax(stacked, axis=0, keepdims=True))
    y = mx.take_along_axis(stacked, best, axis=0)[0]
    size = mx.arange(x[(0,) * (x.ndim - S)].size, dtype=mx.int64).reshape(x.shape[-S:])
    places = _stacked(size, windows, 0)
    wide = mx.broadcast_to(
        places.reshape(len(places), *[1] * (x.ndim - S), *y.shape[-S:]), stacked.shape
    )
    return y, mx.take_along_axis(wide, best, axis=0)[0]


def _largest_of(x: mx.array, windows: list[_Windows]) -> mx.array:
    whole = x if x.ndim == len(windows) + 2 else x[None]
    pools = Pools(
        [w.kernel for w in windows],
        [w.stride for w in windows],
        [w.dilation for w in windows],
        [w.padding for w in windows],
        [w.out for w in windows],
    )
    y = mx.moveaxis(max_pool(mx.moveaxis(whole, 1, -1), pools), -1, 1)
    return y if whole is x else y[0]


def _avg_pool(
    x: mx.array,
    S: int,
    kernel: Sizes,
    stride: Any,
    padding: Sizes,
    ceil_mode: bool,
    include_pad: bool,
    divisor: int | None,
) -> mx.array:
    windows = _windows(x, S, kernel, stride, padding, 1, ceil_mode, f"avg_pool{S}d")
    total = mx.sum(_stacked(x, windows, 0), axis=0)
    if divisor is not None:
        return total / divisor
    counts = mx.array(1)
    for w in windows:
        counts = counts[..., None] * mx.array(w.counts(include_pad))
    return total / counts.astype(x.dtype)


def _targets(x: mx.array, output_size: Any, S: int) -> tuple[int, ...]:
    """Return how many spans each axis gets; None keeps the axis."""
    if x.ndim not in (S + 1, S + 2):
        raise ShapeError(
            f"adaptive pooling over {S} axes", expected=f"{S + 1}D or {S + 2}D", got=f"{x.ndim}D"
        )
    sizes = (
        (output_size,) * S if output_size is None or isinstance(output_size, int) else output_size
    )
    return tuple(L if n is None else int(n) for n, L in zip(sizes, x.shape[-S:], strict=True))


def _spans(L: int, n: int) -> list[tuple[int, int]]:
    return [(k * L // n, -(-(k + 1) * L // n)) for k in range(n)]


def _adaptive(x: mx.array, sizes: tuple[int, ...], reduce: Any) -> mx.array:
    for axis, n in zip(range(-len(sizes), 0), sizes, strict=True):
        x = mx.moveaxis(x, axis, -1)
        x = mx.stack([reduce(x[..., a:b]) for a, b in _spans(x.shape[-1], n)], axis=-1)
        x = mx.moveaxis(x, -1, axis)
    return x


def _mean(x: mx.array) -> mx.array:
    return mx.mean(x, axis=-1)


def _largest(x: mx.array) -> mx.array:
    best = mx.stop_gradient(mx.argmax(x, axis=-1, keepdims=True))
    return mx.take_along_axis(x, best, axis=-1)[..., 0]


def lp_pool1d(
    input: mx.array,  # noqa: A002
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
) -> mx.array:
    """Return the p-norm of each window, ``(sum xᵖ)^(1/p)``."""
    (k,) = several(kernel_size, 1, "lp_pool1d kernel_size")
    mean = avg_pool1d(input**norm_type, kernel_size, stride, 0, ceil_mode)
    return (mx.maximum(mean, 0) * k) ** (1 / norm_type)
