"""The base of all layers: Keras's life cycle on an mlx.nn.Module.

A layer is an ordinary MLX module: its weights are parameters under Keras's own names
(``cell.kernel``), trainable with ``mlx.optimizers`` and loadable with ``load_weights``.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import mlx.core as mx

from lstm_bridge.core.arrays import as_array
from lstm_bridge.errors import ShapeError, UnsupportedError, UsageError, quote
from lstm_bridge.keras import regularizers
from lstm_bridge.keras.layers import call_spec
from lstm_bridge.keras.layers.call_spec import Shape
from lstm_bridge.keras.layers.state import StateHolder
from lstm_bridge.keras.masks import get_keras_mask, set_keras_mask
from lstm_bridge.keras.naming import auto_name, name_scope
from lstm_bridge.keras.saving import custom_object_scope, serialize_keras_object


def _finishing(build: Callable[..., Any]) -> Callable[..., Any]:
    """Make the outermost ``build`` of a layer record its shapes and mark the layer as built."""

    @functools.wraps(build)
    def wrapper(self: Layer, *args: Any, **kwargs: Any) -> None:
        if self._building:  # reached by super().build()
            build(self, *args, **kwargs)
            return
        self._building = True
        try:
            with name_scope(self.name, self) as path:
                self._path = path
                build(self, *args, **kwargs)
        finally:
            self._building = False
        bound = call_spec.signature_of(build).bind(*args, **kwargs).arguments
        object.__setattr__(self, "_build_shapes", dict(bound))
        self.built = True
        if not self._trainable:
            self.trainable = False  # freezes what now exists

    return wrapper


class Layer(StateHolder):
    """What every Keras layer has: building, masks, losses, configs, weights with names.

    Args:
        activity_regularizer: penalty on the outputs, divided by the batch size. Default: None.
        trainable: False freezes all weights. Default: True.
        dtype: a dtype's name, an mx.Dtype, a policy's name (``"mixed_bfloat16"``), a DTypePolicy
            or its config. Default: float32.
        autocast: cast floating inputs to the compute dtype. Default: True.
        name: the layer's name. Default: the class's, numbered.

    Raises:
        UsageError: an unknown argument or a value of the wrong kind.

    Source: keras.layers.Layer 3.15.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {
        "trainable": "same; it also freezes and unfreezes the module for mlx.nn.value_and_grad",
        "dtype": "same; float64 exists on MLX's CPU only, quantized policies are refused",
    }

    supports_masking: bool = False
    input_ndim: int | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "build" in cls.__dict__:
            cls.build = _finishing(cls.__dict__["build"])  # type: ignore[method-assign]

    def __init__(
        self,
        *,
        activity_regularizer: Any = None,
        trainable: bool = True,
        dtype: Any = None,
        autocast: bool = True,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        name = auto_name(type(self).__name__) if name is None else name
        if not isinstance(name, str) or "/" in name:
            raise UsageError("name", expected="a string without '/'", got=repr(name))
        if not isinstance(trainable, bool):
            raise UsageError("trainable", expected="a boolean", got=repr(trainable))
        _take_input_shape(type(self).__name__, kwargs)
        if kwargs:
            raise UsageError(
                type(self).__name__, expected="known arguments", got=", ".join(map(quote, kwargs))
            )
        super().__init__(name, trainable, dtype)
        self.autocast = autocast
        self.built = False
        self._building = False
        self.activity_regularizer = regularizers.get(activity_regularizer)

    @property
    def path(self) -> str | None:
        """Names of the layers around this one and its own; None before it is built."""
        return self._path

    @_finishing
    def build(self, input_shape: Shape) -> None:
        """Create the weights for inputs of a shape; a layer without weights has nothing to do."""

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the outputs; ``__call__`` builds, casts and handles masks around it."""
        raise NotImplementedError(f"Layer {type(self).__name__} does not have a `call()` method")

    @property
    def _call_has_training_arg(self) -> bool:
        return "training" in call_spec.parameters_of(type(self).call)

    @property
    def _call_has_mask_arg(self) -> bool:
        return "mask" in call_spec.parameters_of(type(self).call)

    def _convert(self, x: Any) -> Any:
        """Array-likes to mx.array, floating ones cast to the compute dtype; masks stay attached."""
        if not (isinstance(x, mx.array) or hasattr(x, "__array__") or hasattr(x, "__dlpack__")):
            return x
        dtype = self.compute_type
        wide = dtype == mx.float64 and str(getattr(x, "dtype", "")).endswith("float64")
        y = as_array(x, f"{self.name} input", dtype if wide else None)
        if self.autocast and mx.issubdtype(y.dtype, mx.floating) and y.dtype != dtype:
            y = y.astype(dtype)
        mask = get_keras_mask(x)
        if mask is not None and y is not x:
            set_keras_mask(y, mask)
        return y

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Build if needed, then compute the outputs of ``call``."""
        convert = functools.partial(call_spec.map_leaves, self._convert)
        args = tuple(convert(value) for value in args)
        kwargs = {key: convert(value) for key, value in kwargs.items()}
        for value in (leaf for arg in args for leaf in call_spec.leaves(arg)):
            if value is not None and not isinstance(value, mx.array):
                raise UsageError(
                    f"{self.name} input", expected="arrays", got=repr(value),
                    fix="pass what is no array as a keyword argument",
                )  # fmt: skip
        training = kwargs.pop("training", training_default := call_spec.training_context.get())
        bound = call_spec.signature_of(type(self).call).bind(*args, **kwargs)
        tensors = call_spec.tensor_arguments(bound.arguments)
        first = next(iter(bound.arguments.values()), None)
        self._check_ndim(first)
        if not self.built:
            with name_scope(self.name, self):
                type(self).build(self, **call_spec.shape_arguments(type(self).build, tensors))
            self.built = True
        previous_mask = self._fill_mask(bound.arguments, tensors, first)
        if self._call_has_training_arg and training is not None:
            bound.arguments["training"] = training
        outputs = self._run(bound, training if training is not None else training_default)
        self._pass_mask_on(first, outputs, previous_mask)
        return outputs

    def _check_ndim(self, first: Any) -> None:
        wanted = self.input_ndim
        if wanted is not None and isinstance(first, mx.array) and first.ndim != wanted:
            raise ShapeError(
                f"{self.name} input", expected=f"{wanted} axes", got=f"shape {list(first.shape)}"
            )

    def _fill_mask(self, arguments: dict[str, Any], tensors: dict[str, Any], first: Any) -> Any:
        """Give ``call`` the masks attached to its arrays; return the mask that now holds.

        An only array's goes to ``mask``, those of several to ``query_mask``, ``value_mask`` …
        """
        accepted = call_spec.parameters_of(type(self).call)
        for name, value in tensors.items():
            taker = "mask" if len(tensors) == 1 else f"{name}_mask"
            if taker in accepted and arguments.get(taker) is None:
                mask = call_spec.map_leaves(get_keras_mask, value)
                if mask is not None:
                    arguments[taker] = mask
        if arguments.get("mask") is not None:
            return arguments["mask"]
        return call_spec.map_leaves(get_keras_mask, first)

    def _run(self, bound: inspect.BoundArguments, training: Any) -> Any:
        """Call ``call`` inside the contexts that inner layers look at; add the activity loss."""
        depth = call_spec.call_depth.get()
        if depth == 0:
            self._clear_losses()
        deeper = call_spec.call_depth.set(depth + 1)
        inherited = call_spec.training_context.set(training)
        try:
            with name_scope(self.name, self):
                outputs = self.call(*bound.args, **bound.kwargs)
        finally:
            call_spec.training_context.reset(inherited)
            call_spec.call_depth.reset(deeper)
        if self.activity_regularizer is not None:
            for output in call_spec.leaves(outputs):
                self.add_loss(self.activity_regularizer(output) / max(1, output.shape[0]))
        return outputs

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """Return the outputs' mask; a layer without ``supports_masking`` passes none on."""
        return previous_mask

    def _pass_mask_on(self, first: Any, outputs: Any, previous_mask: Any) -> None:
        if self.supports_masking:
            masks = self.compute_mask(first, previous_mask)
            for output, mask in zip(
                call_spec.leaves(outputs), call_spec.leaves(masks), strict=False
            ):
                if mask is not None and get_keras_mask(output) is None:
                    set_keras_mask(output, mask)
        elif any(mask is not None for mask in call_spec.leaves(previous_mask)):
            warnings.warn(
                f"Layer '{self.name}' ({type(self).__name__}) was passed an input with a mask, "
                "does not support masking, and loses it: later layers will not see the mask.",
                stacklevel=3,
            )

    def compute_output_shape(self, input_shape: Shape) -> Any:
        """Return the shape of the outputs for inputs of a shape."""
        raise NotImplementedError(f"Layer {type(self).__name__} has no compute_output_shape()")

    @property
    def metrics(self) -> list[Any]:
        """None: what Keras's compile() would measure is measured by the training loop here."""
        return []

    def quantize(self, mode: Any = None, type_check: bool = True, config: Any = None) -> None:
        """Refuse: MLX packs weights by itself.

        Raises:
            UnsupportedError: always, with what to call instead.
        """
        raise UnsupportedError(
            f"{self.name}.quantize", expected="mlx.nn.quantize", got=f"quantize({mode!r})",
            fix="call mlx.nn.quantize(layer), which packs weights as MLX does",
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<{type(self).__name__} name={self.name}, built={self.built}>"

    # --- configs ----------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        config: dict[str, Any] = {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": serialize_keras_object(self.dtype_policy),
        }
        if self.activity_regularizer is not None:
            config["activity_regularizer"] = regularizers.serialize(self.activity_regularizer)
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> Self:
        """Make a layer from a config of Keras 2 or 3.

        Args:
            config: what ``get_config`` returned, here or in Keras.
            custom_objects: classes and functions that the config names.

        Raises:
            UnsupportedError: an entry that cannot be honoured.
            UsageError: an unknown entry.
        """
        arguments, shape = current_arguments(cls.__name__, config)
        with custom_object_scope(custom_objects):
            layer = cls._from_arguments(arguments)
        if shape is not None:
            layer.build(shape)
        return layer

    @classmethod
    def _from_arguments(cls, arguments: dict[str, Any]) -> Self:
        return cls(**arguments)

    def get_build_config(self) -> dict[str, Any] | None:
        """Return the shapes ``build`` was called with; None before that."""
        shapes = self._build_shapes
        if not shapes:
            return None
        if len(shapes) == 1:
            return {"input_shape": next(iter(shapes.values()))}
        return {"shapes_dict": dict(shapes)}

    def build_from_config(self, config: Mapping[str, Any]) -> None:
        """Build with the shapes of ``get_build_config``."""
        if "input_shape" in config:
            self.build(config["input_shape"])
        elif "shapes_dict" in config:
            self.build(**config["shapes_dict"])


def _take_input_shape(owner: str, kwargs: dict[str, Any]) -> None:
    """Accept Keras's deprecated ``input_shape`` and ``input_dim`` with its warning."""
    given = [key for key in ("input_dim", "input_shape") if kwargs.pop(key, None) is not None]
    if given:
        warnings.warn(
            f"Do not pass {given[0]} to {owner}: it is built from its first input.", stacklevel=4
        )


def current_arguments(owner: str, config: Mapping[str, Any]) -> tuple[dict[str, Any], Shape]:
    """Translate a config's Keras 2 entries; return arguments and the shape to build with, if any.

    ``batch_input_shape`` builds the layer; ``time_major`` and ``ragged`` are honoured when False.

    Raises:
        UnsupportedError: an old entry that asks for something that cannot be honoured.
    """
    arguments = dict(config)
    for key, fix in _ONLY_FALSE.items():
        if arguments.pop(key, False):
            raise UnsupportedError(f"{owner} {key}", expected="False", got="True", fix=fix)
    shape = arguments.pop("batch_input_shape", None)
    return arguments, None if shape is None else tuple(shape)


_ONLY_FALSE = {
    "time_major": "transpose inputs and outputs to (time, batch, features) yourself",
    "ragged": "pad the rows and pass a mask",
}
"""Keras 2 entries that only say what is the case anyway, unless they are True."""
