"""``keras.layers.LSTMCell``: one LSTM step with Keras's names, layouts and defaults.

Shape letters: N batch, L length, D input, H hidden. ``kernel [D, 4H]``, ``recurrent_kernel
[H, 4H]``, ``bias [4H]``, gates in the order i, f, c, o. The step itself is the core's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.core.sequence import Dropout, run
from lstm_bridge.core.weights import LSTMWeights
from lstm_bridge.errors import ShapeError, UsageError
from lstm_bridge.keras import activations, constraints, initializers, regularizers
from lstm_bridge.keras.layers.call_spec import Shape
from lstm_bridge.keras.layers.dropout_rnn_cell import DropoutRNNCell
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.random import SeedGenerator
from lstm_bridge.keras.saving import keras_export

_PARTS = ("kernel", "recurrent", "bias")

RANDOM_STREAM = "same distribution; MLX's random numbers are not Keras's, whatever the seed"

CELL_NOTES: dict[str, str] = {
    "activation": "same; one more name, hard_sigmoid_keras2, has Keras 2's slope of 0.2",
    "recurrent_activation": "same; one more name, hard_sigmoid_keras2, has Keras 2's slope of 0.2",
    "kernel_initializer": RANDOM_STREAM,
    "recurrent_initializer": RANDOM_STREAM,
    "bias_initializer": RANDOM_STREAM,
    "kernel_constraint": "applied by apply_constraints(): call it after each optimizer update",
    "recurrent_constraint": "applied by apply_constraints(): call it after each optimizer update",
    "bias_constraint": "applied by apply_constraints(): call it after each optimizer update",
    "seed": RANDOM_STREAM,
}
"""What is not plainly the same in the arguments that LSTMCell and LSTM share."""


@keras_export("keras.layers")
class LSTMCell(DropoutRNNCell, Layer):
    """One step of an LSTM: ``h_t, [h_t, c_t] = cell(x_t, [h_{t-1}, c_{t-1}])``.

    Args:
        units: H, a positive integer.
        activation: of the candidate and of the cell state. Default: ``"tanh"``.
        recurrent_activation: of the three gates. Default: ``"sigmoid"``.
        use_bias: whether there is a bias. Default: True.
        kernel_initializer: of ``kernel``. Default: ``"glorot_uniform"``.
        recurrent_initializer: of ``recurrent_kernel``. Default: ``"orthogonal"``.
        bias_initializer: of ``bias``. Default: ``"zeros"``.
        unit_forget_bias: start the forget gate's bias at 1; initialization only. Default: True.
        kernel_regularizer: penalty on ``kernel``. Default: None.
        recurrent_regularizer: penalty on ``recurrent_kernel``. Default: None.
        bias_regularizer: penalty on ``bias``. Default: None.
        kernel_constraint: projection of ``kernel``. Default: None.
        recurrent_constraint: projection of ``recurrent_kernel``. Default: None.
        bias_constraint: projection of ``bias``. Default: None.
        dropout: fraction of the inputs to drop in training, clipped to [0, 1]. Default: 0.
        recurrent_dropout: fraction of the hidden state to drop in training. Default: 0.
        seed: integer seed of the dropout. Default: None.
        kwargs: ``implementation`` (1: one dropout mask per gate; 2: one for all), and the
            arguments of Layer.

    Raises:
        UsageError: a value out of range or of the wrong kind.

    Source: keras.layers.LSTMCell 3.15.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {**Layer.ARGUMENT_NOTES, **CELL_NOTES}

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(units, bool) or not isinstance(units, int) or units <= 0:
            raise UsageError("units", expected="a positive integer", got=repr(units))
        implementation = kwargs.pop("implementation", 2)
        super().__init__(**kwargs)
        self.units = units
        self.activation = activation
        self.recurrent_activation = recurrent_activation
        self.use_bias = use_bias
        self.unit_forget_bias = unit_forget_bias
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.recurrent_initializer = initializers.get(recurrent_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.recurrent_regularizer = regularizers.get(recurrent_regularizer)
        self.bias_regularizer = regularizers.get(bias_regularizer)
        self.kernel_constraint = constraints.get(kernel_constraint)
        self.recurrent_constraint = constraints.get(recurrent_constraint)
        self.bias_constraint = constraints.get(bias_constraint)
        self.dropout = min(1.0, max(0.0, dropout))
        self.recurrent_dropout = min(1.0, max(0.0, recurrent_dropout))
        # Keras: dropping the hidden state takes one mask per gate.
        self.implementation = 1 if self.recurrent_dropout != 0.0 else implementation
        self.dropout_mask_count = 4 if self.implementation == 1 else None
        self.seed = seed
        self._seed_generator = SeedGenerator(seed)

    @property
    def activation(self) -> Any:
        """The function of the candidate and of the cell state."""
        return activations.get(self._activation)

    @activation.setter
    def activation(self, identifier: Any) -> None:
        self._activation = activations.name_or_function(identifier)

    @property
    def recurrent_activation(self) -> Any:
        """The function of the three gates."""
        return activations.get(self._recurrent_activation)

    @recurrent_activation.setter
    def recurrent_activation(self, identifier: Any) -> None:
        self._recurrent_activation = activations.name_or_function(identifier)

    @property
    def state_size(self) -> list[int]:
        """Widths of h and c."""
        return [self.units, self.units]

    @property
    def output_size(self) -> int:
        """Width of the output."""
        return self.units

    def build(self, input_shape: Shape) -> None:
        """Create ``kernel``, ``recurrent_kernel`` and ``bias`` for inputs ``(..., D)``."""
        H = self.units
        shapes = {
            "kernel": (int(input_shape[-1]), 4 * H),
            "recurrent": (H, 4 * H),
            "bias": (4 * H,),
        }
        for part in _PARTS if self.use_bias else _PARTS[:2]:
            name = "recurrent_kernel" if part == "recurrent" else part
            forget = part == "bias" and self.unit_forget_bias
            weight = self.add_weight(
                shape=shapes[part],
                name=name,
                initializer=self._forget_bias if forget else getattr(self, f"{part}_initializer"),
                regularizer=getattr(self, f"{part}_regularizer"),
                constraint=getattr(self, f"{part}_constraint"),
            )
            setattr(self, name, weight)
        if not self.use_bias:
            self.bias = None

    def _forget_bias(self, _: Any, dtype: Any = None) -> mx.array:
        H, draw = self.units, self.bias_initializer
        ones = initializers.Ones()((H,), dtype)
        return mx.concatenate([draw((H,), dtype=dtype), ones, draw((2 * H,), dtype=dtype)])

    def canonical_weights(self) -> LSTMWeights:
        """Return the weights in the core's layout and the compute dtype."""
        dtype = self.compute_type
        kernel, recurrent = self.kernel.astype(dtype), self.recurrent_kernel.astype(dtype)
        bias = None if self.bias is None else self.bias.astype(dtype)
        return LSTMWeights(Wx=kernel.T, Wh=recurrent.T, bias=bias)

    def call(
        self, inputs: mx.array, states: Sequence[mx.array], training: bool = False
    ) -> tuple[mx.array, list[mx.array]]:
        """Advance one step.

        Args:
            inputs: x_t, ``[N, D]``.
            states: ``[h, c]``, each ``[N, H]``.
            training: whether to drop. Default: False.

        Returns:
            h_t ``[N, H]``, and ``[h_t, c_t]``.
        """
        if inputs.ndim != 2:
            got = f"shape {list(inputs.shape)}"
            raise ShapeError(f"{self.name} inputs", expected="[N, D]", got=got)
        y, new_states = self.over_time(inputs[None], states, training=training)
        return y[0], new_states

    @property
    def runs_over_time(self) -> bool:
        """Whether ``over_time`` does what ``call`` does step by step: unless it was overridden."""
        return type(self).call is LSTMCell.call

    @property
    def starts_at_zero(self) -> bool:
        """Whether ``over_time`` needs no initial states: unless their method was overridden."""
        own = type(self).get_initial_state is LSTMCell.get_initial_state
        return own and self.runs_over_time

    def over_time(
        self,
        x: mx.array,
        states: Sequence[mx.array] | None,
        *,
        training: bool = False,
        **options: Any,
    ) -> tuple[mx.array, list[mx.array]]:
        """Run the cell over ``x [L, N, D]``; options are those of ``core.sequence.run``.

        No states are zeros.

        Returns:
            Outputs ``[L, N, H]`` and the last ``[h, c]``.

        Raises:
            ShapeError: the inputs' or a state's shape does not fit the weights.
        """
        weights = self.canonical_weights()
        if x.shape[-1] != weights.D:
            got = f"width {x.shape[-1]}"
            raise ShapeError(f"{self.name} inputs", expected=f"width {weights.D}", got=got)
        x = x if x.dtype == weights.Wx.dtype else x.astype(weights.Wx.dtype)
        h, c = (None, None) if states is None else self._states_of(x, states)
        done = run(
            weights,
            x,
            h,
            c,
            dropout=self._dropout_for(x, training),
            activation=self.activation,
            recurrent_activation=self.recurrent_activation,
            **options,
        )
        return done.y, [done.h, done.c]

    def _states_of(self, x: mx.array, states: Sequence[mx.array]) -> list[mx.array]:
        if len(states) != 2:
            raise UsageError(
                f"{self.name} states", expected="two arrays, h and c", got=str(len(states))
            )
        for name, state in zip("hc", states, strict=True):
            wanted = (x.shape[1], self.units)
            if tuple(state.shape) != wanted:
                raise ShapeError(
                    f"{self.name} state {name}",
                    expected=f"shape {list(wanted)}",
                    got=str(list(state.shape)),
                )
        return [state.astype(x.dtype) for state in states]

    def _dropout_for(self, x: mx.array, training: bool) -> Dropout:
        """The masks of this sequence. Keras drops nothing at a rate of 1 either."""
        x_mask = h_mask = None
        if training and 0.0 < self.dropout < 1.0:
            x_mask = self.get_dropout_mask(x[0])
            x_mask = mx.stack(x_mask) if isinstance(x_mask, list) else x_mask
        if training and 0.0 < self.recurrent_dropout < 1.0:
            h = mx.zeros((x.shape[1], self.units), x.dtype)
            h_mask = mx.stack(self.get_recurrent_dropout_mask(h))
        return Dropout(x_mask, h_mask)

    def get_initial_state(self, batch_size: int | None = None) -> list[mx.array]:
        """Return zeros for h and c, ``[batch_size, H]`` each."""
        if batch_size is None:
            raise UsageError(f"{self.name} batch_size", expected="an integer", got="None")
        shape, dtype = (batch_size, self.units), self.compute_type
        return [mx.zeros(shape, dtype), mx.zeros(shape, dtype)]

    def compute_output_shape(self, input_shape: Shape, states_shape: Shape = None) -> Any:
        """Return the shapes of ``h_t`` and ``[h_t, c_t]``."""
        shape = (input_shape[0], self.units)
        return shape, [shape, shape]

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        return {**super().get_config(), **self.own_config()}

    def own_config(self) -> dict[str, Any]:
        """Return the arguments that an LSTM layer shares with its cell."""
        config: dict[str, Any] = {
            "units": self.units,
            "activation": activations.serialize(self.activation),
            "recurrent_activation": activations.serialize(self.recurrent_activation),
            "use_bias": self.use_bias,
            "unit_forget_bias": self.unit_forget_bias,
            "dropout": self.dropout,
            "recurrent_dropout": self.recurrent_dropout,
            "seed": self.seed,
        }
        modules = {
            "initializer": initializers, "regularizer": regularizers, "constraint": constraints,
        }  # fmt: skip
        for kind, module in modules.items():
            for part in _PARTS:
                name = f"{part}_{kind}"
                config[name] = module.serialize(getattr(self, name))
        return config
