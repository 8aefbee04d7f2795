"""Which classes a saved model may be made of: those that the front-ends export, and no others."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import mlx.nn as nn

FRONT_ENDS = (
    "keras.layers",
    "torch.nn",
    "mlx.nn",
    "pytorch_forecasting.layers",
    "pytorch_forecasting.models",
    "models.torch.mode",
    "models.keras.older",
)
"""Packages whose ``__all__`` is the list of classes."""


def find_class(kind: str) -> type[nn.Module] | None:
    """Return the front-end class of a path such as ``"torch.nn.LSTM"``; None if there is none.

    Only the packages of ``FRONT_ENDS`` are imported, and only exported modules are found.
    """
    package, _, name = kind.rpartition(".")
    if package not in FRONT_ENDS:
        return None
    module = import_module(f"lstm_bridge.{package}")
    found = getattr(module, name, None) if name in module.__all__ else None
    return found if isinstance(found, type) and issubclass(found, nn.Module) else None


def kind_of(cls: type) -> str | None:
    """Return the class path of a front-end class; None of any other."""
    for package in FRONT_ENDS:
        kind = f"{package}.{cls.__name__}"
        ours = cls.__module__.startswith(f"lstm_bridge.{package.partition('.')[0]}.")
        if ours and find_class(kind) is cls:
            return kind
    return None


def make(kind: str, options: Mapping[str, Any], build: Mapping[str, Any] | None) -> nn.Module:
    """Make a front-end module.

    Args:
        kind: its class path, which ``find_class`` knows.
        options: constructor arguments; for Keras the layer's config.
        build: a Keras layer's build config, from which its weights get their shapes.
    """
    cls: Any = find_class(kind)
    if "keras." not in kind:
        made: nn.Module = cls(**options)
        return made
    layer = cls.from_config(dict(options))
    if build and not layer.built:
        layer.build_from_config(dict(build))
    return layer
