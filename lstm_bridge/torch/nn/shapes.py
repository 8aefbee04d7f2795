"""``torch.nn``'s layers without numbers of their own: identity, reshaping, padding, distances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from lstm_bridge.torch.nn import functional
from lstm_bridge.torch.nn.functional.convolution import Sizes, several
from lstm_bridge.torch.nn.module import Module


class Identity(Module):
    """Return the input.

    Args:
        args: ignored, as in torch.
        kwargs: ignored, as in torch.

    Source: torch.nn.Identity 2.13.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Any) -> Any:  # noqa: A002
        """Return ``input``, whatever it is."""
        return input


class Flatten(Module):
    """Make one axis of several.

    Args:
        start_dim: the first of them. Default: 1.
        end_dim: the last of them. Default: -1.

    Source: torch.nn.Flatten 2.13.
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``input`` with fewer axes."""
        return mx.flatten(input, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        """Return torch's text."""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Make several axes of one.

    Args:
        dim: the axis.
        unflattened_size: sizes of the new axes; one of them may be -1.

    Source: torch.nn.Unflatten 2.13.
    """

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        self.dim = dim
        self.keep(unflattened_size=tuple(unflattened_size))

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``input`` with more axes."""
        return mx.unflatten(input, self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        """Return torch's text."""
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


class _Pad1d(Module):
    MODE = ""

    def __init__(self, padding: Sizes) -> None:
        super().__init__()
        self.keep(padding=several(padding, 2, f"torch.nn.{type(self).__name__} padding"))

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``[*, L + low + high]`` for ``input [*, L]``."""
        return functional.pad(input, self.padding, self.MODE)

    def extra_repr(self) -> str:
        """Return torch's text."""
        return str(self.padding)


class ConstantPad1d(_Pad1d):
    """Put a constant on either side of the last axis.

    Args:
        padding: how many before and after; one int for both.
        value: the constant.

    Source: torch.nn.ConstantPad1d 2.13.
    """

    def __init__(self, padding: Sizes, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``[*, L + low + high]`` for ``input [*, L]``."""
        return functional.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        """Return torch's text."""
        return f"padding={self.padding}, value={self.value}"


class ZeroPad1d(ConstantPad1d):
    """Put zeros on either side of the last axis.

    Args:
        padding: how many before and after; one int for both.

    Source: torch.nn.ZeroPad1d 2.13.
    """

    def __init__(self, padding: Sizes) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        """Return torch's text."""
        return str(self.padding)


class ReflectionPad1d(_Pad1d):
    """Mirror the last axis at its ends.

    Args:
        padding: how many before and after; one int for both.

    Source: torch.nn.ReflectionPad1d 2.13.
    """

    MODE = "reflect"


class ReplicationPad1d(_Pad1d):
    """Repeat the first and last element of the last axis.

    Args:
        padding: how many before and after; one int for both.

    Source: torch.nn.ReplicationPad1d 2.13.
    """

    MODE = "replicate"


class CosineSimilarity(Module):
    """``x1 · x2 / (max(|x1|, eps) max(|x2|, eps))`` along an axis.

    Args:
        dim: the axis. Default: 1.
        eps: least length. Default: 1e-8.

    Source: torch.nn.CosineSimilarity 2.13.
    """

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        super().__init__()
        self.dim, self.eps = dim, eps

    def forward(self, x1: mx.array, x2: mx.array) -> mx.array:
        """Return the similarities, without the axis."""
        return functional.cosine_similarity(x1, x2, self.dim, self.eps)


class PairwiseDistance(Module):
    """The p-norm of ``x1 - x2 + eps`` along the last axis.

    Args:
        p: of the norm. Default: 2.
        eps: added to the difference. Default: 1e-6.
        keepdim: keep the last axis, with size 1. Default: False.

    Source: torch.nn.PairwiseDistance 2.13.
    """

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        super().__init__()
        self.norm, self.eps, self.keepdim = p, eps, keepdim

    def forward(self, x1: mx.array, x2: mx.array) -> mx.array:
        """Return the distances."""
        return functional.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)
