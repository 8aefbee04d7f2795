"""The dtypes that a comparison can be run in, and arrays rounded to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lstm_bridge.equivalence.tree import apply
from lstm_bridge.errors import UsageError

Array = NDArray[Any]


class Precision(NamedTuple):
    """A floating-point format.

    Args:
        name: as torch, Keras and MLX alike spell it.
        eps: its rounding step at 1.
        rounded: a float32 array rounded to it once, in the narrowest NumPy dtype that holds it.
    """

    name: str
    eps: float
    rounded: Callable[[Array], Array]


def to_bfloat16(array: Array) -> Array:
    """Round float32 to the nearest bfloat16, ties to even; NumPy has no such dtype."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    up = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return np.where(np.isfinite(array), up, bits & 0xFFFF0000).astype(np.uint32).view(np.float32)


def _to_float16(array: Array) -> Array:
    with np.errstate(over="ignore", under="ignore"):  # what does not fit becomes infinite or zero
        return array.astype(np.float16)


PRECISIONS = {
    p.name: p
    for p in (
        Precision("float32", 2.0**-23, lambda a: a.astype(np.float32)),
        Precision("float16", 2.0**-10, _to_float16),
        Precision("bfloat16", 2.0**-7, to_bfloat16),
    )
}


def precision(dtype: str | None) -> Precision | None:
    """Return the precision of that name; None stays None.

    Raises:
        UsageError: there is no such precision.
    """
    if dtype is None or dtype in PRECISIONS:
        return None if dtype is None else PRECISIONS[dtype]
    raise UsageError(
        "compare dtype", expected=f"one of {', '.join(PRECISIONS)}, or None", got=repr(dtype)
    )


def as_given(tree: Any, chosen: Precision | None) -> Any:
    """Round every floating-point array once, so that all parties start from the same numbers.

    float64 becomes float32 where nothing is chosen; integers and booleans stay what they are.
    """

    def one(value: Any) -> Array:
        array = np.asarray(value)
        if not np.issubdtype(array.dtype, np.floating):
            return array
        with np.errstate(over="ignore"):
            single = array.astype(np.float32) if array.dtype == np.float64 else array
        return single if chosen is None else chosen.rounded(single.astype(np.float32))

    return apply(one, tree)
