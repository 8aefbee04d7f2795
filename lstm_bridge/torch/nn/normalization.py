"""``torch.nn``'s normalisations without running statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.errors import UsageError
from lstm_bridge.torch.dtypes import float_dtype
from lstm_bridge.torch.nn import functional
from lstm_bridge.torch.nn.arguments import DEVICE_NOTE, DTYPE_NOTE
from lstm_bridge.torch.nn.module import Module


class LayerNorm(Module):
    r"""Normalise over the last axes.

    .. math:: y = (x - E[x]) / \sqrt{Var[x] + \epsilon} \odot w + b

    Args:
        normalized_shape: sizes of the last axes, or the size of the last.
        eps: Default: 1e-5.
        elementwise_affine: has ``weight`` and ``bias``. Default: True.
        bias: has ``bias``. Default: True.
        device: no effect here (``ARGUMENT_NOTES`` says why).
        dtype: torch or MLX floating dtype of the parameters, or its name. Default: float32.

    Source: torch.nn.LayerNorm 2.13.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {"device": DEVICE_NOTE, "dtype": DTYPE_NOTE}

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        kind = float_dtype(dtype, "torch.nn.LayerNorm dtype")
        self.keep(normalized_shape=_sizes(normalized_shape))
        self.eps, self.elementwise_affine = eps, elementwise_affine
        shape = self.normalized_shape
        self.weight = mx.ones(shape, kind) if elementwise_affine else None
        self.bias = mx.zeros(shape, kind) if elementwise_affine and bias else None

    def reset_parameters(self) -> None:
        """Set weight to 1 and bias to 0."""
        reset_affine(self)

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``input [*, normalized_shape]``, normalised."""
        return functional.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Return torch's text."""
        return (
            f"{self.normalized_shape}, eps={self.eps}, "
            f"elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"
        )


class RMSNorm(Module):
    """Divide by the root of the mean square over the last axes, times ``weight``.

    Args:
        normalized_shape: sizes of the last axes, or the size of the last.
        eps: Default: None, the dtype's rounding step.
        elementwise_affine: has ``weight``. Default: True.
        device: no effect here (``ARGUMENT_NOTES`` says why).
        dtype: torch or MLX floating dtype of the parameters, or its name. Default: float32.

    Source: torch.nn.RMSNorm 2.13.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {"device": DEVICE_NOTE, "dtype": DTYPE_NOTE}

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        kind = float_dtype(dtype, "torch.nn.RMSNorm dtype")
        self.keep(normalized_shape=_sizes(normalized_shape))
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.weight = mx.ones(self.normalized_shape, kind) if elementwise_affine else None

    def reset_parameters(self) -> None:
        """Set weight to 1."""
        reset_affine(self)

    def forward(self, x: mx.array) -> mx.array:
        """Return ``x [*, normalized_shape]``, normalised."""
        return functional.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        """Return torch's text."""
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )


class GroupNorm(Module):
    """Normalise each group of channels of ``[N, C, *]`` by itself.

    Args:
        num_groups: how many groups.
        num_channels: C.
        eps: Default: 1e-5.
        affine: has ``weight`` and ``bias``, one of each for a channel. Default: True.
        device: no effect here (``ARGUMENT_NOTES`` says why).
        dtype: torch or MLX floating dtype of the parameters, or its name. Default: float32.
        bias: has ``bias``. Default: True.

    Raises:
        UsageError: the channels do not divide into the groups.

    Source: torch.nn.GroupNorm 2.13.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {"device": DEVICE_NOTE, "dtype": DTYPE_NOTE}

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if num_channels % num_groups:
            raise UsageError(
                "torch.nn.GroupNorm num_channels",
                expected=f"a multiple of num_groups {num_groups}",
                got=str(num_channels),
            )
        kind = float_dtype(dtype, "torch.nn.GroupNorm dtype")
        self.num_groups, self.num_channels = num_groups, num_channels
        self.eps, self.affine = eps, affine
        self.weight = mx.ones((num_channels,), kind) if affine else None
        self.bias = mx.zeros((num_channels,), kind) if affine and bias else None

    def reset_parameters(self) -> None:
        """Set weight to 1 and bias to 0."""
        reset_affine(self)

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``input [N, C, *]``, normalised."""
        return functional.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Return torch's text."""
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


def reset_affine(module: Any) -> None:
    """Set a normalisation's weight to 1 and its bias to 0."""
    for name, value in (("weight", 1), ("bias", 0)):
        old = module.get(name)
        if old is not None:
            module[name] = mx.full(old.shape, value, old.dtype)


def _sizes(shape: int | Sequence[int]) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(int(size) for size in shape)
