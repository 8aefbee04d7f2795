"""Sums of two arrays of one shape: who computes them.

On a Linux CPU the fused kernel, as in ``affine``: by all threads, and at the call where they are
small.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from lstm_bridge.core.native.ops import DENSE_SERVES, Inputs, Operation


def add(a: Any, b: Any) -> Any:
    """Return ``a + b``, of whatever has a sum."""
    arrays = DENSE_SERVES and isinstance(a, mx.array) and isinstance(b, mx.array)
    done = _SUM.fused((a, b)) if arrays and a.ndim == b.ndim <= _MOST_AXES else None
    return a + b if done is None else done[0]


def _composed(inputs: Inputs, settings: Sequence[float]) -> list[mx.array]:
    a, b = inputs
    assert a is not None
    assert b is not None
    return [a + b]


_MOST_AXES = 4
_SUM = Operation("LSTMBridgeSum", _composed)
