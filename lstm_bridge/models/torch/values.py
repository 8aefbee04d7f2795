"""What stands for a tensor, a size or another value while forward is traced.

torch is imported inside functions only.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from lstm_bridge.models.torch import asked

_IN_PLACE = (
    "iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "iand", "ior", "ixor",
    "setitem",
)  # fmt: skip

_READ_AT_ONCE = frozenset({"shape", "ndim", "T", "mT", "dtype", "data", "batch_sizes"})
"""Attributes that are no methods; the others wait to see whether they are called."""

_FALSE = frozenset(
    {"is_cuda", "is_mps", "is_sparse", "is_quantized", "is_nested", "is_meta", "requires_grad"}
)
"""Attributes that no MLX array has."""

_OF_STRUCTURE = frozenset({"size", "dim", "ndimension", "numel", "nelement", "is_floating_point"})
LENGTH = len
"""Python's own: while a forward is traced, ``len`` is another function."""

_OF_NUMBERS = frozenset({int, float, bool, round})
_ASKS = frozenset({asked.is_none, asked.is_instance, operator.contains, LENGTH})
_SEQUENCES = frozenset(
    {"chunk", "split", "unbind", "tensor_split", "topk", "sort", "tolist", "unpack_sequence"}
)


@lru_cache(maxsize=1)
def value_class() -> Any:
    """Return the class, a proxy of torch.fx that also records what changes it in place."""
    import torch

    def recorder(function: Any) -> Callable[..., Any]:
        def record(self: Any, *args: Any) -> Any:
            done = self.tracer.create_proxy("call_function", function, (self, *args), {})
            return None if function is operator.setitem else done

        return record

    def attribute(self: Any, name: str) -> Any:
        if name in _FALSE:
            return False
        if name == "device":
            return torch.device("cpu")
        if name in _READ_AT_ONCE:
            return self.tracer.create_proxy("call_function", getattr, (self, name), {})
        return _attribute_class()(self, name)

    def contains(self: Any, item: Any) -> bool:
        return bool(recorder(operator.contains)(self, item))

    methods: dict[str, Any] = {f"__{n}__": recorder(getattr(operator, n)) for n in _IN_PLACE}

    def length(self: Any) -> int:
        raise TypeError("len() of a value that is not known yet")

    methods |= {"__getattr__": attribute, "__contains__": contains, "__len__": length}
    return type("Value", (torch.fx.Proxy,), methods)


@lru_cache(maxsize=1)
def _attribute_class() -> Any:
    from torch.fx.proxy import Attribute

    return type("Attribute", (Attribute, value_class()), {})


def is_value(value: Any) -> bool:
    """Whether a value stands for one that a trace does not know."""
    return issubclass(type(value), value_class())


def is_of_structure(value: Any) -> bool:
    """Whether a node follows from ranks, sizes, types and kinds alone, never from numbers in them.

    Args:
        value: a node of torch.fx, or a constant.
    """
    if isinstance(value, tuple | list):
        return all(is_of_structure(v) for v in value)
    if not hasattr(value, "op") or not hasattr(value, "target"):
        return not isinstance(value, slice) or is_of_structure(
            (value.start, value.stop, value.step)
        )
    target = value.target
    if value.op == "call_method":
        return target in _OF_STRUCTURE
    if value.op != "call_function":
        return False
    if target in _ASKS:
        return True
    if target is getattr:
        return value.args[1] in ("shape", "ndim", "dtype")
    if _name(target) in ("numel", "is_tensor", "is_floating_point"):
        return True
    if (
        getattr(operator, _name(target), None) is target
        or target in _OF_NUMBERS
        or _is_math(target)
    ):
        return all(is_of_structure(a) for a in value.args)
    return False


def _name(target: Any) -> str:
    return str(getattr(target, "__name__", ""))


def _is_math(target: Any) -> bool:
    return getattr(math, _name(target), None) is target


def key_of(value: Any) -> str:
    """Return a text that two nodes have in common when they ask the same of the same."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(key_of(v) for v in value)}]"
    if isinstance(value, slice):
        return f"slice{key_of((value.start, value.stop, value.step))}"
    if hasattr(value, "op") and is_of_structure(value):
        return f"{value.target}({key_of(value.args)}, {key_of(sorted(value.kwargs.items()))})"
    return value.name if hasattr(value, "op") else repr(value)


def kinds_of(node: Any, modules: Any) -> frozenset[str] | None:
    """Return the kinds that a node's value surely is of, all others excluded; None if unknown.

    Args:
        node: of torch.fx.
        modules: function from a path to its module.
    """
    if node.op == "placeholder":
        return None
    if node.op == "get_attr":
        return frozenset({"Tensor"})
    if is_of_structure(node):
        return _kinds_of_number(node)
    if node.op == "call_module":
        return _kinds_of_first(node, modules)
    name = node.target if isinstance(node.target, str) else _name(node.target)
    if name.startswith("pack_"):
        return frozenset({"PackedSequence", "tuple"})
    if name in _SEQUENCES:
        return frozenset({"list" if name == "tolist" else "tuple"})
    if node.target is operator.getitem:
        return _kinds_of_item(node, modules)
    return frozenset({"Tensor"})


def _kinds_of_number(node: Any) -> frozenset[str]:
    if node.target is getattr and node.args[1] == "shape":
        return frozenset({"tuple"})
    if node.target == "size" and len(node.args) == 1 and not node.kwargs:
        return frozenset({"tuple"})
    if _name(node.target) in ("truediv", "float", "sqrt", "log", "exp"):
        return frozenset({"float"})
    return frozenset({"int"})


def _kinds_of_first(node: Any, modules: Any) -> frozenset[str] | None:
    """Return what a module makes: what it was given, for those that take packed sequences too."""
    if not node.args or not hasattr(node.args[0], "op"):
        return frozenset({"Tensor"})
    return kinds_of(node.args[0], modules)


def _kinds_of_item(node: Any, modules: Any) -> frozenset[str] | None:
    owner, index = node.args
    if owner.op != "call_module":
        found = kinds_of(owner, modules)
        return None if found is None else frozenset({"Tensor"})
    is_output = index == 0 and hasattr(modules(owner.target), "num_layers")
    return _kinds_of_first(owner, modules) if is_output else frozenset({"Tensor"})
