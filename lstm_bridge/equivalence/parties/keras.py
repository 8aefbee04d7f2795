"""A live Keras layer as a party, on whatever backend Keras runs, and one built from options."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from lstm_bridge.equivalence.inputs import InputSpec
from lstm_bridge.equivalence.kinds import SEQUENTIAL, L, N
from lstm_bridge.equivalence.oracle import computable
from lstm_bridge.equivalence.oracle.keras_model import KerasOracle
from lstm_bridge.equivalence.parties.base import Array, Gradients, Party
from lstm_bridge.equivalence.parties.find import kind_of
from lstm_bridge.equivalence.parties.watch import Visit, watched
from lstm_bridge.equivalence.tree import apply, leaves, rebuild
from lstm_bridge.errors import UnsupportedError


def keras_party(layer: Any, dtype: str | None = None) -> Party:
    """Return a built Keras layer or model as a party; it is run with training=False.

    Args:
        layer: the layer.
        dtype: run a copy of it in this dtype. Default: as it is.
    """
    import keras

    layer = layer if dtype is None else in_dtype(layer, dtype)
    kind = kind_of(layer)
    options = layer.get_config() if kind else {}
    kind = kind if computable(kind, options) else ""
    return party_with(layer, kind, options, f"keras {keras.__version__}")


def in_dtype(layer: Any, dtype: str) -> Any:
    """Return a copy of a built layer or model whose every part computes in one dtype."""
    import keras

    def typed(value: Any) -> Any:
        if isinstance(value, Mapping):
            # The numbers come from the layer: drawing others first is slow, and in half precision
            # impossible.
            replaced = {"dtype": dtype} | {k: "zeros" for k in value if k.endswith("_initializer")}
            return {k: replaced.get(k) or typed(v) for k, v in value.items()}
        return type(value)(map(typed, value)) if isinstance(value, list | tuple) else value

    with keras.saving.custom_object_scope(_CUSTOM):
        made = type(layer).from_config(typed(layer.get_config()))
    if not made.built:
        made.build_from_config(layer.get_build_config())
    for name, variable in variables(layer).items():
        variables(made)[name].assign(variable.value)
    return made


def party_with(layer: Any, kind: str, options: Mapping[str, Any], name: str) -> Party:
    """Return a Keras layer whose kind and options are known as a party."""
    import keras

    params = {k: _to_numpy(v.value) for k, v in variables(layer).items()}
    on_torch = keras.backend.backend() == "torch"
    return Party(
        name,
        lambda inputs: apply(_to_numpy, _call(layer, kind, inputs)),
        kind,
        options,
        params,
        _torch_gradients(layer, kind) if on_torch else None,
        lambda: party_with(in_dtype(layer, "float64"), kind, options, name),
        _EPS.get(_dtype_of(layer), 2.0**-23),
        _trace(layer, kind),
        specs=_specs(layer),
        part=lambda path: keras_party(_tree(layer)[path]),
        whole=_whole(layer, params) if hasattr(layer, "inputs") else None,
    )


def _dtype_of(layer: Any) -> str:
    """What a layer computes in; of a model, which has a dtype of its own, its first layer."""
    for part in _parts(layer).values() if hasattr(layer, "inputs") else ():
        if type(part).__name__ != "InputLayer":
            return _dtype_of(part)
    return str(layer.compute_dtype)


def _whole(model: Any, params: Mapping[str, Array]) -> Callable[[], KerasOracle]:
    """The NumPy oracle of a model, from its own config and weights."""
    described = {"class_name": type(model).__name__, "config": model.get_config()}
    if not {"layers"} <= set(described["config"]):  # a sub-class with a call of its own
        described["class_name"] = "Model"
    return lambda: KerasOracle(described, {k: np.asarray(v) for k, v in params.items()})


_EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7}


def _trace(layer: Any, kind: str) -> Callable[[Sequence[Any]], list[Visit]]:
    def trace(inputs: Sequence[Any]) -> list[Visit]:
        with watched(_tree(layer), _to_numpy) as visits:
            _call(layer, kind, inputs)
            return visits()

    return trace


def _tree(layer: Any) -> dict[str, Any]:
    """Sub-layers by dotted path; an RNN's cells, which have no outputs of their own, left out."""
    found: dict[str, Any] = {}
    for name, part in _parts(layer).items():
        if not name.startswith("cell"):
            found[name] = part
            found |= {f"{name}.{inner}": deep for inner, deep in _tree(part).items()}
    return found


def _specs(layer: Any) -> tuple[InputSpec, ...] | None:
    """What a model takes, by its own inputs; numbers of tokens where an embedding reads them."""
    inputs = getattr(layer, "inputs", None)
    if not inputs:
        return None
    parts = [layer, *_tree(layer).values()]
    tokens = {
        id(part.input): part.input_dim
        for part in parts
        if type(part).__name__ == "Embedding" and part._inbound_nodes
    }
    specs = []
    for tensor in inputs:
        sizes = (N, *(L if size is None else size for size in tensor.shape[1:]))
        top = tokens.get(id(tensor))
        specs.append(InputSpec(sizes, 0, top, "int32") if top else InputSpec(sizes))
    return tuple(specs)


def build_keras(kind: str, options: Mapping[str, Any], params: Mapping[str, Array]) -> Any:
    """Build the live layer from what a checkpoint says of it, with its parameters."""
    import keras

    D = next(v for k, v in params.items() if k.endswith("kernel")).shape[0]
    with keras.saving.custom_object_scope(_CUSTOM):
        described = {"class_name": kind.rpartition(".")[2], "config": options}
        layer = _live(described, hard_sigmoid_keras2)
        layer.build((None, D) if kind.endswith("Cell") else (None, None, D))
    for name, variable in variables(layer).items():
        variable.assign(params[name])
    return layer


