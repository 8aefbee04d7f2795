"""``keras.layers.Wrapper``: the base of layers around one other layer."""

from __future__ import annotations

from typing import Any, Self

from lstm_bridge.errors import UsageError
from lstm_bridge.keras.layers.call_spec import Shape
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.saving import (
    deserialize_keras_object,
    keras_export,
    serialize_keras_object,
)


@keras_export("keras.layers")
class Wrapper(Layer):
    """Holds another layer.

    Args:
        layer: the layer.
        kwargs: the arguments of Layer.

    Raises:
        UsageError: it is no Layer.

    Source: keras.layers.Wrapper 3.15.
    """

    def __init__(self, layer: Layer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layer = check_layer("layer", layer)

    def build(self, input_shape: Shape = None) -> None:
        """Build the inner layer."""
        if not self.layer.built:
            self.layer.build(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        return {**super().get_config(), "layer": serialize_keras_object(self.layer)}

    @classmethod
    def _from_arguments(cls, arguments: dict[str, Any]) -> Self:
        return cls(deserialize_keras_object(arguments.pop("layer")), **arguments)


def check_layer(argument: str, layer: Any) -> Layer:
    """Return ``layer``; UsageError unless it is a Layer."""
    if not isinstance(layer, Layer):
        raise UsageError(argument, expected="a keras.layers.Layer", got=repr(layer))
    return layer
