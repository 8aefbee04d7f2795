"""Whole Keras models in NumPy: the layers' oracles called as the config says, masks included.

Source: keras 3.15.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lstm_bridge.equivalence.oracle import ORACLES, computable
from lstm_bridge.equivalence.oracle.around import Array
from lstm_bridge.equivalence.oracle.keras_operations import KERAS_OPERATIONS
from lstm_bridge.equivalence.oracle.keras_wiring import (
    Call,
    Input,
    Tensor,
    Wiring,
    decoded,
    is_model,
    wiring,
)
from lstm_bridge.equivalence.oracle.keras_wrappers import under
from lstm_bridge.equivalence.oracle.seen import Recorder, Seen
from lstm_bridge.equivalence.tree import leaves
from lstm_bridge.errors import UnsupportedError

Weights = Mapping[str, Array]

_SEQUENTIAL = ("RNN", "LSTM", "GRU", "SimpleRNN", "Bidirectional", "ConvLSTM1D", "ConvLSTM2D")
_CARRY = frozenset(
    (
        *("Dense", "Activation", "ELU", "LeakyReLU", "PReLU", "ReLU", "Softmax", "Rescaling"),
        *("Dropout", "SpatialDropout1D", "GaussianDropout", "GaussianNoise", "AlphaDropout"),
        *("LayerNormalization", "BatchNormalization", "UnitNormalization", "Normalization"),
        *("TimeDistributed", "ActivityRegularization"),
    )
)
"""Layers that hand their input's mask on."""

_ELEMENTWISE = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")


class KerasOracle:
    """A Sequential or Functional model.

    Args:
        model: as serialised: class_name and config.
        weights: the weights of all layers, ``layer.weight``, models within by ``model.layer.``.

    Raises:
        UnsupportedError: a layer without an oracle.
    """

    def __init__(self, model: Mapping[str, Any], weights: Weights) -> None:
        self.wires: Wiring = wiring(model)
        self.weights = weights
        self.inner = {
            name: KerasOracle(layer, under(weights, f"{name}."))
            for name, layer in self.wires.layers.items()
            if is_model(layer)
        }
        for name, layer in self.wires.layers.items():
            kind = f"keras.layers.{layer['class_name']}"
            wrapped = layer["config"].get("layer") if isinstance(layer["config"], dict) else None
            if name in self.inner or layer["class_name"] == "InputLayer" or is_operation(layer):
                continue
            if layer["class_name"] == "TimeDistributed" and wrapped and is_model(wrapped):
                self.inner[name] = KerasOracle(wrapped, under(weights, f"{name}.layer."))
            elif not computable(kind, layer["config"]):
                raise UnsupportedError(
                    f"oracle of layer {name!r}",
                    expected="a layer and options that the NumPy oracle computes",
                    got=str(layer["class_name"]),
                )

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What the model takes."""
        return self.wires.inputs

    def part(self, path: str) -> tuple[str, Mapping[str, Any], dict[str, Array]]:
        """Return class path, options and weights of the layer at a dotted path."""
        name, layer = next(
            (n, x) for n, x in self.wires.layers.items() if f"{path}.".startswith(f"{n}.")
        )
        if name in self.inner and path != name:
            return self.inner[name].part(path.removeprefix(f"{name}."))
        return (
            f"keras.layers.{layer['class_name']}",
            layer["config"],
            under(self.weights, f"{name}."),
        )

    def vocabulary(self) -> dict[str, int]:
        """Return how many rows the table has that an input's numbers are looked up in."""
        sizes: dict[str, int] = {}
        for call in self.wires.calls.values():
            first = call.args[0]
            if not isinstance(first, Tensor):
                continue
            if self.wires.layers[call.layer]["class_name"] == "Embedding":
                sizes[first.layer] = len(self.weights[f"{call.layer}.embeddings"])
            elif call.layer in self.inner:
                rows = list(self.inner[call.layer].vocabulary().values())
                sizes |= {first.layer: rows[0]} if rows else {}
        return {i.name: sizes[i.name] for i in self.inputs if i.name in sizes}

    def __call__(self, *inputs: Any, dtype: Any = np.float64) -> Any:
        """Run the model: one array per input, or one dictionary or list of them."""
        return self.trace(inputs, dtype)[0]

    def trace(self, inputs: Sequence[Any], dtype: Any = np.float64) -> tuple[Any, list[Seen]]:
        """Run the model, and return what every layer did at its first call too."""
        run = _Run(self, {}, dtype, Recorder(), "")
        given = self._given(inputs)
        with np.errstate(all="ignore"):
            return run.outputs([_cast(value, dtype) for value in given]), run.visits.all()

    def _given(self, inputs: Sequence[Any]) -> list[Any]:
        if len(inputs) == 1 and isinstance(inputs[0], Mapping):
            return [inputs[0][i.name] for i in self.inputs]
        if len(inputs) == 1 and isinstance(inputs[0], list | tuple):
            return list(inputs[0])
        return list(inputs)


