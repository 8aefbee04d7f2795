"""Weights compared bit for bit: a module's with the source's, in whatever dtype they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import mlx.utils
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def difference(module: Any, wanted: Mapping[str, Array]) -> str:
    """Return one line of how parameters differ from the source's bits; "" if they do not."""
    held = dict(mlx.utils.tree_flatten(module.parameters()))
    odd = sorted(set(held) ^ set(wanted))
    if odd:
        side = "missing from" if odd[0] in wanted else "only in"
        return f"weights: {odd[0]} is {side} the folder"
    for name, value in wanted.items():
        ours, theirs = _bits(held[name]), _source_bits(value, held[name].dtype)
        if ours.shape != theirs.shape:
            return f"weights: {name} has shape {list(ours.shape)}, not {list(theirs.shape)}"
        if ours.dtype != theirs.dtype:
            return f"weights: {name} is of another dtype than the source's"
        if (ours != theirs).any():
            at = [int(k) for k in np.argwhere(ours != theirs)[0]]
            return f"weights: {name} differs in {int((ours != theirs).sum())} places, first {at}"
    return ""


_UNSIGNED = {2: np.uint16, 4: np.uint32, 8: np.uint64}


def _bits(array: mx.array) -> Array:
    if array.dtype == mx.bfloat16:
        return np.array(array.view(mx.uint16))
    made = np.array(array)
    return made.view(_UNSIGNED[made.dtype.itemsize])


def _source_bits(value: Array, dtype: mx.Dtype) -> Array:
    """The source's bits; float64 rounded once to float32 where the folder holds that."""
    if value.dtype == np.float64 and dtype == mx.float32:
        value = value.astype(np.float32)
    if value.dtype == np.float32 and dtype == mx.bfloat16:  # a sum of two bfloat16 biases
        return _bits(mx.array(value).astype(mx.bfloat16))
    value = np.array(value, order="C")  # ascontiguousarray would give a number an axis
    return value.view(_UNSIGNED[value.dtype.itemsize])


def decoded(params: Mapping[str, Array]) -> dict[str, Array]:
    """Return parameters as floats: bfloat16 arrives as its bits."""
    return {
        name: (v.astype(np.uint32) << 16).view(np.float32) if v.dtype == np.uint16 else v
        for name, v in params.items()
    }
