"""``keras.layers.MultiHeadAttention``: scaled products in several projections at once.

Shape letters: N batch, T queries, S keys and values, D width, M heads, K their width.
"""

from __future__ import annotations

import functools
import math
from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.core.affine import affine
from lstm_bridge.core.normal import softmax
from lstm_bridge.core.products import matmul
from lstm_bridge.errors import ShapeError, UnsupportedError, UsageError
from lstm_bridge.keras.layers.call_spec import Shape
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.layers.lstm_cell import RANDOM_STREAM
from lstm_bridge.keras.layers.parts import WeightedLayer, fraction, notes_on, positive
from lstm_bridge.keras.masks import get_keras_mask, set_keras_mask
from lstm_bridge.keras.random import SeedGenerator
from lstm_bridge.keras.saving import keras_export


class HeadProjection(WeightedLayer):
    """``x kernel + bias`` over the last ``bound`` axes, to the axes of ``output_axes``.

    Keras's EinsumDense as MultiHeadAttention uses it.

    Args:
        bound: how many axes are multiplied out.
        output_axes: sizes of the axes that take their place.
        arguments: initializers, regularizers, constraints and ``use_bias``.
        kwargs: the arguments of Layer.
    """

    def __init__(
        self, bound: int, output_axes: tuple[int, ...], arguments: dict[str, Any], **kwargs: Any
    ) -> None:
        super().__init__(activity_regularizer=arguments["activity_regularizer"], **kwargs)
        self._take(arguments)
        self.use_bias = arguments["use_bias"]
        self.bound, self.output_axes = bound, output_axes

    def build(self, input_shape: Shape) -> None:
        """Create ``kernel`` and ``bias``."""
        self._add("kernel", (*input_shape[-self.bound :], *self.output_axes))
        if self.use_bias:
            self._add("bias", self.output_axes)
        else:
            self.bias = None

    def call(self, inputs: mx.array) -> mx.array:
        """Project."""
        kernel = self.kernel.astype(self.compute_type)
        width = math.prod(kernel.shape[: self.bound])
        free = inputs.shape[: inputs.ndim - self.bound]
        y = affine(inputs.reshape(*free, width), kernel.reshape(width, -1), turned=True)
        y = y.reshape(*free, *self.output_axes)
        return y if self.bias is None else mx.add(y, self.bias.astype(y.dtype))


