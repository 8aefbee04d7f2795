"""Keras's numeric preprocessing layers: a fixed scale, and one measured on the data."""

from __future__ import annotations

from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.core.arrays import as_array
from lstm_bridge.errors import ShapeError, UsageError
from lstm_bridge.keras.layers.call_spec import Shape
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.saving import (
    deserialize_keras_object,
    keras_export,
    serialize_keras_object,
)

_EPSILON = 1e-7  # keras.backend.epsilon()


@keras_export("keras.layers")
class Rescaling(Layer):
    """``inputs · scale + offset``.

    Args:
        scale: a number, or a list broadcast over the last axes.
        offset: likewise. Default: 0.
        kwargs: the arguments of Layer.

    Source: keras.layers.Rescaling 3.15.
    """

    supports_masking = True

    def __init__(self, scale: Any, offset: Any = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = deserialize_keras_object(scale)
        self.offset = deserialize_keras_object(offset)
        self.built = True

    def call(self, inputs: mx.array) -> mx.array:
        """Return the rescaled inputs; integers become floats."""
        dtype = self.compute_type
        scale, offset = (as_array(v, "scale", dtype) for v in (self.scale, self.offset))
        return inputs.astype(dtype) * scale + offset

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return the input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        own = {"scale": self.scale, "offset": self.offset}
        return {**super().get_config(), **{k: serialize_keras_object(v) for k, v in own.items()}}


@keras_export("keras.layers")
class Normalization(Layer):
    """``(inputs - mean) / sqrt(variance)``, with moments that are given or measured.

    Args:
        axis: axes that keep moments of their own: an integer, a list, or None for one pair of
            moments in all. Default: -1.
        mean: the mean; needs ``variance``. Default: None, the weight ``mean`` of a loaded layer.
        variance: the variance. Default: None.
        invert: undo it instead. Default: False.
        kwargs: the arguments of Layer.

    Raises:
        UsageError: one of mean and variance without the other.

    Source: keras.layers.Normalization 3.15.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {
        **Layer.ARGUMENT_NOTES,
        "mean": "same; there is no adapt(): load a layer that is adapted, or pass the moments",
    }
    supports_masking = True

    def __init__(
        self,
        axis: Any = -1,
        mean: Any = None,
        variance: Any = None,
        invert: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (mean is None) != (variance is None):
            raise UsageError("mean and variance", expected="both or neither", got="one of them")
        axes = () if axis is None else axis if isinstance(axis, (list, tuple)) else (axis,)
        object.__setattr__(self, "axis", tuple(axes))
        self.input_mean, self.input_variance = mean, variance
        self.invert = invert

    def build(self, input_shape: Shape) -> None:
        """Create the moments as weights, unless they were given."""
        rank = len(input_shape)
        kept = sorted(a % rank for a in self.axis)
        if any(input_shape[a] is None for a in kept):
            raise ShapeError(
                f"{self.name} input", expected=f"known sizes of axes {kept}", got=str(input_shape)
            )
        sizes = tuple(int(input_shape[a]) for a in kept)
        if self.input_mean is not None:
            return
        for name, initializer in (("mean", "zeros"), ("variance", "ones")):
            weight = self.add_weight(
                shape=sizes, initializer=initializer, trainable=False, name=name
            )
            setattr(self, name, weight)
        self.count = self.add_weight(
            shape=(), initializer="zeros", trainable=False, dtype="int32", name="count"
        )

    def _moment(self, name: str, x: mx.array) -> mx.array:
        """A moment, with its axes where the inputs have them."""
        kept = sorted(a % x.ndim for a in self.axis)
        shape = [size if a in kept else 1 for a, size in enumerate(x.shape)]
        if self.input_mean is None:
            return self[name].astype(x.dtype).reshape(shape)  # type: ignore[no-any-return]
        given = as_array(getattr(self, f"input_{name}"), name, x.dtype)
        expanded = [1] * x.ndim
        for k in range(1, given.ndim + 1):
            expanded[kept[-k]] = given.shape[-k]
        return mx.broadcast_to(given.reshape(expanded), shape)

    def call(self, inputs: mx.array) -> mx.array:
        """Return the normalized inputs; integers become floats."""
        x = inputs.astype(self.compute_type)
        mean = self._moment("mean", x)
        deviation = mx.maximum(mx.sqrt(self._moment("variance", x)), _EPSILON)
        return mean + x * deviation if self.invert else (x - mean) / deviation

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return the input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        return {
            **super().get_config(),
            "axis": self.axis,
            "invert": self.invert,
            "mean": as_list(self.input_mean),
            "variance": as_list(self.input_variance),
        }


def as_list(value: Any) -> Any:
    """Return an array or a nest of numbers as nested lists."""
    return value.tolist() if hasattr(value, "tolist") else value