_OF_EVERY = ("name", "dtype", "trainable")


def is_operation(layer: Mapping[str, Any]) -> bool:
    """Say whether a node of a graph is a function of keras.ops."""
    # The names of layers and of operations differ, but for a few that a config tells apart.
    of_ops = ".ops." in str(layer.get("module") or "")
    return layer["class_name"] in KERAS_OPERATIONS and (
        of_ops or f"keras.layers.{layer['class_name']}" not in ORACLES
    )


def _cast(value: Any, dtype: Any) -> Array:
    array = np.asarray(value)
    # A copy: masks are kept by what array they belong to.
    return array.astype(dtype if np.issubdtype(array.dtype, np.floating) else array.dtype)


class _Run:
    """One run: values by call, masks by array."""

    def __init__(
        self,
        model: KerasOracle,
        masks: dict[int, tuple[Array, Array]],
        dtype: Any,
        visits: Recorder,
        path: str,
    ) -> None:
        self.model, self.masks, self.dtype = model, masks, dtype
        self.visits, self.path = visits, path
        self.values: dict[tuple[str, int], Any] = {}
        self.given: tuple[Any, ...] | None = None

    def outputs(self, inputs: Sequence[Any]) -> Any:
        for entry, value in zip(self.model.inputs, inputs, strict=True):
            self.values[entry.name, 0] = value
        return self._resolved(self.model.wires.outputs)

    def _resolved(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._value(value)
        if isinstance(value, Mapping):
            return {k: self._resolved(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self._resolved(v) for v in value)
        return value

    def _value(self, tensor: Tensor) -> Any:
        key = (tensor.layer, tensor.call)
        if key not in self.values:
            self.values[key] = self._called(self.model.wires.calls[key])
        found = self.values[key]
        several = isinstance(found, list | tuple)
        return leaves(found)[tensor.output] if several else found

    def _called(self, call: Call) -> Any:
        layer = self.model.wires.layers[call.layer]
        args = self._resolved(call.args)
        self.given = None
        named = self._resolved(dict(call.kwargs))
        if is_operation(layer):
            return self._operated(layer, args, named)
        if call.layer in self.model.inner and is_model(layer):
            inner = self.model.inner[call.layer]
            place = f"{self.path}{call.layer}."
            run = _Run(inner, self.masks, self.dtype, self.visits, place)
            made = run.outputs(inner._given(args))
        elif call.layer in self.model.inner:
            made = self._every_step(self.model.inner[call.layer], args[0])
        else:
            made = self._computed(call.layer, layer, args, named)
        arrays = [np.asarray(a) for a in leaves(made)]
        self.visits.add(f"{self.path}{call.layer}", str(layer["class_name"]), arrays, self.given)
        return made

    def _operated(self, layer: Mapping[str, Any], args: Any, named: Any) -> Any:
        """A function of keras.ops: what its config holds are arguments too."""
        ours = {k: v for k, v in layer["config"].items() if k not in _OF_EVERY and v is not None}
        constant = {k: decoded(v) for k, v in ours.items() if k not in named}
        made = KERAS_OPERATIONS[layer["class_name"]](*args, **constant, **named)
        single = isinstance(made, np.ndarray | np.generic)
        return _cast(made, self.dtype) if single else [_cast(v, self.dtype) for v in made]

    def _every_step(self, inner: KerasOracle, x: Array) -> Array:
        steps = [inner(x[:, t], dtype=self.dtype) for t in range(x.shape[1])]
        return np.stack(steps, axis=1)

    def _computed(self, name: str, layer: Any, args: Any, named: Any) -> Any:
        kind, options = f"keras.layers.{layer['class_name']}", layer["config"]
        weights = under(self.model.weights, f"{name}.")
        x, *rest = args
        carried = [self._mask_of(a) for a in leaves(x)]
        given = _arguments(layer["class_name"], x, rest, named, carried, self._mask_of)
        self.given = None if given[1] else tuple(given[0])
        made = ORACLES[kind](options, weights, *given[0], **given[1], dtype=self.dtype)
        # New objects, because a layer may return what it was given.
        made = tuple(a[...] for a in leaves(made)) if isinstance(made, tuple) else made[...]
        self._mark(layer["class_name"], options, x, made, carried)
        return made

    def _mask_of(self, array: Any) -> Array | None:
        held = self.masks.get(id(array))
        return None if held is None else held[1]

    def _mark(self, cls: str, o: Any, x: Any, made: Any, masks: list[Array | None]) -> None:
        mask = _mask_after(cls, o, x, masks)
        outs = leaves(made)
        count = 2 if cls == "Bidirectional" and o.get("merge_mode", "concat") is None else 1
        if mask is not None:
            for out in outs[:count]:
                self.masks[id(out)] = (out, mask)  # the array too, so that no other gets its id


def _arguments(
    cls: str,
    x: Any,
    rest: list[Any],
    named: dict[str, Any],
    masks: list[Array | None],
    mask_of: Callable[[Any], Array | None],
) -> tuple[list[Any], dict[str, Any]]:
    """What the oracle of a class is called with."""
    if cls in _SEQUENTIAL:
        state = named.get("initial_state", rest[0] if rest else None)
        if isinstance(x, list):  # Keras 2: the states stand beside the input
            x, state = x[0], x[1:]
        return [x, state, named.get("mask", masks[0])], {}
    if cls == "MultiHeadAttention":
        value, key = (*rest, None, None)[:2]
        value, key = named.pop("value", value), named.pop("key", key)
        own = {"query_mask": masks[0], "value_mask": mask_of(value), "key_mask": mask_of(key)}
        return [x, value, key], {**{k: v for k, v in own.items() if v is not None}, **named}
    if cls in ("Attention", "AdditiveAttention"):
        held = named.pop("mask", masks if any(m is not None for m in masks) else None)
        return [x, held], named
    if cls == "GlobalAveragePooling1D":
        return [x, named.get("mask", masks[0])], {}
    return [x, *rest], {k: v for k, v in named.items() if k != "mask"}


def _mask_after(cls: str, o: Any, x: Any, masks: list[Array | None]) -> Array | None:
    """The mask of what a layer returns."""
    if cls == "Embedding":
        return np.asarray(x) != 0 if o.get("mask_zero") else None
    if cls == "Masking":
        return np.asarray((x != o.get("mask_value", 0.0)).any(axis=-1))
    if cls in ("Attention", "AdditiveAttention", "MultiHeadAttention") or cls in _CARRY:
        return masks[0]
    if cls in _SEQUENTIAL:
        inner = o["layer"]["config"] if "layer" in o else o
        return masks[0] if inner.get("return_sequences") else None
    if o.get("masks") == "all" and cls in (*_ELEMENTWISE, "Concatenate"):
        return _older_mask(cls, o, x, masks)
    if cls in _ELEMENTWISE:
        return None if any(m is None for m in masks) else np.any(np.stack(masks), axis=0)  # type: ignore[arg-type]
    if cls == "Concatenate" and any(m is not None for m in masks):
        wide = [
            np.ones(a.shape, bool) if m is None else np.broadcast_to(m[..., None], a.shape)
            for a, m in zip(x, masks, strict=True)
        ]
        return np.asarray(np.concatenate(wide, axis=o.get("axis", -1)).any(axis=-1))
    return None


def _older_mask(cls: str, o: Any, xs: Any, masks: list[Array | None]) -> Array | None:
    """The mask of a merging layer before Keras 3: a step counts where all inputs say so."""
    known = [m for m in masks if m is not None]
    if not known:
        return None
    if cls in _ELEMENTWISE:
        return np.asarray(np.all(np.stack(known), axis=0))
    wide = [
        np.broadcast_to(True if m is None else m[..., None], a.shape)
        for a, m in zip(xs, masks, strict=True)
    ]
    return np.asarray(np.concatenate(wide, axis=o.get("axis", -1)).all(axis=-1))
