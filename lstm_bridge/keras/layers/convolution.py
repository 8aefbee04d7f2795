"""Keras's convolutions; channels last inside, and the core's convolution for all of them.

Shape letters: N batch, C channels, F filters.
"""

from __future__ import annotations

from typing import Any, ClassVar

import mlx.core as mx

from lstm_bridge.core.affine import affine
from lstm_bridge.core.convolution import conv
from lstm_bridge.errors import ShapeError, UsageError
from lstm_bridge.keras import activations
from lstm_bridge.keras.layers.call_spec import Shape
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.layers.parts import (
    REFUSED_LORA,
    WeightedLayer,
    notes_on,
    positive,
    refuse_extras,
)
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


class ConvLayer(WeightedLayer):
    """What all convolutions share; sub-classes say how many axes they have and how they convolve.

    Args:
        arguments: the sub-class's constructor arguments, by name.
        kwargs: the arguments of Layer.
    """

    RANK: ClassVar[int]
    PADDINGS: ClassVar[tuple[str, ...]] = ("valid", "same")

    def __init__(self, arguments: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(activity_regularizer=arguments["activity_regularizer"], **kwargs)
        self._take(arguments)
        self.input_ndim = self.RANK + 2
        self.filters = positive("filters", arguments["filters"])
        for name in ("kernel_size", "strides", "dilation_rate"):
            setattr(self, name, per_axis(name, arguments[name], self.RANK))
        self.padding = padding_of(arguments["padding"], self.PADDINGS)
        self.data_format = data_format_of(arguments["data_format"])
        self.activation = activations.get(arguments["activation"])
        self.use_bias = arguments["use_bias"]
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise UsageError("strides", expected="1 with a dilation_rate", got=str(self.strides))

    def _channels(self, input_shape: Shape) -> int:
        return int(split_shape(input_shape, self.data_format)[2])

    def _convolve(self, x: mx.array, bias: mx.array | None, activation: Any) -> mx.array:
        """Convolve channels-last inputs; the activation, if any, is of their format."""
        raise NotImplementedError

    def call(self, inputs: mx.array) -> mx.array:
        """Convolve.

        Args:
            inputs: ``[N, *spatial, C]``, or channels first as ``data_format`` says.

        Returns:
            ``[N, *spatial', F]``, in the same format.
        """
        x = to_last(inputs, self.data_format)
        bias = None if self.bias is None else self._weight("bias")
        if self.data_format == "channels_last":
            return self._convolve(x, bias, self.activation)
        y = from_last(self._convolve(x, bias, None), self.data_format)
        return self.activation(y)  # type: ignore[no-any-return]

    def _weight(self, name: str) -> mx.array:
        return self[name].astype(self.compute_type)  # type: ignore[no-any-return]

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return the shape of the outputs; ShapeError where no window fits."""
        batch, sizes, _ = split_shape(input_shape, self.data_format)
        counts = window_counts(
            sizes, self.kernel_size, self.strides, self.padding, self.dilation_rate
        )
        if any(count is not None and count <= 0 for count in counts):
            raise ShapeError(
                f"{self.name} input",
                expected=f"axes of {self.kernel_size} at least",
                got=f"shape {list(input_shape)}",
            )
        return join_shape(batch, counts, self.filters, self.data_format)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        names = ("filters", "kernel_size", "strides", "padding", "data_format", "dilation_rate")
        return {
            "activity_regularizer": None,
            **super().get_config(),
            **{name: getattr(self, name) for name in names},
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
            **self._parts_config(),
        }


class _Conv(ConvLayer):
    """A convolution with one kernel ``[*kernel_size, C / groups, F]``."""

    def __init__(self, arguments: dict[str, Any], **kwargs: Any) -> None:
        refuse_extras(lora_rank=arguments["lora_rank"], lora_alpha=arguments["lora_alpha"])
        super().__init__(arguments, **kwargs)
        self.groups = positive("groups", arguments["groups"])
        if self.filters % self.groups:
            raise UsageError(
                "filters", expected=f"a multiple of groups={self.groups}", got=str(self.filters)
            )

    def build(self, input_shape: Shape) -> None:
        """Create ``kernel`` and ``bias`` for inputs of a shape."""
        channels = self._channels(input_shape)
        if channels % self.groups:
            raise ShapeError(
                f"{self.name} input",
                expected=f"a multiple of {self.groups} channels",
                got=str(channels),
            )
        self.compute_output_shape(input_shape)
        self._add("kernel", (*self.kernel_size, channels // self.groups, self.filters))
        if self.use_bias:
            self._add("bias", (self.filters,))
        else:
            self.bias = None

    def _convolve(self, x: mx.array, bias: mx.array | None, activation: Any) -> mx.array:
        return conv(
            x,
            self._weight("kernel"),
            bias,
            activation,
            strides=self.strides,
            padding=self.padding,
            dilations=self.dilation_rate,
            groups=self.groups,
        )

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        return {**super().get_config(), "groups": self.groups}


_NOTES = {**Layer.ARGUMENT_NOTES, **notes_on("kernel", "bias"), **REFUSED_LORA}


@keras_export("keras.layers")
class Conv1D(_Conv):
    """A convolution over ``[N, L, C]``; ``kernel [kernel_size, C / groups, F]``.

    Args:
        filters: F, a positive integer.
        kernel_size: length of the window.
        strides: step of the window. Default: 1.
        padding: ``"valid"``, ``"same"`` or ``"causal"``. Default: ``"valid"``.
        data_format: ``"channels_last"`` or ``"channels_first"``. Default: channels last.
        dilation_rate: distance between a window's elements. Default: 1.
        groups: groups of channels convolved apart. Default: 1.
        activation: of the output. Default: None, the identity.
        use_bias: whether there is a bias. Default: True.
        kernel_initializer: of ``kernel``. Default: ``"glorot_uniform"``.
        bias_initializer: of ``bias``. Default: ``"zeros"``.
        kernel_regularizer: penalty on ``kernel``. Default: None.
        bias_regularizer: penalty on ``bias``. Default: None.
        activity_regularizer: penalty on the output, divided by the batch size. Default: None.
        kernel_constraint: projection of ``kernel``. Default: None.
        bias_constraint: projection of ``bias``. Default: None.
        kwargs: the arguments of Layer.

    Source: keras.layers.Conv1D 3.15.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = _NOTES
    RANK = 1
    PADDINGS = ("valid", "same", "causal")

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        arguments = dict(locals())
        for name in ("lora_rank", "lora_alpha"):
            arguments[name] = kwargs.pop(name, None)
        super().__init__(arguments, **kwargs)


@keras_export("keras.layers")
class Conv2D(_Conv):
    """A convolution over ``[N, rows, columns, C]``; see Conv1D for the arguments.

    Args:
        filters: F, a positive integer.
        kernel_size: rows and columns of the window, or one number for both.
        strides: see Conv1D, like all that follow. Default: 1.
        padding: ``"valid"`` or ``"same"``. Default: ``"valid"``.
        kwargs: the arguments of Layer.

    Source: keras.layers.Conv2D 3.15.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = _NOTES
    RANK = 2

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = (1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = (1, 1),
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        arguments = dict(locals())
        for name in ("lora_rank", "lora_alpha"):
            arguments[name] = kwargs.pop(name, None)
        super().__init__(arguments, **kwargs)


@keras_export("keras.layers")
class SeparableConv1D(ConvLayer):
    """A convolution of each channel apart, then one across channels.

    ``depthwise_kernel [kernel_size, C, depth_multiplier]``, ``pointwise_kernel
    [1, C · depth_multiplier, F]``.

    Args:
        filters: F, a positive integer.
        kernel_size: length of the window.
        strides: step of the window. Default: 1.
        padding: ``"valid"``, ``"same"`` or ``"causal"``. Default: ``"valid"``.
        data_format: ``"channels_last"`` or ``"channels_first"``. Default: channels last.
        dilation_rate: distance between a window's elements. Default: 1.
        depth_multiplier: outputs per channel of the first convolution. Default: 1.
        activation: of the output. Default: None, the identity.
        use_bias: whether there is a bias. Default: True.
        depthwise_initializer: of ``depthwise_kernel``. Default: ``"glorot_uniform"``.
        pointwise_initializer: of ``pointwise_kernel``. Default: ``"glorot_uniform"``.
        bias_initializer: of ``bias``. Default: ``"zeros"``.
        depthwise_regularizer: penalty on ``depthwise_kernel``. Default: None.
        pointwise_regularizer: penalty on ``pointwise_kernel``. Default: None.
        bias_regularizer: penalty on ``bias``. Default: None.
        activity_regularizer: penalty on the output, divided by the batch size. Default: None.
        depthwise_constraint: projection of ``depthwise_kernel``. Default: None.
        pointwise_constraint: projection of ``pointwise_kernel``. Default: None.
        bias_constraint: projection of ``bias``. Default: None.
        kwargs: the arguments of Layer.

    Source: keras.layers.SeparableConv1D 3.15.
    """

    PARTS = ("depthwise", "pointwise", "bias")
    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {**Layer.ARGUMENT_NOTES, **notes_on(*PARTS)}
    RANK = 1
    PADDINGS = ("valid", "same", "causal")

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        depth_multiplier: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        pointwise_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(dict(locals()), **kwargs)
        self.depth_multiplier = positive("depth_multiplier", depth_multiplier)

    def build(self, input_shape: Shape) -> None:
        """Create the two kernels and ``bias`` for inputs of a shape."""
        channels = self._channels(input_shape)
        self.compute_output_shape(input_shape)
        depth = (*self.kernel_size, channels, self.depth_multiplier)
        self._add("depthwise_kernel", depth, "depthwise")
        point = (1, channels * self.depth_multiplier, self.filters)
        self._add("pointwise_kernel", point, "pointwise")
        if self.use_bias:
            self._add("bias", (self.filters,))
        else:
            self.bias = None

    def _convolve(self, x: mx.array, bias: mx.array | None, activation: Any) -> mx.array:
        depth = self._weight("depthwise_kernel")
        K, channels, multiplier = depth.shape
        y = conv(
            x,
            depth.reshape(K, 1, channels * multiplier),
            strides=self.strides,
            padding=self.padding,
            dilations=self.dilation_rate,
            groups=channels,
        )
        return affine(y, self._weight("pointwise_kernel")[0], bias, activation, turned=True)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        return {**super().get_config(), "depth_multiplier": self.depth_multiplier}
