"""Every function that a model's graph may call: the union of what each framework's graphs need."""

from __future__ import annotations

import operator

from lstm_bridge.models.graph import Operation
from lstm_bridge.models.keras.operations import KERAS_OPERATIONS
from lstm_bridge.models.torch.operations import TORCH_OPERATIONS

OPERATIONS: dict[str, Operation] = {
    "item": operator.getitem,
    **KERAS_OPERATIONS,
    **TORCH_OPERATIONS,
}
"""Function name in a graph → function: the only list of them."""
