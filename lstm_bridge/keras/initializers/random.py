"""The random initializers: Keras's distributions from MLX's generator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from lstm_bridge.errors import ShapeError, UsageError, quote
from lstm_bridge.keras.dtype_policies import to_mlx
from lstm_bridge.keras.initializers.constant import Initializer, Shape
from lstm_bridge.keras.random import SeedGenerator, check_seed, make_default_seed
from lstm_bridge.keras.saving import (
    deserialize_keras_object,
    keras_export,
    serialize_keras_object,
)


class RandomInitializer(Initializer):
    """Base of the random ones.

    Args:
        seed: integer (same values at each call), SeedGenerator (new values at each call), its
            config, or None (an integer is drawn now). Default: None.
    """

    def __init__(self, seed: Any = None) -> None:
        self._init_seed = seed
        if seed is None:
            seed = make_default_seed()
        elif isinstance(seed, dict):
            seed = deserialize_keras_object(seed)
        self.seed = seed if isinstance(seed, SeedGenerator) else check_seed(seed)

    def _key(self) -> mx.array | None:
        if isinstance(self.seed, SeedGenerator):
            key: mx.array | None = self.seed.next()
            return key
        return _key_of(self.seed)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {"seed": serialize_keras_object(self._init_seed)}


def _key_of(seed: int) -> mx.array:
    key: mx.array = mx.random.key(seed & 0xFFFFFFFFFFFFFFFF)
    return key


@keras_export("keras.initializers")
class RandomNormal(RandomInitializer):
    """Normal distribution.

    Args:
        mean: mean. Default: 0.
        stddev: standard deviation. Default: 0.05.
        seed: see RandomInitializer. Default: None.
    """

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: Any = None) -> None:
        self.mean, self.stddev = mean, stddev
        super().__init__(seed=seed)

    def __call__(self, shape: Shape, dtype: Any = None) -> mx.array:
        """Return draws."""
        draws = mx.random.normal(tuple(shape), key=self._key())
        return (self.mean + self.stddev * draws).astype(to_mlx(dtype))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "mean": self.mean, "stddev": self.stddev}


@keras_export("keras.initializers")
class TruncatedNormal(RandomNormal):
    """Normal distribution without what lies beyond two standard deviations.

    Args:
        mean: mean. Default: 0.
        stddev: standard deviation before truncation. Default: 0.05.
        seed: see RandomInitializer. Default: None.
    """

    def __call__(self, shape: Shape, dtype: Any = None) -> mx.array:
        """Return draws."""
        draws = mx.random.truncated_normal(-2.0, 2.0, tuple(shape), key=self._key())
        return (self.mean + self.stddev * draws).astype(to_mlx(dtype))


@keras_export("keras.initializers")
class RandomUniform(RandomInitializer):
    """Uniform distribution in ``[minval, maxval)``.

    Args:
        minval: lower bound. Default: -0.05.
        maxval: upper bound. Default: 0.05.
        seed: see RandomInitializer. Default: None.
    """

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: Any = None) -> None:
        self.minval, self.maxval = minval, maxval
        super().__init__(seed=seed)

    def __call__(self, shape: Shape, dtype: Any = None) -> mx.array:
        """Return draws."""
        draws = mx.random.uniform(self.minval, self.maxval, tuple(shape), key=self._key())
        return draws.astype(to_mlx(dtype))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "minval": self.minval, "maxval": self.maxval}


_MODES = ("fan_in", "fan_out", "fan_avg")
_DISTRIBUTIONS = ("uniform", "truncated_normal", "untruncated_normal")


@keras_export("keras.initializers")
class VarianceScaling(RandomInitializer):
    """Variance ``scale / n`` with n the fan in, the fan out, or their mean.

    Args:
        scale: positive factor. Default: 1.
        mode: ``"fan_in"``, ``"fan_out"`` or ``"fan_avg"``. Default: ``"fan_in"``.
        distribution: ``"truncated_normal"`` (also spelled ``"normal"``),
            ``"untruncated_normal"`` or ``"uniform"``. Default: ``"truncated_normal"``.
        seed: see RandomInitializer. Default: None.
        input_axes: axes that count into the fan in. Default: by the shape's rank.
        output_axes: axes that count into the fan out. Default: by the shape's rank.
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: Any = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ) -> None:
        distribution = distribution.lower()
        distribution = "truncated_normal" if distribution == "normal" else distribution
        if scale <= 0.0:
            raise UsageError("scale", expected="a positive float", got=str(scale))
        if mode not in _MODES:
            raise UsageError("mode", expected=f"one of {', '.join(_MODES)}", got=quote(mode))
        if distribution not in _DISTRIBUTIONS:
            wanted = f"one of {', '.join(_DISTRIBUTIONS)}"
            raise UsageError("distribution", expected=wanted, got=quote(distribution))
        self.scale, self.mode, self.distribution = scale, mode, distribution
        self.input_axes, self.output_axes = input_axes, output_axes
        super().__init__(seed=seed)

    def __call__(self, shape: Shape, dtype: Any = None) -> mx.array:
        """Return draws."""
        shape = tuple(shape)
        fan_in, fan_out = compute_fans(shape, self.input_axes, self.output_axes)
        n = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance = self.scale / max(1.0, n)
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * variance)
            draws = mx.random.uniform(-limit, limit, shape, key=self._key())
        elif self.distribution == "truncated_normal":
            # The divisor is the standard deviation left after truncation at two.
            stddev = math.sqrt(variance) / 0.87962566103423978
            draws = stddev * mx.random.truncated_normal(-2.0, 2.0, shape, key=self._key())
        else:
            draws = math.sqrt(variance) * mx.random.normal(shape, key=self._key())
        return draws.astype(to_mlx(dtype))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        names = ("scale", "mode", "distribution", "input_axes", "output_axes")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def compute_fans(
    shape: Shape, input_axes: Sequence[int] | None = None, output_axes: Sequence[int] | None = None
) -> tuple[int, int]:
    """Return how many inputs and outputs a weight of that shape connects."""
    if input_axes is not None and output_axes is not None:
        return math.prod(shape[a] for a in input_axes), math.prod(shape[a] for a in output_axes)
    if len(shape) < 2:
        return (shape[0], shape[0]) if shape else (1, 1)
    field = math.prod(shape[:-2])
    return shape[-2] * field, shape[-1] * field


