"""torch's tensor functions and methods on MLX arrays, by torch's names.

A function and the method of the same name are one entry here: ``torch.add(x, y)`` and ``x.add(y)``.
The tables are what a traced model's graph may call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lstm_bridge.torch.tensor.arithmetic import ARITHMETIC
from lstm_bridge.torch.tensor.creation import CREATION
from lstm_bridge.torch.tensor.indexing import INDEXING
from lstm_bridge.torch.tensor.reduction import REDUCTION
from lstm_bridge.torch.tensor.shapes import SHAPES

FUNCTIONS: dict[str, Callable[..., Any]] = {
    **ARITHMETIC,
    **CREATION,
    **INDEXING,
    **REDUCTION,
    **SHAPES,
}
"""torch's name → function."""
