"""Keras's dtype policies: which dtype a layer stores its weights in and which it computes in."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from lstm_bridge.errors import UnsupportedError, UsageError, quote
from lstm_bridge.keras.saving import keras_export

_FLOATS = ("float16", "bfloat16", "float32", "float64")
_MIXED = {"mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}


def to_mlx(dtype: Any) -> mx.Dtype:
    """Return the mx.Dtype of a dtype's name or of an mx.Dtype; None means float32.

    Raises:
        UsageError: no dtype has that name.
    """
    if dtype is None:
        return mx.float32
    if isinstance(dtype, mx.Dtype):
        return dtype
    found = getattr(mx, "bool_" if dtype == "bool" else str(dtype), None)
    if not isinstance(found, mx.Dtype):
        raise UsageError("dtype", expected="a dtype's name", got=quote(dtype))
    return found


def name_of(dtype: mx.Dtype) -> str:
    """Return a dtype's name as Keras spells it: ``float32``."""
    return str(dtype).rpartition(".")[2].removesuffix("_")


@keras_export("keras")
class DTypePolicy:
    """The compute and variable dtypes that a policy's name stands for.

    Args:
        name: a float dtype (``"float32"``), ``"mixed_float16"`` or ``"mixed_bfloat16"`` (weights
            in float32, computation in the other). Default: ``"float32"``.

    Raises:
        UsageError: no policy has that name.

    Source: keras.DTypePolicy 3.15.
    """

    def __init__(self, name: str | None = None) -> None:
        name = "float32" if name is None else name
        if name not in _FLOATS and name not in _MIXED:
            raise UsageError(
                "dtype", expected=f"one of {', '.join((*_FLOATS, *_MIXED))}", got=quote(name)
            )
        self.name = name

    @property
    def compute_dtype(self) -> str:
        """Name of the dtype that the layer computes in."""
        return _MIXED.get(self.name, self.name)

    @property
    def variable_dtype(self) -> str:
        """Name of the dtype that the layer keeps its weights in."""
        return "float32" if self.name in _MIXED else self.name

    @property
    def mixed(self) -> bool:
        """True when the two dtypes differ."""
        return self.name in _MIXED

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> DTypePolicy:
        """Make a policy from its config."""
        return cls(**config)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DTypePolicy) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f'<DTypePolicy "{self.name}">'


def get(identifier: Any) -> DTypePolicy:
    """Return the policy of a name, a config of any Keras era, an mx.Dtype, or a policy.

    Raises:
        UnsupportedError: a quantized policy or a policy map.
        UsageError: not a policy at all.
    """
    if isinstance(identifier, DTypePolicy):
        return identifier
    if isinstance(identifier, mx.Dtype):
        return DTypePolicy(name_of(identifier))
    if isinstance(identifier, dict):
        kind = identifier.get("class_name")
        if kind not in ("DTypePolicy", "FloatDTypePolicy", "Policy"):  # Policy: Keras 2
            raise UnsupportedError(
                "dtype",
                expected="a DTypePolicy config",
                got=quote(kind),
                fix="quantized policies and policy maps have no counterpart here",
            )
        return DTypePolicy((identifier.get("config") or {}).get("name"))
    return DTypePolicy(identifier)
