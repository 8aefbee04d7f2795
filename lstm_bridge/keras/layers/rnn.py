"""``keras.layers.RNN``: any cell, or a stack of cells, over a batch of sequences.

Shape letters: N batch, L length, D input, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import mlx.core as mx
from mlx.utils import tree_map

from lstm_bridge.core.arrays import as_array
from lstm_bridge.errors import ShapeError, UsageError
from lstm_bridge.keras.layers import call_spec
from lstm_bridge.keras.layers.call_spec import Shape
from lstm_bridge.keras.layers.dropout_rnn_cell import DropoutRNNCell
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.layers.recurrence import step_by_step
from lstm_bridge.keras.layers.stacked_rnn_cells import StackedRNNCells, call_cell
from lstm_bridge.keras.saving import (
    deserialize_keras_object,
    keras_export,
    serialize_keras_object,
)

_FLAGS = (
    "return_sequences", "return_state", "go_backwards", "stateful", "unroll",
    "zero_output_for_mask",
)  # fmt: skip

RNN_NOTES: dict[str, str] = {
    "unroll": "no effect here, because it changes how Keras builds a graph and no number",
    "stateful": "same; inside mx.compile capture the layer's state as inputs and outputs",
    "call.training": "same: dropout follows this argument alone, not MLX's train() and eval()",
    "call.mask": "same; without it the mask that Masking or Embedding attached to the inputs holds",
}


@keras_export("keras.layers")
class RNN(Layer):
    """Runs a cell over sequences.

    Args:
        cell: an object with ``call(inputs, states) -> (output, states)`` and ``state_size``, or a
            list of them, which is stacked.
        return_sequences: return every step's output, not only the last. Default: False.
        return_state: return the last states too. Default: False.
        go_backwards: process from the last step to the first; outputs come in that order.
            Default: False.
        stateful: start each call where the one before ended. Default: False.
        unroll: accepted; changes no number. Default: False.
        zero_output_for_mask: masked outputs are zero instead of repeating the output before.
            Default: False.
        kwargs: the arguments of Layer.

    Raises:
        UsageError: the cell lacks ``call`` or ``state_size``.

    Source: keras.layers.RNN 3.15.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {**Layer.ARGUMENT_NOTES, **RNN_NOTES}
    supports_masking = True

    def __init__(
        self,
        cell: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        **kwargs: Any,
    ) -> None:
        if isinstance(cell, (list, tuple)):
            cell = StackedRNNCells(cell)
        for wanted in ("call", "state_size"):
            if wanted not in dir(cell):
                raise UsageError("cell", expected=f"an object with {wanted}", got=repr(cell))
        super().__init__(**kwargs)
        self.cell = cell
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.go_backwards = go_backwards
        self.stateful = stateful
        self.unroll = unroll
        self.zero_output_for_mask = zero_output_for_mask
        self._states: Any = None
        if not isinstance(cell.state_size, (list, tuple, int)):
            raise UsageError(
                "cell.state_size", expected="an integer or a list", got=repr(cell.state_size)
            )

    @property
    def state_size(self) -> list[Any]:
        """Widths of the states, nested as the cell nests them."""
        size = self.cell.state_size
        return [size] if isinstance(size, int) else list(size)

    @property
    def states(self) -> Any:
        """The states kept between calls when stateful, else None."""
        return self._states

    # --- shapes and building ----------------------------------------------------------------

    def build(self, sequences_shape: Shape, initial_state_shape: Shape = None) -> None:
        """Build the cell for inputs ``(N, L, D)``; a stateful layer needs to know N."""
        step_shape = (sequences_shape[0], *sequences_shape[2:])
        if isinstance(self.cell, Layer) and not self.cell.built:
            self.cell.build(step_shape)
        if not self.stateful:
            return
        if self._states is None and sequences_shape[0] is None:
            raise UsageError(
                f"{self.name} with stateful=True",
                expected="a known batch size",
                got=f"shape {list(sequences_shape)}",
            )
        self.reset_state() if self._states is not None else self._keep(
            self.get_initial_state(sequences_shape[0])
        )

    def compute_output_shape(
        self, sequences_shape: Shape, initial_state_shape: Shape = None
    ) -> Any:
        """Return the output's shape; with return_state a tuple of it and the states' shapes."""
        N, L = sequences_shape[0], sequences_shape[1]
        H = getattr(self.cell, "output_size", None)
        H = self.state_size[0] if H is None else H
        if not isinstance(H, int):
            raise UsageError("cell.output_size", expected="an integer", got=repr(H))
        output = (N, L, H) if self.return_sequences else (N, H)
        if not self.return_state:
            return output
        states = [
            (N, size) if isinstance(size, int) else [(N, s) for s in size]
            for size in self.state_size
        ]
        return output, *states

    def compute_mask(self, _: Any, mask: Any) -> Any:
        """Return the sequence's mask with return_sequences, else None; states have none."""
        mask = call_spec.leaves(mask)[0]
        output_mask = mask if self.return_sequences else None
        return [output_mask, *[None] * len(self.state_size)] if self.return_state else output_mask

    # --- states -----------------------------------------------------------------------------

    def get_initial_state(self, batch_size: int) -> list[Any]:
        """Return the cell's initial states as a list."""
        if hasattr(self.cell, "get_initial_state"):
            states = self.cell.get_initial_state(batch_size=batch_size)
            return list(states) if isinstance(states, (list, tuple)) else [states]
        dtype = self._cell_type()
        return [mx.zeros((batch_size, size), dtype) for size in self.state_size]

    def _cell_type(self) -> mx.Dtype:
        found: mx.Dtype = (self.cell if isinstance(self.cell, Layer) else self).compute_type
        return found

    def _keep(self, states: Any) -> None:
        self._states = tree_map(mx.stop_gradient, states)

    def reset_state(self) -> None:
        """Set the states kept between calls to zero."""
        if self._states is not None:
            self._states = tree_map(mx.zeros_like, self._states)

    reset_states = reset_state

    def _start(self, initial_state: Any, N: int) -> list[Any] | None:
        """The states to start from, in the cell's dtype; None for zeros that nobody asks for."""
        own = type(self).get_initial_state is RNN.get_initial_state
        own = own and type(self).inner_loop is RNN.inner_loop
        known = own and getattr(self.cell, "starts_at_zero", False)
        if known and initial_state is None and not self.stateful:
            return None
        if self.stateful and self._states is not None:
            kept = call_spec.leaves(self._states)[0].shape[0]
            if kept != N:
                raise ShapeError(
                    f"{self.name} with stateful=True", expected=f"batch size {kept}", got=str(N)
                )
        if initial_state is None:
            stored = self._states if self.stateful else None
            initial_state = self.get_initial_state(N) if stored is None else stored
        if not isinstance(initial_state, (list, tuple)):
            initial_state = [initial_state]
        if len(initial_state) != len(self.state_size):
            raise UsageError(
                f"{self.name} initial_state",
                expected=f"{len(self.state_size)} states",
                got=str(len(initial_state)),
            )
        dtype = self._cell_type()
        return tree_map(lambda s: as_array(s, "initial_state", dtype), list(initial_state))  # type: ignore[no-any-return]

    # --- running ----------------------------------------------------------------------------

    def call(
        self,
        sequences: mx.array,
        initial_state: Any = None,
        mask: mx.array | None = None,
        training: bool = False,
    ) -> Any:
        """Run the cell over a batch.

        Args:
            sequences: inputs, ``[N, L, D]``.
            initial_state: list of states, as the cell nests them. Default: zeros, or what a
                stateful layer kept.
            mask: boolean, ``[N, L]``; a False step carries the states. Default: the mask attached
                to the inputs, if any.
            training: whether cells drop. Default: False.

        Returns:
            The output ``[N, H]``, or ``[N, L, H]`` with return_sequences; with return_state a
            tuple of it and the last states.

        Raises:
            ShapeError: shapes that do not fit each other.
        """
        if sequences.shape[1] == 0:
            raise ShapeError(f"{self.name} input", expected="at least one time step", got="none")
        start = self._start(initial_state, sequences.shape[0])
        try:
            last, outputs, states = self.inner_loop(
                sequences=sequences, initial_state=start, mask=mask, training=training
            )
        finally:
            reset_dropout_masks(self.cell)
        dtype = self.compute_type
        output = (outputs if self.return_sequences else last).astype(dtype)
        states = tree_map(lambda state: state.astype(dtype), states)
        if self.stateful:
            self._keep(states)
        return (output, *states) if self.return_state else output

    def _time_mask(self, mask: Any, N: int, L: int) -> mx.array:
        """Keras's mask, ``[N, L]`` or ``[N, L, 1]`` of any dtype, as boolean ``[L, N]``."""
        mask = mask[0] if isinstance(mask, (list, tuple)) else mask
        mask = mask.squeeze(-1) if mask.ndim == 3 and mask.shape[2] == 1 else mask
        if tuple(mask.shape) != (N, L):
            raise ShapeError(
                f"{self.name} mask", expected=f"shape {[N, L]}", got=str(list(mask.shape))
            )
        return mx.transpose(mask.astype(mx.bool_))

    def inner_loop(
        self, sequences: mx.array, initial_state: Any, mask: Any, training: bool = False
    ) -> tuple[mx.array, mx.array, Any]:
        """Run the cell over ``[N, L, D]``, as ``call`` does around states, dtypes and results.

        Args:
            sequences: inputs, ``[N, L, D]``.
            initial_state: list of states; None for the cell's own zeros.
            mask: see ``call``.
            training: see ``call``.

        Returns:
            The last output, all outputs in the order in which they were made, and the last states.
        """
        N, L = sequences.shape[0], sequences.shape[1]
        x = mx.swapaxes(sequences, 0, 1)
        x = mx.zeros_like(x) if self._drops_all(mask, training) else x
        options: dict[str, Any] = {
            "reverse": self.go_backwards,
            "mask": None if mask is None else self._time_mask(mask, N, L),
            "zero_masked": self.zero_output_for_mask,
        }
        if getattr(self.cell, "runs_over_time", False):
            y, states = self.cell.over_time(x, initial_state, training=training, **options)
        else:
            y, states = step_by_step(
                lambda x_t, s: call_cell(self.cell, x_t, s, training), x, initial_state, **options
            )
        outputs = mx.swapaxes(y[::-1] if self.go_backwards else y, 0, 1)
        # Not y[-1]: a kept state may be that very slice, and mx.compile (0.32) loses one of two
        # equal slices when stop_gradient stands behind the other.
        return outputs[:, -1], outputs, states

    def _drops_all(self, mask: mx.array | None, training: bool) -> bool:
        """Whether nothing of the inputs reaches the cell."""
        return False

    # --- configs ----------------------------------------------------------------------------

    def flags(self) -> dict[str, bool]:
        """Return the arguments besides the cell."""
        return {name: getattr(self, name) for name in _FLAGS}

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        return {
            **super().get_config(), **self.flags(), "cell": serialize_keras_object(self.cell),
        }  # fmt: skip

    @classmethod
    def _from_arguments(cls, arguments: dict[str, Any]) -> Self:
        return cls(deserialize_keras_object(arguments.pop("cell")), **arguments)


def shortcut_drops_all(layer: Any, mask: mx.array | None, training: bool) -> bool:
    """Whether Keras's shortcut past an LSTM's or GRU's cell drops everything.

    At a rate of 1 the cell itself drops nothing; the shortcut is taken unless one of these forbids.
    """
    shortcut = mask is None and not layer.recurrent_dropout and layer.use_cudnn == "auto"
    return training and layer.dropout == 1.0 and shortcut


def reset_dropout_masks(cell: Any) -> None:
    """Make a cell, or every cell of a stack, draw new masks for the next sequence."""
    cells: Sequence[Any] = cell.cells if isinstance(cell, StackedRNNCells) else [cell]
    for one in cells:
        if isinstance(one, StackedRNNCells):
            reset_dropout_masks(one)
        elif isinstance(one, DropoutRNNCell):
            one.reset_dropout_mask()
            one.reset_recurrent_dropout_mask()
