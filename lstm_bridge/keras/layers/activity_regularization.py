"""``keras.layers.ActivityRegularization``: a penalty on what passes through."""

from __future__ import annotations

from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.keras import regularizers
from lstm_bridge.keras.layers.call_spec import Shape
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.saving import keras_export


@keras_export("keras.layers")
class ActivityRegularization(Layer):
    """Its inputs; ``(l1 sum|x| + l2 sum x²) / N`` is added to the model's losses.

    Args:
        l1: factor of the absolute values, a float of at least 0. Default: 0.
        l2: factor of the squares, likewise. Default: 0.
        kwargs: the arguments of Layer.

    Raises:
        UsageError: a negative factor.

    Source: keras.layers.ActivityRegularization 3.15.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {**Layer.ARGUMENT_NOTES}
    supports_masking = True

    def __init__(self, l1: float = 0.0, l2: float = 0.0, **kwargs: Any) -> None:
        super().__init__(activity_regularizer=regularizers.L1L2(l1, l2), **kwargs)
        self.l1 = l1
        self.l2 = l2
        self.built = True

    def call(self, inputs: mx.array) -> mx.array:
        """Return the inputs as they are."""
        return inputs[...]

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return the input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        config = {**super().get_config(), "l1": self.l1, "l2": self.l2}
        config.pop("activity_regularizer", None)
        return config
