"""Checks of constructor arguments and inputs that the torch front-end's layers share."""

from __future__ import annotations

import numbers
from typing import Any

import mlx.core as mx

from lstm_bridge.core.arrays import as_array
from lstm_bridge.errors import ArgumentTypeError, ShapeError, UsageError

DEVICE_NOTE = (
    "no effect here, because MLX arrays live in memory that all its devices share; "
    "mx.set_default_device chooses where to compute"
)
DTYPE_NOTE = (
    "same, and takes an MLX dtype or a name too; complex refused, because gates have no complex "
    "form in MLX; float64 refused on a GPU, because MLX computes it on the CPU only, where its "
    "sigmoid has float32's accuracy"
)


def uniform(shape: tuple[int, ...], width: int, dtype: mx.Dtype) -> mx.array:
    """Return samples of U(−1/√width, 1/√width), torch's initial values of its layers."""
    bound = width**-0.5 if width > 0 else 0.0
    # Drawn in float32 and then cast: MLX's random generators know no float64.
    return mx.random.uniform(-bound, bound, shape).astype(dtype)


def integer(value: Any, owner: str) -> int:
    """Return ``value`` if it is an int.

    Raises:
        ArgumentTypeError: it is not.
    """
    if not isinstance(value, int):
        raise ArgumentTypeError(owner, expected="an int", got=f"{type(value).__name__} {value!r}")
    return value


def positive(value: Any, owner: str) -> int:
    """Return ``value`` if it is an int above zero.

    Raises:
        ArgumentTypeError: it is no int.
        UsageError: it is zero or negative.
    """
    size = integer(value, owner)
    if size <= 0:
        raise UsageError(owner, expected="an int greater than zero", got=str(size))
    return size


def flag(value: Any, owner: str) -> bool:
    """Return ``value`` if it is a bool.

    Raises:
        ArgumentTypeError: it is not.
    """
    if not isinstance(value, bool):
        raise ArgumentTypeError(owner, expected="a bool", got=f"{type(value).__name__} {value!r}")
    return value


def probability(value: Any, owner: str) -> float:
    """Return ``value`` as a float if it is a number in [0, 1].

    Raises:
        ArgumentTypeError: nothing that could become a number.
        UsageError: a bool, a text, or outside of the range.
    """
    wanted = "a number in range [0, 1], the probability of an element being zeroed"
    if not isinstance(value, (str, int, float, numbers.Real)):
        raise ArgumentTypeError(owner, expected=wanted, got=f"{type(value).__name__} {value!r}")
    if isinstance(value, (str, bool)) or not 0 <= (p := float(value)) <= 1:
        raise UsageError(owner, expected=wanted, got=repr(value))
    return p


def array_like(value: Any, owner: str, parameter: mx.array) -> mx.array:
    """Return ``value`` as an mx.array of the parameter's dtype, which it must already have.

    A float64 NumPy or DLPack array counts as float32, as it does throughout MLX, unless the
    parameter is float64.

    Raises:
        UsageError: it is no array.
        ShapeError: its dtype is another one.
    """
    is_double = parameter.dtype == mx.float64 and _name(value) == "float64"
    x = as_array(value, owner, mx.float64 if is_double else None)
    if x.dtype != parameter.dtype:
        got, own = _short(x.dtype), _short(parameter.dtype)
        raise ShapeError(
            f"{owner} dtype",
            expected=f"{own}, the weights' own",
            got=got,
            fix=f"convert the input with .astype(mx.{own}){_or_model(x.dtype)}",
        )
    return x


def _or_model(dtype: mx.Dtype) -> str:
    is_float = mx.issubdtype(dtype, mx.floating)
    return f" or the model with .to({_short(dtype)!r})" if is_float else ""


def width(x: mx.array, size: int, owner: str) -> None:
    """Check the last axis.

    Raises:
        ShapeError: it is not ``size`` long.
    """
    if x.shape[-1] != size:
        raise ShapeError(owner, expected=f"last axis {size}", got=str(list(x.shape)))


def shape(x: mx.array, expected: tuple[int, ...], owner: str) -> None:
    """Check the whole shape.

    Raises:
        ShapeError: it differs.
    """
    if x.shape != expected:
        raise ShapeError(owner, expected=f"shape {list(expected)}", got=str(list(x.shape)))


def pair(hx: Any, owner: str) -> tuple[Any, Any]:
    """Return the hidden and the cell state.

    Raises:
        ShapeError: not exactly two.
    """
    states = tuple(hx)
    if len(states) != 2:
        raise ShapeError(owner, expected="two states (h_0, c_0)", got=str(len(states)))
    return states[0], states[1]


def _name(value: Any) -> str:
    return _short(getattr(value, "dtype", None))


def _short(dtype: Any) -> str:
    return str(dtype).rsplit(".", 1)[-1]
