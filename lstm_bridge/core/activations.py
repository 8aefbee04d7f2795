"""Named activations, with Keras's spelling and definitions.

``hard_sigmoid`` changed its slope between Keras 2 (0.2) and Keras 3 (1/6); the gap reaches 0.083.
The core knows both, under two names: a converter picks by the version that wrote the file.

None of mlx.nn's activations is used: they are compiled at their first call, which on a CPU starts
a C++ compiler, and some (selu) round their constants.
"""

from __future__ import annotations

import math
import platform
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import mlx.core as mx

from lstm_bridge.core.exponentials import erf, exponential
from lstm_bridge.core.native.ops import DENSE_SERVES, Inputs, Operation
from lstm_bridge.core.normal import softmax
from lstm_bridge.errors import UnsupportedError

Activation = Callable[[mx.array], mx.array]

_SELU_ALPHA = 1.6732632423543772848170429916717
_SELU_SCALE = 1.0507009873554804934193349852946


def linear(x: mx.array) -> mx.array:
    """The identity."""
    return x


# For x86, MLX's exp is compiled without fused multiply-add, and emulates it: 25 ns a number, where
# the C library's power takes 6 to 10.
_SLOW_EXP = sys.platform != "darwin" and platform.machine().lower() in ("x86_64", "amd64")
_MANY = 1024  # numbers beyond which four operations, of microseconds each, take less time than one


def power_is_quicker(size: int, dtype: mx.Dtype) -> bool:
    """Say whether the sigmoids of so many numbers take less time as powers."""
    on_cpu = mx.default_device().type == mx.DeviceType.cpu
    return _SLOW_EXP and on_cpu and size >= _MANY and dtype == mx.float32


def sigmoid_of_many(x: mx.array) -> mx.array:
    """Return ``1 / (1 + exp(-x))``, with a power for exp where that is quicker."""
    if not power_is_quicker(x.size, x.dtype):
        return mx.sigmoid(x)
    # Further down the power overflows, which would make its derivative NaN; this is 0 to 1e-35.
    return 1 / (1 + mx.power(math.exp(-1), mx.maximum(x, -80.0)))


