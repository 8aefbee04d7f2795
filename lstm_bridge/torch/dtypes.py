"""torch's dtype names in MLX, read from a dtype's text so that torch need not be there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx

from lstm_bridge.errors import ArgumentTypeError, ShapeError, UnsupportedError

_FLOATS: dict[str, mx.Dtype] = {
    "float16": mx.float16,
    "half": mx.float16,
    "bfloat16": mx.bfloat16,
    "float32": mx.float32,
    "float": mx.float32,
    "float64": mx.float64,
    "double": mx.float64,
}
_OTHERS: dict[str, mx.Dtype] = {
    "int8": mx.int8,
    "uint8": mx.uint8,
    "int16": mx.int16,
    "short": mx.int16,
    "int32": mx.int32,
    "int": mx.int32,
    "int64": mx.int64,
    "long": mx.int64,
    "bool": mx.bool_,
    "complex64": mx.complex64,
}


def float_dtype(dtype: Any, owner: str) -> mx.Dtype:
    """Return the MLX dtype for a parameter.

    Args:
        dtype: a torch or MLX dtype, or its name; None means float32, torch's default.
        owner: name used in the message.

    Raises:
        ArgumentTypeError: it is no dtype.
        ShapeError: it is an integer dtype, which torch refuses for a parameter too.
        UnsupportedError: complex, or float64 while MLX's default device is a GPU.
    """
    if dtype is None:
        return mx.float32
    name = _name(dtype)
    if name in _FLOATS:
        return _supported(_FLOATS[name], owner)
    if name.startswith("complex"):
        raise UnsupportedError(
            owner, expected=_names(_FLOATS), got=name, fix="gates have no complex form in MLX"
        )
    if name in _OTHERS:
        raise ShapeError(owner, expected=_names(_FLOATS), got=name)
    raise ArgumentTypeError(owner, expected=_names(_FLOATS), got=repr(dtype))


def requested_dtype(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> mx.Dtype | None:
    """Return the dtype that ``Tensor.to(*args, **kwargs)`` asks for, or None.

    Args:
        args: torch's positional forms: a dtype, a device, a device and a dtype, or an array.
        kwargs: ``dtype``, ``device``, ``other``, ``non_blocking``, ``copy``, ``memory_format``.

    Raises:
        ArgumentTypeError: ``dtype=`` is no dtype.
    """
    for value in (*args, kwargs.get("other")):
        dtype = getattr(value, "dtype", value)
        if (found := _any(dtype)) is not None:
            return found
    dtype = kwargs.get("dtype")
    found = _any(dtype)
    if dtype is not None and found is None:
        raise ArgumentTypeError("torch dtype", expected=_names(_FLOATS | _OTHERS), got=repr(dtype))
    return found


def _any(dtype: Any) -> mx.Dtype | None:
    return (_FLOATS | _OTHERS).get(_name(dtype))


def _name(dtype: Any) -> str:
    """``torch.float32``, ``mlx.core.float32`` and ``"float32"`` all end alike."""
    return str(dtype).rsplit(".", 1)[-1]


def _names(table: Mapping[str, mx.Dtype]) -> str:
    return f"one of {', '.join(table)}"


def _supported(dtype: mx.Dtype, owner: str) -> mx.Dtype:
    if dtype == mx.float64 and mx.default_device().type == mx.DeviceType.gpu:
        raise UnsupportedError(
            owner,
            expected="float16, bfloat16 or float32 on a GPU",
            got="float64",
            fix="MLX computes float64 on the CPU only; call mx.set_default_device(mx.cpu) first",
        )
    return dtype
