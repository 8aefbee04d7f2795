"""Keras's attention with scores from products (Luong) and from sums (Bahdanau).

Shape letters: N batch, T queries, S keys and values, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.core.affine import tanh
from lstm_bridge.core.normal import softmax
from lstm_bridge.core.products import matmul, scaled
from lstm_bridge.errors import UsageError
from lstm_bridge.keras.layers.call_spec import Shape
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.layers.lstm_cell import RANDOM_STREAM
from lstm_bridge.keras.layers.parts import fraction
from lstm_bridge.keras.random import SeedGenerator
from lstm_bridge.keras.saving import keras_export

_SCORE_MODES = ("dot", "concat")


@keras_export("keras.layers")
class Attention(Layer):
    """``softmax(scores(query, key)) value`` over what the value's mask leaves.

    Args:
        use_scale: whether the scores have a factor, ``scale``. Default: False.
        score_mode: ``"dot"``: query · key; ``"concat"``: sum tanh(query + key). Default: dot.
        dropout: fraction of the weights to drop in training. Default: 0.
        seed: integer seed of the dropout. Default: None.
        kwargs: the arguments of Layer.

    Raises:
        UsageError: a value out of range or of the wrong kind.

    Source: keras.layers.Attention 3.15.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {**Layer.ARGUMENT_NOTES, "seed": RANDOM_STREAM}
    supports_masking = True
    scale: Any
    concat_score_weight: Any

    def __init__(
        self,
        use_scale: bool = False,
        score_mode: str = "dot",
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if score_mode not in _SCORE_MODES:
            raise UsageError("score_mode", expected=f"one of {_SCORE_MODES}", got=repr(score_mode))
        self.use_scale, self.score_mode = use_scale, score_mode
        self.dropout = fraction("dropout", dropout)
        self.seed = seed
        self._seed_generator = SeedGenerator(seed)

    def build(self, input_shape: Shape) -> None:
        """Create ``scale`` and ``concat_score_weight``, scalars, where the scores have them."""
        self._check(input_shape)
        self.scale = None
        self.concat_score_weight = None
        if self.use_scale:
            self.scale = self.add_weight(name="scale", shape=(), initializer="ones")
        if self.score_mode == "concat":
            weight = self.add_weight(name="concat_score_weight", shape=(), initializer="ones")
            self.concat_score_weight = weight

    def _check(self, inputs: Any) -> None:
        if not isinstance(inputs, (list, tuple)) or len(inputs) not in (2, 3):
            raise UsageError(
                f"{self.name} input", expected="[query, value] or [query, value, key]",
                got=type(inputs).__name__,
            )  # fmt: skip

    def _scores(self, query: mx.array, key: mx.array) -> mx.array:
        scale = None if self.scale is None else self.scale.astype(query.dtype)
        if self.score_mode == "dot":
            scores = matmul(query, mx.swapaxes(key, -2, -1))
            return scores if scale is None else scaled(scores, scale)
        both = mx.expand_dims(query, -2) + mx.expand_dims(key, -3)
        both = both if scale is None else scaled(both, scale)
        weight: mx.array = self.concat_score_weight.astype(query.dtype)
        return mx.multiply(weight, mx.sum(tanh(both), axis=-1))

    def call(
        self,
        inputs: Sequence[mx.array],
        mask: Any = None,
        training: bool = False,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        """Attend.

        Args:
            inputs: ``[query [N, T, D], value [N, S, D]]`` and, if it is not the value, the key.
            mask: ``[query mask [N, T], value mask [N, S]]``. Default: those attached.
            training: whether to drop. Default: False.
            return_attention_scores: also return the weights ``[N, T, S]``. Default: False.
            use_causal_mask: no query looks past its own position. Default: False.

        Returns:
            ``[N, T, D]``.
        """
        self._check(inputs)
        query, value = inputs[0], inputs[1]
        key = inputs[2] if len(inputs) > 2 else value
        query_mask, value_mask = (mask[0], mask[1]) if mask else (None, None)
        scores = self._scores(query, key)
        keep = _kept(scores, value_mask, use_causal_mask)
        if keep is not None:
            low = 65504.0 if scores.dtype == mx.float16 else 1e9
            scores = mx.where(keep, scores, scores - low)
        weights = softmax(scores)
        if training and self.dropout > 0:
            weights = self._dropped(weights)
        output = matmul(weights, value)
        if query_mask is not None:
            output = mx.where(query_mask.astype(mx.bool_)[..., None], output, mx.zeros_like(output))
        return (output, weights) if return_attention_scores else output

    def _dropped(self, weights: mx.array) -> mx.array:
        if self.dropout >= 1:
            return mx.zeros_like(weights)
        keep = mx.random.bernoulli(1 - self.dropout, weights.shape, key=self._seed_generator.next())
        return mx.where(keep, weights / (1 - self.dropout), mx.zeros_like(weights))

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return the query's mask."""
        return mask[0] if mask else None

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return ``(N, T, D)`` with the value's D."""
        return (*input_shape[0][:-1], input_shape[1][-1])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        names = ("use_scale", "score_mode", "dropout", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def _kept(scores: mx.array, value_mask: mx.array | None, causal: bool) -> mx.array | None:
    """Return which scores count, broadcast over them."""
    keep = None
    if value_mask is not None:
        keep = value_mask.astype(mx.bool_)
        keep = mx.expand_dims(keep, -2) if keep.ndim == 2 else keep
    if causal:
        T, S = scores.shape[-2:]
        below = mx.arange(T)[:, None] >= mx.arange(S)[None, :]
        keep = below[None] if keep is None else keep & below[None]
    return keep


@keras_export("keras.layers")
class AdditiveAttention(Attention):
    """Attention with scores ``sum(scale · tanh(query + key))``.

    Args:
        use_scale: whether the sum is weighted by ``scale [D]``. Default: True.
        dropout: fraction of the weights to drop in training. Default: 0.
        kwargs: ``seed``, and the arguments of Layer.

    Source: keras.layers.AdditiveAttention 3.15.
    """

    def __init__(self, use_scale: bool = True, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(use_scale=use_scale, dropout=dropout, **kwargs)

    def build(self, input_shape: Shape) -> None:
        """Create ``scale [D]``."""
        self._check(input_shape)
        self.scale = None
        if self.use_scale:
            self.scale = self.add_weight(
                name="scale", shape=(int(input_shape[0][-1]),), initializer="glorot_uniform"
            )

    def _scores(self, query: mx.array, key: mx.array) -> mx.array:
        both = tanh(mx.expand_dims(query, -2) + mx.expand_dims(key, -3))
        return mx.sum(both if self.scale is None else self.scale.astype(both.dtype) * both, axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        return {key: value for key, value in super().get_config().items() if key != "score_mode"}
