"""Autoformer's series decomposition. Shape letters: N batch, L length, D features."""

from __future__ import annotations

from typing import Any, ClassVar

import mlx.core as mx
import mlx.nn as nn

from lstm_bridge.core.arrays import as_array
from lstm_bridge.errors import ShapeError
from lstm_bridge.pytorch_forecasting import _checks


class SeriesDecomposition(nn.Module):
    """Split a series into its moving average and the rest.

    The average at t is over ``kernel_size`` steps around t, the series' ends repeated; an even
    kernel reaches one step further ahead than back.

    Args:
        kernel_size: number of steps averaged.

    Raises:
        UsageError: kernel_size below 1.

    Source: pytorch_forecasting.layers.SeriesDecomposition 1.8.0.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {}

    def __init__(self, kernel_size: int) -> None:
        super().__init__()
        _checks.positive("SeriesDecomposition", kernel_size=kernel_size)
        self.kernel_size = kernel_size
        self.average = nn.AvgPool1d(kernel_size, stride=1)

    def __call__(self, x: Any) -> tuple[mx.array, mx.array]:
        """Return the seasonal and the trend part.

        Args:
            x: series, ``[N, L, D]``, L ≥ 1.

        Returns:
            Seasonal part and trend, ``[N, L, D]`` each; their sum is x.

        Raises:
            ShapeError: x has another rank or no steps.
        """
        x = as_array(x, "SeriesDecomposition x")
        if x.ndim != 3 or not x.shape[1]:
            raise ShapeError(
                "SeriesDecomposition x", expected="shape [N, L, D], L ≥ 1", got=str(list(x.shape))
            )
        back = (self.kernel_size - 1) // 2
        ahead = self.kernel_size // 2
        ends = mx.repeat(x[:, :1], back, axis=1), mx.repeat(x[:, -1:], ahead, axis=1)
        trend = self.average(mx.concatenate([ends[0], x, ends[1]], axis=1))
        return x - trend, trend
