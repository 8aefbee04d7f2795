"""Which torch modules stay whole in a port, what makes them again here, and their arrays.

torch is imported inside functions only: a table of names decides, and an unknown class is traced
through or refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
import mlx.nn

from lstm_bridge.errors import BridgeError, UnsupportedError
from lstm_bridge.models.classes import find_class

CONTAINERS = frozenset(
    {"Module", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential"}
)
"""Classes of torch.nn that are no layers: their children are."""

_MADE_HERE = frozenset({"device", "dtype", "_weight", "_freeze", "min_value", "max_value"})
"""Constructor arguments that follow from the weights, or that torch does not keep."""


def kind_of(module: Any) -> str | None:
    """Return the class path of the front-end that stands for a torch module; None if none does."""
    forward = type(module).forward
    for cls in type(module).__mro__:
        kind = f"{_package(cls)}.{cls.__name__}"
        if cls.__name__ in CONTAINERS or find_class(kind) is None:
            continue
        # A sub-class with a forward of its own is the user's code, to be traced.
        own = forward is vars(cls).get("forward", forward) and not _reparametrized(module)
        return kind if own else None
    return None


def refused_kind(module: Any) -> bool:
    """Whether a module is one of torch's own layers whose weights are computed by hooks."""
    own = [cls for cls in type(module).__mro__ if _package(cls) == "torch.nn"]
    names = {cls.__name__ for cls in own} - CONTAINERS
    return bool(names) and _reparametrized(module)


def leaves(root: Any) -> Iterator[tuple[str, Any, str]]:
    """Yield path, module and kind of all modules below ``root`` that stay whole."""
    inside: list[str] = []
    for path, module in root.named_modules():
        if any(path.startswith(f"{outer}.") for outer in inside):
            continue
        kind = kind_of(module)
        if kind is not None:
            inside.append(path)
            yield path, module, kind


def options_of(module: Any, kind: str) -> dict[str, Any]:
    """Return the constructor arguments that make a module again, as plain data."""
    cls: Any = find_class(kind)
    names = [
        name
        for name, parameter in inspect.signature(cls).parameters.items()
        if name not in _MADE_HERE and parameter.kind not in _VARIADIC
    ]
    special = _SPECIAL.get(kind.rpartition(".")[2], {})
    options = {name: _plain(special.get(name, _attribute(name))(module)) for name in names}
    if options.get("num_layers") == 1 and kind.startswith("torch."):
        options["dropout"] = 0.0  # without effect, and warned about
    dtype = next((str(p.dtype) for p in module.parameters() if p.is_floating_point()), "")
    if "dtype" in inspect.signature(cls).parameters and dtype not in ("", "torch.float32"):
        options["dtype"] = dtype.removeprefix("torch.")
    return options


def make_layer(module: Any, kind: str, options: dict[str, Any], where: str) -> mlx.nn.Module:
    """Return the front-end module of a torch module, with its weights and its mode.

    Raises:
        UnsupportedError: an option that the front-end refuses, or parameters of other names.
    """
    cls: Any = find_class(kind)
    try:
        layer = cls(**options)
        layer.load_state_dict({n: to_mlx(t, n) for n, t in module.state_dict().items()})
    except BridgeError as error:
        raise UnsupportedError(
            f"port {where}", expected=error.expected, got=error.got, fix=error.fix
        ) from error
    trained: mlx.nn.Module = layer.train(module.training)
    return trained


def to_mlx(tensor: Any, name: str) -> mx.array:
    """Return a torch tensor's numbers, bit for bit.

    Raises:
        UnsupportedError: complex, quantized, sparse or without data.
    """
    import torch

    if tensor.is_complex() or tensor.is_quantized or tensor.is_meta or tensor.is_sparse:
        raise UnsupportedError(
            f"port tensor {name!r}", expected="plain real numbers", got=str(tensor.dtype)
        )
    plain = tensor.detach().cpu().contiguous()
    if plain.dtype == torch.bfloat16:
        return mx.array(plain.view(torch.int16).numpy()).view(mx.bfloat16)
    if plain.dtype == torch.float64:
        return mx.array(plain.numpy(), mx.float64)
    return mx.array(plain.numpy())


def _package(cls: type) -> str:
    if cls.__module__.startswith("torch.nn.modules."):
        return "torch.nn"
    for package in ("pytorch_forecasting.layers", "pytorch_forecasting.models"):
        if cls.__module__.startswith(f"{package}."):
            return package
    return cls.__module__


def _reparametrized(module: Any) -> bool:
    """Whether hooks or parametrizations compute something that the class alone does not."""
    hooks = ("_forward_hooks", "_forward_pre_hooks")
    return hasattr(module, "parametrizations") or any(getattr(module, name) for name in hooks)


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _attribute(name: str) -> Callable[[Any], Any]:
    def read(module: Any) -> Any:
        value = getattr(module, name)
        if name == "bias":
            return value if isinstance(value, bool) else value is not None
        return value.p if name == "dropout" and hasattr(value, "p") else value

    return read


def _hyperparameter(name: str) -> Callable[[Any], Any]:
    return lambda module: module.hparams[name]


_SPECIAL: dict[str, dict[str, Callable[[Any], Any]]] = {
    "MultiheadAttention": {
        "bias": lambda m: m.in_proj_bias is not None,
        "add_bias_kv": lambda m: m.bias_k is not None,
    },
    "PairwiseDistance": {"p": lambda m: m.norm},
    "mLSTMCell": {"layer_norm": lambda m: hasattr(m, "ln_q")},
    "mLSTMNetwork": {
        "input_size": lambda m: m.mlstm_layer.input_size,
        "hidden_size": lambda m: m.mlstm_layer.hidden_size,
        "num_layers": lambda m: m.mlstm_layer.num_layers,
        "output_size": lambda m: m.fc.out_features,
        "dropout": lambda m: m.mlstm_layer.dropout.p,
        "use_layer_norm": lambda m: m.mlstm_layer.layer_norm,
        "use_residual": lambda m: m.mlstm_layer.residual_conn,
    },
    "sLSTMNetwork": {"use_layer_norm": lambda m: m.slstm_layer.use_layer_norm},
    "xLSTMTime": {
        name: _hyperparameter(name)
        for name in (
            "input_size",
            "hidden_size",
            "output_size",
            "num_layers",
            "dropout",
            "decomposition_kernel",
        )
    }
    | {"loss": lambda m: None},
    "SeriesDecomposition": {"kernel_size": lambda m: m.moving_avg.kernel_size},
}
"""Class → constructor argument → how a torch module tells it, where it is no attribute."""


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value
