"""torch's batch and instance normalisation, features last.

Shape letters: N batch, L length, C channels.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from lstm_bridge.core.arrays import at_least_float32
from lstm_bridge.errors import ShapeError


class BatchNorm1d(nn.BatchNorm):
    """mlx.nn.BatchNorm with torch's batch counter, and statistics at least in float32.

    ``num_batches_tracked`` is an int64 scalar that counts training batches, as in torch; like the
    running statistics it is no trainable parameter.

    Args:
        num_features: C.

    Source: torch.nn.BatchNorm1d 2.13.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)
        self.num_batches_tracked = mx.array(0, mx.int64)
        self.freeze_statistics()

    def unfreeze(self, *args: Any, **kwargs: Any) -> BatchNorm1d:
        """Unfreeze weight and bias, never the running statistics and the counter."""
        super().unfreeze(*args, **kwargs)
        self.freeze_statistics()
        return self

    def freeze_statistics(self) -> None:
        """Take the running statistics and the counter out of the trainable parameters."""
        names = ("running_mean", "running_var", "num_batches_tracked")
        self.freeze(keys=[name for name in names if name in self], recurse=False)

    def __call__(self, x: mx.array) -> mx.array:
        """Normalise ``[N, L, C]`` over N and L; while training, update the running statistics.

        Raises:
            ShapeError: other channels, or a single value per channel while training.
        """
        if x.shape[-1] != self.num_features:
            raise ShapeError(
                "batch_norm input",
                expected=f"{self.num_features} channels",
                got=f"{x.shape[-1]}",
                fix="upstream's batch norm has hidden_size channels",
            )
        if not self.training:
            return self._in_float32(x)
        if x.size // x.shape[-1] <= 1:
            raise ShapeError(
                "batch_norm input",
                expected="more than one value per channel while training",
                got=str(list(x.shape)),
                fix="call eval(), or give a larger batch",
            )
        y = self._in_float32(x)
        self.num_batches_tracked = self.num_batches_tracked + 1
        return y

    def _in_float32(self, x: mx.array) -> mx.array:
        """Run mlx's batch norm on widened inputs; outputs and statistics keep their dtypes."""
        kept = self["running_mean"].dtype
        y: mx.array = super().__call__(at_least_float32(x))
        if self.training:
            for name in ("running_mean", "running_var"):
                self[name] = mx.stop_gradient(self[name]).astype(kept)
        return y.astype(mx.result_type(x.dtype, kept))


def instance_norm(x: mx.array, eps: float = 1e-5) -> mx.array:
    """Normalise each channel of ``[N, L, C]`` over L, without weights.

    Raises:
        ShapeError: a single step, whose variance is 0 (torch refuses it, in eval mode too).

    Source: torch.nn.InstanceNorm1d 2.13.
    """
    if x.shape[1] == 1:
        raise ShapeError(
            "instance_norm input",
            expected="more than one value per channel",
            got=str(list(x.shape)),
            fix="xLSTMTime normalises over the batch: give at least two series",
        )
    steps_last = x.swapaxes(1, 2)
    return mx.fast.layer_norm(steps_last, None, None, eps).swapaxes(1, 2)
