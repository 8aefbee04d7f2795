"""A live Keras layer as a party, on whatever backend Keras runs, and one built from options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lstm_bridge.equivalence.parties.base import Array, Gradients, Party
from lstm_bridge.equivalence.parties.find import kind_of
from lstm_bridge.equivalence.tree import apply, leaves, rebuild


def keras_party(layer: Any) -> Party:
    """Return a built Keras layer as a party; it is run with training=False."""
    import keras

    kind = kind_of(layer)
    options = layer.get_config() if kind else {}
    return party_with(layer, kind, options, f"keras {keras.__version__}")


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
    )


def build_keras(kind: str, options: Mapping[str, Any], params: Mapping[str, Array]) -> Party:
    """Build the live layer from what a checkpoint says of it, with its parameters."""
    import keras

    # Keras 3 has only its own hard_sigmoid; the older slope is given to it as a custom function.
    def hard_sigmoid_keras2(x: Any) -> Any:
        return keras.ops.clip(0.2 * x + 0.5, 0, 1)

    D = next(v for k, v in params.items() if k.endswith("kernel")).shape[0]
    with keras.saving.custom_object_scope({"hard_sigmoid_keras2": hard_sigmoid_keras2}):
        described = {"class_name": kind.rpartition(".")[2], "config": options}
        layer = _live(described, hard_sigmoid_keras2)
        layer.build((None, D) if kind.endswith("Cell") else (None, None, D))
    for name, variable in variables(layer).items():
        variable.assign(params[name])
    return party_with(layer, kind, options, f"keras {keras.__version__}")


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
    parts: dict[str, Any] = {}
    for name in ("forward_layer", "backward_layer", "cell"):
        if hasattr(layer, name):
            parts[name] = getattr(layer, name)
    for k, cell in enumerate(getattr(layer, "cells", ())):
        parts[f"cells.{k}"] = cell
    if not parts:
        return {w.name: w for w in layer.weights}
    return {f"{p}.{n}": w for p, part in parts.items() for n, w in variables(part).items()}


def _call(layer: Any, kind: str, inputs: Sequence[Any]) -> Any:

    x, *rest = apply(_to_tensor, tuple(inputs))
    if kind in ("", "keras.layers.LSTMCell"):
        return layer(x, *rest, training=False)
    names = ("initial_state", "mask")
    given = {k: v for k, v in zip(names, rest, strict=False) if v is not None}
    return layer(x, training=False, **given)


def _to_tensor(value: Any) -> Any:
    import keras

    if isinstance(value, np.ndarray):
        value = np.array(value, order="C")  # torch takes no negative strides
    return keras.ops.convert_to_tensor(value)


def _torch_gradients(
    layer: Any, kind: str
) -> Callable[[Sequence[Any], Sequence[Array]], Gradients]:
    def gradients(inputs: Sequence[Any], cotangents: Sequence[Array]) -> Gradients:
        import torch

        held = [torch.tensor(leaf) for leaf in leaves(tuple(inputs))]
        wanted = [t.requires_grad_() for t in held if t.is_floating_point()]
        outs = leaves(_call(layer, kind, rebuild(tuple(inputs), held)))
        weights = {name: v.value for name, v in variables(layer).items()}
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
        tensor = tensor.detach().cpu().numpy()
    array: Array = keras.ops.convert_to_numpy(tensor)
    return array
