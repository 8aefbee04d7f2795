"""The tensor dtypes that checkpoints hold, under their safetensors codes: the only list of them."""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx
import numpy as np

from lstm_bridge.checkpoints.base import Array
from lstm_bridge.errors import UsageError


class Dtype(NamedTuple):
    """One dtype in each vocabulary."""

    bits: np.dtype[np.generic]  # how NumPy holds it; bfloat16 as uint16
    mlx: mx.Dtype
    torch: str  # torch's storage class, without "Storage"


DTYPES: dict[str, Dtype] = {
    "F64": Dtype(np.dtype("<f8"), mx.float64, "Double"),
    "F32": Dtype(np.dtype("<f4"), mx.float32, "Float"),
    "F16": Dtype(np.dtype("<f2"), mx.float16, "Half"),
    "BF16": Dtype(np.dtype("<u2"), mx.bfloat16, "BFloat16"),
    "I64": Dtype(np.dtype("<i8"), mx.int64, "Long"),
    "I32": Dtype(np.dtype("<i4"), mx.int32, "Int"),
    "I16": Dtype(np.dtype("<i2"), mx.int16, "Short"),
    "I8": Dtype(np.dtype("i1"), mx.int8, "Char"),
    "U64": Dtype(np.dtype("<u8"), mx.uint64, "UInt64"),
    "U32": Dtype(np.dtype("<u4"), mx.uint32, "UInt32"),
    "U16": Dtype(np.dtype("<u2"), mx.uint16, "UInt16"),
    "U8": Dtype(np.dtype("u1"), mx.uint8, "Byte"),
    "BOOL": Dtype(np.dtype("?"), mx.bool_, "Bool"),
}

FLOATS = ("F64", "F32", "F16", "BF16")
"""The codes that a weight may have."""


def to_mlx(array: Array, code: str) -> mx.array:
    """Return ``array`` (as ``Checkpoint.read`` gives it) as an mx.array of the coded dtype."""
    if code == "BF16":
        return mx.array(array).view(mx.bfloat16)
    with mx.stream(mx.cpu):
        return mx.array(array, dtype=DTYPES[code].mlx)


def from_mlx(array: mx.array) -> tuple[Array, str]:
    """Return an mx.array as NumPy holds it, bfloat16 as its bits, and its code.

    Raises:
        UsageError: no checkpoint holds its dtype (complex64).
    """
    for code, dtype in DTYPES.items():
        if array.dtype == dtype.mlx:
            plain = array.view(mx.uint16) if code == "BF16" else array
            return np.asarray(plain, dtype.bits, order="C"), code
    raise UsageError("array", expected=f"one of {', '.join(DTYPES)}", got=str(array.dtype))
