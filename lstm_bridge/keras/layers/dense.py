"""``keras.layers.Dense``: a matrix product over the last axis.

Shape letters: N batch, D input, F units.
"""

from __future__ import annotations

from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.core.affine import affine
from lstm_bridge.errors import ShapeError
from lstm_bridge.keras import activations
from lstm_bridge.keras.layers.call_spec import Shape
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.layers.parts import (
    REFUSED_LORA,
    REFUSED_QUANTIZATION,
    WeightedLayer,
    notes_on,
    positive,
    refuse_extras,
)
from lstm_bridge.keras.layers.quantized import Packed
from lstm_bridge.keras.saving import keras_export


@keras_export("keras.layers")
class Dense(WeightedLayer):
    """``activation(x kernel + bias)`` over the last axis; ``kernel [D, F]``, ``bias [F]``.

    Args:
        units: F, a positive integer.
        activation: of the output. Default: None, the identity.
        use_bias: whether there is a bias. Default: True.
        kernel_initializer: of ``kernel``. Default: ``"glorot_uniform"``.
        bias_initializer: of ``bias``. Default: ``"zeros"``.
        kernel_regularizer: penalty on ``kernel``. Default: None.
        bias_regularizer: penalty on ``bias``. Default: None.
        activity_regularizer: penalty on the output, divided by the batch size. Default: None.
        kernel_constraint: projection of ``kernel``. Default: None.
        bias_constraint: projection of ``bias``. Default: None.
        lora_rank: refused unless None.
        lora_alpha: refused unless None.
        quantization_config: refused unless None.
        kwargs: the arguments of Layer.

    Raises:
        UnsupportedError: a refused argument.
        UsageError: a value out of range or of the wrong kind.

    Source: keras.layers.Dense 3.15.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {
        **Layer.ARGUMENT_NOTES,
        **notes_on("kernel", "bias"),
        **REFUSED_LORA,
        **REFUSED_QUANTIZATION,
    }
    supports_masking = True

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config: Any = None,
        **kwargs: Any,
    ) -> None:
        arguments = dict(locals())
        refuse_extras(
            lora_rank=lora_rank, lora_alpha=lora_alpha, quantization_config=quantization_config
        )
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self._take(arguments)
        self.units = positive("units", units)
        self.activation = activations.get(activation)
        self.use_bias = use_bias

    def build(self, input_shape: Shape) -> None:
        """Create ``kernel`` and ``bias`` for inputs ``(..., D)``."""
        self._width = int(input_shape[-1])
        self._add("kernel", (self._width, self.units))
        if self.use_bias:
            self._add("bias", (self.units,))
        else:
            self.bias = None

    def call(self, inputs: mx.array, training: bool | None = None) -> mx.array:
        """Compute the outputs.

        Args:
            inputs: ``[N, ..., D]``.
            training: no effect.

        Returns:
            ``[N, ..., F]``.

        Raises:
            ShapeError: the inputs' width is not the kernel's.
        """
        if inputs.ndim < 2 or inputs.shape[-1] != self._width:
            raise ShapeError(
                f"{self.name} input",
                expected=f"two axes or more, the last of width {self._width}",
                got=f"shape {list(inputs.shape)}",
            )
        return self._outputs(inputs)

    def _outputs(self, x: mx.array) -> mx.array:
        kernel = self.kernel.astype(self.compute_type)
        bias = None if self.bias is None else self.bias.astype(kernel.dtype)
        return affine(x, kernel, bias, self.activation, turned=True)

    def to_quantized(
        self, group_size: int | None = None, bits: int | None = None, mode: str = "affine"
    ) -> QuantizedDense:
        """Return the layer with its kernel packed, as ``mlx.nn.quantize`` asks for it."""
        return QuantizedDense.of(self, "kernel", self.kernel.T, group_size, bits, mode)

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return the input's shape with ``units`` for its last axis."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        return {
            "activity_regularizer": None,
            **super().get_config(),
            "units": self.units,
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            **self._parts_config(),
            "quantization_config": None,
        }


class QuantizedDense(Packed, Dense):
    """``activation(x kernel + bias)`` with the kernel packed along its inputs."""

    def _outputs(self, x: mx.array) -> mx.array:
        y = self._product(x)
        y = y if self.bias is None else y + self.bias.astype(y.dtype)
        return self.activation(y)  # type: ignore[no-any-return]
