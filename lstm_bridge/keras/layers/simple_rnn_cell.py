"""``keras.layers.SimpleRNNCell``: one step with Keras's names, layouts and defaults.

Shape letters: N batch, D input, H hidden. ``kernel [D, H]``, ``recurrent_kernel [H, H]``,
``bias [H]``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.core import simple_rnn
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.layers.lstm_cell import CELL_NOTES
from lstm_bridge.keras.layers.recurrent_cell import OneStateCell
from lstm_bridge.keras.saving import keras_export

SIMPLE_NOTES = {k: v for k, v in CELL_NOTES.items() if k != "recurrent_activation"}


@keras_export("keras.layers")
class SimpleRNNCell(OneStateCell):
    """One step of a simple RNN: ``h_t, [h_t] = cell(x_t, [h_{t-1}])``.

    Args:
        units: H, a positive integer.
        activation: of the output. Default: ``"tanh"``.
        use_bias: whether there is a bias. Default: True.
        kernel_initializer: of ``kernel``. Default: ``"glorot_uniform"``.
        recurrent_initializer: of ``recurrent_kernel``. Default: ``"orthogonal"``.
        bias_initializer: of ``bias``. Default: ``"zeros"``.
        kernel_regularizer: penalty on ``kernel``. Default: None.
        recurrent_regularizer: penalty on ``recurrent_kernel``. Default: None.
        bias_regularizer: penalty on ``bias``. Default: None.
        kernel_constraint: projection of ``kernel``. Default: None.
        recurrent_constraint: projection of ``recurrent_kernel``. Default: None.
        bias_constraint: projection of ``bias``. Default: None.
        dropout: fraction of the inputs to drop in training, clipped to [0, 1]. Default: 0.
        recurrent_dropout: fraction of the hidden state to drop in training. Default: 0.
        seed: integer seed of the dropout. Default: None.
        kwargs: the arguments of Layer.

    Raises:
        UsageError: a value out of range or of the wrong kind.

    Source: keras.layers.SimpleRNNCell 3.15.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {**Layer.ARGUMENT_NOTES, **SIMPLE_NOTES}
    GATES = 1

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
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
        super().__init__(dict(locals()), **kwargs)

    def canonical_weights(self) -> simple_rnn.SimpleRNNWeights:
        """Return the weights in the core's layout and the compute dtype."""
        kernel, recurrent, bias = self._own_weights()
        return simple_rnn.SimpleRNNWeights(kernel.T, recurrent.T, bias)

    def call(self, sequence: mx.array, states: Any, training: bool = False) -> tuple[mx.array, Any]:
        """Advance one step; Keras calls this cell's input ``sequence``.

        Args:
            sequence: x_t, ``[N, D]``.
            states: ``h_{t-1} [N, H]``, or a list of it.
            training: whether to drop. Default: False.

        Returns:
            h_t ``[N, H]``, and the state, in a list if it came in one.
        """
        return super().call(sequence, states, training)

    OWN_CALL = call

    def _masks(self, x: mx.array, training: bool) -> tuple[Any, Any]:
        if not training:
            return None, None
        return self.get_dropout_mask(x[0]), self.get_recurrent_dropout_mask(self._zeros(x))

    def _loop(
        self, x: mx.array, h: mx.array | None, x_mask: Any, h_mask: Any, options: dict[str, Any]
    ) -> tuple[mx.array, mx.array]:
        dropped = x if x_mask is None else x * x_mask
        return simple_rnn.run(
            self.canonical_weights(),
            dropped,
            h,
            activation=self.activation,
            h_mask=h_mask,
            **options,
        )
