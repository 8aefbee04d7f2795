"""What a Keras model shows of itself: its layers, shapes, weights and summary."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from lstm_bridge.errors import UsageError
from lstm_bridge.keras.layers.state import assign_all
from lstm_bridge.models.keras.nest import in_order
from lstm_bridge.models.keras.summary import summary_text
from lstm_bridge.models.whole import Model


class InputLayer(NamedTuple):
    """The layer that stands for an input of a Functional model.

    Source: keras.layers.InputLayer 3.15.
    """

    name: str
    batch_shape: tuple[int | None, ...]
    dtype: str
    weights: tuple[Any, ...] = ()
    trainable: bool = True
    built: bool = True

    def count_params(self) -> int:
        """Return 0."""
        return 0

    def get_weights(self) -> list[Any]:
        """Return none."""
        return []


class TensorSpec(NamedTuple):
    """What is known of an input or output before the model runs."""

    name: str
    shape: tuple[int | None, ...]


class Surface(Model):
    """What can be asked of a Keras model without running it."""

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self._options.get("name", "model"))

    @property
    def built(self) -> bool:
        """True: a model that a config describes has all its weights."""
        return True

    # --- layers --------------------------------------------------------------------------------

    @property
    def layers(self) -> Any:
        """The layers in the order of the file; of a Functional model with its InputLayers."""
        modules = {part.path: part.module for part in self.parts}
        inputs = {str(i["name"]): _input_layer(i) for i in self._options["inputs"]}
        known: Mapping[str, Any] = {**inputs, **modules}
        order = self._options.get("layers")
        names = [str(entry["name"]) for entry in order] if order else list(modules)
        return [known[name] for name in names if name in known]

    def get_layer(self, name: str | None = None, index: int | None = None) -> Any:
        """Return a layer by its name, or by its place in ``layers``.

        Raises:
            UsageError: there is none, or neither or both were given.
        """
        if (name is None) == (index is None):
            raise UsageError("get_layer", expected="a name or an index", got="neither or both")
        layers = self.layers
        if index is not None and -len(layers) <= index < len(layers):
            return layers[index]
        # A part lies under the file's name for it, which may have a slash that no layer may have.
        named = {**{_name(one): one for one in layers}, **{p.path: p.module for p in self.parts}}
        if name in named:
            return named[name]
        known = ", ".join(named)
        expected = f"an index below {len(layers)}" if name is None else f"one of {known}"
        raise UsageError("get_layer", expected=expected, got=repr(index if name is None else name))

    def reset_states(self) -> None:
        """Set the states that stateful layers keep between calls to zero."""
        for module in self.modules():
            if getattr(module, "stateful", False) and hasattr(module, "reset_state"):
                module.reset_state()

    # --- inputs and outputs --------------------------------------------------------------------

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs, in the order in which a list of them is taken."""
        return list(self._graph.inputs)

    @property
    def inputs(self) -> list[TensorSpec]:
        """The inputs' names and shapes."""
        return [TensorSpec(str(i["name"]), tuple(i["shape"])) for i in self._options["inputs"]]

    @property
    def input_shape(self) -> Any:
        """The input's shape, or a list of them."""
        shapes = [spec.shape for spec in self.inputs]
        return shapes[0] if len(shapes) == 1 else shapes

    @property
    def output_shape(self) -> Any:
        """The output's shape, or a nest of them as the model returns it."""
        return _tupled(self._options["output_shapes"])

    @property
    def outputs(self) -> list[TensorSpec]:
        """The outputs' shapes, by the nodes of the graph that they come from."""
        found = in_order(self._graph.nodes[-1].args[0])
        shapes = _each_shape(self._options["output_shapes"])
        if len(found) != len(shapes):  # one node that returns several
            found = found * len(shapes)
        return [TensorSpec(ref.node, s) for ref, s in zip(found, shapes, strict=True)]

    # --- weights -------------------------------------------------------------------------------

    @property
    def weights(self) -> list[Any]:
        """All weights, layer by layer."""
        return [w for layer in self.layers for w in layer.weights]

    @property
    def trainable_weights(self) -> list[Any]:
        """The weights an optimizer may change, layer by layer."""
        return self._of_layers("trainable_weights")

    @property
    def non_trainable_weights(self) -> list[Any]:
        """The weights an optimizer may not change: those of such a kind, then those frozen."""
        return self._of_layers("non_trainable_weights")

    def _of_layers(self, which: str) -> list[Any]:
        return [w for layer in self.layers for w in getattr(layer, which, ())]

    def get_weights(self) -> list[Any]:
        """Return NumPy copies of ``weights``."""
        return [weight.numpy() for weight in self.weights]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Replace the values of ``weights``, in order.

        Raises:
            UsageError: another number of arrays.
            ShapeError: an array of another shape.
        """
        assign_all(self.name, self.weights, weights)

    @property
    def trainable(self) -> bool:
        """Whether any layer is trained; setting it reaches all of them."""
        return any(part.module.trainable for part in self.parts)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for part in self.parts:
            part.module.trainable = value

    def count_params(self) -> int:
        """Return the number of scalars in all weights."""
        return sum(math.prod(weight.shape) for weight in self.weights)

    # --- losses --------------------------------------------------------------------------------

    @property
    def losses(self) -> list[Any]:
        """Penalties of the last call and of the weights, as scalars to add to the loss."""
        return [loss for part in self.parts for loss in part.module.losses]

    def _clear_losses(self) -> None:
        for part in self.parts:
            part.module._clear_losses()

    # --- as text -------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """Return the config that the model was made from.

        Raises:
            UsageError: it is a part of the model that was.
        """
        config = self._serialized()["config"]
        return dict(config) if isinstance(config, Mapping) else {"layers": config}

    def to_json(self) -> str:
        """Return the architecture that the model was made from, as JSON.

        Raises:
            UsageError: as for ``get_config``.
        """
        return json.dumps(
            {**self._serialized(), "keras_version": self._options["keras"]["version"]}
        )

    def _serialized(self) -> Mapping[str, Any]:
        known: Mapping[str, Any] | None = self._options.get("keras")
        if known is None:
            raise UsageError(
                f"{self.name}.get_config", expected="a model made from a Keras config",
                got="a part of one", fix="ask the model around it; describe() has the graph",
            )  # fmt: skip
        config: Mapping[str, Any] = known["config"]
        return config

    def summary(
        self,
        line_length: int | None = None,
        positions: Sequence[float] | None = None,
        print_fn: Callable[[str], Any] = print,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: Sequence[str] | None = None,
    ) -> None:
        """Print the layers, their output shapes, their numbers of weights and what they read.

        Args:
            line_length: width of the table. Default: Keras's, no wider than the terminal.
            positions: where each column ends, as a part of the width. Default: Keras's.
            print_fn: called with the text. Default: print.
            expand_nested: also show the layers of nested models. Default: False.
            show_trainable: a column that says which layers are trained. Default: False.
            layer_range: regular expressions for the names of the first and the last layer to
                show. Default: None, all.

        Raises:
            UsageError: no layer has a name of the range.
        """
        print_fn(
            summary_text(self, line_length, positions, expand_nested, show_trainable, layer_range)
        )


def _input_layer(about: Mapping[str, Any]) -> InputLayer:
    return InputLayer(str(about["name"]), tuple(about["shape"]), str(about["dtype"]))


def _name(layer: Any) -> str:
    return str(layer.name)


def _is_shape(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(n is None or isinstance(n, int) for n in value)


def _tupled(shapes: Any) -> Any:
    if _is_shape(shapes):
        return tuple(shapes)
    if isinstance(shapes, Mapping):
        return {k: _tupled(v) for k, v in shapes.items()}
    return [_tupled(s) for s in shapes]


def _each_shape(shapes: Any) -> list[tuple[int | None, ...]]:
    if _is_shape(shapes):
        return [tuple(shapes)]
    inner = [shapes[k] for k in sorted(shapes)] if isinstance(shapes, Mapping) else shapes
    return [one for s in inner for one in _each_shape(s)]
