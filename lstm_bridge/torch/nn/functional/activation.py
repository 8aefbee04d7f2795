"""``torch.nn.functional``'s activations.

The equations are the core's; here stand torch's names, arguments and defaults. ``inplace`` has no
effect, because MLX arrays are values: what stands for the input afterwards is the caller's matter.

Source: torch.nn.functional 2.13.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from lstm_bridge.core import activations as core
from lstm_bridge.core import affine as core_affine
from lstm_bridge.core.normal import exact_softmax
from lstm_bridge.errors import UsageError
from lstm_bridge.torch.dtypes import float_dtype


def relu(input: mx.array, inplace: bool = False) -> mx.array:  # noqa: A002
    """``max(x, 0)``; the gradient at 0 is 0, as in torch."""
    y = core_affine.fused_squash(input, core.relu)
    if y is not None:
        return y
    return mx.where(input > 0, input, mx.zeros_like(input) * _not_a_number(input))


def _not_a_number(x: mx.array) -> mx.array:
    """1, but NaN where x is NaN, so that a comparison does not swallow it."""
    return mx.where(x == x, mx.ones_like(x), mx.stop_gradient(x))


def relu6(input: mx.array, inplace: bool = False) -> mx.array:  # noqa: A002
    """``clip(x, 0, 6)``."""
    return hardtanh(input, 0.0, 6.0)


def hardtanh(
    input: mx.array,  # noqa: A002
    min_val: float = -1.0,
    max_val: float = 1.0,
    inplace: bool = False,
) -> mx.array:
    """``clip(x, min_val, max_val)``."""
    return mx.clip(input, min_val, max_val)


def leaky_relu(
    input: mx.array,  # noqa: A002
    negative_slope: float = 0.01,
    inplace: bool = False,
) -> mx.array:
    """``x`` above 0, ``negative_slope · x`` below."""
    return core.leaky_relu(input, negative_slope)


def rrelu(
    input: mx.array,  # noqa: A002
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    inplace: bool = False,
) -> mx.array:
    """``leaky_relu`` with a slope drawn for each element while training, else the middle one."""
    if not training:
        return core.leaky_relu(input, (lower + upper) / 2)
    slope = mx.random.uniform(lower, upper, input.shape).astype(input.dtype)
    return mx.where(input >= 0, input, slope * input)


def elu(input: mx.array, alpha: float = 1.0, inplace: bool = False) -> mx.array:  # noqa: A002
    """``x`` above 0, ``alpha (exp(x) - 1)`` below."""
    return core.elu(input, alpha)


def celu(input: mx.array, alpha: float = 1.0, inplace: bool = False) -> mx.array:  # noqa: A002
    """``x`` above 0, ``alpha (exp(x / alpha) - 1)`` below."""
    return core.celu(input, alpha)


def selu(input: mx.array, inplace: bool = False) -> mx.array:  # noqa: A002
    """The elu with the self-normalising slope and scale."""
    return core.selu(input)


def gelu(input: mx.array, approximate: str = "none") -> mx.array:  # noqa: A002
    """``x Phi(x)``, or its tanh approximation."""
    if approximate not in ("none", "tanh"):
        raise UsageError("gelu approximate", expected="'none' or 'tanh'", got=repr(approximate))
    return core.gelu(input, approximate == "tanh")


def silu(input: mx.array, inplace: bool = False) -> mx.array:  # noqa: A002
    """``x sigmoid(x)``."""
    return core.silu(input)


def mish(input: mx.array, inplace: bool = False) -> mx.array:  # noqa: A002
    """``x tanh(softplus(x))``."""
    return core.mish(input)


def hardswish(input: mx.array, inplace: bool = False) -> mx.array:  # noqa: A002
    """``x clip(x + 3, 0, 6) / 6``."""
    return core.hard_silu(input)


def hardsigmoid(input: mx.array, inplace: bool = False) -> mx.array:  # noqa: A002
    """``clip(x / 6 + 0.5, 0, 1)``."""
    return core.hard_sigmoid(input)


def sigmoid(input: mx.array) -> mx.array:  # noqa: A002
    """``1 / (1 + exp(-x))``."""
    return core_affine.sigmoid(input)


def tanh(input: mx.array) -> mx.array:  # noqa: A002
    """The hyperbolic tangent."""
    return core_affine.tanh(input)


def logsigmoid(input: mx.array) -> mx.array:  # noqa: A002
    """``log(sigmoid(x))``."""
    return core.log_sigmoid(input)


def softplus(
    input: mx.array,  # noqa: A002
    beta: float = 1.0,
    threshold: float = 20.0,
) -> mx.array:
    """``log(1 + exp(beta x)) / beta``, and x itself where ``beta x > threshold``."""
    scaled = input * beta
    return mx.where(scaled > threshold, input, core.softplus(scaled) / beta)


def softsign(input: mx.array) -> mx.array:  # noqa: A002
    """``x / (1 + |x|)``."""
    return core.softsign(input)


def tanhshrink(input: mx.array) -> mx.array:  # noqa: A002
    """``x - tanh(x)``."""
    return core.tanh_shrink(input)


def softshrink(input: mx.array, lambd: float = 0.5) -> mx.array:  # noqa: A002
    """``x`` moved towards 0 by ``lambd``, and 0 within it."""
    return core.soft_shrink(input, lambd)


def hardshrink(input: mx.array, lambd: float = 0.5) -> mx.array:  # noqa: A002
    """``x`` beyond ``lambd`` on either side, else 0."""
    return core.hard_shrink(input, lambd)


def threshold(
    input: mx.array,  # noqa: A002
    threshold: float,
    value: float,
    inplace: bool = False,
) -> mx.array:
    """``x`` above ``threshold``, else ``value``."""
    return core.threshold(input, threshold, value)


def prelu(input: mx.array, weight: mx.array) -> mx.array:  # noqa: A002
    """``x`` above 0, ``weight · x`` below; several weights are one per channel (axis 1)."""
    if weight.size > 1 and input.ndim > 1:
        weight = weight.reshape(-1, *[1] * (input.ndim - 2))
    return mx.where(input > 0, input, weight * input)


def glu(input: mx.array, dim: int = -1) -> mx.array:  # noqa: A002
    """``a sigmoid(b)`` with the halves a, b along an axis."""
    return core.glu(input, dim)


def softmax(
    input: mx.array,  # noqa: A002
    dim: int | None = None,
    _stacklevel: int = 3,
    dtype: Any = None,
) -> mx.array:
    """``exp(x) / sum exp(x)`` along an axis."""
    return exact_softmax(*_along(input, dim, dtype, "softmax"))


def softmin(
    input: mx.array,  # noqa: A002
    dim: int | None = None,
    _stacklevel: int = 3,
    dtype: Any = None,
) -> mx.array:
    """``softmax(-x)``."""
    return softmax(-input, dim, _stacklevel, dtype)


def log_softmax(
    input: mx.array,  # noqa: A002
    dim: int | None = None,
    _stacklevel: int = 3,
    dtype: Any = None,
) -> mx.array:
    """``x - log sum exp(x)`` along an axis."""
    x, axis = _along(input, dim, dtype, "log_softmax")
    return core.log_softmax(x, axis)


def _along(x: mx.array, dim: int | None, dtype: Any, owner: str) -> tuple[mx.array, int]:
    # Without an axis torch takes the first for 0, 1 and 3 dimensions, the second otherwise.
    axis = (0 if x.ndim in (0, 1, 3) else 1) if dim is None else dim
    return (x if dtype is None else x.astype(float_dtype(dtype, f"{owner} dtype"))), axis


def normalize(
    input: mx.array,  # noqa: A002
    p: float = 2.0,
    dim: int = 1,
    eps: float = 1e-12,
) -> mx.array:
    """``x / max(|x|_p, eps)`` along an axis."""
    size = norm(input, p, dim, keepdims=True)
    return input / mx.maximum(size, eps)


def norm(x: mx.array, p: float, axis: Any, keepdims: bool) -> mx.array:
    """Return the p-norm along axes; the gradient of the 2-norm at 0 is 0, as in torch."""
    if p == float("inf"):
        return mx.max(mx.abs(x), axis=axis, keepdims=keepdims)
    if p == 1:
        return mx.sum(mx.abs(x), axis=axis, keepdims=keepdims)
    powers = mx.sum(x * x if p == 2 else mx.abs(x) ** p, axis=axis, keepdims=keepdims)
    is_zero = powers == 0
    roots = mx.where(is_zero, 1, powers)
    roots = mx.sqrt(roots) if p == 2 else roots ** (1 / p)
    return mx.where(is_zero, mx.zeros_like(roots), roots)
