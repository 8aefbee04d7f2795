"""Convolution and pooling windows over channels-last arrays, in any number of dimensions.

Shape letters: N batch, C channels, F filters; K a window's size along one axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import mlx.core as mx

from lstm_bridge.core.activations import Activation
from lstm_bridge.core.affine import squash_number, squashed
from lstm_bridge.core.native.ops import DENSE_SERVES, Inputs, Operation


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
    bias: mx.array | None = None,
    activation: Activation | None = None,
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
        bias: ``[F]``, or None.
        activation: any element-wise or last-axis function. Default: None, the identity.
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
    return correlate(
        x,
        mx.moveaxis(kernel, -1, 0),
        bias,
        activation,
        windows=Windows(strides, dilations, [low for low, _ in pads], [high for _, high in pads]),
        groups=groups,
    )


class Windows(NamedTuple):
    """How windows lie over the spatial axes; one number for each axis.

    Args:
        strides: step of the window.
        dilations: distance between a window's elements.
        before: zeros in front of an axis; what is left out of it where negative.
        behind: zeros behind it, likewise.
        spreads: distance between the input's own elements, with zeros between; beyond 1, nothing
            may be left out: MLX leaves it out of what is not spread yet. Default: 1.
    """

    strides: Sequence[int]
    dilations: Sequence[int]
    before: Sequence[int]
    behind: Sequence[int]
    spreads: Sequence[int] | None = None


def correlate(
    x: mx.array,
    W: mx.array,
    bias: mx.array | None = None,
    activation: Activation | None = None,
    *,
    windows: Windows,
    groups: int = 1,
    flip: bool = False,
) -> mx.array:
    """Return ``activation(x * W + bias)``.

    Args:
        x: ``[N, *spatial, C]``.
        W: ``[F, *windows, C / groups]``.
        bias: ``[F]``, or None.
        activation: any element-wise or last-axis function. Default: None, the identity.
        windows: how they lie.
        groups: how many groups of channels are convolved apart. Default: 1.
        flip: windows are turned around along all axes. Default: False.

    Returns:
        ``[N, *spatial', F]``.
    """
    number = squash_number(activation)
    y = _fused(x, W, bias, number, windows, flip) if groups == 1 else None
    if y is None:
        y, number = _plain(x, W, bias, windows, groups, flip), 0
    return y if activation is None or number else activation(y)


def _plain(
    x: mx.array, W: mx.array, bias: mx.array | None, windows: Windows, groups: int, flip: bool
) -> mx.array:
    y = mx.conv_general(
        x,
        W,
        stride=list(windows.strides),
        padding=(list(windows.before), list(windows.behind)),
        kernel_dilation=list(windows.dilations),
        input_dilation=1 if windows.spreads is None else list(windows.spreads),
        groups=groups,
        flip=flip,
    )
    return y if bias is None else y + bias


def _fused(
    x: mx.array, W: mx.array, bias: mx.array | None, number: int, windows: Windows, flip: bool
) -> mx.array | None:
    rank = x.ndim - 2
    if not DENSE_SERVES or rank not in (1, 2):
        return None
    if flip:
        W = W[(slice(None), *[slice(None, None, -1)] * rank)]
    strides, dilations, before, behind, spreads = windows
    if rank == 1:  # an axis of one behind
        x, W = mx.expand_dims(x, 2), mx.expand_dims(W, 2)
    settings = [
        float(number), *_two(strides), *_two(dilations), *_two(before, 0), *_two(behind, 0),
        *_two(spreads or (1,) * rank),
    ]  # fmt: skip
    done = _CONVOLUTION.fused((x, W, bias), settings)
    if done is None:
        return None
    return mx.squeeze(done[0], 2) if rank == 1 else done[0]


def _two(sizes: Sequence[int], missing: int = 1) -> list[float]:
    return [float(size) for size in (*sizes, missing)[:2]]


def _composed(inputs: Inputs, settings: Sequence[float]) -> list[mx.array]:
    x, W, bias = inputs
    assert x is not None
    assert W is not None
    number, *sizes = (int(k) for k in settings)
    windows = Windows(*(sizes[k : k + 2] for k in range(0, 10, 2)))
    return [squashed(_plain(x, W, bias, windows, 1, False), number)]


_CONVOLUTION = Operation("LSTMBridgeConvolution", _composed)


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
    return x.reshape(*x.shape[: rank + 2], math.prod(windows))
