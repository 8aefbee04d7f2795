"""Keras's pooling over windows and over everything."""

from __future__ import annotations

from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.core.convolution import paddings, windows_of
from lstm_bridge.core.pooling import Pools, max_pool
from lstm_bridge.errors import ShapeError
from lstm_bridge.keras.layers.call_spec import Shape
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.layers.spatial import (
    data_format_of,
    from_last,
    join_shape,
    padding_of,
    per_axis,
    split_shape,
    to_last,
    window_counts,
)
from lstm_bridge.keras.saving import keras_export


class _Pooling(Layer):
    """Pools ``[N, *spatial, C]`` over windows.

    Args:
        rank: number of spatial axes.
        pool_size: window size, one number or one per axis.
        strides: step of the window; None for its size.
        padding: ``"valid"`` or ``"same"``.
        data_format: ``"channels_last"``, ``"channels_first"`` or None.
        kwargs: the arguments of Layer.
    """

    def __init__(
        self, rank: int, pool_size: Any, strides: Any, padding: str, data_format: Any, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.input_ndim = rank + 2
        self.pool_size = per_axis("pool_size", pool_size, rank)
        self.strides = per_axis("strides", pool_size if strides is None else strides, rank)
        self.padding = padding_of(padding, ("valid", "same"))
        self.data_format = data_format_of(data_format)
        self.built = True

    def _pool(self, x: mx.array) -> mx.array:
        """Pool channels-last inputs."""
        raise NotImplementedError

    def _windows(self, x: mx.array, fill: float) -> mx.array:
        return windows_of(x, self.pool_size, self.strides, self.padding, fill)

    def call(self, inputs: mx.array) -> mx.array:
        """Pool.

        Args:
            inputs: ``[N, *spatial, C]``, or channels first as ``data_format`` says.

        Returns:
            ``[N, *spatial', C]``, in the same format.
        """
        self.compute_output_shape(inputs.shape)
        return from_last(self._pool(to_last(inputs, self.data_format)), self.data_format)

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return the shape of the outputs; ShapeError where no window fits."""
        batch, sizes, channels = split_shape(input_shape, self.data_format)
        counts = window_counts(sizes, self.pool_size, self.strides, self.padding)
        if any(count is not None and count <= 0 for count in counts):
            raise ShapeError(
                f"{self.name} input",
                expected=f"axes of {self.pool_size} at least",
                got=f"shape {list(input_shape)}",
            )
        return join_shape(batch, counts, channels, self.data_format)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        names = ("pool_size", "padding", "strides", "data_format")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


class _Max(_Pooling):
    def _pool(self, x: mx.array) -> mx.array:
        sizes, ones = x.shape[1:-1], (1,) * (x.ndim - 2)
        counts = window_counts(sizes, self.pool_size, self.strides, self.padding)
        pads = paddings(self.padding, sizes, self.pool_size, self.strides, ones)
        before = [low for low, _ in pads]
        known = [int(count) for count in counts if count is not None]
        return max_pool(x, Pools(self.pool_size, self.strides, ones, before, known))


class _Average(_Pooling):
    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {
        **Layer.ARGUMENT_NOTES,
        "padding": "same; with 'same' the padding does not count, as in Keras on TensorFlow and "
        "JAX (on torch it repeats the border)",
    }

    def _pool(self, x: mx.array) -> mx.array:
        total = mx.sum(self._windows(x, 0.0), axis=-1)
        if self.padding == "valid":
            return total / float(_size(self.pool_size))
        # Padding does not count.
        ones = self._windows(mx.ones((1, *x.shape[1:-1], 1), x.dtype), 0.0)
        return total / mx.sum(ones, axis=-1)


def _size(window: tuple[int, ...]) -> int:
    size = 1
    for length in window:
        size *= length
    return size


@keras_export("keras.layers")
class MaxPooling1D(_Max):
    """The largest of each window of ``[N, L, C]``.

    Args:
        pool_size: length of the window. Default: 2.
        strides: step of the window. Default: None, its length.
        padding: ``"valid"`` or ``"same"``. Default: ``"valid"``.
        data_format: ``"channels_last"`` or ``"channels_first"``. Default: channels last.
        name: see Layer.
        kwargs: the arguments of Layer.

    Source: keras.layers.MaxPooling1D 3.15.
    """

    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(1, pool_size, strides, padding, data_format, name=name, **kwargs)


@keras_export("keras.layers")
class AveragePooling1D(_Average):
    """The mean of each window of ``[N, L, C]``; padding does not count.

    Args:
        pool_size: length of the window.
        strides: step of the window. Default: None, its length.
        padding: ``"valid"`` or ``"same"``. Default: ``"valid"``.
        data_format: ``"channels_last"`` or ``"channels_first"``. Default: channels last.
        name: see Layer.
        kwargs: the arguments of Layer.

    Source: keras.layers.AveragePooling1D 3.15.
    """

    def __init__(
        self,
        pool_size: Any,
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(1, pool_size, strides, padding, data_format, name=name, **kwargs)


@keras_export("keras.layers")
class MaxPooling2D(_Max):
    """The largest of each window of ``[N, rows, columns, C]``.

    Args:
        pool_size: rows and columns of the window, or one number for both. Default: (2, 2).
        strides: step of the window. Default: None, its size.
        padding: ``"valid"`` or ``"same"``. Default: ``"valid"``.
        data_format: ``"channels_last"`` or ``"channels_first"``. Default: channels last.
        name: see Layer.
        kwargs: the arguments of Layer.

    Source: keras.layers.MaxPooling2D 3.15.
    """

    def __init__(
        self,
        pool_size: Any = (2, 2),
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(2, pool_size, strides, padding, data_format, name=name, **kwargs)


@keras_export("keras.layers")
class AveragePooling2D(_Average):
    """The mean of each window of ``[N, rows, columns, C]``; padding does not count.

    Args:
        pool_size: rows and columns of the window, or one number for both.
        strides: step of the window. Default: None, its size.
        padding: ``"valid"`` or ``"same"``. Default: ``"valid"``.
        data_format: ``"channels_last"`` or ``"channels_first"``. Default: channels last.
        name: see Layer.
        kwargs: the arguments of Layer.

    Source: keras.layers.AveragePooling2D 3.15.
    """

    def __init__(
        self,
        pool_size: Any,
        strides: Any = None,
        padding: str = "valid",
        data_format: str | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(2, pool_size, strides, padding, data_format, name=name, **kwargs)


class _GlobalPooling(Layer):
    """Pools ``[N, *spatial, C]`` over all spatial axes."""

    RANK: ClassVar[int]

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.input_ndim = self.RANK + 2
        self.data_format = data_format_of(data_format)
        self.keepdims = keepdims
        self.built = True

    @property
    def _axes(self) -> list[int]:
        first = 1 if self.data_format == "channels_last" else 2
        return list(range(first, first + self.RANK))

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return the shape of the outputs."""
        batch, sizes, channels = split_shape(input_shape, self.data_format)
        ones = (1,) * len(sizes) if self.keepdims else ()
        return join_shape(batch, ones, channels, self.data_format)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        own = {"data_format": self.data_format, "keepdims": self.keepdims}
        return {**super().get_config(), **own}


class _GlobalMax(_GlobalPooling):
    def call(self, inputs: mx.array) -> mx.array:
        """Return the largest over all spatial axes, ``[N, C]``."""
        return mx.max(inputs, axis=self._axes, keepdims=self.keepdims)


@keras_export("keras.layers")
class GlobalMaxPooling1D(_GlobalMax):
    """The largest over time of ``[N, L, C]``.

    Args:
        data_format: ``"channels_last"`` or ``"channels_first"``. Default: channels last.
        keepdims: keep the pooled axis with length 1. Default: False.
        kwargs: the arguments of Layer.

    Source: keras.layers.GlobalMaxPooling1D 3.15.
    """

    RANK = 1


@keras_export("keras.layers")
class GlobalMaxPooling2D(_GlobalMax):
    """The largest over rows and columns of ``[N, rows, columns, C]``.

    Args:
        data_format: ``"channels_last"`` or ``"channels_first"``. Default: channels last.
        keepdims: keep the pooled axes with length 1. Default: False.
        kwargs: the arguments of Layer.

    Source: keras.layers.GlobalMaxPooling2D 3.15.
    """

    RANK = 2


@keras_export("keras.layers")
class GlobalAveragePooling1D(_GlobalPooling):
    """The mean over time of ``[N, L, C]``, of the steps that the mask leaves.

    Args:
        data_format: ``"channels_last"`` or ``"channels_first"``. Default: channels last.
        keepdims: keep the pooled axis with length 1. Default: False.
        kwargs: the arguments of Layer.

    Source: keras.layers.GlobalAveragePooling1D 3.15.
    """

    RANK = 1
    supports_masking = True

    def call(self, inputs: mx.array, mask: mx.array | None = None) -> mx.array:
        """Return the mean, ``[N, C]``.

        Args:
            inputs: ``[N, L, C]``, or channels first.
            mask: boolean, ``[N, L]``. Default: the mask attached to the inputs, if any.
        """
        if mask is None:
            return mx.mean(inputs, axis=self._axes, keepdims=self.keepdims)
        keep = mx.expand_dims(mask.astype(mx.bool_), 2 if self._axes == [1] else 1)
        kept = mx.where(keep, inputs, mx.zeros_like(inputs))
        count = mx.sum(keep.astype(inputs.dtype), axis=self._axes, keepdims=self.keepdims)
        return mx.sum(kept, axis=self._axes, keepdims=self.keepdims) / count

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """Return None: there is no time left to mask."""


@keras_export("keras.layers")
class GlobalAveragePooling2D(_GlobalPooling):
    """The mean over rows and columns of ``[N, rows, columns, C]``.

    Args:
        data_format: ``"channels_last"`` or ``"channels_first"``. Default: channels last.
        keepdims: keep the pooled axes with length 1. Default: False.
        kwargs: the arguments of Layer.

    Source: keras.layers.GlobalAveragePooling2D 3.15.
    """

    RANK = 2

    def call(self, inputs: mx.array) -> mx.array:
        """Return the mean over all spatial axes, ``[N, C]``."""
        return mx.mean(inputs, axis=self._axes, keepdims=self.keepdims)
