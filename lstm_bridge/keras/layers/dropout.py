"""Keras's dropout and noise layers: the identity, unless they are told that they train."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.errors import UsageError
from lstm_bridge.keras.layers.call_spec import Shape
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.layers.lstm_cell import RANDOM_STREAM
from lstm_bridge.keras.layers.parts import fraction
from lstm_bridge.keras.random import SeedGenerator
from lstm_bridge.keras.saving import keras_export

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
_NOTES = {**Layer.ARGUMENT_NOTES, "seed": RANDOM_STREAM}


class NoiseLayer(Layer):
    """The base: the identity outside training, ``_noisy`` in it.

    Args:
        amount: how much noise; 0 for none.
        seed: integer seed, or None.
        kwargs: the arguments of Layer.
    """

    supports_masking = True

    def __init__(self, amount: float, seed: int | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._amount = amount
        self.seed = seed
        self._seed_generator = SeedGenerator(seed)
        self.built = True

    @property
    def seed_generator(self) -> SeedGenerator:
        """Where the random keys come from."""
        return self._seed_generator

    def _noisy(self, x: mx.array) -> mx.array:
        raise NotImplementedError

    def _noise_shape(self, x: mx.array) -> tuple[int, ...]:
        """Shape of what is drawn, broadcast over the inputs: a None of noise_shape is theirs."""
        shape = getattr(self, "noise_shape", None)
        if shape is None:
            return tuple(x.shape)
        return tuple(n if s is None else s for s, n in zip(shape, x.shape, strict=True))

    def call(self, inputs: mx.array, training: bool = False) -> mx.array:
        """Return the inputs, noisy in training.

        Args:
            inputs: any shape.
            training: whether to add noise. Default: False.
        """
        return self._noisy(inputs) if training and self._amount > 0 else inputs

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return the input's shape."""
        return input_shape


@keras_export("keras.layers")
class Dropout(NoiseLayer):
    """Sets a fraction of the inputs to zero in training, and scales the others up.

    Args:
        rate: the fraction, from 0 to 1.
        noise_shape: shape of the mask, None for the input's size along an axis. Default: None,
            that of the inputs.
        seed: integer seed. Default: None.
        kwargs: the arguments of Layer.

    Raises:
        UsageError: a value out of range or of the wrong kind.

    Source: keras.layers.Dropout 3.15.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = _NOTES

    def __init__(
        self, rate: float, noise_shape: Any = None, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(fraction("rate", rate), seed, **kwargs)
        self.rate = rate
        self.noise_shape = checked_noise_shape(noise_shape)

    def _noisy(self, x: mx.array) -> mx.array:
        if self.rate >= 1:
            return mx.zeros_like(x)
        key = self._seed_generator.next()
        keep = mx.random.bernoulli(1 - self.rate, self._noise_shape(x), key=key)
        return mx.where(keep, x / (1 - self.rate), mx.zeros_like(x))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        own = {"rate": self.rate, "seed": self.seed, "noise_shape": self.noise_shape}
        return {**super().get_config(), **own}


def checked_noise_shape(value: Any) -> tuple[int | None, ...] | None:
    """Return a noise shape as a tuple; UsageError unless it holds positive integers and None."""
    if value is None:
        return None
    fits = isinstance(value, (list, tuple)) and all(
        size is None or (isinstance(size, int) and size > 0) for size in value
    )
    if not fits:
        raise UsageError("noise_shape", expected="positive integers or None", got=repr(value))
    return tuple(value)


class _SpatialDropout(Dropout):
    """Drops whole channels: one draw per row and channel."""

    def __init__(self, rate: float, rank: int, data_format: str = "channels_last", **kwargs: Any):
        super().__init__(rate, **kwargs)
        self.input_ndim = rank + 2
        self.data_format = data_format

    def _noise_shape(self, x: mx.array) -> tuple[int, ...]:
        ones = [1] * (x.ndim - 2)
        if self.data_format == "channels_last":
            return (x.shape[0], *ones, x.shape[-1])
        return (x.shape[0], x.shape[1], *ones)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        config = super().get_config()
        kept = ("rate", "seed", "name", "dtype")
        return {key: config[key] for key in kept}


@keras_export("keras.layers")
class SpatialDropout1D(_SpatialDropout):
    """Drops whole channels of ``[N, L, C]``.

    Args:
        rate: the fraction of channels, from 0 to 1.
        seed: integer seed. Default: None.
        name: see Layer.
        dtype: see Layer.

    Source: keras.layers.SpatialDropout1D 3.15.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {
        "dtype": Layer.ARGUMENT_NOTES["dtype"],
        "seed": RANDOM_STREAM,
    }

    def __init__(
        self, rate: float, seed: int | None = None, name: str | None = None, dtype: Any = None
    ) -> None:
        super().__init__(rate, 1, seed=seed, name=name, dtype=dtype)


@keras_export("keras.layers")
class GaussianDropout(NoiseLayer):
    """Multiplies the inputs with normal noise of mean 1 in training.

    Args:
        rate: from 0 to 1; the noise's deviation is ``sqrt(rate / (1 - rate))``.
        seed: integer seed. Default: None.
        kwargs: the arguments of Layer.

    Source: keras.layers.GaussianDropout 3.15.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = _NOTES

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(fraction("rate", rate), seed, **kwargs)
        self.rate = rate

    def _noisy(self, x: mx.array) -> mx.array:
        deviation = math.sqrt(self.rate / (1 - self.rate))
        key = self._seed_generator.next()
        return x * mx.random.normal(x.shape, x.dtype, loc=1.0, scale=deviation, key=key)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


@keras_export("keras.layers")
class GaussianNoise(NoiseLayer):
    """Adds normal noise of mean 0 in training.

    Args:
        stddev: the noise's deviation, from 0 to 1.
        seed: integer seed. Default: None.
        kwargs: the arguments of Layer.

    Source: keras.layers.GaussianNoise 3.15.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = _NOTES

    def __init__(self, stddev: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(fraction("stddev", stddev), seed, **kwargs)
        self.stddev = stddev

    def _noisy(self, x: mx.array) -> mx.array:
        key = self._seed_generator.next()
        return x + mx.random.normal(x.shape, x.dtype, scale=self.stddev, key=key)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        return {**super().get_config(), "stddev": self.stddev, "seed": self.seed}


@keras_export("keras.layers")
class AlphaDropout(NoiseLayer):
    """Dropout that keeps mean and variance of selu's outputs.

    Args:
        rate: the fraction to drop, from 0 to 1.
        noise_shape: as in Dropout. Default: None.
        seed: integer seed. Default: None.
        kwargs: the arguments of Layer.

    Source: keras.layers.AlphaDropout 3.15.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = _NOTES

    def __init__(
        self, rate: float, noise_shape: Any = None, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(fraction("rate", rate), seed, **kwargs)
        self.rate = rate
        self.noise_shape = checked_noise_shape(noise_shape)

    def _noisy(self, x: mx.array) -> mx.array:
        floor = -_SELU_ALPHA * _SELU_SCALE
        key = self._seed_generator.next()
        keep = mx.random.uniform(shape=self._noise_shape(x), key=key) >= self.rate
        a = ((1 - self.rate) * (1 + self.rate * floor**2)) ** -0.5
        kept = mx.where(keep, x, mx.full(x.shape, floor, x.dtype))
        return mx.subtract(a * kept, a * floor * self.rate)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        own = {"rate": self.rate, "seed": self.seed, "noise_shape": self.noise_shape}
        return {**super().get_config(), **own}
