"""A layer's weights as Keras shows them: objects with a name, a path and ``assign``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mlx.core as mx

from lstm_bridge.core.arrays import as_array
from lstm_bridge.errors import ShapeError
from lstm_bridge.keras.dtype_policies import name_of

if TYPE_CHECKING:
    from lstm_bridge.keras.layers.state import StateHolder


@dataclass(frozen=True, slots=True)
class WeightRule:
    """What ``add_weight`` was told about a weight besides its values."""

    name: str
    trainable: bool = True
    regularizer: Any = None
    constraint: Any = None


@dataclass(frozen=True, slots=True)
class Variable:
    """A view of one weight: it reads and writes the layer's own array.

    Args:
        owner: the layer that holds the array.
        key: the attribute of the layer.
        rule: the weight's name, regularizer and constraint.

    Source: keras.Variable 3.15.
    """

    owner: StateHolder
    key: str
    rule: WeightRule

    @property
    def name(self) -> str:
        """The weight's own name: ``kernel``."""
        return self.rule.name

    @property
    def path(self) -> str:
        """Names of the layers around it and its own: ``lstm/lstm_cell/kernel``."""
        return f"{self.owner.path or self.owner.name}/{self.rule.name}"

    @property
    def value(self) -> mx.array:
        """The array."""
        found: mx.array = self.owner[self.key]
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape."""
        return tuple(self.value.shape)

    @property
    def dtype(self) -> str:
        """Name of the array's dtype."""
        return name_of(self.value.dtype)

    @property
    def regularizer(self) -> Any:
        """The penalty on this weight, or None."""
        return self.rule.regularizer

    @property
    def constraint(self) -> Any:
        """The projection of this weight, or None."""
        return self.rule.constraint

    @property
    def trainable(self) -> bool:
        """Whether an optimizer may change it."""
        return self.rule.trainable and self.key not in self.owner._no_grad

    def assign(self, value: Any) -> None:
        """Replace the values, keeping the dtype.

        Args:
            value: mx.array, NumPy array or DLPack object of the same shape.

        Raises:
            ShapeError: the shape differs.
        """
        old = self.value
        new = as_array(value, self.path, old.dtype)
        if new.shape != old.shape:
            raise ShapeError(
                self.path, expected=f"shape {list(old.shape)}", got=str(list(new.shape))
            )
        self.owner[self.key] = new

    def numpy(self) -> Any:
        """Return a NumPy copy; bfloat16, which NumPy lacks, as float32."""
        value = self.value
        value = value.astype(mx.float32) if value.dtype == mx.bfloat16 else value
        return value.__array__().copy()

    def __repr__(self) -> str:
        return f"<Variable path={self.path}, shape={self.shape}, dtype={self.dtype}>"
