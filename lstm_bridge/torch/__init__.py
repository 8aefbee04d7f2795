"""The part of ``torch`` that an LSTM model touches, on MLX arrays.

``nn`` holds the layers. The tensor makers here are those that a model's own lines use; everything
they return is an :class:`mlx.core.array`, and anything else that torch offers is MLX's business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx

from lstm_bridge.torch import nn
from lstm_bridge.torch.dtypes import float_dtype

__all__ = [
    "Tensor",
    "bfloat16",
    "float16",
    "float32",
    "float64",
    "nn",
    "ones",
    "randn",
    "zeros",
]

Tensor = mx.array
float16, bfloat16, float32, float64 = mx.float16, mx.bfloat16, mx.float32, mx.float64


def randn(*size: Any, device: Any = None, dtype: Any = None) -> mx.array:
    """Return samples of the standard normal distribution.

    Args:
        size: the shape, as integers or as one sequence of them.
        device: no effect here, because MLX arrays live in memory that all its devices share.
        dtype: torch or MLX floating dtype, or its name. Default: float32.

    Returns:
        Array of that shape.
    """
    return _make(mx.random.normal, size, dtype)


def zeros(*size: Any, device: Any = None, dtype: Any = None) -> mx.array:
    """Return zeros; arguments as in :func:`randn`."""
    return _make(mx.zeros, size, dtype)


def ones(*size: Any, device: Any = None, dtype: Any = None) -> mx.array:
    """Return ones; arguments as in :func:`randn`."""
    return _make(mx.ones, size, dtype)


def _make(maker: Callable[[list[int]], mx.array], size: tuple[Any, ...], dtype: Any) -> mx.array:
    shape = size[0] if len(size) == 1 and isinstance(size[0], (tuple, list)) else size
    # Made in float32 and then cast: MLX's random generators know no float64.
    return maker(list(shape)).astype(float_dtype(dtype, "torch dtype"))
