"""``torch.nn.functional``'s convolutions, channels first as in torch.

N batch, C channels (I in, O out), S spatial axes, G groups.

Source: torch.nn.functional 2.13.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from lstm_bridge.core.convolution import Windows, correlate
from lstm_bridge.errors import ShapeError, UnsupportedError, UsageError

Sizes = int | Sequence[int]


def several(value: Any, axes: int, owner: str) -> tuple[int, ...]:
    """Return a size for each axis from one int or from that many.

    Raises:
        UsageError: another number of them.
    """
    if isinstance(value, int):
        return (value,) * axes
    values = tuple(int(v) for v in value)
    values = values * axes if len(values) == 1 else values
    if len(values) != axes:
        raise UsageError(owner, expected=f"an int or {axes} of them", got=str(list(values)))
    return values


def conv1d(
    input: mx.array,  # noqa: A002
    weight: mx.array,
    bias: mx.array | None = None,
    stride: Sizes = 1,
    padding: Any = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> mx.array:
    """Slide ``weight [O, I/G, K]`` over ``input [N, I, L]`` or ``[I, L]``."""
    return _convolve(input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: mx.array,  # noqa: A002
    weight: mx.array,
    bias: mx.array | None = None,
    stride: Sizes = 1,
    padding: Any = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> mx.array:
    """Slide ``weight [O, I/G, K, K]`` over ``input [N, I, H, W]`` or ``[I, H, W]``."""
    return _convolve(input, weight, bias, stride, padding, dilation, groups)


def conv_transpose1d(
    input: mx.array,  # noqa: A002
    weight: mx.array,
    bias: mx.array | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> mx.array:
    """The transposed map of ``conv1d``: ``weight [I, O/G, K]``, ``input [N, I, L]``."""
    return _transposed(input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(
    input: mx.array,  # noqa: A002
    weight: mx.array,
    bias: mx.array | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> mx.array:
    """The transposed map of ``conv2d``: ``weight [I, O/G, K, K]``, ``input [N, I, H, W]``."""
    return _transposed(input, weight, bias, stride, padding, output_padding, groups, dilation)


def _convolve(
    x: mx.array,
    weight: mx.array,
    bias: mx.array | None,
    stride: Sizes,
    padding: Any,
    dilation: Sizes,
    groups: int,
) -> mx.array:
    S = weight.ndim - 2
    owner = f"conv{S}d"
    strides, dilations = several(stride, S, owner), several(dilation, S, owner)
    low, high = _padding(padding, weight.shape[2:], strides, dilations, owner)
    batched = _checked(x, weight.shape[1] * groups, S, owner)
    y = correlate(
        mx.moveaxis(batched, 1, -1),
        mx.moveaxis(weight, 1, -1),
        bias,
        windows=Windows(strides, dilations, low, high),
        groups=groups,
    )
    return _finish(y, x.ndim == S + 1)


def _padding(
    padding: Any,
    kernel: Sequence[int],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    owner: str,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return what is put before and after each axis."""
    if padding == "valid":
        return (0,) * len(kernel), (0,) * len(kernel)
    if padding == "same":
        if any(s != 1 for s in strides):
            raise UsageError(
                f"{owner} stride", expected="1 with padding='same'", got=str(list(strides))
            )
        spans = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
        return tuple(s // 2 for s in spans), tuple(s - s // 2 for s in spans)
    if isinstance(padding, str):
        raise UsageError(f"{owner} padding", expected="'valid', 'same' or sizes", got=repr(padding))
    sizes = several(padding, len(kernel), owner)
    return sizes, sizes


def _transposed(
    x: mx.array,
    weight: mx.array,
    bias: mx.array | None,
    stride: Sizes,
    padding: Sizes,
    output_padding: Sizes,
    groups: int,
    dilation: Sizes,
) -> mx.array:
    S = weight.ndim - 2
    owner = f"conv_transpose{S}d"
    strides, dilations = several(stride, S, owner), several(dilation, S, owner)
    pads, extra = several(padding, S, owner), several(output_padding, S, owner)
    if any(e >= max(s, d) for e, s, d in zip(extra, strides, dilations, strict=True)):
        raise UsageError(
            f"{owner} output_padding", expected="less than stride or dilation", got=str(list(extra))
        )
    batched = _checked(x, weight.shape[0], S, owner)
    spans = [d * (k - 1) for d, k in zip(dilations, weight.shape[2:], strict=True)]
    low = [s - p for s, p in zip(spans, pads, strict=True)]
    high = [s - p + e for s, p, e in zip(spans, pads, extra, strict=True)]
    if min((*low, *high)) < 0:
        raise UnsupportedError(
            f"{owner} padding", expected="at most dilation · (kernel_size - 1)", got=str(list(pads))
        )
    y = correlate(
        mx.moveaxis(batched, 1, -1),
        mx.moveaxis(_regrouped(weight, groups), 1, -1),
        bias,
        windows=Windows([1] * S, dilations, low, high, strides),
        groups=groups,
        flip=True,
    )
    return _finish(y, x.ndim == S + 1)


def _regrouped(weight: mx.array, groups: int) -> mx.array:
    """``[I, O/G, *K] -> [O, I/G, *K]``."""
    I, O, *kernel = weight.shape  # noqa: E741  the field's letters
    split = weight.reshape(groups, I // groups, O, *kernel).swapaxes(1, 2)
    return split.reshape(groups * O, I // groups, *kernel)


def _checked(x: mx.array, channels: int, S: int, owner: str) -> mx.array:
    """Return the input with its batch axis."""
    if x.ndim not in (S + 1, S + 2) or x.shape[-S - 1] != channels:
        raise ShapeError(
            f"{owner} input",
            expected=f"[N, {channels}, {S} more] or [{channels}, {S} more]",
            got=str(list(x.shape)),
        )
    return x if x.ndim == S + 2 else x[None]


def _finish(y: mx.array, alone: bool) -> mx.array:
    y = mx.moveaxis(y, -1, 1)
    return y[0] if alone else y
