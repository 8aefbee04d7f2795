"""Keras's normalization layers with learned scale and shift, and the one without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.core.normal import batch_norm, layer_norm
from lstm_bridge.errors import ShapeError, UnsupportedError, UsageError
from lstm_bridge.keras.layers.call_spec import Shape
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.layers.parts import WeightedLayer, notes_on
from lstm_bridge.keras.saving import keras_export

_EPSILON = 1e-7  # keras.backend.epsilon()


def _wide(x: mx.array) -> mx.array:
    """Half precision as float32, in which Keras computes these layers."""
    return x.astype(mx.float32) if x.dtype in (mx.float16, mx.bfloat16) else x


@keras_export("keras.layers")
class BatchNormalization(WeightedLayer):
    """Normalizes each channel: by the batch's moments in training, else by their moving averages.

    Args:
        axis: the channels' axis. Default: -1.
        momentum: of the moving averages. Default: 0.99.
        epsilon: added to the variance. Default: 1e-3.
        center: whether there is a shift, ``beta``. Default: True.
        scale: whether there is a scale, ``gamma``. Default: True.
        beta_initializer: of ``beta``. Default: ``"zeros"``.
        gamma_initializer: of ``gamma``. Default: ``"ones"``.
        moving_mean_initializer: of ``moving_mean``. Default: ``"zeros"``.
        moving_variance_initializer: of ``moving_variance``. Default: ``"ones"``.
        beta_regularizer: penalty on ``beta``. Default: None.
        gamma_regularizer: penalty on ``gamma``. Default: None.
        beta_constraint: projection of ``beta``. Default: None.
        gamma_constraint: projection of ``gamma``. Default: None.
        renorm: True is refused. Default: False.
        renorm_clipping: no effect without renorm. Default: None.
        renorm_momentum: no effect without renorm. Default: 0.99.
        synchronized: True is refused. Default: False.
        kwargs: the arguments of Layer.

    Raises:
        UnsupportedError: renorm or synchronized.

    Source: keras.layers.BatchNormalization 3.15.
    """

    PARTS = ("beta", "gamma", "moving_mean", "moving_variance")
    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {
        **Layer.ARGUMENT_NOTES,
        **notes_on("beta", "gamma"),
        "renorm": "refused unless False: it changes training only",
        "renorm_clipping": "no effect without renorm",
        "renorm_momentum": "no effect without renorm",
        "synchronized": "refused unless False: there is one device",
    }
    supports_masking = True
    gamma: Any
    beta: Any

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        moving_mean_initializer: Any = "zeros",
        moving_variance_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        renorm: bool = False,
        renorm_clipping: Any = None,
        renorm_momentum: float = 0.99,
        synchronized: bool = False,
        **kwargs: Any,
    ) -> None:
        arguments = dict(locals())
        for name in ("renorm", "synchronized"):
            if arguments[name]:
                raise UnsupportedError(f"BatchNormalization {name}", expected="False", got="True")
        super().__init__(**kwargs)
        self._take(arguments)
        self.axis = _one_axis(axis)
        self.momentum, self.epsilon = float(momentum), float(epsilon)
        self.center, self.scale = center, scale
        self.renorm, self.synchronized = False, False
        self.renorm_clipping, self.renorm_momentum = renorm_clipping, renorm_momentum

    def build(self, input_shape: Shape) -> None:
        """Create the weights for the size of the channels' axis."""
        shape = (int(input_shape[self.axis]),)
        if self.scale:
            self._add("gamma", shape)
        else:
            self.gamma = None
        if self.center:
            self._add("beta", shape)
        else:
            self.beta = None
        self._add("moving_mean", shape, trainable=False)
        self._add("moving_variance", shape, trainable=False)

    def call(
        self, inputs: mx.array, training: bool | None = None, mask: mx.array | None = None
    ) -> mx.array:
        """Normalize.

        Args:
            inputs: any shape with the channels along ``axis``.
            training: use the batch's moments, and move the averages. Default: None.
            mask: which positions count in training; one axis less than the inputs. Default: None.

        Raises:
            ShapeError: the mask has another number of axes.
        """
        if mask is not None and mask.ndim != inputs.ndim - 1:
            raise ShapeError(
                f"{self.name} mask", expected=f"{inputs.ndim - 1} axes", got=str(mask.ndim)
            )
        x = _wide(inputs)
        mean, variance = (a.astype(x.dtype) for a in (self.moving_mean, self.moving_variance))
        if training and self.trainable:
            mean, variance = self._moments(x, mask)
            self._move("moving_mean", mean)
            self._move("moving_variance", variance)
        gamma, beta = (None if a is None else a.astype(x.dtype) for a in (self.gamma, self.beta))
        moved = mx.moveaxis(x, self.axis, -1)
        y = mx.moveaxis(batch_norm(moved, mean, variance, gamma, beta, self.epsilon), -1, self.axis)
        return y.astype(self.compute_type)

    def _moments(self, x: mx.array, mask: mx.array | None) -> tuple[mx.array, mx.array]:
        """Mean and variance of each channel over what the mask leaves."""
        axes = [a for a in range(x.ndim) if a != self.axis % x.ndim]
        if mask is None:
            mean = mx.mean(x, axis=axes, keepdims=True)
            return mean.reshape(-1), mx.mean(mx.square(x - mean), axis=axes)
        keep = mx.broadcast_to(mask.astype(mx.bool_)[..., None], x.shape)
        zeros = mx.zeros_like(x)
        count = mx.sum(keep.astype(x.dtype), axis=axes, keepdims=True) + _EPSILON
        mean = mx.sum(mx.where(keep, x, zeros), axis=axes, keepdims=True) / count
        squares = mx.where(keep, mx.square(x - mean), zeros)
        return mean.reshape(-1), (mx.sum(squares, axis=axes, keepdims=True) / count).reshape(-1)

    def _move(self, name: str, value: mx.array) -> None:
        old = self[name]
        moved = old * self.momentum + value.astype(old.dtype) * (1 - self.momentum)
        self[name] = mx.stop_gradient(moved)

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return the input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        names = ("axis", "momentum", "epsilon", "center", "scale", "renorm", "renorm_clipping")
        own = {name: getattr(self, name) for name in (*names, "renorm_momentum", "synchronized")}
        return {**super().get_config(), **own, **self._parts_config()}


