"""``torch.nn``'s activations without arguments of their own; the functions are ``functional``'s."""

from __future__ import annotations

import mlx.core as mx

from lstm_bridge.torch.nn import functional
from lstm_bridge.torch.nn.module import Module


class InPlace(Module):
    """A layer with the argument ``inplace``, which has no effect on values here."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def extra_repr(self) -> str:
        """Return torch's text."""
        return "inplace=True" if self.inplace else ""

    def _with_inplace(self, text: str) -> str:
        return f"{text}, inplace=True" if self.inplace else text


class Sigmoid(Module):
    """:func:`functional.sigmoid` as a layer.

    Source: torch.nn.Sigmoid 2.13.
    """

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``sigmoid(input)``, for any shape."""
        return functional.sigmoid(input)


class Tanh(Module):
    """:func:`functional.tanh` as a layer.

    Source: torch.nn.Tanh 2.13.
    """

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``tanh(input)``, for any shape."""
        return functional.tanh(input)


class LogSigmoid(Module):
    """:func:`functional.logsigmoid` as a layer.

    Source: torch.nn.LogSigmoid 2.13.
    """

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``logsigmoid(input)``, for any shape."""
        return functional.logsigmoid(input)


class Softsign(Module):
    """:func:`functional.softsign` as a layer.

    Source: torch.nn.Softsign 2.13.
    """

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``softsign(input)``, for any shape."""
        return functional.softsign(input)


class Tanhshrink(Module):
    """:func:`functional.tanhshrink` as a layer.

    Source: torch.nn.Tanhshrink 2.13.
    """

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``tanhshrink(input)``, for any shape."""
        return functional.tanhshrink(input)


class ReLU(InPlace):
    """:func:`functional.relu` as a layer.

    Args:
        inplace: no effect on values here, because MLX arrays are never changed. Default: False.

    Source: torch.nn.ReLU 2.13.
    """

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``relu(input)``, for any shape."""
        return functional.relu(input)


class ReLU6(InPlace):
    """:func:`functional.relu6` as a layer.

    Args:
        inplace: no effect on values here, because MLX arrays are never changed. Default: False.

    Source: torch.nn.ReLU6 2.13.
    """

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``relu6(input)``, for any shape."""
        return functional.relu6(input)


class SELU(InPlace):
    """:func:`functional.selu` as a layer.

    Args:
        inplace: no effect on values here, because MLX arrays are never changed. Default: False.

    Source: torch.nn.SELU 2.13.
    """

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``selu(input)``, for any shape."""
        return functional.selu(input)


class SiLU(InPlace):
    """:func:`functional.silu` as a layer.

    Args:
        inplace: no effect on values here, because MLX arrays are never changed. Default: False.

    Source: torch.nn.SiLU 2.13.
    """

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``silu(input)``, for any shape."""
        return functional.silu(input)


class Mish(InPlace):
    """:func:`functional.mish` as a layer.

    Args:
        inplace: no effect on values here, because MLX arrays are never changed. Default: False.

    Source: torch.nn.Mish 2.13.
    """

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``mish(input)``, for any shape."""
        return functional.mish(input)


class Hardswish(InPlace):
    """:func:`functional.hardswish` as a layer.

    Args:
        inplace: no effect on values here, because MLX arrays are never changed. Default: False.

    Source: torch.nn.Hardswish 2.13.
    """

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``hardswish(input)``, for any shape."""
        return functional.hardswish(input)

    def extra_repr(self) -> str:
        """Return torch's text, which does not show ``inplace``."""
        return ""


class Hardsigmoid(InPlace):
    """:func:`functional.hardsigmoid` as a layer.

    Args:
        inplace: no effect on values here, because MLX arrays are never changed. Default: False.

    Source: torch.nn.Hardsigmoid 2.13.
    """

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return ``hardsigmoid(input)``, for any shape."""
        return functional.hardsigmoid(input)

    def extra_repr(self) -> str:
        """Return torch's text, which does not show ``inplace``."""
        return ""
