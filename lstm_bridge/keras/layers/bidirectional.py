"""``keras.layers.Bidirectional``: a layer forwards, a layer backwards, and their outputs merged.

Shape letters: N batch, L length, H hidden.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import mlx.core as mx

from lstm_bridge.errors import UsageError
from lstm_bridge.keras.layers import call_spec
from lstm_bridge.keras.layers.call_spec import Shape
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.layers.state import flat
from lstm_bridge.keras.layers.wrapper import check_layer
from lstm_bridge.keras.saving import (
    custom_object_scope,
    deserialize_keras_object,
    keras_export,
    serialize_keras_object,
)

_MERGE_MODES = ("sum", "mul", "ave", "concat", None)
_COMMON = ("stateful", "return_sequences", "return_state")


@keras_export("keras.layers")
class Bidirectional(Layer):
    """Runs two layers over a sequence, one from each end.

    Args:
        layer: an RNN, or a Layer with ``go_backwards``, ``return_sequences``, ``return_state`` and
            ``stateful``. It is copied from its config, so its weights are not shared.
        merge_mode: ``"concat"``, ``"sum"``, ``"mul"``, ``"ave"``, or None for both outputs.
            Default: ``"concat"``.
        weights: accepted; see ARGUMENT_NOTES.
        backward_layer: the backward layer, used as it is. Default: a copy of ``layer`` that goes
            backwards.
        kwargs: the arguments of Layer.

    Raises:
        UsageError: an unknown merge mode, no Layer, or two layers that do not fit together.

    Source: keras.layers.Bidirectional 3.15.
    """

    ARGUMENT_NOTES: ClassVar[dict[str, str]] = {
        **Layer.ARGUMENT_NOTES,
        "weights": "no effect here, because Keras 3 keeps the list and never loads it: use "
        "set_weights",
    }
    supports_masking = True

    def __init__(
        self,
        layer: Layer,
        merge_mode: str | None = "concat",
        weights: Any = None,
        backward_layer: Layer | None = None,
        **kwargs: Any,
    ) -> None:
        original: Any = check_layer("layer", layer)
        if merge_mode not in _MERGE_MODES:
            raise UsageError("merge_mode", expected=f"one of {_MERGE_MODES}", got=repr(merge_mode))
        super().__init__(**kwargs)
        self.forward_layer: Any = _copy(original, "forward_")
        if backward_layer is None:
            self.backward_layer: Any = _copy(original, "backward_", go_backwards=True)
        else:
            self.backward_layer = check_layer("backward_layer", backward_layer)
        for one in (self.forward_layer, self.backward_layer):
            if hasattr(original, "use_cudnn"):  # not in the config
                one.use_cudnn = original.use_cudnn
        self._check_pair()
        for one in (self.forward_layer, self.backward_layer):
            if getattr(one, "zero_output_for_mask", None) is not None:
                one.zero_output_for_mask = one.return_sequences
        self.merge_mode = merge_mode
        self.stateful = original.stateful
        self.return_sequences = original.return_sequences
        self.return_state = original.return_state
        self.input_ndim = original.input_ndim

    def _check_pair(self) -> None:
        forward, backward = self.forward_layer, self.backward_layer
        if forward.go_backwards == backward.go_backwards:
            raise UsageError(
                "backward_layer go_backwards",
                expected=f"{not forward.go_backwards}, unlike the forward layer's",
                got=str(backward.go_backwards),
            )
        for name in _COMMON:
            if getattr(forward, name) != getattr(backward, name):
                raise UsageError(
                    f"backward_layer {name}",
                    expected=f"{getattr(forward, name)}, like the forward layer's",
                    got=str(getattr(backward, name)),
                )

    # --- shapes and building ----------------------------------------------------------------

    def build(self, sequences_shape: Shape, initial_state_shape: Shape = None) -> None:
        """Build both layers."""
        for layer in (self.forward_layer, self.backward_layer):
            if not layer.built:
                layer.build(sequences_shape)

    def compute_output_shape(
        self, sequences_shape: Shape, initial_state_shape: Shape = None
    ) -> Any:
        """Return the merged output's shape; with return_state a tuple with the states' shapes."""
        output = self.forward_layer.compute_output_shape(sequences_shape)
        states: tuple[Any, ...] = ()
        if self.return_state:
            output, *rest = output
            states = (*rest, *rest)
        if self.merge_mode is None:
            return (output, output, *states)
        if self.merge_mode == "concat":
            output = (*output[:-1], 2 * output[-1])
        return (output, *states) if self.return_state else output

    def compute_mask(self, _: Any, mask: Any) -> Any:
        """Return the sequence's mask with return_sequences, once per output."""
        mask = call_spec.leaves(mask)[0] if self.return_sequences else None
        return (mask, mask) if self.merge_mode is None else mask

    # --- states -----------------------------------------------------------------------------

    @property
    def states(self) -> tuple[Any, ...] | None:
        """Both layers' kept states, or None."""
        forward, backward = self.forward_layer.states, self.backward_layer.states
        return (*forward, *backward) if forward and backward else None

    def reset_state(self) -> None:
        """Set both layers' kept states to zero; AttributeError unless stateful, as in Keras."""
        if not self.stateful:
            raise AttributeError(f"{self.name}.reset_state: the layer must be stateful")
        self.forward_layer.reset_state()
        self.backward_layer.reset_state()

    reset_states = reset_state

    # --- running ----------------------------------------------------------------------------

    def call(
        self,
        sequences: mx.array,
        initial_state: Any = None,
        mask: mx.array | None = None,
        training: bool | None = None,
    ) -> Any:
        """Run both layers over a batch.

        Args:
            sequences: inputs, ``[N, L, D]``.
            initial_state: the forward layer's states, then the backward one's: ``[fh, fc, bh,
                bc]``. Default: zeros, or what stateful layers kept.
            mask: boolean, ``[N, L]``. Default: the mask attached to the inputs, if any.
            training: whether cells drop. Default: None.

        Returns:
            The merged output, with merge_mode None both outputs; with return_state followed by
            the forward and the backward states.
        """
        kwargs: dict[str, Any] = {}
        if self.forward_layer._call_has_training_arg and training is not None:
            kwargs["training"] = training
        if self.forward_layer._call_has_mask_arg:
            kwargs["mask"] = mask
        half = 0 if initial_state is None else len(initial_state) // 2
        starts = (None, None) if not half else (initial_state[:half], initial_state[half:])
        y, *states = self._outputs(self.forward_layer, sequences, starts[0], kwargs)
        y_back, *states_back = self._outputs(self.backward_layer, sequences, starts[1], kwargs)
        if self.return_sequences:
            y_back = y_back[:, ::-1]
        merged = self._merge(y, y_back)
        if self.return_state:
            return (*merged, *states, *states_back)
        return merged if self.merge_mode is None else merged[0]

    def _outputs(self, layer: Any, sequences: mx.array, start: Any, kwargs: Any) -> list[Any]:
        found = layer(sequences, initial_state=start, **kwargs)
        outputs = list(found) if self.return_state else [found]
        outputs[0] = outputs[0].astype(self.compute_type)
        return outputs

    def _merge(self, y: mx.array, y_back: mx.array) -> tuple[mx.array, ...]:
        if self.merge_mode == "concat":
            return (mx.concatenate([y, y_back], axis=-1),)
        if self.merge_mode == "sum":
            return (y + y_back,)
        if self.merge_mode == "ave":
            return ((y + y_back) / 2,)
        if self.merge_mode == "mul":
            return (y * y_back,)
        return (y, y_back)

    # --- configs ----------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's own form."""
        return {
            **super().get_config(),
            "merge_mode": self.merge_mode,
            "layer": serialize_keras_object(self.forward_layer),
            "backward_layer": serialize_keras_object(self.backward_layer),
        }

    @classmethod
    def _from_arguments(cls, arguments: dict[str, Any]) -> Self:
        for name in ("layer", "backward_layer"):
            if arguments.get(name) is not None:
                arguments[name] = deserialize_keras_object(arguments[name])
        return cls(**arguments)


def _copy(layer: Layer, prefix: str, **changes: Any) -> Layer:
    """A layer with the same config, its own weights, and a prefixed name."""
    config = serialize_keras_object(layer)
    name = prefix + layer.name.removeprefix(prefix)
    config["config"] = {**config["config"], **changes, "name": name}
    with custom_object_scope(_classes_in(layer)):
        copy: Layer = deserialize_keras_object(config)
    return copy


def _classes_in(layer: Any) -> dict[str, Any]:
    """The classes of a layer and of all it holds, by name: a copy may need custom ones."""
    held = [layer, *(item for value in layer.values() for item in flat(value))]
    held += [value for value in vars(layer).values() if hasattr(value, "state_size")]
    classes = {type(item).__name__: type(item) for item in held if hasattr(item, "get_config")}
    for item in held[1:]:
        if isinstance(item, Layer):
            classes |= _classes_in(item)
    return classes
