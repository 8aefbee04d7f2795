"""What GRUCell and SimpleRNNCell share: arguments, weights, a single state, dropout masks.

Shape letters: N batch, L length, D input, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.errors import ShapeError, UsageError
from lstm_bridge.keras import activations
from lstm_bridge.keras.layers.call_spec import Shape
from lstm_bridge.keras.layers.dropout_rnn_cell import DropoutRNNCell
from lstm_bridge.keras.layers.parts import WeightedLayer, positive
from lstm_bridge.keras.random import SeedGenerator


class OneStateCell(DropoutRNNCell, WeightedLayer):
    """A cell whose only state is its output.

    Args:
        arguments: the sub-class's constructor arguments, by name.
        kwargs: the arguments of Layer.
    """

    PARTS = ("kernel", "recurrent", "bias")
    GATES: ClassVar[int]

    def __init__(self, arguments: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._take(arguments)
        self.units = positive("units", arguments["units"])
        self.activation = activations.get(arguments["activation"])
        self.use_bias = arguments["use_bias"]
        self.dropout = min(1.0, max(0.0, arguments["dropout"]))
        self.recurrent_dropout = min(1.0, max(0.0, arguments["recurrent_dropout"]))
        self.seed = arguments["seed"]
        self._seed_generator = SeedGenerator(self.seed)

    @property
    def state_size(self) -> int:
        """Width of the state."""
        return self.units

    @property
    def output_size(self) -> int:
        """Width of the output."""
        return self.units

    def _bias_shape(self) -> tuple[int, ...]:
        return (self.GATES * self.units,)

    def build(self, input_shape: Shape) -> None:
        """Create ``kernel``, ``recurrent_kernel`` and ``bias`` for inputs ``(..., D)``."""
        columns = self.GATES * self.units
        self._add("kernel", (int(input_shape[-1]), columns))
        self._add("recurrent_kernel", (self.units, columns), "recurrent")
        if self.use_bias:
            self._add("bias", self._bias_shape())
        else:
            self.bias = None

    def _own_weights(self) -> tuple[mx.array, mx.array, mx.array | None]:
        """``kernel``, ``recurrent_kernel`` and ``bias`` in the compute dtype."""
        dtype = self.compute_type
        bias = None if self.bias is None else self.bias.astype(dtype)
        return self.kernel.astype(dtype), self.recurrent_kernel.astype(dtype), bias

    def _loop(
        self, x: mx.array, h: mx.array | None, x_mask: Any, h_mask: Any, options: dict[str, Any]
    ) -> tuple[mx.array, mx.array]:
        """Return all outputs and the last state; options are those of ``core.recurrence.run``."""
        raise NotImplementedError

    def _masks(self, x: mx.array, training: bool) -> tuple[Any, Any]:
        """The dropout masks of this sequence of inputs, or None."""
        raise NotImplementedError

    def call(self, inputs: mx.array, states: Any, training: bool = False) -> tuple[mx.array, Any]:
        """Advance one step.

        Args:
            inputs: x_t, ``[N, D]``.
            states: ``h_{t-1} [N, H]``, or a list of it.
            training: whether to drop. Default: False.

        Returns:
            h_t ``[N, H]``, and the state, in a list if it came in one.
        """
        if inputs.ndim != 2:
            got = f"shape {list(inputs.shape)}"
            raise ShapeError(f"{self.name} inputs", expected="[N, D]", got=got)
        listed = isinstance(states, (list, tuple))
        y, new = self.over_time(
            inputs[None], list(states) if listed else [states], training=training
        )
        return y[0], (new if listed else new[0])

    OWN_CALL: ClassVar[Any] = call

    @property
    def runs_over_time(self) -> bool:
        """Whether ``over_time`` does what ``call`` does step by step: unless it was overridden."""
        return type(self).call is type(self).OWN_CALL

    @property
    def starts_at_zero(self) -> bool:
        """Whether ``over_time`` needs no initial states: unless their method was overridden."""
        own = type(self).get_initial_state is OneStateCell.get_initial_state
        return own and self.runs_over_time

    def over_time(
        self, x: mx.array, states: Any, *, training: bool = False, **options: Any
    ) -> tuple[mx.array, Any]:
        """Run the cell over ``x [L, N, D]``; options are those of ``core.recurrence.run``.

        No states are zeros.

        Returns:
            Outputs ``[L, N, H]`` and a list of the last state.

        Raises:
            ShapeError: the inputs' or the state's shape does not fit the weights.
        """
        D = self.kernel.shape[0]
        if x.shape[-1] != D:
            got = f"width {x.shape[-1]}"
            raise ShapeError(f"{self.name} inputs", expected=f"width {D}", got=got)
        listed = states is None or isinstance(states, (list, tuple))
        x = x.astype(self.compute_type)
        h = None if states is None else self._state_of(x, list(states) if listed else [states])
        y, h = self._loop(x, h, *self._masks(x, training), options)
        return y, [h] if listed else h

    def _state_of(self, x: mx.array, states: Sequence[Any]) -> mx.array:
        if len(states) != 1:
            raise UsageError(f"{self.name} states", expected="one array", got=str(len(states)))
        h: mx.array = states[0]
        if tuple(h.shape) != (x.shape[1], self.units):
            raise ShapeError(
                f"{self.name} state",
                expected=f"shape {[x.shape[1], self.units]}",
                got=str(list(h.shape)),
            )
        return h.astype(x.dtype)

    def _zeros(self, x: mx.array) -> mx.array:
        """What dropout masks of the state are drawn like."""
        return mx.zeros((x.shape[1], self.units), x.dtype)

    def get_initial_state(self, batch_size: int) -> list[mx.array]:
        """Return zeros, ``[batch_size, H]``, in a list."""
        return [mx.zeros((batch_size, self.units), self.compute_type)]

    def compute_output_shape(self, input_shape: Shape, states_shape: Shape = None) -> Any:
        """Return the shapes of ``h_t`` and of the states."""
        shape = (input_shape[0], self.units)
        return shape, [shape]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        return {**super().get_config(), **self.own_config()}

    def own_config(self) -> dict[str, Any]:
        """Return the arguments that a layer shares with its cell."""
        names = ("units", "use_bias", "dropout", "recurrent_dropout", "seed")
        return {
            **{name: getattr(self, name) for name in names},
            "activation": activations.serialize(self.activation),
            **self._parts_config(),
        }
