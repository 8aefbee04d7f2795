"""``keras.layers.ConvLSTM1D`` and ``ConvLSTM2D``: an LSTM whose products are convolutions.

Shape letters: N batch, L length, C channels, F filters. ``kernel [*kernel_size, C, 4F]``,
``recurrent_kernel [*kernel_size, F, 4F]``, ``bias [4F]``, gates in the order i, f, c, o.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import mlx.core as mx

from lstm_bridge.core import conv_lstm
from lstm_bridge.errors import ShapeError
from lstm_bridge.keras import activations, initializers
from lstm_bridge.keras.layers.call_spec import Shape
from lstm_bridge.keras.layers.dropout_rnn_cell import DropoutRNNCell
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.layers.lstm_cell import CELL_NOTES
from lstm_bridge.keras.layers.parts import WeightedLayer, positive
from lstm_bridge.keras.layers.rnn import RNN, RNN_NOTES
from lstm_bridge.keras.layers.spatial import (
    data_format_of,
    from_last,
    join_shape,
    padding_of,
    per_axis,
    split_shape,
    to_last,
    window_counts,
)
from lstm_bridge.keras.random import SeedGenerator
from lstm_bridge.keras.saving import keras_export

_WINDOW = ("kernel_size", "strides", "dilation_rate")
_OF_RNN = ("return_sequences", "return_state", "go_backwards", "stateful")


class ConvLSTMCell(DropoutRNNCell, WeightedLayer):
    """One step: ``h_t, [h_t, c_t] = cell(x_t, [h_{t-1}, c_{t-1}])``.

    Args:
        rank: number of spatial axes.
        arguments: the layer's constructor arguments, by name.
        kwargs: the arguments of Layer.
    """

    PARTS = ("kernel", "recurrent", "bias")

    def __init__(self, rank: int, arguments: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._take(arguments)
        self.rank = rank
        self.filters = positive("filters", arguments["filters"])
        for name in _WINDOW:
            setattr(self, name, per_axis(name, arguments[name], rank))
        self.padding = padding_of(arguments["padding"], ("valid", "same"))
        self.data_format = data_format_of(arguments["data_format"])
        self.activation = activations.get(arguments["activation"])
        self.recurrent_activation = activations.get(arguments["recurrent_activation"])
        for name in ("use_bias", "unit_forget_bias", "seed"):
            setattr(self, name, arguments[name])
        self.dropout = min(1.0, max(0.0, arguments["dropout"]))
        self.recurrent_dropout = min(1.0, max(0.0, arguments["recurrent_dropout"]))
        self.dropout_mask_count = 4
        self._seed_generator = SeedGenerator(self.seed)
        self._state_shape: tuple[int, ...] = ()

    @property
    def state_size(self) -> list[int]:
        """Channels of h and c."""
        return [self.filters, self.filters]

    def build(self, input_shape: Shape) -> None:
        """Create the weights for inputs ``(N, *spatial, C)`` of known spatial sizes."""
        _, sizes, channels = split_shape(input_shape, self.data_format)
        if None in sizes or channels is None:
            raise ShapeError(
                f"{self.name} input", expected="known spatial sizes", got=str(input_shape)
            )
        self._state_shape = tuple(self.compute_output_shape(input_shape)[0][1:])
        F = self.filters
        self._add("kernel", (*self.kernel_size, int(channels), 4 * F))
        self._add("recurrent_kernel", (*self.kernel_size, F, 4 * F), "recurrent")
        if not self.use_bias:
            self.bias = None
            return
        draw = self.bias_initializer
        self._add("bias", (4 * F,))
        if self.unit_forget_bias:
            ones = initializers.Ones()((F,), self.variable_dtype)
            i, _, g, o = (draw((F,), dtype=self.variable_dtype) for _ in range(4))
            self.bias = mx.concatenate([i, ones, g, o])

    def canonical_weights(self) -> conv_lstm.ConvLSTMWeights:
        """Return the weights in the compute dtype, and how the windows move."""
        dtype = self.compute_type
        bias = None if self.bias is None else self.bias.astype(dtype)
        kernel, recurrent = self.kernel.astype(dtype), self.recurrent_kernel.astype(dtype)
        moves = (self.strides, self.padding, self.dilation_rate)
        return conv_lstm.ConvLSTMWeights(kernel, recurrent, bias, *moves)

    def call(
        self, inputs: mx.array, states: Any, training: bool = False
    ) -> tuple[mx.array, list[mx.array]]:
        """Advance one step.

        Args:
            inputs: x_t, ``[N, *spatial, C]``, or channels first as ``data_format`` says.
            states: ``[h, c]``, each ``[N, *spatial', F]`` likewise.
            training: whether to drop. Default: False.

        Returns:
            h_t, and ``[h_t, c_t]``.
        """
        x, h, c = (to_last(a, self.data_format) for a in (inputs, *states))
        masks: list[Any] = [None, None]
        if training and 0.0 < self.dropout < 1.0:
            masks[0] = mx.stack(self.get_dropout_mask(x))
        if training and 0.0 < self.recurrent_dropout < 1.0:
            masks[1] = mx.stack(self.get_recurrent_dropout_mask(h))
        done = conv_lstm.step(
            x, h, c, self.canonical_weights(), self.activation, self.recurrent_activation,
            (masks[0], masks[1]),
        )  # fmt: skip
        h, c = (from_last(a, self.data_format) for a in done)
        return h, [h, c]

    def get_initial_state(self, batch_size: int) -> list[mx.array]:
        """Return zeros for h and c."""
        shape, dtype = (batch_size, *self._state_shape), self.compute_type
        return [mx.zeros(shape, dtype), mx.zeros(shape, dtype)]

    def compute_output_shape(self, input_shape: Shape, states_shape: Shape = None) -> Any:
        """Return the shapes of ``h_t`` and ``[h_t, c_t]``."""
        batch, sizes, _ = split_shape(input_shape, self.data_format)
        counts = window_counts(
            sizes, self.kernel_size, self.strides, self.padding, self.dilation_rate
        )
        shape = join_shape(batch, counts, self.filters, self.data_format)
        return shape, [shape, shape]

    def own_config(self) -> dict[str, Any]:
        """Return the arguments that a layer shares with its cell."""
        names = ("filters", *_WINDOW, "padding", "data_format", "use_bias", "unit_forget_bias")
        kept = (*names, "dropout", "recurrent_dropout", "seed")
        return {
            **{name: getattr(self, name) for name in kept},
            "activation": activations.serialize(self.activation),
            "recurrent_activation": activations.serialize(self.recurrent_activation),
            **self._parts_config(),
        }


class ConvLSTM(RNN):
    """An RNN over a ConvLSTMCell.

    Args:
        rank: number of spatial axes.
        arguments: the sub-class's constructor arguments, by name.
        kwargs: the arguments of Layer.
    """

    def __init__(self, rank: int, arguments: dict[str, Any], **kwargs: Any) -> None:
        cell = ConvLSTMCell(
            rank,
            arguments,
            name="conv_lstm_cell",
            dtype=kwargs.get("dtype"),
            trainable=kwargs.get("trainable", True),
        )
        flags = {name: arguments[name] for name in _OF_RNN}
        activity = arguments["activity_regularizer"]
        super().__init__(cell, activity_regularizer=activity, **flags, **kwargs)
        self.input_ndim = rank + 3

    def compute_output_shape(
        self, sequences_shape: Shape, initial_state_shape: Shape = None
    ) -> Any:
        """Return the output's shape; with return_state a tuple of it and the states' shapes."""
        state = self.cell.compute_output_shape((sequences_shape[0], *sequences_shape[2:]))[0]
        output = (state[0], sequences_shape[1], *state[1:]) if self.return_sequences else state
        return (output, state, state) if self.return_state else output

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        base = {key: value for key, value in super().get_config().items() if key != "cell"}
        return {"activity_regularizer": None, **base, **self.cell.own_config()}

    @classmethod
    def _from_arguments(cls, arguments: dict[str, Any]) -> Self:
        return cls(**arguments)


_NOTES = {**Layer.ARGUMENT_NOTES, **CELL_NOTES, **RNN_NOTES}


@keras_export("keras.layers")
class ConvLSTM1D(ConvLSTM):
    """A ConvLSTM over ``[N, L, rows, C]``.

    Args:
        filters: F, a positive integer.
        kernel_size: length of the window.
        strides: step of the input's window. Default: 1.
        padding: of the input, ``"valid"`` or ``"same"``. Default: ``"valid"``.
        data_format: ``"channels_last"`` or ``"channels_first"``. Default: channels last.
        dilation_rate: distance between the elements of the input's window. Default: 1.
        activation: of the candidate and of the cell state. Default: ``"tanh"``.
        recurrent_activation: of the gates; see LSTMCell for all up to ``seed``.
        return_sequences: see RNN, like the next three.
        kwargs: the arguments of Layer.

    Source: keras.layers.ConvLSTM1D 3.15.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = _NOTES

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
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
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(1, dict(locals()), **kwargs)


@keras_export("keras.layers")
class ConvLSTM2D(ConvLSTM):
    """A ConvLSTM over ``[N, L, rows, columns, C]``; see ConvLSTM1D for the arguments.

    Args:
        filters: F, a positive integer.
        kernel_size: rows and columns of the window, or one number for both.
        kwargs: the arguments of Layer.

    Source: keras.layers.ConvLSTM2D 3.15.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = _NOTES

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
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
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(2, dict(locals()), **kwargs)