class _Scaled(VarianceScaling):
    """A VarianceScaling of fixed scale, mode and distribution; its other arguments remain."""

    settings: tuple[float, str, str] = (1.0, "fan_in", "truncated_normal")

    def __init__(
        self,
        seed: Any = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
    ) -> None:
        scale, mode, distribution = self.settings
        super().__init__(scale, mode, distribution, seed, input_axes, output_axes)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        seed = serialize_keras_object(self._init_seed)
        return {"seed": seed, "input_axes": self.input_axes, "output_axes": self.output_axes}


@keras_export("keras.initializers")
class GlorotUniform(_Scaled):
    """Uniform, variance ``2 / (fan_in + fan_out)``."""

    settings = (1.0, "fan_avg", "uniform")


@keras_export("keras.initializers")
class GlorotNormal(_Scaled):
    """Truncated normal, variance ``2 / (fan_in + fan_out)``."""

    settings = (1.0, "fan_avg", "truncated_normal")


@keras_export("keras.initializers")
class LecunUniform(_Scaled):
    """Uniform, variance ``1 / fan_in``."""

    settings = (1.0, "fan_in", "uniform")


@keras_export("keras.initializers")
class LecunNormal(_Scaled):
    """Truncated normal, variance ``1 / fan_in``."""

    settings = (1.0, "fan_in", "truncated_normal")


@keras_export("keras.initializers")
class HeUniform(_Scaled):
    """Uniform, variance ``2 / fan_in``."""

    settings = (2.0, "fan_in", "uniform")


@keras_export("keras.initializers")
class HeNormal(_Scaled):
    """Truncated normal, variance ``2 / fan_in``."""

    settings = (2.0, "fan_in", "truncated_normal")


@keras_export("keras.initializers")
class Orthogonal(RandomInitializer):
    """A random orthogonal matrix times ``gain``; its rows or its columns, whichever are fewer.

    Args:
        gain: factor. Default: 1.
        seed: see RandomInitializer. Default: None.
    """

    def __init__(self, gain: float = 1.0, seed: Any = None) -> None:
        self.gain = gain
        super().__init__(seed=seed)

    def __call__(self, shape: Shape, dtype: Any = None) -> mx.array:
        """Return an orthogonal matrix; ShapeError unless the shape has at least two axes."""
        if len(shape) < 2:
            raise ShapeError("Orthogonal shape", expected="2 axes or more", got=str(list(shape)))
        rows, columns = math.prod(shape[:-1]), shape[-1]
        a = mx.random.normal((max(rows, columns), min(rows, columns)), key=self._key())
        q, r = mx.linalg.qr(a, stream=mx.cpu)  # MLX has no QR on the GPU
        q = q * mx.sign(mx.diag(r))  # makes the distribution uniform over orthogonal matrices
        q = q.T if rows < columns else q
        return (self.gain * q.reshape(tuple(shape))).astype(to_mlx(dtype))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {**super().get_config(), "gain": self.gain}