def tanh_of_many(x: mx.array) -> mx.array:
    """Return ``tanh(x)``, with the C library's ``exp(2x) - 1`` where that is quicker."""
    if not power_is_quicker(x.size // 4, x.dtype):  # it gains less than a sigmoid's power
        return mx.tanh(x)
    # Beyond 9 it is 1; beyond 20 the derivative's squares would overflow.
    e = mx.expm1(2 * mx.minimum(x, 20.0))
    return e / (2 + e)


class Gate(NamedTuple):
    """How σ lets something through: ``through(y, of(z)) = σ(z) y``."""

    of: Activation
    through: Callable[[mx.array, mx.array], mx.array]


def gate(sigma: Activation) -> Gate:
    """Return the gate that multiplies with ``σ(z)``."""
    return Gate(sigma, mx.multiply)


def gate_of_many(shape: Sequence[int]) -> Gate:
    """Return the sigmoid's gate that divides by ``1 + exp(-z)``, for use without a derivative.

    The division is that of the sigmoid itself, and what is constant is made once for all uses.
    Where the power overflows, the gate is shut as it should be, but a derivative would be NaN.

    Args:
        shape: of every z.
    """
    base, one = (mx.broadcast_to(mx.array(v), shape) for v in (math.exp(-1), 1.0))
    return Gate(lambda z: one + mx.power(base, z), mx.divide)


def hard_sigmoid(x: mx.array) -> mx.array:
    """``clip(x / 6 + 0.5, 0, 1)`` (Keras 3, torch)."""
    return mx.clip(x / 6 + 0.5, 0, 1)


def hard_sigmoid_keras2(x: mx.array) -> mx.array:
    """``clip(0.2 x + 0.5, 0, 1)`` (Keras 1 and 2, Theano, ONNX's default)."""
    return mx.clip(0.2 * x + 0.5, 0, 1)


def sparse_sigmoid(x: mx.array) -> mx.array:
    """``clip((x + 1) / 2, 0, 1)``."""
    return mx.clip(0.5 * (x + 1), 0, 1)


def log_sigmoid(x: mx.array) -> mx.array:
    """``log(sigmoid(x))``."""
    return -softplus(-x)


def hard_tanh(x: mx.array) -> mx.array:
    """``clip(x, -1, 1)``."""
    return mx.clip(x, -1, 1)


def tanh_shrink(x: mx.array) -> mx.array:
    """``x - tanh(x)``."""
    return x - mx.tanh(x)


def relu(
    x: mx.array,
    negative_slope: float = 0.0,
    max_value: float | None = None,
    threshold: float = 0.0,
) -> mx.array:
    """``max(x, 0)``, with Keras's slope below, cap above, and threshold instead of 0."""
    y = mx.maximum(x, 0) if threshold == 0 else mx.where(x > threshold, x, mx.zeros_like(x))
    if max_value is not None:
        y = mx.clip(y, 0, max_value)
    return y - negative_slope * mx.maximum(threshold - x, 0) if negative_slope else y


def relu6(x: mx.array) -> mx.array:
    """``clip(x, 0, 6)``."""
    return mx.clip(x, 0, 6)


def leaky_relu(x: mx.array, negative_slope: float = 0.2) -> mx.array:
    """``x`` above 0, ``negative_slope · x`` below."""
    return mx.where(x > 0, x, negative_slope * x)


def elu(x: mx.array, alpha: float = 1.0) -> mx.array:
    """``x`` above 0, ``alpha (exp(x) - 1)`` below."""
    return mx.where(x > 0, x, alpha * mx.expm1(mx.minimum(x, 0)))


def celu(x: mx.array, alpha: float = 1.0) -> mx.array:
    """``x`` above 0, ``alpha (exp(x / alpha) - 1)`` below."""
    return mx.where(x > 0, x, alpha * mx.expm1(mx.minimum(x, 0) / alpha))


def selu(x: mx.array) -> mx.array:
    """The elu with the self-normalising slope and scale."""
    return _SELU_SCALE * elu(x, _SELU_ALPHA)


def gelu(x: mx.array, approximate: bool = False) -> mx.array:
    """``x Phi(x)`` with the normal distribution's Phi, or its tanh approximation."""
    if approximate:
        return 0.5 * x * (1 + mx.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))
    return _mapped(x, 0)


def silu(x: mx.array) -> mx.array:
    """``x sigmoid(x)``, also called swish."""
    return _mapped(x, 1)


def _mapped(x: mx.array, which: int) -> mx.array:
    """Return one of ``_MAPS``, on a Linux CPU by the fused kernel."""
    flat = x if x.ndim <= _MOST_AXES else x.reshape(-1)
    done = _MAP.fused((flat,), (which,)) if DENSE_SERVES else None
    if done is None:
        return _MAPS[which](x)
    return done[0] if flat is x else done[0].reshape(x.shape)


_MAPS: tuple[Activation, ...] = (
    lambda x: 0.5 * x * (1 + erf(x * 0.7071067811865476)),
    lambda x: x * mx.sigmoid(x),
)


def _composed_map(inputs: Inputs, settings: Sequence[float]) -> list[mx.array]:
    x = inputs[0]
    assert x is not None
    return [_MAPS[int(settings[0])](x)]


_MAP = Operation("LSTMBridgeMap", _composed_map)
_MOST_AXES = 4


def hard_silu(x: mx.array) -> mx.array:
    """``x clip(x + 3, 0, 6) / 6``, also called hard swish."""
    return x * mx.clip(x + 3, 0, 6) / 6


def mish(x: mx.array) -> mx.array:
    """``x tanh(softplus(x))``."""
    return x * mx.tanh(softplus(x))