@keras_export("keras.layers")
class MultiHeadAttention(WeightedLayer):
    """``softmax(Q K^T / sqrt(key_dim)) V`` per head, and a projection of all heads together.

    Args:
        num_heads: M.
        key_dim: K, width of a head's queries and keys.
        value_dim: width of a head's values. Default: None, ``key_dim``.
        dropout: fraction of the weights to drop in training. Default: 0.
        use_bias: whether the projections have biases. Default: True.
        output_shape: width of the output. Default: None, the query's.
        attention_axes: axes of the query that attend to each other. Default: None, all between
            the batch's and the last.
        sliding_window: how far a query looks to either side. Default: None, all the way.
        flash_attention: refused when True. Default: None.
        kernel_initializer: of all kernels. Default: ``"glorot_uniform"``.
        bias_initializer: of all biases. Default: ``"zeros"``.
        kernel_regularizer: penalty on all kernels. Default: None.
        bias_regularizer: penalty on all biases. Default: None.
        activity_regularizer: penalty on the projections' outputs. Default: None.
        kernel_constraint: projection of all kernels. Default: None.
        bias_constraint: projection of all biases. Default: None.
        use_gate: True is refused. Default: False.
        seed: integer seed of the dropout. Default: None.
        kwargs: the arguments of Layer.

    Raises:
        UnsupportedError: a refused argument.
        UsageError: a value out of range or of the wrong kind.

    Source: keras.layers.MultiHeadAttention 3.15.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {
        **Layer.ARGUMENT_NOTES,
        **notes_on("kernel", "bias"),
        "flash_attention": "no effect when False; refused when True",
        "seed": RANDOM_STREAM,
    }
    supports_masking = True

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape: Any = None,
        attention_axes: Any = None,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        use_gate: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        arguments = dict(locals())
        super().__init__(**kwargs)
        self._take(arguments)
        object.__setattr__(self, "_arguments", arguments)
        self.num_heads = positive("num_heads", num_heads)
        self.key_dim = positive("key_dim", key_dim)
        self.value_dim = positive("value_dim", value_dim) if value_dim else self.key_dim
        self.dropout = fraction("dropout", dropout)
        self.use_bias, self.seed = use_bias, seed
        self.output_shape = _width(output_shape)
        self.sliding_window = sliding_window and positive("sliding_window", sliding_window)
        if flash_attention:
            raise UnsupportedError(
                "MultiHeadAttention flash_attention", expected="None or False", got="True"
            )
        self.use_gate = use_gate
        self.attention_axes = _axes(attention_axes)
        self._seed_generator = SeedGenerator(seed)

    def build(self, query_shape: Shape, value_shape: Shape, key_shape: Shape = None) -> None:
        """Create the four projections."""
        key_shape = value_shape if key_shape is None else key_shape
        rank = len(query_shape)
        if rank < 3 or any(len(shape) != rank for shape in (value_shape, key_shape)):
            raise ShapeError(
                f"{self.name} input",
                expected="three axes or more, as many in query, value and key",
                got=f"{query_shape}, {value_shape}, {key_shape}",
            )
        axes = range(1, rank - 1) if self.attention_axes is None else self.attention_axes
        self.attention_axes = tuple(a % rank for a in axes)
        query_width = int(query_shape[-1])
        heads = (self.num_heads, self.key_dim)
        values = (self.num_heads, self.value_dim)
        self.query_dense = self._projection(1, heads, "query", query_shape)
        self.key_dense = self._projection(1, heads, "key", key_shape)
        if self.use_gate:
            self.gate_dense = self._projection(1, values, "gate", query_shape)
        self.value_dense = self._projection(1, values, "value", value_shape)
        out = (query_width,) if self.output_shape is None else self.output_shape
        self.output_dense = self._projection(2, out, "attention_output", (None, *values))

    def _projection(self, bound: int, axes: Any, name: str, shape: Shape) -> HeadProjection:
        made = HeadProjection(bound, tuple(axes), self._arguments, name=name, dtype=self.dtype)
        made.build(shape)
        return made

    def call(
        self,
        query: mx.array,
        value: mx.array,
        key: mx.array | None = None,
        query_mask: mx.array | None = None,
        value_mask: mx.array | None = None,
        key_mask: mx.array | None = None,
        attention_mask: mx.array | None = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        use_causal_mask: bool = False,
    ) -> Any:
        """Attend.

        Args:
            query: ``[N, T, D]``.
            value: ``[N, S, D]``.
            key: ``[N, S, D]``. Default: the value.
            query_mask: no effect; the mask attached to the query counts, as in Keras.
            value_mask: boolean, ``[N, S]``. Default: that attached to the value.
            key_mask: boolean, ``[N, S]``. Default: that attached to the key.
            attention_mask: boolean, ``[N, T, S]`` or ``[N, M, T, S]``. Default: None.
            return_attention_scores: also return the weights ``[N, M, T, S]``. Default: False.
            training: whether to drop. Default: None, False.
            use_causal_mask: no query looks past its own position. Default: False.

        Returns:
            ``[N, T, output width]``.
        """
        key = value if key is None else key
        query_mask = get_keras_mask(query)
        masks = [(query_mask, -1), (value_mask, -2), (key_mask, -2)]
        keep = self._kept(query.shape[1], value.shape[1], masks, use_causal_mask, attention_mask)
        q = self.query_dense(_bare(query)) * (1.0 / math.sqrt(float(self.key_dim)))
        k, v = self.key_dense(_bare(key)), self.value_dense(_bare(value))
        # Keras's fused path, without dropout and scores, spreads a query that may look at nothing
        # over all keys; its other path gives such a query zeros.
        spread = q.ndim == 4 and self.dropout == 0 and not return_attention_scores
        output, weights = self._attend(q, k, v, (keep, spread), training)
        if self.use_gate:
            output = output * mx.sigmoid(self.gate_dense(_bare(query)))
        output = self.output_dense(output)
        if query_mask is not None:
            set_keras_mask(output, query_mask)
        return (output, weights) if return_attention_scores else output

    def _attend(
        self,
        q: mx.array,
        k: mx.array,
        v: mx.array,
        kept: tuple[mx.array | None, bool],
        training: bool | None,
    ) -> tuple[mx.array, mx.array]:
        """Return ``[N, …, T, …, M, K]`` and the weights ``[N, …, M, T, …, S, …]``."""
        axes = self.attention_axes or ()
        count = len(axes)
        others = [a for a in range(q.ndim - 1) if a not in axes]
        order = [*others, *axes, q.ndim - 1]
        q, k, v = (mx.transpose(a, order) for a in (q, k, v))
        free, T, S = q.shape[: len(others)], q.shape[len(others) : -1], k.shape[len(others) : -1]
        q, k, v = (a.reshape(*free, -1, a.shape[-1]) for a in (q, k, v))
        scores = matmul(q, mx.swapaxes(k, -2, -1)).reshape(*free, *T, *S)
        weights = _softmax(scores, *kept, count)
        dropped = self._dropped(weights) if training and self.dropout > 0 else weights
        flat = dropped.reshape(*free, math.prod(T), math.prod(S))
        output = matmul(flat, v).reshape(*free, *T, v.shape[-1])
        back = sorted(range(len(order)), key=order.__getitem__)
        return mx.transpose(output, back), weights

    def _kept(
        self,
        T: int,
        S: int,
        masks: list[tuple[mx.array | None, int]],
        causal: bool,
        attention_mask: mx.array | None,
    ) -> mx.array | None:
        """Return which scores count: ``[N, T, S]``, or what broadcasts to it."""
        found = [mx.expand_dims(m.astype(mx.bool_), axis) for m, axis in masks if m is not None]
        rows, columns = mx.arange(T)[:, None], mx.arange(S)[None, :]
        if causal:
            found.append((rows >= columns)[None])
        if self.sliding_window is not None:
            found.append((mx.abs(rows - columns) < self.sliding_window)[None])
        if attention_mask is not None:
            found.append(attention_mask.astype(mx.bool_))
        return functools.reduce(mx.logical_and, found) if found else None

    def _dropped(self, weights: mx.array) -> mx.array:
        if self.dropout >= 1:
            return mx.zeros_like(weights)
        key = self._seed_generator.next()
        keep = mx.random.bernoulli(1 - self.dropout, weights.shape, key=key)
        return mx.where(keep, weights / (1 - self.dropout), mx.zeros_like(weights))

    def compute_output_shape(  # type: ignore[override]
        self, query_shape: Shape, value_shape: Shape, key_shape: Shape = None
    ) -> Any:
        """Return the query's shape with the output's width."""
        if self.output_shape is None:
            return tuple(query_shape)
        return (*query_shape[:-1], *self.output_shape)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        names = ("num_heads", "key_dim", "value_dim", "dropout", "use_bias", "output_shape")
        return {
            "activity_regularizer": None,
            **super().get_config(),
            **{name: getattr(self, name) for name in (*names, "sliding_window", "seed")},
            "use_gate": self.use_gate,
            "attention_axes": self.attention_axes and list(self.attention_axes),
            **self._parts_config(),
        }


def _bare(x: mx.array) -> mx.array:
    """The same values as an array that no mask is attached to: projections would lose it."""
    return x[:]


def _softmax(scores: mx.array, keep: mx.array | None, spread: bool, count: int) -> mx.array:
    """Softmax over the last axes, of the scores that count."""
    axes = list(range(-count, 0))
    if keep is None:
        return softmax(scores, axis=axes)
    while keep.ndim < scores.ndim:
        keep = mx.expand_dims(keep, -2 * count - 1)
    low = mx.full(scores.shape, -3e4 if scores.dtype == mx.float16 else -1e9, scores.dtype)
    weights = softmax(mx.where(keep, scores, low), axis=axes)
    return weights if spread else mx.where(keep, weights, mx.zeros_like(weights))


def _axes(attention_axes: Any) -> tuple[int, ...] | None:
    if attention_axes is None:
        return None
    axes = (attention_axes,) if isinstance(attention_axes, int) else tuple(attention_axes)
    if not axes or any(isinstance(a, bool) or not isinstance(a, int) for a in axes):
        raise UsageError("attention_axes", expected="axes of the query", got=repr(attention_axes))
    return axes


def _width(output_shape: Any) -> tuple[int, ...] | None:
    if not output_shape:
        return None
    shape = (output_shape,) if isinstance(output_shape, int) else tuple(output_shape)
    if any(isinstance(s, bool) or not isinstance(s, int) or s <= 0 for s in shape):
        raise UsageError("output_shape", expected="positive integers", got=repr(output_shape))
    return shape
