"""From an object to the party it is, judged by the classes it descends from, without imports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstm_bridge.equivalence.oracle import ORACLES
from lstm_bridge.equivalence.parties.base import Party
from lstm_bridge.equivalence.precision import Precision
from lstm_bridge.equivalence.tree import apply
from lstm_bridge.errors import UsageError


def party_of(thing: Any, role: str, chosen: Precision | None = None) -> Party:
    """Return the party that ``thing`` is.

    Args:
        thing: a torch module, a Keras layer, an MLX module, or a function of NumPy arrays.
        role: the argument's name, used in the message.
        chosen: what to run it in; a copy of it is. Default: as it is.

    Raises:
        UsageError: it is none of these.
    """
    if isinstance(thing, Party):
        return thing
    dtype = None if chosen is None else chosen.name
    roots = {cls.__module__.partition(".")[0] for cls in type(thing).__mro__}
    # A Keras layer on the torch backend is also a torch module, a front-end an mlx module.
    if "keras" in roots:
        from lstm_bridge.equivalence.parties.keras import keras_party

        return keras_party(thing, dtype)
    if "mlx" in roots:
        from lstm_bridge.equivalence.parties.mlx import mlx_party

        return mlx_party(thing, kind_of(thing), dtype)
    if "torch" in roots:
        from lstm_bridge.equivalence.parties.torch import torch_party

        return torch_party(thing, kind_of(thing), dtype)
    if callable(thing):
        return _function_party(thing, chosen)
    raise UsageError(
        f"compare {role}",
        expected="a torch module, a Keras layer or model, an MLX module, a checkpoint's path or a "
        "function of arrays",
        got=type(thing).__name__,
    )


def kind_of(thing: Any) -> str:
    """Return the class path that an oracle exists for: its own, or the front-end's it mirrors."""
    for cls in type(thing).__mro__:
        module = cls.__module__.removeprefix("lstm_bridge.")
        for kind in ORACLES:
            root, _, name = kind.rpartition(".")
            package = root.partition(".")[0]
            if cls.__name__ == name and module.partition(".")[0] == package:
                return kind if _runs_as(type(thing), cls) else ""
    return ""


def _runs_as(own: type, cls: type) -> bool:
    """Whether a sub-class computes what the class does: one with a forward of its own may not."""
    names = [n for n in ("forward", "call", "__call__") if hasattr(cls, n)]
    return all(getattr(own, name) is getattr(cls, name) for name in names)


def _function_party(function: Any, chosen: Precision | None) -> Party:
    def call(inputs: Sequence[Any]) -> Any:
        return apply(_to_numpy, function(*inputs))

    name = getattr(function, "__name__", type(function).__name__)
    return Party(name, call) if chosen is None else Party(name, call, eps=chosen.eps)


def _to_numpy(value: Any) -> Any:
    package = type(value).__module__.partition(".")[0]
    if package == "torch":
        from lstm_bridge.equivalence.parties.torch import to_numpy as of_torch

        return of_torch(value)
    if package == "mlx":
        from lstm_bridge.equivalence.parties.mlx import to_numpy as of_mlx

        return of_mlx(value)
    return np.asarray(value)
