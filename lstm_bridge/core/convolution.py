"""Convolution and pooling windows over channels-last arrays, in any number of dimensions.

Shape letters: N batch, C channels, F filters; K a window's size along one axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx


def same_padding(size: int, window: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Return zeros before and after an axis such that ``ceil(size / stride)`` windows fit."""
    reach = (window - 1) * dilation + 1
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def paddings(
    padding: str,
    sizes: Sequence[int],
    windows: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[tuple[int, int]]:
    """Return the padding of each spatial axis for ``"valid"``, ``"same"`` or ``"causal"``."""
    axes = list(zip(sizes, windows, strides, dilations, strict=True))
    if padding == "same":
        return [same_padding(*axis) for axis in axes]
    if padding == "causal":
        return [((window - 1) * dilation, 0) for _, window, _, dilation in axes]
    return [(0, 0)] * len(axes)


def conv(
    x: mx.array,
    kernel: mx.array,
    *,
    strides: Sequence[int],
    padding: str,
    dilations: Sequence[int] | None = None,
    groups: int = 1,
) -> mx.array:
    """Convolve (in the sense of deep learning: correlate).

    Args:
        x: ``[N, *spatial, C]``.
        kernel: ``[*windows, C / groups, F]``.
        strides: step of the window along each spatial axis.
        padding: ``"valid"``, ``"same"`` or ``"causal"``.
        dilations: distance between a window's elements along each axis. Default: 1.
        groups: how many groups of channels are convolved apart. Default: 1.

    Returns:
        ``[N, *spatial', F]``.
    """
    rank = x.ndim - 2
    dilations = [1] * rank if dilations is None else list(dilations)
    pads = paddings(padding, x.shape[1:-1], kernel.shape[:rank], strides, dilations)
    return mx.conv_general(
        x,
        mx.moveaxis(kernel, -1, 0),
        stride=list(strides),
        padding=([low for low, _ in pads], [high for _, high in pads]),
        kernel_dilation=dilations,
        groups=groups,
    )


def windows_of(
    x: mx.array, windows: Sequence[int], strides: Sequence[int], padding: str, fill: float
) -> mx.array:
    """Return all windows of ``[N, *spatial, C]`` as ``[N, *spatial', C, window]``.

    Args:
        x: channels-last array.
        windows: window size along each spatial axis.
        strides: step of the window along each spatial axis.
        padding: ``"valid"`` or ``"same"``.
        fill: what ``"same"`` pads with.
    """
    rank = x.ndim - 2
    pads = paddings(padding, x.shape[1:-1], windows, strides, [1] * rank)
    if any(low or high for low, high in pads):
        x = mx.pad(x, [(0, 0), *pads, (0, 0)], constant_values=mx.array(fill, x.dtype))
    for axis in range(rank):
        count = (x.shape[axis + 1] - windows[axis]) // strides[axis] + 1
        starts = mx.arange(count) * strides[axis]
        index = starts[:, None] + mx.arange(windows[axis])[None, :]
        x = mx.moveaxis(mx.take(x, index, axis=axis + 1), axis + 2, -1)
    return x.reshape(*x.shape[: rank + 2], -1)