def hard_sigmoid_keras2(x: Any) -> Any:
    """The older slope: Keras 3 has only its own, so it is given to it as a custom function."""
    import keras

    return keras.ops.clip(0.2 * x + 0.5, 0, 1)


_CUSTOM = {"hard_sigmoid_keras2": hard_sigmoid_keras2}


def _live(value: Any, old_slope: Any) -> Any:
    """Turn nested configs into live float32 layers, the older hard_sigmoid into the function."""
    import keras

    if isinstance(value, list | tuple):
        return [_live(item, old_slope) for item in value]
    if isinstance(value, Mapping) and hasattr(keras.layers, str(value.get("class_name"))):
        config = {k: _live(v, old_slope) for k, v in value["config"].items() if k != "dtype"}
        return getattr(keras.layers, value["class_name"])(**config)
    return old_slope if value == "hard_sigmoid_keras2" else value


def variables(layer: Any) -> dict[str, Any]:
    """Return a layer's weights under dotted attribute paths, as a front-end names them."""
    parts = _parts(layer)
    if not parts:
        return {w.name: w for w in layer.weights}
    return {f"{p}.{n}": w for p, part in parts.items() for n, w in variables(part).items()}


def _parts(layer: Any) -> dict[str, Any]:
    """A layer's direct parts: a model's layers by name, a wrapper's by attribute."""
    parts: dict[str, Any] = {}
    if hasattr(layer, "inputs"):  # only models have them
        return {part.name: part for part in layer.layers}
    for name in ("forward_layer", "backward_layer", "cell", "layer"):
        part = getattr(layer, name, None)
        # Bidirectional's layer is its forward_layer.
        if part is not None and all(part is not other for other in parts.values()):
            parts[name] = part
    for name in ("query", "key", "value", "output"):  # of MultiHeadAttention
        part = getattr(layer, f"_{name}_dense", None)
        if part is not None:
            parts[f"{name}_dense"] = part
    for k, cell in enumerate(getattr(layer, "cells", ())):
        parts[f"cells.{k}"] = cell
    return parts


@contextmanager
def _really_in(dtype: str) -> Iterator[None]:
    """Let Keras compute in float64: but for TensorFlow it casts every product to float32.

    Raises:
        UnsupportedError: this release of Keras keeps its promotion rules elsewhere.
    """
    import keras

    if dtype != "float64":
        yield
        return
    rules = getattr(keras.src.backend.common.dtypes, "BIT64_TO_BIT32_DTYPE", {})
    before = dict(rules)
    rules["float64"] = "float64"
    try:
        if keras.backend.result_type("float64", "float64") != "float64":
            raise UnsupportedError(
                "float64 truth of a Keras model",
                expected="a Keras that computes in float64",
                got=keras.__version__,
                fix="pass oracle=, a function of float64 arrays that computes the truth",
            )
        yield
    finally:
        rules.update(before)


def _call(layer: Any, kind: str, inputs: Sequence[Any]) -> Any:
    with _really_in(_dtype_of(layer)):
        return _call_plainly(layer, kind, inputs)


def _call_plainly(layer: Any, kind: str, inputs: Sequence[Any]) -> Any:
    x, *rest = apply(_to_tensor(layer), tuple(inputs))
    if len(getattr(layer, "inputs", None) or ()) > 1:  # a model takes its inputs as one list
        own = getattr(layer, "input", None)  # in the model's own nest, flat as Keras flattens it
        given = dict(zip(sorted(own), [x, *rest], strict=True)) if isinstance(own, dict) else None
        return layer(given or [x, *rest], training=False)
    if kind not in SEQUENTIAL:
        return layer(x, *rest, training=False)
    names = ("initial_state", "mask")
    given = {k: v for k, v in zip(names, rest, strict=False) if v is not None}
    return layer(x, training=False, **given)


def _to_tensor(layer: Any) -> Callable[[Any], Any]:
    """NumPy to a tensor, in the layer's own dtype if floating."""
    import keras

    dtype = _dtype_of(layer)

    def convert(value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        value = np.array(value, order="C")  # torch takes no negative strides
        floating = np.issubdtype(value.dtype, np.floating)
        return keras.ops.convert_to_tensor(value, dtype if floating else None)

    return convert


def _torch_gradients(
    layer: Any, kind: str
) -> Callable[[Sequence[Any], Sequence[Array]], Gradients]:
    def gradients(inputs: Sequence[Any], cotangents: Sequence[Array]) -> Gradients:
        import torch

        held = [_to_tensor(layer)(leaf).detach() for leaf in leaves(tuple(inputs))]
        wanted = [t.requires_grad_() for t in held if t.is_floating_point()]
        outs = leaves(_call(layer, kind, rebuild(tuple(inputs), held)))
        weights = {name: v.value for name, v in variables(layer).items() if v.trainable}
        found = torch.autograd.grad(
            outs,
            [*wanted, *weights.values()],
            [torch.tensor(c, dtype=o.dtype) for o, c in zip(outs, cotangents, strict=True)],
            allow_unused=True,
            materialize_grads=True,
        )
        arrays = [_to_numpy(g) for g in found]
        return arrays[: len(wanted)], dict(zip(weights, arrays[len(wanted) :], strict=True))

    return gradients


def _to_numpy(tensor: Any) -> Array:
    import keras

    if hasattr(tensor, "detach"):
        # Keras's own conversion of torch tensors warns under NumPy 2.
        tensor = tensor.detach().cpu()
        tensor = (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    array: Array = keras.ops.convert_to_numpy(tensor)
    return array
