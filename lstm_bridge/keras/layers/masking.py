"""``keras.layers.Masking``: marks the time steps that hold nothing but one value."""

from __future__ import annotations

from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.keras.layers.call_spec import Shape
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.saving import deserialize_keras_object, keras_export


@keras_export("keras.layers")
class Masking(Layer):
    """Masks the steps whose features all equal ``mask_value``, and sets them to zero.

    Args:
        mask_value: the value. Default: 0.
        kwargs: the arguments of Layer.

    Source: keras.layers.Masking 3.15.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {
        **Layer.ARGUMENT_NOTES,
        "mask_value": "same; the mask is attached to the output array, and layers of this package "
        "pass it on, while an MLX operation in between loses it: then pass mask=",
    }
    supports_masking = True

    def __init__(self, mask_value: Any = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mask_value = deserialize_keras_object(mask_value)
        self.built = True

    def compute_mask(self, inputs: mx.array, mask: Any = None) -> mx.array:
        """Return the mask ``[N, L]`` of inputs ``[N, L, D]``."""
        return mx.any(inputs != self.mask_value, axis=-1)

    def call(self, inputs: mx.array) -> mx.array:
        """Set masked steps to zero.

        Args:
            inputs: ``[N, L, D]``.

        Returns:
            The same shape; the mask is attached to it.
        """
        keep = self.compute_mask(inputs)[..., None]
        return mx.where(keep, inputs, mx.zeros_like(inputs))

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return the input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        return {**super().get_config(), "mask_value": self.mask_value}
