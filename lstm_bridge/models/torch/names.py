"""Which operation of a graph a torch function, method or module call stands for.

torch is imported inside functions only.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from lstm_bridge.models.torch.asked import ASKED
from lstm_bridge.models.torch.operations import TORCH_OPERATIONS

_KEPT = frozenset({"requires_grad_"})
"""Methods whose name ends like an in-place one's."""

VIEWS = frozenset(
    {
        "operator.getitem", "python.getattr", "torch.view", "torch.reshape", "torch.permute",
        "torch.transpose", "torch.t", "torch.squeeze", "torch.unsqueeze", "torch.flatten",
        "torch.unflatten", "torch.expand", "torch.select", "torch.narrow", "torch.chunk",
        "torch.split", "torch.unbind", "torch.detach", "torch.contiguous", "torch.to", "torch.cpu",
        "torch.swapaxes", "torch.movedim", "torch.moveaxis", "torch.view_as", "torch.reshape_as",
        "torch.expand_as", "torch.unfold", "torch.diagonal", "torch.requires_grad_", "torch.cuda",
        "torch.float", "torch.ravel", "torch.tensor_split", "functional.dropout",
    }
)  # fmt: skip
"""Operations whose result may share the memory of their first argument in torch."""


@lru_cache(maxsize=1)
def _functions() -> dict[Any, str]:
    """Return torch's and Python's functions that graphs have an operation for."""
    import torch
    import torch.nn.functional
    from torch.nn.utils import rnn

    found: dict[Any, str] = {getattr: "python.getattr", len: "python.len", int: "python.int"}
    found |= {float: "python.float", torch._assert: "python.assert", torch.numel: "torch.numel"}
    found |= {bool: "python.bool", operator.contains: "python.contains"}
    found |= {function: f"python.{name}" for name, function in ASKED.items()}
    places = {"torch": torch, "functional": torch.nn.functional, "operator": operator}
    places |= {"python": math, "torch.rnn": rnn}
    for full in TORCH_OPERATIONS:
        place, _, name = full.rpartition(".")
        owner = torch.linalg if place == "torch.linalg" else places.get(place)
        function = getattr(owner, name, None)
        if callable(function):
            found.setdefault(function, full)
        in_place = getattr(owner, f"{name}_", None) if place in ("torch", "functional") else None
        if callable(in_place):
            found.setdefault(in_place, full)
    internal = torch.nn.functional
    for name in ("max_pool1d", "max_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d"):
        for spelling in (f"_{name}", f"{name}_with_indices"):
            function = getattr(internal, spelling, None)
            if function is not None:
                found[function] = f"functional.{name}"
    found |= {getattr(operator, f"i{n}"): f"operator.{n}" for n in _IN_PLACE}
    found |= {operator.iand: "operator.and_", operator.ior: "operator.or_"}
    return found | {operator.ixor: "operator.xor"}


_IN_PLACE = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow")


def name_of(node: Any) -> str | None:
    """Return the operation of a call_function or call_method node; None if there is none."""
    if node.op == "call_function":
        return _functions().get(node.target)
    method = node.target
    if changes_first(node) and method not in _KEPT:
        method = method.removesuffix("_")
    names = (f"torch.{method}", f"functional.{method}")
    return next((name for name in names if name in TORCH_OPERATIONS), None)


def changes_first(node: Any) -> bool:
    """Whether a node changes its first argument in place."""
    if node.op == "call_method":
        name = node.target
        return name.endswith("_") and not name.endswith("__") and name not in _KEPT
    if node.op != "call_function":
        return False
    in_place = {getattr(operator, f"i{n}") for n in (*_IN_PLACE, "and", "or", "xor")}
    name = getattr(node.target, "__name__", "")
    return (
        node.target in in_place
        or (name.endswith("_") and getattr(operator, name, None) is not node.target)
        or node.target is operator.setitem
        or node.kwargs.get("inplace") is True
    )


def spelled(node: Any) -> str:
    """Return how the source names a node's function or method."""
    if node.op == "call_method":
        return f"Tensor.{node.target}"
    target = node.target
    module = getattr(target, "__module__", None) or "torch"
    return f"{module}.{getattr(target, '__qualname__', target)}"


def misfit(operation: Callable[..., Any], args: Any, kwargs: Any) -> str:
    """Return why an operation does not take the arguments; "" if it does."""
    try:
        inspect.signature(operation).bind(*args, **kwargs)
    except ValueError:
        return ""  # built in, without a signature
    except TypeError as error:
        return str(error)
    return ""
