"""Dense and Embedding on packed weights: what ``mlx.nn.quantize`` makes of them.

The layer is as it was, in name, config, masks and dtypes; only its matrix is MLX's three arrays
``weight``, ``scales`` and ``biases``, packed along its last axis, which do not train.
"""

from __future__ import annotations

from typing import Any, NoReturn, Self

import mlx.core as mx

from lstm_bridge.errors import UsageError
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.variables import WeightRule

_DEFAULTS = {"affine": (64, 4), "mxfp4": (32, 4), "nvfp4": (16, 4), "mxfp8": (32, 8)}
"""MLX's group size and bits for each of its encodings."""

PACKED = ("weight", "scales", "biases")


class Packed(Layer):
    """The part of a layer that holds packed weights; it stands before the layer's own class."""

    group_size: int
    bits: int
    mode: str

    @classmethod
    def of(
        cls, plain: Layer, key: str, matrix: mx.array, group_size: Any, bits: Any, mode: str
    ) -> Self:
        """Return a built layer with one of its weights packed.

        Args:
            plain: the layer.
            key: the weight that goes.
            matrix: what is packed in its place.
            group_size: numbers that share a scale. Default: the encoding's.
            bits: of a number. Default: the encoding's.
            mode: MLX's name of the encoding.

        Raises:
            UsageError: the layer is not built, or MLX does not know the encoding.
            ValueError: MLX cannot pack such a matrix so.
        """
        if mode not in _DEFAULTS:
            raise UsageError("mode", expected=f"one of {', '.join(_DEFAULTS)}", got=repr(mode))
        size, width = group_size or _DEFAULTS[mode][0], bits or _DEFAULTS[mode][1]
        arrays = mx.quantize(matrix, group_size=size, bits=width, mode=mode)
        made = cls.__new__(cls)
        dict.update(made, {name: value for name, value in plain.items() if name != key})
        made.__dict__.update(plain.__dict__)
        rules = {name: rule for name, rule in plain._rules.items() if name != key}
        fixed = {name: WeightRule(name, False) for name in PACKED}
        object.__setattr__(made, "_rules", rules | fixed)
        object.__setattr__(made, "_no_grad", plain._no_grad - {key} | set(PACKED))
        dict.update(made, zip(PACKED, arrays, strict=False))
        made.group_size, made.bits, made.mode = size, width, mode
        return made

    @property
    def to_quantized(self) -> NoReturn:
        """What is packed is not packed again: ``mlx.nn.quantize`` looks for this attribute."""
        raise AttributeError("to_quantized")

    def dequantized(self) -> mx.array:
        """Return the matrix that the packed numbers stand for."""
        weight, scales, biases = self._arrays()
        return mx.dequantize(weight, scales, biases, **self._how())

    def _rows(self, index: mx.array) -> mx.array:
        weight, scales, biases = self._arrays()
        taken = None if biases is None else biases[index]
        return mx.dequantize(weight[index], scales[index], taken, **self._how())

    def _product(self, x: mx.array) -> mx.array:
        weight, scales, biases = self._arrays()
        return mx.quantized_matmul(x, weight, scales, biases, transpose=True, **self._how())

    def _arrays(self) -> tuple[mx.array, mx.array, mx.array | None]:
        """The packed numbers, and their scales in the dtype that the layer computes in."""
        weight, scales, biases = (self.get(name) for name in PACKED)
        if biases is None:  # scales of the encodings without biases are numbers of their own kind
            return weight, scales, None
        return weight, scales.astype(self.compute_type), biases.astype(self.compute_type)

    def _how(self) -> dict[str, Any]:
        return {"group_size": self.group_size, "bits": self.bits, "mode": self.mode}
