"""The constructor arguments that make a live layer of this package again, as plain data."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

import mlx.nn as nn

from lstm_bridge.errors import UsageError
from lstm_bridge.models.classes import find_class, kind_of

CONTAINERS = frozenset({"Module", "ModuleDict", "ModuleList", "Sequential"})
"""Classes of torch.nn that hold layers and are none."""

_MADE_HERE = frozenset({"device", "dtype", "_weight", "_freeze", "min_value", "max_value"})
"""Arguments that follow from the arrays, or only come before others."""

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

Reader = Callable[[Any], Any]


def layer_kind(module: nn.Module) -> str | None:
    """Return the class path of a layer of this package, packed or not; None of anything else."""
    for cls in type(module).__mro__:
        kind = kind_of_class(cls)
        if kind is not None:
            return kind
    return None


def kind_of_class(cls: type) -> str | None:
    """Return the class path of a front-end class that is a layer; None of any other."""
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        return None
    kind = kind_of(cls)
    return None if kind is None or kind.rpartition(".")[2] in CONTAINERS else kind


def options_of(module: Any, kind: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the constructor arguments of a live layer, and a Keras layer's build config.

    Raises:
        UsageError: an argument cannot be told any more, or is no plain data.
    """
    if "keras." in kind:
        options, build = module.get_config(), module.get_build_config()
    else:
        options, build = _by_attribute(module, kind), None
    try:
        plain: dict[str, Any] = json.loads(json.dumps(options, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"save {kind}", expected="options that are plain data", got=" ".join(str(error).split())
        ) from error
    return plain, None if build is None else json.loads(json.dumps(build))


def _by_attribute(module: Any, kind: str) -> dict[str, Any]:
    cls: Any = find_class(kind)
    special = _SPECIAL.get(kind, {})
    found = {}
    for name, parameter in inspect.signature(cls).parameters.items():
        if name in _MADE_HERE or parameter.kind in _VARIADIC:
            continue
        try:
            found[name] = special[name](module) if name in special else _read(module, name)
        except AttributeError as error:
            raise UsageError(
                f"save {kind}", expected=f"to know its {name}", got="a layer that does not tell it"
            ) from error
    return found


def _read(module: Any, name: str) -> Any:
    value = getattr(module, name)
    if name == "bias" and not isinstance(value, bool):
        return value is not None
    return value.p if isinstance(value, nn.Module) and hasattr(value, "p") else value


def _within(inner: str, names: Mapping[str, str]) -> dict[str, Reader]:
    return {ours: _reader(f"{inner}.{theirs}") for ours, theirs in names.items()}


def _reader(path: str) -> Reader:
    def read(module: Any) -> Any:
        *owners, name = path.split(".")
        for owner in owners:
            module = getattr(module, owner)
        return _read(module, name)

    return read


_SIZES = {name: name for name in ("input_size", "hidden_size", "num_layers", "dropout")}
_HEAD = {"output_size": lambda m: m.fc.weight.shape[0]}
_FORECAST = ("input_size", "hidden_size", "output_size", "xlstm_type", "num_layers")

_SPECIAL: dict[str, dict[str, Reader]] = {
    "mlx.nn.LSTM": {
        "input_size": lambda m: m.Wx.shape[-1],
        "bias": lambda m: "bias" in m,
    },
    "torch.nn.MultiheadAttention": {
        "bias": lambda m: m.in_proj_bias is not None,
        "add_bias_kv": lambda m: m.bias_k is not None,
    },
    "torch.nn.PairwiseDistance": {"p": lambda m: m.norm},
    "pytorch_forecasting.layers.mLSTMNetwork": _HEAD | _within(
        "mlstm_layer", {**_SIZES, "use_layer_norm": "layer_norm", "use_residual": "residual_conn"}
    ),
    "pytorch_forecasting.layers.sLSTMNetwork": _within(
        "slstm_layer", {"use_layer_norm": "use_layer_norm"}
    ),
    "pytorch_forecasting.models.xLSTMTime": {
        name: _reader(f"hparams.{name}")
        for name in (*_FORECAST, "decomposition_kernel", "input_projection_size", "dropout", "loss")
    },
}  # fmt: skip
"""Class → argument → how a layer tells it, where it is no attribute of that name."""
