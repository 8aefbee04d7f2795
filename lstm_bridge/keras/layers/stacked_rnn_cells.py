"""``keras.layers.StackedRNNCells``: several cells that step as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import mlx.core as mx

from lstm_bridge.errors import UsageError
from lstm_bridge.keras.layers.call_spec import Shape
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.saving import (
    deserialize_keras_object,
    keras_export,
    serialize_keras_object,
)


def call_cell(cell: Any, inputs: mx.array, states: Any, training: bool) -> tuple[mx.array, Any]:
    """Step a cell, a Layer or a plain object with ``call``; states come back as a list."""
    takes_training = isinstance(cell, Layer) and cell._call_has_training_arg
    kwargs = {"training": training} if takes_training else {}
    output, new = (cell if callable(cell) else cell.call)(inputs, states, **kwargs)
    return output, list(new) if isinstance(new, (list, tuple)) else [new]


def width_of(cell: Any) -> int:
    """Return the width of a cell's output: its ``output_size``, else that of its first state."""
    size = getattr(cell, "output_size", None)
    if size is None:
        size = cell.state_size
        size = size[0] if isinstance(size, (list, tuple)) else size
    return int(size)


@keras_export("keras.layers")
class StackedRNNCells(Layer):
    """Feeds each cell's output to the next one, within one time step.

    Args:
        cells: list of cells, each with ``call`` and ``state_size``.
        kwargs: the arguments of Layer.

    Raises:
        UsageError: a cell lacks one of the two.

    Source: keras.layers.StackedRNNCells 3.15.
    """

    def __init__(self, cells: Sequence[Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for cell in cells:
            for wanted in ("call", "state_size"):
                if wanted not in dir(cell):
                    raise UsageError("cells", expected=f"objects with {wanted}", got=repr(cell))
        self.cells = list(cells)

    @property
    def state_size(self) -> list[Any]:
        """The cells' state sizes."""
        return [cell.state_size for cell in self.cells]

    @property
    def output_size(self) -> int:
        """Width of the last cell's output."""
        return width_of(self.cells[-1])

    def get_initial_state(self, batch_size: int | None = None) -> list[Any]:
        """Return every cell's initial states."""
        if batch_size is None:
            raise UsageError(f"{self.name} batch_size", expected="an integer", got="None")
        return [self._initial(cell, batch_size) for cell in self.cells]

    def _initial(self, cell: Any, batch_size: int) -> Any:
        if hasattr(cell, "get_initial_state"):
            return cell.get_initial_state(batch_size=batch_size)
        dtype, size = self.compute_type, cell.state_size
        if isinstance(size, int):
            return mx.zeros((batch_size, size), dtype)
        return [mx.zeros((batch_size, width), dtype) for width in size]

    def build(self, input_shape: Shape) -> None:
        """Build every cell for the width of the one before."""
        for cell in self.cells:
            if isinstance(cell, Layer) and not cell.built:
                cell.build(input_shape)
            input_shape = (input_shape[0], width_of(cell))

    def call(
        self, inputs: mx.array, states: Sequence[Any], training: bool = False
    ) -> tuple[mx.array, list[Any]]:
        """Advance all cells one step.

        Args:
            inputs: x_t, ``[N, D]``.
            states: per cell its states.
            training: whether cells drop. Default: False.

        Returns:
            The last cell's output, and per cell its new states.
        """
        new_states: list[Any] = []
        for cell, state in zip(self.cells, states, strict=True):
            nested = isinstance(state, (list, tuple))
            inputs, new = call_cell(cell, inputs, list(state) if nested else [state], training)
            new_states.append(new if nested else new[0])
        return inputs, new_states

    @property
    def runs_over_time(self) -> bool:
        """Whether every cell can run over a whole sequence at once."""
        own = type(self).call is StackedRNNCells.call
        return own and all(getattr(cell, "runs_over_time", False) for cell in self.cells)

    def over_time(
        self,
        x: mx.array,
        states: Sequence[Any],
        *,
        training: bool = False,
        **options: Any,
    ) -> tuple[mx.array, list[Any]]:
        """Run cell after cell over ``x [L, N, D]``; options are those of ``core.sequence.run``.

        The next cell reads masked steps' repeated outputs where Keras reads discarded ones;
        its own mask discards what comes of them.
        """
        last: list[Any] = []
        for cell, state in zip(self.cells, states, strict=True):
            x, new = cell.over_time(x, state, training=training, **options)
            last.append(new)
        return x, last

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        return {**super().get_config(), "cells": [serialize_keras_object(c) for c in self.cells]}

    @classmethod
    def _from_arguments(cls, arguments: dict[str, Any]) -> Self:
        return cls(deserialize_keras_object(arguments.pop("cells")), **arguments)
