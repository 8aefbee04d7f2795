"""Keras's activations as layers."""

from __future__ import annotations

from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.core.activations import elu, leaky_relu, relu
from lstm_bridge.core.affine import by_kernel
from lstm_bridge.core.normal import softmax
from lstm_bridge.errors import UsageError
from lstm_bridge.keras import activations
from lstm_bridge.keras.layers.call_spec import Shape
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.layers.parts import WeightedLayer, notes_on
from lstm_bridge.keras.saving import keras_export


class _Elementwise(Layer):
    """An activation without weights, whose outputs have the inputs' shape."""

    supports_masking = True
    OWN: ClassVar[tuple[str, ...]] = ()

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return the input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        return {**super().get_config(), **{name: getattr(self, name) for name in self.OWN}}


@keras_export("keras.layers")
class Activation(_Elementwise):
    """Applies an activation.

    Args:
        activation: its name, config or function.
        kwargs: the arguments of Layer.

    Source: keras.layers.Activation 3.15.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {
        **Layer.ARGUMENT_NOTES,
        "activation": "same; one more name, hard_sigmoid_keras2, has Keras 2's slope of 0.2",
    }

    def __init__(self, activation: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = activations.get(activation)
        self.built = True

    def call(self, inputs: mx.array) -> mx.array:
        """Return ``activation(inputs)``."""
        return by_kernel(self.activation)(inputs)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        return {**super().get_config(), "activation": activations.serialize(self.activation)}


def _at_least_zero(name: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        raise UsageError(name, expected="a number of at least 0", got=repr(value))
    return value


@keras_export("keras.layers")
class LeakyReLU(_Elementwise):
    """``x`` above 0, ``negative_slope · x`` below.

    Args:
        negative_slope: the slope. Default: 0.3.
        kwargs: the arguments of Layer.

    Source: keras.layers.LeakyReLU 3.15.
    """

    OWN = ("negative_slope",)

    def __init__(self, negative_slope: float = 0.3, **kwargs: Any) -> None:
        negative_slope = kwargs.pop("alpha", negative_slope)
        super().__init__(**kwargs)
        self.negative_slope = _at_least_zero("negative_slope", negative_slope)
        self.built = True

    def call(self, inputs: mx.array) -> mx.array:
        """Apply it element by element."""
        return leaky_relu(inputs, self.negative_slope)


@keras_export("keras.layers")
class ELU(_Elementwise):
    """``x`` above 0, ``alpha (exp(x) - 1)`` below.

    Args:
        alpha: the scale. Default: 1.
        kwargs: the arguments of Layer.

    Source: keras.layers.ELU 3.15.
    """

    OWN = ("alpha",)

    def __init__(self, alpha: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = alpha
        self.built = True

    def call(self, inputs: mx.array) -> mx.array:
        """Apply it element by element."""
        return elu(inputs, self.alpha)


@keras_export("keras.layers")
class ReLU(_Elementwise):
    """``max(x, 0)``, with a slope below, a cap above, and a threshold instead of 0.

    Args:
        max_value: the cap. Default: None.
        negative_slope: the slope. Default: 0.
        threshold: the threshold. Default: 0.
        kwargs: the arguments of Layer.

    Source: keras.layers.ReLU 3.15.
    """

    OWN = ("max_value", "negative_slope", "threshold")

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.max_value = None if max_value is None else _at_least_zero("max_value", max_value)
        self.negative_slope = _at_least_zero("negative_slope", negative_slope)
        self.threshold = _at_least_zero("threshold", threshold)
        self.built = True

    def call(self, inputs: mx.array) -> mx.array:
        """Apply it element by element."""
        return relu(inputs, self.negative_slope, self.max_value, self.threshold)


@keras_export("keras.layers")
class Softmax(_Elementwise):
    """``exp(x) / sum exp(x)`` along one or more axes, over what the mask leaves.

    Args:
        axis: integer, or a list of them. Default: -1.
        kwargs: the arguments of Layer.

    Source: keras.layers.Softmax 3.15.
    """

    OWN = ("axis",)

    def __init__(self, axis: Any = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = axis
        self.built = True

    def call(self, inputs: mx.array, mask: mx.array | None = None) -> mx.array:
        """Apply it.

        Args:
            inputs: any shape.
            mask: boolean, broadcast over the inputs; where False the output is 0. Default: None.
        """
        if mask is None:
            return softmax(inputs, axis=self.axis)
        keep = mask if mask.dtype == mx.bool_ else mask > 0.5
        low = mx.full(inputs.shape, -3e4 if inputs.dtype == mx.float16 else -1e9, inputs.dtype)
        y = softmax(mx.where(keep, inputs, low), axis=self.axis)
        return mx.where(keep, y, mx.zeros_like(y))


@keras_export("keras.layers")
class PReLU(WeightedLayer):
    """``x`` above 0, ``alpha x`` below, with an ``alpha`` that is learned.

    Args:
        alpha_initializer: of ``alpha``. Default: ``"Zeros"``.
        alpha_regularizer: penalty on ``alpha``. Default: None.
        alpha_constraint: projection of ``alpha``. Default: None.
        shared_axes: axes along which ``alpha`` is the same. Default: None.
        kwargs: the arguments of Layer.

    Source: keras.layers.PReLU 3.15.
    """

    PARTS = ("alpha",)
    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {**Layer.ARGUMENT_NOTES, **notes_on("alpha")}
    supports_masking = True

    def __init__(
        self,
        alpha_initializer: Any = "Zeros",
        alpha_regularizer: Any = None,
        alpha_constraint: Any = None,
        shared_axes: Any = None,
        **kwargs: Any,
    ) -> None:
        arguments = dict(locals())
        super().__init__(**kwargs)
        self._take(arguments)
        one = shared_axes is None or isinstance(shared_axes, (list, tuple))
        axes = shared_axes if one else [shared_axes]
        self.shared_axes = None if axes is None else list(axes)

    def build(self, input_shape: Shape) -> None:
        """Create ``alpha`` for inputs of a shape, without the batch axis."""
        shape = list(input_shape[1:])
        for axis in self.shared_axes or ():
            shape[axis - 1] = 1
        self._add("alpha", shape)

    def call(self, inputs: mx.array) -> mx.array:
        """Apply it element by element."""
        alpha = self.alpha.astype(inputs.dtype)
        return mx.subtract(mx.maximum(inputs, 0), alpha * mx.maximum(-inputs, 0))

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return the input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        return {**super().get_config(), **self._parts_config(), "shared_axes": self.shared_axes}
