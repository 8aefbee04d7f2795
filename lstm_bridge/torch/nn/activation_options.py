"""``torch.nn``'s activations that take arguments; the functions are ``functional``'s."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.errors import UsageError
from lstm_bridge.torch.dtypes import float_dtype
from lstm_bridge.torch.nn import functional
from lstm_bridge.torch.nn.activation import InPlace
from lstm_bridge.torch.nn.arguments import DEVICE_NOTE, DTYPE_NOTE
from lstm_bridge.torch.nn.module import Module


class LeakyReLU(InPlace):
    """``x`` above 0, ``negative_slope · x`` below.

    Args:
        negative_slope: Default: 0.01.
        inplace: no effect on values here. Default: False.

    Source: torch.nn.LeakyReLU 2.13.
    """

    def __init__(self, negative_slope: float = 1e-2, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.negative_slope = negative_slope

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return the activation of ``input``, for any shape."""
        return functional.leaky_relu(input, self.negative_slope)

    def extra_repr(self) -> str:
        """Return torch's text."""
        return self._with_inplace(f"negative_slope={self.negative_slope}")


class ELU(InPlace):
    """``x`` above 0, ``alpha (exp(x) - 1)`` below.

    Args:
        alpha: Default: 1.
        inplace: no effect on values here. Default: False.

    Source: torch.nn.ELU 2.13.
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.alpha = alpha

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return the activation of ``input``, for any shape."""
        return functional.elu(input, self.alpha)

    def extra_repr(self) -> str:
        """Return torch's text."""
        return self._with_inplace(f"alpha={self.alpha}")


class CELU(ELU):
    """``x`` above 0, ``alpha (exp(x / alpha) - 1)`` below.

    Args:
        alpha: Default: 1.
        inplace: no effect on values here. Default: False.

    Source: torch.nn.CELU 2.13.
    """

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return the activation of ``input``, for any shape."""
        return functional.celu(input, self.alpha)


class RReLU(InPlace):
    """A leaky relu whose slope is drawn for each element while training.

    Args:
        lower: least slope. Default: 1/8.
        upper: largest slope. Default: 1/3.
        inplace: no effect on values here. Default: False.

    Source: torch.nn.RReLU 2.13.
    """

    def __init__(
        self, lower: float = 1.0 / 8, upper: float = 1.0 / 3, inplace: bool = False
    ) -> None:
        super().__init__(inplace)
        self.lower, self.upper = lower, upper

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return the activation of ``input``, for any shape."""
        return functional.rrelu(input, self.lower, self.upper, self.training)

    def extra_repr(self) -> str:
        """Return torch's text."""
        return self._with_inplace(f"lower={self.lower}, upper={self.upper}")


class Threshold(InPlace):
    """``x`` above ``threshold``, else ``value``.

    Args:
        threshold: the limit.
        value: what stands in below.
        inplace: no effect on values here. Default: False.

    Source: torch.nn.Threshold 2.13.
    """

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.threshold, self.value = threshold, value

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return the activation of ``input``, for any shape."""
        return functional.threshold(input, self.threshold, self.value)

    def extra_repr(self) -> str:
        """Return torch's text."""
        return self._with_inplace(f"threshold={self.threshold}, value={self.value}")


class Hardtanh(InPlace):
    """``clip(x, min_val, max_val)``.

    Args:
        min_val: Default: -1.
        max_val: Default: 1.
        inplace: no effect on values here. Default: False.
        min_value: deprecated name of min_val. Default: None.
        max_value: deprecated name of max_val. Default: None.

    Raises:
        UsageError: the limits are not in order.

    Source: torch.nn.Hardtanh 2.13.
    """

    def __init__(
        self,
        min_val: float = -1.0,
        max_val: float = 1.0,
        inplace: bool = False,
        min_value: float | None = None,
        max_value: float | None = None,
    ) -> None:
        super().__init__(inplace)
        for old, name in ((min_value, "min"), (max_value, "max")):
            if old is not None:
                warnings.warn(
                    f"keyword argument `{name}_value` is deprecated and rename to `{name}_val`",
                    FutureWarning,
                    stacklevel=2,
                )
        self.min_val = min_val if min_value is None else min_value
        self.max_val = max_val if max_value is None else max_value
        if self.max_val <= self.min_val:
            raise UsageError(
                "torch.nn.Hardtanh",
                expected="min_val less than max_val",
                got=f"{self.min_val}, {self.max_val}",
            )

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return the activation of ``input``, for any shape."""
        return functional.hardtanh(input, self.min_val, self.max_val)

    def extra_repr(self) -> str:
        """Return torch's text."""
        return self._with_inplace(f"min_val={self.min_val}, max_val={self.max_val}")


