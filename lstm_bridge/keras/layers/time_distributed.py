"""``keras.layers.TimeDistributed``: the same layer at every time step.

Shape letters: N batch, L length.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from lstm_bridge.errors import ShapeError, UsageError
from lstm_bridge.keras.layers.call_spec import Shape
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.layers.wrapper import Wrapper, check_layer
from lstm_bridge.keras.saving import keras_export


@keras_export("keras.layers")
class TimeDistributed(Wrapper):
    """Applies a layer to each time step of ``[N, L, ...]``.

    Args:
        layer: the layer; it returns one array.
        kwargs: the arguments of Layer.

    Raises:
        UsageError: it is no Layer.

    Source: keras.layers.TimeDistributed 3.15.
    """

    supports_masking = True

    def __init__(self, layer: Layer, **kwargs: Any) -> None:
        super().__init__(check_layer("layer", layer), **kwargs)

    def _child_shape(self, input_shape: Shape) -> tuple[int | None, ...]:
        if not isinstance(input_shape, (tuple, list)) or len(input_shape) < 3:
            raise ShapeError(
                f"{self.name} input", expected="3 axes or more", got=f"shape {input_shape}"
            )
        return (input_shape[0], *input_shape[2:])

    def build(self, input_shape: Shape = None) -> None:
        """Build the inner layer for one time step."""
        super().build(self._child_shape(input_shape))

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return the inner layer's shape with the time axis put back."""
        child = self.layer.compute_output_shape(self._child_shape(input_shape))
        return (child[0], input_shape[1], *child[1:])

    def call(
        self, inputs: mx.array, training: bool | None = None, mask: mx.array | None = None
    ) -> mx.array:
        """Apply the layer step by step.

        Args:
            inputs: ``[N, L, ...]``.
            training: passed on where the layer takes it. Default: None.
            mask: ``[N, L]`` or with more axes, passed on step by step where the layer takes it.

        Returns:
            The layer's outputs, ``[N, L, ...]``.

        Raises:
            ShapeError: the mask does not fit the inputs.
        """
        if mask is not None and tuple(mask.shape[:2]) != tuple(inputs.shape[:2]):
            raise ShapeError(
                f"{self.name} mask",
                expected=f"shape {list(inputs.shape[:2])} or with more axes",
                got=str(list(mask.shape)),
            )
        kwargs: dict[str, Any] = {}
        if self.layer._call_has_training_arg and training is not None:
            kwargs["training"] = training
        masked = mask is not None and self.layer._call_has_mask_arg
        steps = []
        for t in range(inputs.shape[1]):
            if masked and mask is not None:
                kwargs["mask"] = mask[:, t]
            steps.append(self.layer.call(inputs[:, t], **kwargs))
        if not all(isinstance(step, mx.array) for step in steps):
            raise UsageError(f"{self.name} layer", expected="one array per step", got="several")
        return mx.stack(steps, axis=1)
