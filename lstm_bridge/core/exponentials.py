"""The exponential and the error function, where MLX's own lack float32's precision."""

from __future__ import annotations

import mlx.core as mx

# Chebyshev fits: erf(x) / x in powers of x² up to 1, and log(1 - erf(x)) in powers of x up to 4.2.
_ERF_NEAR = (
    1.12837917,
    -0.376126269,
    0.112835975,
    -0.0268543288,
    0.00518931194,
    -0.000801885499,
    7.8824971e-05,
)
_ERF_FAR = (
    0.000250369417,
    -1.12995806,
    -0.632285751,
    -0.109655764,
    0.0261839637,
    -0.00467725919,
    0.000579437041,
    -4.40188699e-05,
    1.53494631e-06,
)


def erf(x: mx.array) -> mx.array:
    """The error function, in float32 to one rounding step.

    MLX's own is off by up to 4.5e-7 on a CPU; its derivative is exact, so the better value rides
    on it as a constant.
    """
    y = mx.erf(x)
    if x.dtype != mx.float32:
        return y
    size = mx.minimum(mx.abs(x), 4.2)
    near = size * _polynomial(_ERF_NEAR, size * size)
    better = mx.sign(x) * mx.where(size < 1, near, 1 - mx.exp(_polynomial(_ERF_FAR, size)))
    return y + mx.stop_gradient(better - y)


def exponential(x: mx.array) -> mx.array:
    """``exp(x)``, in float32 to two rounding steps, for the same reason and in the same way."""
    y = mx.exp(x)
    if x.dtype != mx.float32:
        return y
    grown = mx.expm1(mx.minimum(mx.abs(x), 80)) + 1
    better = mx.where(x > 0, grown, 1 / grown)
    return y + mx.stop_gradient(mx.where(mx.abs(x) < 80, better - y, mx.zeros_like(y)))


def _polynomial(coefficients: tuple[float, ...], x: mx.array) -> mx.array:
    total = mx.zeros_like(x)
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total