class GELU(Module):
    """``x Phi(x)`` with the normal distribution's Phi, or its tanh approximation.

    Args:
        approximate: "none" or "tanh". Default: "none".

    Source: torch.nn.GELU 2.13.
    """

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return the activation of ``input``, for any shape."""
        return functional.gelu(input, self.approximate)

    def extra_repr(self) -> str:
        """Return torch's text."""
        return f"approximate={self.approximate!r}"


class Softplus(Module):
    """``log(1 + exp(beta x)) / beta``, linear beyond the threshold.

    Args:
        beta: Default: 1.
        threshold: of ``beta x``, where it becomes linear. Default: 20.

    Source: torch.nn.Softplus 2.13.
    """

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        self.beta, self.threshold = beta, threshold

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return the activation of ``input``, for any shape."""
        return functional.softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        """Return torch's text."""
        return f"beta={self.beta}, threshold={self.threshold}"


class _Shrink(Module):
    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def extra_repr(self) -> str:
        """Return torch's text."""
        return str(self.lambd)


class Softshrink(_Shrink):
    """``x`` moved towards 0 by ``lambd``, and 0 within it.

    Args:
        lambd: Default: 0.5.

    Source: torch.nn.Softshrink 2.13.
    """

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return the activation of ``input``, for any shape."""
        return functional.softshrink(input, self.lambd)


class Hardshrink(_Shrink):
    """``x`` beyond ``lambd`` on either side, else 0.

    Args:
        lambd: Default: 0.5.

    Source: torch.nn.Hardshrink 2.13.
    """

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return the activation of ``input``, for any shape."""
        return functional.hardshrink(input, self.lambd)


class GLU(Module):
    """``a sigmoid(b)`` with the halves a, b of the input along an axis.

    Args:
        dim: Default: -1.

    Source: torch.nn.GLU 2.13.
    """

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return half of ``input``, for any shape."""
        return functional.glu(input, self.dim)

    def extra_repr(self) -> str:
        """Return torch's text."""
        return f"dim={self.dim}"


class _AlongAxis(Module):
    def __init__(self, dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim


class Softmax(_AlongAxis):
    """``exp(x) / sum exp(x)`` along an axis.

    Args:
        dim: the axis. Default: None, torch's old rule (the first for 0, 1 or 3 axes, else the
            second).

    Source: torch.nn.Softmax 2.13.
    """

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return the softmax of ``input``, for any shape."""
        return functional.softmax(input, self.dim)

    def extra_repr(self) -> str:
        """Return torch's text."""
        return f"dim={self.dim}"


class Softmin(_AlongAxis):
    """``softmax(-x)`` along an axis.

    Args:
        dim: the axis. Default: None, as in :class:`Softmax`.

    Source: torch.nn.Softmin 2.13.
    """

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return the softmin of ``input``, for any shape."""
        return functional.softmin(input, self.dim)

    def extra_repr(self) -> str:
        """Return torch's text."""
        return f"dim={self.dim}"


class LogSoftmax(_AlongAxis):
    """``x - log sum exp(x)`` along an axis.

    Args:
        dim: the axis. Default: None, as in :class:`Softmax`.

    Source: torch.nn.LogSoftmax 2.13.
    """

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return the log-softmax of ``input``, for any shape."""
        return functional.log_softmax(input, self.dim)

    def extra_repr(self) -> str:
        """Return torch's text."""
        return f"dim={self.dim}"


class PReLU(Module):
    """``x`` above 0, ``weight · x`` below, with a learned weight, or one for each channel.

    Args:
        num_parameters: 1, or the channels (axis 1). Default: 1.
        init: first value of the weight. Default: 0.25.
        device: no effect here (``ARGUMENT_NOTES`` says why).
        dtype: torch or MLX floating dtype of the weight, or its name. Default: float32.

    Source: torch.nn.PReLU 2.13.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {"device": DEVICE_NOTE, "dtype": DTYPE_NOTE}

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.num_parameters, self.init = num_parameters, init
        self.weight = mx.full((num_parameters,), init, float_dtype(dtype, "torch.nn.PReLU dtype"))

    def reset_parameters(self) -> None:
        """Set the weight to ``init`` again."""
        self.weight = mx.full(self.weight.shape, self.init, self.weight.dtype)

    def forward(self, input: mx.array) -> mx.array:  # noqa: A002
        """Return the activation of ``input``, for any shape."""
        return functional.prelu(input, self.weight)

    def extra_repr(self) -> str:
        """Return torch's text."""
        return f"num_parameters={self.num_parameters}"
