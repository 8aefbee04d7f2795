"""From an object to the party it is, judged by the classes it descends from, without imports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lstm_bridge.equivalence.oracle import ORACLES
from lstm_bridge.equivalence.parties.base import Party
from lstm_bridge.equivalence.tree import apply
from lstm_bridge.errors import UsageError


def party_of(thing: Any, role: str) -> Party:
    """Return the party that ``thing`` is.

    Args:
        thing: a torch module, a Keras layer, an MLX module, or a function of NumPy arrays.
        role: the argument's name, used in the message.

    Raises:
        UsageError: it is none of these.
    """
    if isinstance(thing, Party):
        return thing
    roots = {cls.__module__.partition(".")[0] for cls in type(thing).__mro__}
    # A Keras layer on the torch backend is also a torch module, a front-end an mlx module.
    if "keras" in roots:
        from lstm_bridge.equivalence.parties.keras import keras_party

        return keras_party(thing)
    if "mlx" in roots:
        from lstm_bridge.equivalence.parties.mlx import mlx_party

        return mlx_party(thing, kind_of(thing))
    if "torch" in roots:
        from lstm_bridge.equivalence.parties.torch import torch_party

        return torch_party(thing, kind_of(thing))
    if callable(thing):
        return _function_party(thing)
    raise UsageError(
        f"compare {role}",
        expected="a torch module, a Keras layer, an MLX module or a function of arrays",
        got=type(thing).__name__,
        fix="for a checkpoint on disk use lstm_bridge.verify",
    )


def kind_of(thing: Any) -> str:
    """Return the class path that an oracle exists for: its own, or the front-end's it mirrors."""
    for cls in type(thing).__mro__:
        module = cls.__module__.removeprefix("lstm_bridge.")
        for kind in ORACLES:
            root, _, name = kind.rpartition(".")
            package = root.partition(".")[0]
            if cls.__name__ == name and module.partition(".")[0] == package:
                return kind
    return ""


def _function_party(function: Any) -> Party:
    def call(inputs: Sequence[Any]) -> Any:
        return apply(_to_numpy, function(*inputs))

    return Party(getattr(function, "__name__", type(function).__name__), call)


def _to_numpy(value: Any) -> Any:
    if type(value).__module__.partition(".")[0] == "torch":
        return value.detach().cpu().numpy()
    return np.asarray(value)
