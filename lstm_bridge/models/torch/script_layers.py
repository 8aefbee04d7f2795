"""Layers of torch.nn in a scripted archive, by what their classes say of their options.

A scripted class holds its options as finals (``hidden_size : Final[int] = 4``), and then the layer
itself stands in the graph; a recorded class holds none, and its text is followed.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

from lstm_bridge.models.classes import find_class
from lstm_bridge.models.torch.script_code import ScriptClass

_TORCH = re.compile(r"__torch__\.torch\.nn\.modules\.\w+\.(?:___torch_mangle_\d+\.)?(\w+)")
_NOT_KEPT = frozenset({"device", "dtype", "_weight", "_freeze", "sparse", "min_value", "max_value"})


def layer_of(qualified: str, cls: ScriptClass) -> tuple[str, dict[str, Any]] | None:
    """Return the class path and options of a layer; None of what is to be followed instead.

    Args:
        qualified: the class's name in the archive.
        cls: the class.
    """
    found = _TORCH.fullmatch(qualified)
    front_end: Any = find_class(f"torch.nn.{found[1]}") if found and cls.finals else None
    if found is None or front_end is None:
        return None
    options: dict[str, Any] = {}
    for name, parameter in inspect.signature(front_end).parameters.items():
        if name in cls.finals:
            options[name] = cls.finals[name]
        elif cls.attributes.get(name) == "NoneType" and name != "bias":
            options[name] = None
        elif name == "bias":
            options[name] = any(held.startswith("bias") for held in cls.parameters)
        elif name == "nonlinearity" and found[1] == "RNN":
            options[name] = str(cls.finals.get("mode", "")).removeprefix("RNN_").lower()
        elif name not in _NOT_KEPT or parameter.default is parameter.empty:
            return None
    if options.get("num_layers") == 1:
        options["dropout"] = 0.0  # without effect, and warned about
    return f"torch.nn.{found[1]}", options