def softplus(x: mx.array) -> mx.array:
    """``log(1 + exp(x))``."""
    return mx.logaddexp(x, mx.zeros_like(x))


def softsign(x: mx.array) -> mx.array:
    """``x / (1 + |x|)``."""
    return x / (1 + mx.abs(x))


def sparse_plus(x: mx.array) -> mx.array:
    """0 up to -1, ``(x + 1)² / 4`` up to 1, then ``x``."""
    return mx.where(x < 1, 0.25 * mx.square(mx.maximum(x + 1, 0)), x)


def squareplus(x: mx.array, b: float = 4) -> mx.array:
    """``(x + sqrt(x² + b)) / 2``."""
    return (x + mx.sqrt(x * x + b)) / 2


def soft_shrink(x: mx.array, threshold: float = 0.5) -> mx.array:
    """``x`` moved towards 0 by ``threshold``, and 0 within it."""
    return mx.maximum(x - threshold, 0) + mx.minimum(x + threshold, 0)


def hard_shrink(x: mx.array, threshold: float = 0.5) -> mx.array:
    """``x`` beyond ``threshold`` on either side, else 0."""
    return mx.where(mx.abs(x) > threshold, x, mx.zeros_like(x))


def threshold(x: mx.array, threshold: float, default_value: float) -> mx.array:
    """``x`` above ``threshold``, else ``default_value``."""
    return mx.where(x > threshold, x, mx.full(x.shape, default_value, x.dtype))


def log_softmax(x: mx.array, axis: int = -1) -> mx.array:
    """``x - log sum exp(x)`` along an axis."""
    shifted = x - mx.stop_gradient(mx.max(x, axis=axis, keepdims=True))
    return shifted - mx.logsumexp(shifted, axis=axis, keepdims=True)


def sparsemax(x: mx.array, axis: int = -1) -> mx.array:
    """The Euclidean projection of ``x`` onto the simplex, along an axis."""
    z = mx.moveaxis(x, axis, -1)
    ordered = -mx.sort(-z, axis=-1)
    sums = mx.cumsum(ordered, axis=-1)
    rank = mx.arange(1, z.shape[-1] + 1).astype(z.dtype)
    support = ordered - (sums - 1) / rank > 0
    # Keras sums the running sums over the support, where Martins (2016) takes the last of them.
    total = mx.sum(mx.where(support, sums, mx.zeros_like(sums)), axis=-1, keepdims=True)
    tau = (total - 1) / mx.sum(support, axis=-1, keepdims=True)
    return mx.moveaxis(mx.maximum(z - tau, 0), -1, axis)


def glu(x: mx.array, axis: int = -1) -> mx.array:
    """``a sigmoid(b)`` with the halves a, b of ``x`` along an axis."""
    a, b = mx.split(x, 2, axis=axis)
    return a * mx.sigmoid(b)


ACTIVATIONS: dict[str, Callable[..., mx.array]] = {
    fn.__name__: fn
    for fn in (
        celu, elu, exponential, gelu, glu, hard_shrink, hard_sigmoid, hard_sigmoid_keras2,
        hard_silu, hard_tanh, leaky_relu, linear, log_sigmoid, log_softmax, mish, relu, relu6,
        selu, silu, soft_shrink, softmax, softplus, softsign, sparse_plus, sparse_sigmoid,
        sparsemax, squareplus, tanh_shrink, threshold,
    )
} | {
    "hard_swish": hard_silu, "sigmoid": mx.sigmoid, "swish": silu,
    "tanh": mx.tanh,
}  # fmt: skip
"""Every activation by its Keras name: the only list of them."""


def get(name: str) -> Activation:
    """Return the activation of that name.

    Raises:
        UnsupportedError: no activation has that name.
    """
    try:
        return ACTIVATIONS[name]
    except (KeyError, TypeError):
        raise UnsupportedError(
            "activation", expected=f"one of {', '.join(ACTIVATIONS)}", got=repr(name)
        ) from None
