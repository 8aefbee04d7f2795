"""``keras.layers.Embedding``: integers to rows of a matrix, with a mask for zeros.

Shape letters: N batch, L length.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.errors import UnsupportedError, UsageError
from lstm_bridge.keras import constraints, initializers, regularizers
from lstm_bridge.keras.layers.call_spec import Shape
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.layers.lstm_cell import RANDOM_STREAM
from lstm_bridge.keras.layers.quantized import Packed
from lstm_bridge.keras.saving import keras_export


@keras_export("keras.layers")
class Embedding(Layer):
    """Looks up ``embeddings [input_dim, output_dim]`` by integer.

    Args:
        input_dim: number of rows; indexes are below it.
        output_dim: width of a row.
        embeddings_initializer: of the matrix. Default: ``"uniform"``.
        embeddings_regularizer: penalty on the matrix. Default: None.
        embeddings_constraint: projection of the matrix. Default: None.
        mask_zero: index 0 is padding and is masked for later layers. Default: False.
        weights: initial matrix, or a list of one. Default: None.
        lora_rank: rank of a trainable addition to the then frozen matrix. Default: None.
        lora_alpha: accepted; see ARGUMENT_NOTES. Default: None.
        quantization_config: refused unless None.
        kwargs: the arguments of Layer.

    Raises:
        UnsupportedError: a quantization_config.
        UsageError: a value out of range or of the wrong kind.

    Source: keras.layers.Embedding 3.15.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {
        **Layer.ARGUMENT_NOTES,
        "input_dim": "same; an index out of range gives NaN, as Keras does on JAX, because MLX "
        "checks none and raising would force an evaluation",
        "embeddings_initializer": RANDOM_STREAM,
        "embeddings_constraint": "applied by apply_constraints(): call it after each optimizer "
        "update",
        "mask_zero": "same; the mask is attached to the output array, and layers of this package "
        "pass it on, while an MLX operation in between loses it: then pass mask=",
        "lora_alpha": "no effect here, because Keras 3.15 sets it to lora_rank when the layer is "
        "built; enable_lora() takes it",
        "quantization_config": "refused: mlx.nn.quantize quantizes the loaded layer",
    }

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        weights: Any = None,
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        quantization_config: Any = None,
        **kwargs: Any,
    ) -> None:
        for name, value in (("input_dim", input_dim), ("output_dim", output_dim)):
            if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
                raise UsageError(name, expected="a positive integer", got=repr(value))
        if quantization_config is not None:
            raise UnsupportedError("quantization_config", expected="None", got="a configuration")
        if kwargs.pop("input_length", None) is not None:
            warnings.warn("Argument `input_length` is deprecated. Just remove it.", stacklevel=2)
        super().__init__(**kwargs)
        self.input_dim, self.output_dim = input_dim, output_dim
        self.embeddings_initializer = initializers.get(embeddings_initializer)
        self.embeddings_regularizer = regularizers.get(embeddings_regularizer)
        self.embeddings_constraint = constraints.get(embeddings_constraint)
        self.mask_zero = mask_zero
        self.supports_masking = mask_zero
        self.autocast = False
        self.lora_rank = lora_rank
        self.lora_alpha = lora_rank if lora_alpha is None else lora_alpha
        self.lora_enabled = False
        self.quantization_config = None
        if weights is not None:
            self.build()
            one = isinstance(weights, list) and len(weights) == 1
            self.set_weights(weights if one else [weights])

    def build(self, input_shape: Shape = None) -> None:
        """Create ``embeddings``; the input's shape does not matter."""
        if self.built:
            return
        self.embeddings = self.add_weight(
            shape=(self.input_dim, self.output_dim),
            initializer=self.embeddings_initializer,
            name="embeddings",
            regularizer=self.embeddings_regularizer,
            constraint=self.embeddings_constraint,
        )
        if self.lora_rank:
            self.lora_alpha = self.lora_rank  # as Keras: see ARGUMENT_NOTES
            self._add_lora(self.lora_rank, "he_uniform", "zeros")

    def enable_lora(
        self,
        rank: int,
        lora_alpha: float | None = None,
        a_initializer: Any = "he_uniform",
        b_initializer: Any = "zeros",
    ) -> None:
        """Freeze the matrix and add a trainable product of two thin ones to it.

        Args:
            rank: their common dimension.
            lora_alpha: the product is scaled by ``lora_alpha / rank``. Default: rank.
            a_initializer: of ``lora_embeddings_a [input_dim, rank]``. Default: he_uniform.
            b_initializer: of ``lora_embeddings_b [rank, output_dim]``. Default: zeros.

        Raises:
            UsageError: the layer is not built, has a constraint, or has the addition already.
        """
        problem = (
            "a constraint" if self.embeddings_constraint
            else "a layer not built yet" if not self.built
            else "one that has it already" if self.lora_enabled
            else None
        )  # fmt: skip
        if problem:
            raise UsageError(
                f"{self.name}.enable_lora",
                expected="a built layer without a constraint",
                got=problem,
            )
        self.lora_rank = rank
        self.lora_alpha = rank if lora_alpha is None else lora_alpha
        self._add_lora(rank, a_initializer, b_initializer)

    def _add_lora(self, rank: int, a_initializer: Any, b_initializer: Any) -> None:
        self.lora_embeddings_a = self.add_weight(
            name="lora_embeddings_a",
            shape=(self.input_dim, rank),
            initializer=a_initializer,
            dtype="float32",
            regularizer=self.embeddings_regularizer,
        )
        self.lora_embeddings_b = self.add_weight(
            name="lora_embeddings_b",
            shape=(rank, self.output_dim),
            initializer=b_initializer,
            dtype="float32",
            regularizer=self.embeddings_regularizer,
        )
        self.freeze(recurse=False, keys="embeddings")
        self.lora_enabled = True

    def _matrix(self) -> mx.array:
        matrix: mx.array = self.embeddings
        if self.lora_enabled and self.lora_rank and self.lora_alpha is not None:
            scale = self.lora_alpha / self.lora_rank
            matrix = matrix + scale * (self.lora_embeddings_a @ self.lora_embeddings_b)
        return matrix.astype(self.compute_type)

    def call(self, inputs: mx.array) -> mx.array:
        """Look rows up.

        Args:
            inputs: indexes, ``[N, L]`` or any shape; negative ones count from the end.

        Returns:
            ``[N, L, output_dim]``; NaN where the index is out of range.
        """
        if inputs.dtype not in (mx.int32, mx.int64):
            inputs = inputs.astype(mx.int32)
        index = mx.where(inputs < 0, inputs + self.input_dim, inputs)
        inside = (index >= 0) & (index < self.input_dim)
        rows = self._rows(mx.where(inside, index, mx.zeros_like(index)))
        return mx.where(inside[..., None], rows, mx.full(rows.shape, mx.nan, rows.dtype))

    def _rows(self, index: mx.array) -> mx.array:
        return mx.take(self._matrix(), index, axis=0)

    def to_quantized(
        self, group_size: int | None = None, bits: int | None = None, mode: str = "affine"
    ) -> QuantizedEmbedding:
        """Return the layer with its matrix packed, as ``mlx.nn.quantize`` asks for it.

        Raises:
            UsageError: the layer has a LoRA addition, which would be lost.
        """
        if self.lora_enabled:
            raise UsageError(
                f"{self.name}.to_quantized", expected="a layer without LoRA", got="one with it"
            )
        return QuantizedEmbedding.of(self, "embeddings", self.embeddings, group_size, bits, mode)

    def compute_mask(self, inputs: mx.array, mask: Any = None) -> mx.array | None:
        """Return True where the index is not 0, or None without ``mask_zero``."""
        return inputs != 0 if self.mask_zero else None

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return the input's shape with ``output_dim`` after it."""
        return (*input_shape, self.output_dim)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        config = {
            "activity_regularizer": None,
            **super().get_config(),
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "embeddings_initializer": initializers.serialize(self.embeddings_initializer),
            "embeddings_regularizer": regularizers.serialize(self.embeddings_regularizer),
            "embeddings_constraint": constraints.serialize(self.embeddings_constraint),
            "mask_zero": self.mask_zero,
            "quantization_config": None,
        }
        if self.lora_rank:
            config.update(lora_rank=self.lora_rank, lora_alpha=self.lora_alpha)
        return config


class QuantizedEmbedding(Packed, Embedding):
    """Looks up rows of a matrix whose rows are packed."""
