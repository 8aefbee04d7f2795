"""What a graph traced from torch may call: torch's functions and methods, and Python's operators.

Names are torch's own: behind ``torch.`` whether the source spelt them as a function or a method,
behind ``functional.`` those of ``torch.nn.functional``, behind ``operator.`` and ``python.`` those
of Python. In-place forms have the names of the others, because MLX arrays are values.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from lstm_bridge.errors import UnsupportedError, UsageError
from lstm_bridge.models.graph import Operation
from lstm_bridge.models.torch.asked import ASKED
from lstm_bridge.torch.aten import ATEN
from lstm_bridge.torch.nn import functional
from lstm_bridge.torch.nn.utils import rnn
from lstm_bridge.torch.tensor import FUNCTIONS
from lstm_bridge.torch.tensor.arithmetic import add, floor_divide, matmul, mul, remainder
from lstm_bridge.torch.tensor.indexing import getitem, setitem

_ATTRIBUTES: dict[str, Callable[[Any], Any]] = {
    "shape": lambda x: x.shape,
    "ndim": lambda x: x.ndim,
    "dtype": lambda x: str(x.dtype).rpartition(".")[2],  # by name, as recorded dtypes are
    "device": lambda x: None,
    "T": lambda x: x.T,
    "mT": lambda x: x.swapaxes(-1, -2),
    "data": lambda x: getattr(x, "data", x) if isinstance(x, tuple) else x,
    "values": lambda x: x.values,
    "indices": lambda x: x.indices,
    "batch_sizes": lambda x: x.batch_sizes,
    "sorted_indices": lambda x: x.sorted_indices,
    "unsorted_indices": lambda x: x.unsorted_indices,
    "is_cuda": lambda x: False,
    "requires_grad": lambda x: False,
}
"""Attributes that a graph may read: no others, because a graph may come from a stranger's file."""


def attribute(value: Any, name: str) -> Any:
    """Return an attribute of an array, a packed sequence or a reduction's result.

    Raises:
        UnsupportedError: it is not one of those that graphs may read.
    """
    if name not in _ATTRIBUTES:
        raise UnsupportedError(
            "attribute of a tensor", expected=f"one of {', '.join(_ATTRIBUTES)}", got=repr(name)
        )
    return _ATTRIBUTES[name](value)


def as_int(value: Any) -> int:
    """Return a number, or the only element of an array, as an int."""
    return int(value.item() if hasattr(value, "item") else value)


def as_float(value: Any) -> float:
    """Return a number, or the only element of an array, as a float."""
    return float(value.item() if hasattr(value, "item") else value)


def checked(condition: Any, message: str = "") -> None:
    """Go on if a condition that the model asserts holds.

    Raises:
        UsageError: it does not.
    """
    if not condition:
        raise UsageError("model input", expected=message or "what the model asserts", got="not so")


def make_tuple(*values: Any) -> tuple[Any, ...]:
    """Return the values."""
    return values


_OPERATORS: dict[str, Operation] = {
    name: getattr(operator, name)
    for name in (
        "sub", "truediv", "pow", "neg", "pos", "abs", "invert", "eq", "ne",
        "lt", "le", "gt", "ge", "and_", "or_", "xor", "not_",
    )
} | {
    "add": add, "matmul": matmul, "mul": mul, "floordiv": floor_divide, "mod": remainder,
    "getitem": getitem, "setitem": setitem,
}  # fmt: skip

_PYTHON: dict[str, Operation] = {
    "getattr": attribute, "len": len, "int": as_int, "float": as_float, "tuple": make_tuple,
    "assert": checked, "bool": bool, "contains": operator.contains, **ASKED,
    "sqrt": math.sqrt, "ceil": math.ceil, "floor": math.floor, "log": math.log, "exp": math.exp,
    "sin": math.sin, "cos": math.cos, "log2": math.log2, "prod": math.prod, "pow": math.pow,
}  # fmt: skip

TORCH_OPERATIONS: dict[str, Operation] = {
    **{f"torch.{name}": function for name, function in FUNCTIONS.items()},
    **{f"functional.{name}": getattr(functional, name) for name in functional.__all__},
    **{f"torch.rnn.{name}": getattr(rnn, name) for name in rnn.__all__},
    **{f"aten.{name}": function for name, function in ATEN.items()},
    **{f"operator.{name}": function for name, function in _OPERATORS.items()},
    **{f"python.{name}": function for name, function in _PYTHON.items()},
}
"""Function name in a graph → function."""
