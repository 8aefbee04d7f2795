"""``keras.layers.GRUCell``: one GRU step with Keras's names, layouts and defaults.

Shape letters: N batch, D input, H hidden. ``kernel [D, 3H]``, ``recurrent_kernel [H, 3H]``,
``bias [3H]`` or, with ``reset_after``, ``[2, 3H]``; gates in the order z, r, h.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.core import gru, recurrence
from lstm_bridge.keras import activations
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.layers.lstm_cell import CELL_NOTES
from lstm_bridge.keras.layers.recurrent_cell import OneStateCell
from lstm_bridge.keras.saving import keras_export


@keras_export("keras.layers")
class GRUCell(OneStateCell):
    """One step of a GRU: ``h_t, [h_t] = cell(x_t, [h_{t-1}])``.

    Args:
        units: H, a positive integer.
        activation: of the candidate. Default: ``"tanh"``.
        recurrent_activation: of the two gates. Default: ``"sigmoid"``.
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
        reset_after: the reset gate acts after the recurrent product, not before. Default: True.
        seed: integer seed of the dropout. Default: None.
        kwargs: ``implementation`` (1: one dropout mask per gate; 2: one for all), and the
            arguments of Layer.

    Raises:
        UsageError: a value out of range or of the wrong kind.

    Source: keras.layers.GRUCell 3.15.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {**Layer.ARGUMENT_NOTES, **CELL_NOTES}
    GATES = 3

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
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
        reset_after: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        arguments = dict(locals())
        implementation = kwargs.pop("implementation", 2)
        super().__init__(arguments, **kwargs)
        self.recurrent_activation = activations.get(recurrent_activation)
        self.reset_after = reset_after
        # Keras: dropping the hidden state takes one mask per gate.
        self.implementation = 1 if self.recurrent_dropout != 0.0 else implementation
        self.dropout_mask_count = 3 if self.implementation == 1 else None

    def _bias_shape(self) -> tuple[int, ...]:
        return (2, 3 * self.units) if self.reset_after else (3 * self.units,)

    def canonical_weights(self) -> gru.GRUWeights:
        """Return the weights in the compute dtype; Keras's gates begin with z."""
        kernel, recurrent, bias = self._own_weights()
        bias_h = None
        if bias is not None and self.reset_after:
            bias, bias_h = bias[0], bias[1]
        return gru.GRUWeights(kernel.T, recurrent.T, bias, bias_h, self.reset_after, True)

    def _masks(self, x: mx.array, training: bool) -> tuple[Any, Any]:
        """Keras drops nothing at a rate of 1 either."""
        x_mask = h_mask = None
        if training and 0.0 < self.dropout < 1.0:
            x_mask = self.get_dropout_mask(x[0])
        if training and 0.0 < self.recurrent_dropout < 1.0:
            h_mask = mx.stack(self.get_recurrent_dropout_mask(self._zeros(x)))
        return x_mask, h_mask

    def _loop(
        self, x: mx.array, h: mx.array | None, x_mask: Any, h_mask: Any, options: dict[str, Any]
    ) -> tuple[mx.array, mx.array]:
        weights = self.canonical_weights()
        cell: dict[str, Any] = {
            "activation": self.activation,
            "recurrent_activation": self.recurrent_activation,
            "h_mask": h_mask,
        }
        if not isinstance(x_mask, list):
            dropped = x if x_mask is None else x * x_mask
            return gru.run(weights, dropped, h, **cell, **options)
        gates = zip(x_mask, mx.split(weights.Wx, 3, axis=0), strict=True)
        zx = mx.concatenate([(x * keep) @ W.T for keep, W in gates], axis=-1)
        zx = zx if weights.bias is None else zx + weights.bias
        h = recurrence.start(h, zx[0], self.units)
        return recurrence.run(partial(gru.step, weights=weights, **cell), zx, h, **options)

    def own_config(self) -> dict[str, Any]:
        """Return the arguments that a GRU layer shares with its cell."""
        return {
            **super().own_config(),
            "recurrent_activation": activations.serialize(self.recurrent_activation),
            "reset_after": self.reset_after,
        }
