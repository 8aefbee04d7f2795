"""``torch.nn``'s normalisations with running statistics: batch and instance norm.

N batch, C channels.
"""

from __future__ import annotations

from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.errors import ShapeError
from lstm_bridge.torch.dtypes import float_dtype
from lstm_bridge.torch.nn import functional
from lstm_bridge.torch.nn.arguments import DEVICE_NOTE, DTYPE_NOTE
from lstm_bridge.torch.nn.functional.normalization import channel_statistics, normalised
from lstm_bridge.torch.nn.module import Module
from lstm_bridge.torch.nn.normalization import reset_affine

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


class _NormBase(Module):
    """Affine parameters and running statistics of C channels.

    ``running_mean``, ``running_var`` and ``num_batches_tracked`` are in the state dict as torch's
    buffers are, and never trainable.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {"device": DEVICE_NOTE, "dtype": DTYPE_NOTE}
    RANKS: ClassVar[tuple[int, ...]]

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        dtype: Any,
        bias: bool,
    ) -> None:
        super().__init__()
        kind = float_dtype(dtype, f"torch.nn.{type(self).__name__} dtype")
        C = self.num_features = num_features
        self.eps, self.momentum, self.affine = eps, momentum, affine
        self.track_running_stats = track_running_stats
        self.weight = mx.ones((C,), kind) if affine else None
        self.bias = mx.zeros((C,), kind) if affine and bias else None
        self.running_mean = mx.zeros((C,), kind) if track_running_stats else None
        self.running_var = mx.ones((C,), kind) if track_running_stats else None
        self.num_batches_tracked = mx.array(0, mx.int64) if track_running_stats else None
        self._freeze_statistics()

    def reset_running_stats(self) -> None:
        """Set the running mean to 0, the variance to 1 and the counter to 0."""
        for name, value in zip(_BUFFERS, (0, 1, 0), strict=True):
            if name in self:
                self[name] = mx.full(self[name].shape, value, self[name].dtype)

    def reset_parameters(self) -> None:
        """Reset the running statistics, weight and bias."""
        self.reset_running_stats()
        reset_affine(self)

    def unfreeze(self, *args: Any, **kwargs: Any) -> _NormBase:
        """Unfreeze weight and bias, never the running statistics and the counter."""
        super().unfreeze(*args, **kwargs)
        self._freeze_statistics()
        return self

    def extra_repr(self) -> str:
        """Return torch's text."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, "
            f"affine={self.affine}, bias={self.bias is not None}, "
            f"track_running_stats={self.track_running_stats}"
        )

    def _freeze_statistics(self) -> None:
        self.freeze(keys=[name for name in _BUFFERS if name in self], recurse=False)

    def _check(self, x: mx.array, channel_axis: int = 1) -> None:
        name = type(self).__name__
        if x.ndim not in self.RANKS:
            ranks = " or ".join(f"{rank}D" for rank in self.RANKS)
            raise ShapeError(f"torch.nn.{name} input", expected=ranks, got=f"{x.ndim}D")
        if x.shape[channel_axis] != self.num_features:
            raise ShapeError(
                f"torch.nn.{name} input",
                expected=f"{self.num_features} channels",
                got=str(list(x.shape)),
            )

    def _track(self, mean: mx.array, var: mx.array, count: int, factor: float | None) -> None:
        """Move the running statistics; the variance without bias, as in torch."""
        counted = self["num_batches_tracked"] + 1
        self.num_batches_tracked = counted
        share: Any = factor
        if factor is None:  # torch's cumulative average
            share = 1 / counted.astype(mx.float32)
        for name, new in (("running_mean", mean), ("running_var", var * (count / (count - 1)))):
            old = self[name]
            moved = old + share * (mx.stop_gradient(new) - old)
            self[name] = moved.astype(old.dtype)


class _BatchNorm(_NormBase):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype, bias)

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Normalise each channel over all other axes.

        While training the batch's own statistics are used and the running ones move.

        Args:
            input: channels on axis 1.

        Returns:
            Like the input.

        Raises:
            ShapeError: another rank or other channels, or one value per channel while training.
        """
        self._check(input)
        if not self.training and self.track_running_stats:
            return functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        found = channel_statistics(input, "batch_norm")
        if self.training and self.track_running_stats:
            count = input.size // self.num_features
            self._track(found.mean, found.var, count, self.momentum)
        return normalised(input, found, self.weight, self.bias, self.eps)


class BatchNorm1d(_BatchNorm):
    """Normalise each channel of ``[N, C]`` or ``[N, C, L]`` over the batch and time.

    Args:
        num_features: C.
        eps: Default: 1e-5.
        momentum: share of a new batch in the running statistics; None for their plain average.
            Default: 0.1.
        affine: has ``weight`` and ``bias``. Default: True.
        track_running_stats: keep running statistics and use them in eval mode. Default: True.
        device: no effect here (``ARGUMENT_NOTES`` says why).
        dtype: torch or MLX floating dtype of the parameters, or its name. Default: float32.
        bias: has ``bias``. Default: True.

    Source: torch.nn.BatchNorm1d 2.13.
    """

    RANKS = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Normalise each channel of ``[N, C, H, W]``; arguments as of :class:`BatchNorm1d`.

    Source: torch.nn.BatchNorm2d 2.13.
    """

    RANKS = (4,)


class InstanceNorm1d(_NormBase):
    """Normalise each channel of each sample of ``[N, C, L]`` or ``[C, L]`` over time.

    Args:
        num_features: C.
        eps: Default: 1e-5.
        momentum: share of a new batch in the running statistics. Default: 0.1.
        affine: has ``weight`` and ``bias``. Default: False.
        track_running_stats: keep running statistics and use them in eval mode. Default: False.
        device: no effect here (``ARGUMENT_NOTES`` says why).
        dtype: torch or MLX floating dtype of the parameters, or its name. Default: float32.
        bias: has ``bias``. Default: True.

    Source: torch.nn.InstanceNorm1d 2.13.
    """

    RANKS = (2, 3)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype, bias)

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Normalise.

        Args:
            input: ``[N, C, L]`` or ``[C, L]``.

        Returns:
            Like the input.

        Raises:
            ShapeError: another rank or other channels, or a single step.
        """
        self._check(input, input.ndim - 2)
        x = input if input.ndim == 3 else input[None]
        own = self.training or not self.track_running_stats
        y = functional.instance_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, own, eps=self.eps
        )
        if self.training and self.track_running_stats:
            self._track_samples(x)
        return y if input.ndim == 3 else y[0]

    def _track_samples(self, x: mx.array) -> None:
        """Move the running statistics towards the mean of the samples' own."""
        mean = mx.mean(mx.mean(x, axis=-1), axis=0)
        var = mx.mean(mx.var(x, axis=-1), axis=0)
        counted = self.num_batches_tracked
        self._track(mean, var, x.shape[-1], self.momentum or 0.0)
        self.num_batches_tracked = counted  # torch's instance norm does not count
