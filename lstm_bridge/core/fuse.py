"""Whether element-wise work is compiled into fused kernels: on a GPU, where each start counts.

On a CPU ``mx.compile`` calls a C++ compiler, which takes seconds and may not be there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import mlx.core as mx


def fuses() -> bool:
    """Say whether the default device fuses."""
    return mx.default_device().type == mx.DeviceType.gpu


@cache
def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function compiled; MLX keeps one compiled form per shape."""
    return mx.compile(function)