def _one_axis(axis: Any) -> int:
    """Return an axis; a list of one, as tf.keras writes it, is that one."""
    if isinstance(axis, (list, tuple)) and len(axis) == 1:
        axis = axis[0]
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise UsageError("axis", expected="an integer", got=repr(axis))
    return axis


def _axes(axis: Any) -> Any:
    """Return an axis or a list of them."""
    whole = axis if isinstance(axis, (list, tuple)) else [axis]
    if not whole or any(isinstance(a, bool) or not isinstance(a, int) for a in whole):
        raise UsageError("axis", expected="an integer or a list of them", got=repr(axis))
    return list(axis) if isinstance(axis, (list, tuple)) else axis


@keras_export("keras.layers")
class LayerNormalization(WeightedLayer):
    """Normalizes each sample over one or more axes.

    Args:
        axis: integer, or a list of them. Default: -1.
        epsilon: added to the variance. Default: 1e-3.
        center: whether there is a shift, ``beta``. Default: True.
        scale: whether there is a scale, ``gamma``. Default: True.
        beta_initializer: of ``beta``. Default: ``"zeros"``.
        gamma_initializer: of ``gamma``. Default: ``"ones"``.
        beta_regularizer: penalty on ``beta``. Default: None.
        gamma_regularizer: penalty on ``gamma``. Default: None.
        beta_constraint: projection of ``beta``. Default: None.
        gamma_constraint: projection of ``gamma``. Default: None.
        kwargs: the arguments of Layer; ``rms_scaling=True``, which Keras deprecates, is refused.

    Raises:
        UnsupportedError: rms_scaling.

    Source: keras.layers.LayerNormalization 3.15.
    """

    PARTS = ("beta", "gamma")
    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {
        **Layer.ARGUMENT_NOTES,
        **notes_on("beta", "gamma"),
    }
    supports_masking = True
    gamma: Any
    beta: Any

    def __init__(
        self,
        axis: Any = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        beta_regularizer: Any = None,
        gamma_regularizer: Any = None,
        beta_constraint: Any = None,
        gamma_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        arguments = dict(locals())
        if kwargs.pop("rms_scaling", False):
            raise UnsupportedError("LayerNormalization rms_scaling", expected="False", got="True")
        super().__init__(**kwargs)
        self._take(arguments)
        self.axis = _axes(axis)
        self.epsilon, self.center, self.scale = epsilon, center, scale
        self.autocast = False

    def build(self, input_shape: Shape) -> None:
        """Create ``gamma`` and ``beta`` for the sizes of the normalized axes."""
        if isinstance(self.axis, list):
            self.axis = sorted(self.axis)
        axes: Sequence[int] = self.axis if isinstance(self.axis, list) else [self.axis]
        self.axis = list(axes)
        shape = [int(input_shape[a]) for a in axes]
        if self.scale:
            self._add("gamma", shape)
        else:
            self.gamma = None
        if self.center:
            self._add("beta", shape)
        else:
            self.beta = None

    def call(self, inputs: mx.array) -> mx.array:
        """Normalize inputs of any shape."""
        x = _wide(inputs)
        axes = [a % x.ndim for a in self.axis]
        if axes == [x.ndim - 1]:
            gamma, beta = (
                None if a is None else a.astype(x.dtype) for a in (self.gamma, self.beta)
            )
            return layer_norm(x, gamma, beta, self.epsilon).astype(self.compute_type)
        wide = [size if a in axes else 1 for a, size in enumerate(x.shape)]
        mean = mx.mean(x, axis=axes, keepdims=True)
        variance = mx.mean(mx.square(x - mean), axis=axes, keepdims=True)
        y: mx.array = (x - mean) * mx.rsqrt(variance + self.epsilon)
        if self.gamma is not None:
            y = y * self.gamma.astype(x.dtype).reshape(wide)
        if self.beta is not None:
            y = y + self.beta.astype(x.dtype).reshape(wide)
        return y.astype(self.compute_type)

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return the input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        own = {name: getattr(self, name) for name in ("axis", "epsilon", "center", "scale")}
        return {**super().get_config(), **own, "rms_scaling": False, **self._parts_config()}


@keras_export("keras.layers")
class UnitNormalization(Layer):
    """Scales each sample to an L2 norm of 1 over one or more axes.

    Args:
        axis: integer, or a list of them. Default: -1.
        kwargs: the arguments of Layer.

    Source: keras.layers.UnitNormalization 3.15.
    """

    supports_masking = True

    def __init__(self, axis: Any = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.axis = _axes(axis)
        self.built = True

    def call(self, inputs: mx.array) -> mx.array:
        """Normalize inputs of any shape."""
        return unit(inputs, self.axis)

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return the input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        return {**super().get_config(), "axis": self.axis}


def unit(x: mx.array, axis: Any, epsilon: float = 1e-12) -> mx.array:
    """Return ``x`` over its L2 norm along one or more axes, ``epsilon`` at least."""
    wide = _wide(x)
    squares = mx.sum(mx.square(wide), axis=axis, keepdims=True)
    return (wide * mx.rsqrt(mx.maximum(squares, epsilon**2))).astype(x.dtype)
