"""What counts as an array at the front door: mx.array, NumPy, or anything that speaks DLPack."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from lstm_bridge.errors import UsageError


def as_array(value: Any, name: str, dtype: mx.Dtype | None = None) -> mx.array:
    """Return ``value`` as an mx.array, converted to ``dtype`` if one is given.

    Args:
        value: mx.array, NumPy array, nested list of numbers, or an object with ``__dlpack__``.
        name: the argument's name, used in the message.
        dtype: wanted dtype. Default: the value's own (float64 becomes float32, MLX's default).

    Raises:
        UsageError: the value is no array.
    """
    if isinstance(value, mx.array):
        return value if dtype is None or value.dtype == dtype else value.astype(dtype)
    if any(stride < 0 for stride in getattr(value, "strides", None) or ()):
        value = value.copy()  # MLX takes no negative strides, which NumPy's x[::-1] has
    try:
        # The dtype goes along: by way of float32, float64 would lose half its digits.
        return mx.array(value) if dtype is None else mx.array(value, dtype)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            name,
            expected="an mx.array, a NumPy array or an object with __dlpack__",
            got=type(value).__name__,
            fix="convert it with mx.array first",
        ) from error


def at_least_float32(x: mx.array) -> mx.array:
    """Widen float16 and bfloat16, whose squares and sums over H overflow or vanish."""
    return x.astype(mx.result_type(x.dtype, mx.float32))
