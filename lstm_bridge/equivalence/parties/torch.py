"""A live torch module as a party, and one built from a layer's options and parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np

from lstm_bridge.equivalence.parties.base import Array, Gradients, Party, evaluation
from lstm_bridge.equivalence.tree import apply, leaves, rebuild

_OPTIONS = (
    *("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout"),
    *("bidirectional", "proj_size", "layer_norm", "residual_conn", "use_layer_norm"),
    "use_residual",
)


def torch_party(module: Any, kind: str) -> Party:
    """Return a torch module as a party; it is run in evaluation mode and left as it was."""
    import torch

    options = {name: getattr(module, name) for name in _OPTIONS if hasattr(module, name)}
    params = {name: _to_numpy(p) for name, p in module.named_parameters()}
    eps = max((torch.finfo(p.dtype).eps for p in module.parameters()), default=2.0**-23)
    package = kind.partition(".")[0] if kind else "torch"
    return Party(
        _name(package),
        _call(module, None),
        kind,
        _network_options(kind, module, options),
        params,
        _gradients(module),
        None if kind else _call(copy.deepcopy(module).double(), torch.float64),
        eps,
    )


def _name(package: str) -> str:
    distribution = package.replace("_", "-")
    return f"{distribution} {version(distribution).partition('+')[0]}"


def _network_options(kind: str, module: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The options of pytorch-forecasting's networks, which keep them on their inner layer."""
    if not kind.endswith("Network"):
        return options
    inner = module.mlstm_layer if ".mLSTM" in kind else module.slstm_layer
    found = {n: getattr(inner, n) for n in ("input_size", "hidden_size", "num_layers")}
    if hasattr(inner, "residual_conn"):
        found["use_residual"] = inner.residual_conn
    return options | found


def build_torch(kind: str, options: Mapping[str, Any], params: Mapping[str, Array]) -> Any:
    """Build the live class from what a checkpoint says of it, with its parameters in float32."""
    import torch

    module, _, name = kind.rpartition(".")
    # Dropout does nothing in evaluation mode, and torch warns of it on a single layer.
    options = {k: v for k, v in options.items() if k != "dropout"}
    layer = getattr(import_module(module), name)(**options)
    layer.load_state_dict({k: torch.tensor(v) for k, v in params.items()})
    return layer.eval()


def _call(module: Any, dtype: Any) -> Callable[[Sequence[Any]], Any]:
    def call(inputs: Sequence[Any]) -> Any:
        import torch

        tensors = apply(_tensor(module, dtype), tuple(inputs))
        with evaluation(module), torch.no_grad():
            return apply(_to_numpy, module(*tensors))

    return call


def _gradients(module: Any) -> Callable[[Sequence[Any], Sequence[Array]], Gradients]:
    def gradients(inputs: Sequence[Any], cotangents: Sequence[Array]) -> Gradients:
        import torch

        held = [_tensor(module, None)(leaf) for leaf in leaves(tuple(inputs))]
        wanted = [t.requires_grad_() for t in held if t.is_floating_point()]
        with evaluation(module):
            outs = leaves(module(*rebuild(tuple(inputs), held)))
        params = dict(module.named_parameters())
        pairs = [
            (o, torch.tensor(c, dtype=o.dtype, device=o.device))
            for o, c in zip(outs, cotangents, strict=True)
            if o.requires_grad
        ]
        found = torch.autograd.grad(
            [o for o, _ in pairs],
            [*wanted, *params.values()],
            [c for _, c in pairs],
            allow_unused=True,
            materialize_grads=True,
        )
        arrays = [_to_numpy(g) for g in found]
        return arrays[: len(wanted)], dict(zip(params, arrays[len(wanted) :], strict=True))

    return gradients


def _tensor(module: Any, dtype: Any) -> Callable[[Array], Any]:
    """NumPy to a tensor of the module's device and, if floating, of its dtype."""
    import torch

    like = next(iter(module.parameters()), torch.zeros(()))

    def convert(array: Array) -> Any:
        # torch takes no negative strides.
        tensor = torch.tensor(np.array(array, order="C"), device=like.device)
        return tensor.to(dtype or like.dtype) if tensor.is_floating_point() else tensor

    return convert


def _to_numpy(tensor: Any) -> Array:
    import torch

    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    array: Array = tensor.numpy()
    return array
