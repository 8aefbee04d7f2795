"""What convolution and pooling layers share: tuples per axis, data formats, output lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from lstm_bridge.errors import UsageError

DATA_FORMATS = ("channels_last", "channels_first")


def per_axis(name: str, value: Any, rank: int) -> tuple[int, ...]:
    """Return one positive integer per spatial axis.

    Raises:
        UsageError: it is neither a positive integer nor ``rank`` of them.
    """
    values = tuple(value) if isinstance(value, (list, tuple)) else (value,) * rank
    whole = all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in values)
    if len(values) != rank or not whole:
        raise UsageError(
            name, expected=f"a positive integer, or {rank} of them", got=repr(value)[:80]
        )
    return values


def data_format_of(value: Any) -> str:
    """Return the data format; None stands for Keras's default, channels_last."""
    value = "channels_last" if value is None else value
    if value not in DATA_FORMATS:
        raise UsageError("data_format", expected=f"one of {DATA_FORMATS}", got=repr(value))
    return str(value)


def padding_of(value: Any, allowed: Sequence[str]) -> str:
    """Return the padding in lower case."""
    padding = value.lower() if isinstance(value, str) else value
    if padding not in allowed:
        raise UsageError("padding", expected=f"one of {', '.join(allowed)}", got=repr(value))
    return str(padding)


def to_last(x: mx.array, data_format: str) -> mx.array:
    """Bring the channels to the last axis."""
    return x if data_format == "channels_last" else mx.moveaxis(x, 1, -1)


def from_last(x: mx.array, data_format: str) -> mx.array:
    """Bring the channels back to where the data format has them."""
    return x if data_format == "channels_last" else mx.moveaxis(x, -1, 1)


def split_shape(shape: Any, data_format: str) -> tuple[Any, tuple[Any, ...], Any]:
    """Return batch, spatial sizes and channels of a shape."""
    if data_format == "channels_last":
        return shape[0], tuple(shape[1:-1]), shape[-1]
    return shape[0], tuple(shape[2:]), shape[1]


def join_shape(batch: Any, sizes: Sequence[Any], channels: Any, data_format: str) -> Any:
    """Return a shape from batch, spatial sizes and channels."""
    if data_format == "channels_last":
        return (batch, *sizes, channels)
    return (batch, channels, *sizes)


def window_counts(
    sizes: Sequence[int | None],
    windows: Sequence[int],
    strides: Sequence[int],
    padding: str,
    dilations: Sequence[int] | None = None,
) -> tuple[int | None, ...]:
    """Return how many windows fit each axis; None where its size is not known."""
    dilations = dilations or (1,) * len(windows)
    counts: list[int | None] = []
    for size, window, stride, dilation in zip(sizes, windows, strides, dilations, strict=True):
        if size is None:
            counts.append(None)
        elif padding in ("same", "causal"):
            counts.append(-(-size // stride))
        else:
            counts.append((size - (window - 1) * dilation - 1) // stride + 1)
    return tuple(counts)
