"""Keras's layers that move, repeat, pad or cut, and compute nothing."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx

from lstm_bridge.errors import ShapeError, UsageError
from lstm_bridge.keras.layers.call_spec import Shape
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.layers.parts import positive
from lstm_bridge.keras.layers.spatial import data_format_of, to_last
from lstm_bridge.keras.saving import keras_export


@keras_export("keras.layers")
class Flatten(Layer):
    """All axes but the batch's as one.

    Args:
        data_format: ``"channels_first"`` moves the channels last before. Default: channels last.
        kwargs: the arguments of Layer.

    Source: keras.layers.Flatten 3.15.
    """

    def __init__(self, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = data_format_of(data_format)
        self.built = True

    def call(self, inputs: mx.array) -> mx.array:
        """Return ``[N, size]``."""
        x = to_last(inputs, self.data_format) if inputs.ndim > 1 else inputs
        return x.reshape(inputs.shape[0], -1 if inputs.ndim > 1 else 1)

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return ``(N, size)``."""
        rest = tuple(input_shape[1:])
        return (input_shape[0], None if None in rest else math.prod(rest))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        return {**super().get_config(), "data_format": self.data_format}


@keras_export("keras.layers")
class Reshape(Layer):
    """Another shape for each sample.

    Args:
        target_shape: without the batch; one size may be -1.
        kwargs: the arguments of Layer.

    Raises:
        UsageError: it is no shape.

    Source: keras.layers.Reshape 3.15.
    """

    def __init__(self, target_shape: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        shape = tuple(target_shape)
        whole = all(isinstance(s, int) and (s > 0 or s == -1) for s in shape)
        if not whole or shape.count(-1) > 1:
            raise UsageError("target_shape", expected="sizes, one -1 at most", got=repr(shape))
        self.target_shape = shape
        self.built = True

    def call(self, inputs: mx.array) -> mx.array:
        """Return ``[N, *target_shape]``; ShapeError where the sizes do not fit."""
        shape = self.compute_output_shape(inputs.shape)
        return inputs.reshape(shape)

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return the target shape behind the batch, its -1 resolved."""
        known = math.prod(s for s in self.target_shape if s != -1)
        rest = tuple(input_shape[1:])
        if None in rest:
            return (input_shape[0], *(None if s == -1 else s for s in self.target_shape))
        size = math.prod(rest)
        open_ended = -1 in self.target_shape
        if size % known if open_ended else size != known:
            raise ShapeError(
                f"{self.name} input",
                expected=f"a size that makes {self.target_shape}",
                got=f"shape {list(input_shape)}",
            )
        return (input_shape[0], *(size // known if s == -1 else s for s in self.target_shape))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        return {**super().get_config(), "target_shape": self.target_shape}


@keras_export("keras.layers")
class Permute(Layer):
    """Another order of the axes.

    Args:
        dims: axes from 1 on, each once.
        kwargs: the arguments of Layer.

    Raises:
        UsageError: they are not.

    Source: keras.layers.Permute 3.15.
    """

    def __init__(self, dims: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dims = tuple(dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise UsageError("dims", expected="the axes from 1 on, each once", got=repr(dims))
        self.input_ndim = len(self.dims) + 1
        self.built = True

    def call(self, inputs: mx.array) -> mx.array:
        """Return the inputs with their axes in another order."""
        return mx.transpose(inputs, (0, *self.dims))

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return the sizes in another order."""
        return (input_shape[0], *(input_shape[d] for d in self.dims))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        return {**super().get_config(), "dims": self.dims}


@keras_export("keras.layers")
class RepeatVector(Layer):
    """``[N, D]`` n times over: ``[N, n, D]``.

    Args:
        n: a positive integer.
        kwargs: the arguments of Layer.

    Source: keras.layers.RepeatVector 3.15.
    """

    input_ndim = 2

    def __init__(self, n: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n = positive("n", n)
        self.built = True

    def call(self, inputs: mx.array) -> mx.array:
        """Return ``[N, n, D]``."""
        return mx.repeat(inputs[:, None], self.n, axis=1)

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return ``(N, n, D)``."""
        return (input_shape[0], self.n, input_shape[1])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        return {**super().get_config(), "n": self.n}


@keras_export("keras.layers")
class UpSampling1D(Layer):
    """Each step of ``[N, L, C]`` several times over.

    Args:
        size: how many times. Default: 2.
        kwargs: the arguments of Layer.

    Source: keras.layers.UpSampling1D 3.15.
    """

    input_ndim = 3

    def __init__(self, size: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = positive("size", size)
        self.built = True

    def call(self, inputs: mx.array) -> mx.array:
        """Return ``[N, size · L, C]``."""
        return mx.repeat(inputs, self.size, axis=1)

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return ``(N, size · L, C)``."""
        length = input_shape[1]
        return (input_shape[0], None if length is None else self.size * length, input_shape[2])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        return {**super().get_config(), "size": self.size}


def _two_ends(name: str, value: Any) -> tuple[int, int]:
    ends = tuple(value) if isinstance(value, (list, tuple)) else (value, value)
    if len(ends) != 2 or any(isinstance(e, bool) or not isinstance(e, int) or e < 0 for e in ends):
        raise UsageError(name, expected="a number of steps, or two of them", got=repr(value))
    return ends


@keras_export("keras.layers")
class ZeroPadding1D(Layer):
    """Zeros before and after the steps of ``[N, L, C]``.

    Args:
        padding: how many at each end, or before and after. Default: 1.
        data_format: ``"channels_last"`` or ``"channels_first"``. Default: channels last.
        kwargs: the arguments of Layer.

    Source: keras.layers.ZeroPadding1D 3.15.
    """

    input_ndim = 3

    def __init__(self, padding: Any = 1, data_format: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.padding = _two_ends("padding", padding)
        self.data_format = data_format_of(data_format)
        self.built = True

    @property
    def _axis(self) -> int:
        return 1 if self.data_format == "channels_last" else 2

    def call(self, inputs: mx.array) -> mx.array:
        """Return the padded inputs."""
        widths = [(0, 0)] * 3
        widths[self._axis] = self.padding
        return mx.pad(inputs, widths)

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return the shape with a longer time axis."""
        shape = list(input_shape)
        if shape[self._axis] is not None:
            shape[self._axis] += sum(self.padding)
        return tuple(shape)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        own = {"padding": self.padding, "data_format": self.data_format}
        return {**super().get_config(), **own}


@keras_export("keras.layers")
class Cropping1D(Layer):
    """``[N, L, C]`` without some steps at its ends.

    Args:
        cropping: how many at each end, or before and after. Default: (1, 1).
        kwargs: the arguments of Layer.

    Source: keras.layers.Cropping1D 3.15.
    """

    input_ndim = 3

    def __init__(self, cropping: Any = (1, 1), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cropping = _two_ends("cropping", cropping)
        self.built = True

    def call(self, inputs: mx.array) -> mx.array:
        """Return the steps that are left; ShapeError if none is."""
        length = self.compute_output_shape(inputs.shape)[1]
        return inputs[:, self.cropping[0] : self.cropping[0] + length]

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return the shape with a shorter time axis."""
        length = input_shape[1]
        if length is not None and length <= sum(self.cropping):
            raise ShapeError(
                f"{self.name} input", expected=f"over {sum(self.cropping)} steps", got=str(length)
            )
        left = None if length is None else length - sum(self.cropping)
        return (input_shape[0], left, input_shape[2])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        return {**super().get_config(), "cropping": self.cropping}
