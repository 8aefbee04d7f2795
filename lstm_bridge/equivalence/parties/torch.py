"""A live torch module as a party, and one built from a layer's options and parameters."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np

from lstm_bridge.equivalence.oracle import PLAIN_KINDS
from lstm_bridge.equivalence.parties.base import Array, Gradients, Party, evaluation
from lstm_bridge.equivalence.parties.find import party_of
from lstm_bridge.equivalence.parties.watch import Visit, watched
from lstm_bridge.equivalence.tree import apply, leaves, rebuild

_OPTIONS = (
    *("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout"),
    *("bidirectional", "proj_size", "layer_norm", "residual_conn", "use_layer_norm"),
    "use_residual",
    "nonlinearity",
    "norm",
)


def torch_party(module: Any, kind: str, dtype: str | None = None) -> Party:
    """Return a torch module as a party; it is run in evaluation mode and left as it was.

    Args:
        module: the module.
        kind: class path that an oracle exists for; "" if none.
        dtype: run a copy of it in this dtype. Default: as it is.
    """
    import torch

    if dtype is not None:
        module = copy.deepcopy(module).to(getattr(torch, dtype))
    held = _held_dtype(module, dtype)
    options = {name: getattr(module, name) for name in _names(module, kind)}
    params = {name: to_numpy(p) for name, p in module.named_parameters()}
    buffers = {name: b for name, b in module.named_buffers() if b.is_floating_point()}
    params |= {name: to_numpy(b) for name, b in buffers.items()}  # running statistics
    floats = [p.dtype for p in module.parameters() if p.is_floating_point()]
    eps = max((torch.finfo(d).eps for d in floats), default=2.0**-23)
    package = kind.partition(".")[0] if kind else "torch"
    recurrent = [m for m in module.modules() if hasattr(m, "batch_first")]
    return Party(
        _name(package),
        _call(module, held),
        kind,
        _network_options(kind, module, options),
        params,
        _gradients(module, held),
        lambda: torch_party(module, "", "float64"),
        eps,
        _trace(module, held),
        any(not m.batch_first for m in recurrent),
        part=lambda path: party_of(module.get_submodule(path), path),
    )


def _held_dtype(module: Any, dtype: str | None) -> Any:
    """What a module computes in: as asked, or in the dtype of its first parameter."""
    import torch

    if dtype is not None:
        return getattr(torch, dtype)
    floats = (p.dtype for p in module.parameters() if p.is_floating_point())
    return next(floats, torch.float32)


def _names(module: Any, kind: str) -> list[str]:
    """The constructor's arguments that a module keeps under their own names."""
    around = inspect.signature(type(module).__init__).parameters if kind in PLAIN_KINDS else ()
    wanted = dict.fromkeys((*_OPTIONS, *around))
    held = [name for name in wanted if hasattr(module, name)]
    # A Linear's bias is the parameter itself, not the option.
    return [name for name in held if name != "bias" or isinstance(module.bias, bool)]


def _name(package: str) -> str:
    distribution = package.replace("_", "-")
    return f"{distribution} {version(distribution).partition('+')[0]}"


def _network_options(kind: str, module: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The options of pytorch-forecasting's networks, which keep them on their inner layer."""
    if kind.endswith("xLSTMTime"):
        return dict(module.hparams)
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
        with evaluation(module), _new_tensors_in(dtype), torch.no_grad():
            return apply(to_numpy, module(*tensors))

    return call


@contextmanager
def _new_tensors_in(dtype: Any) -> Iterator[None]:
    """Let tensors that a forward makes, like initial states, be of the module's own dtype."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _trace(module: Any, dtype: Any) -> Callable[[Sequence[Any]], list[Visit]]:
    def trace(inputs: Sequence[Any]) -> list[Visit]:
        parts = {path: part for path, part in module.named_modules() if path}
        with watched(parts, to_numpy) as visits:
            _call(module, dtype)(inputs)
            return visits()

    return trace


def _gradients(module: Any, dtype: Any) -> Callable[[Sequence[Any], Sequence[Array]], Gradients]:
    def gradients(inputs: Sequence[Any], cotangents: Sequence[Array]) -> Gradients:
        import torch

        held = [_tensor(module, dtype)(leaf) for leaf in leaves(tuple(inputs))]
        wanted = [t.requires_grad_() for t in held if t.is_floating_point()]
        with evaluation(module), _new_tensors_in(dtype):
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
        arrays = [to_numpy(g) for g in found]
        return arrays[: len(wanted)], dict(zip(params, arrays[len(wanted) :], strict=True))

    return gradients


def _tensor(module: Any, dtype: Any) -> Callable[[Array], Any]:
    """NumPy to a tensor of the module's device and, if floating, of its dtype."""
    import torch

    like = next(iter(module.parameters()), torch.zeros(()))

    def convert(array: Array) -> Any:
        # torch takes no negative strides.
        tensor = torch.tensor(np.array(array, order="C"), device=like.device)
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    return convert


def to_numpy(tensor: Any) -> Array:
    """Return a tensor as NumPy; bfloat16, which NumPy has not, as float32."""
    import torch

    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    array: Array = tensor.numpy()
    return array
