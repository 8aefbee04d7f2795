"""The expressions of a TorchScript method that is being followed."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from lstm_bridge.errors import UnsupportedError
from lstm_bridge.models.graph import Ref
from lstm_bridge.models.torch.operations import TORCH_OPERATIONS
from lstm_bridge.models.torch.script_code import ScriptClass

if TYPE_CHECKING:
    from lstm_bridge.models.torch.script_reader import Reader

_DTYPES = {
    0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32",
    7: "float64", 11: "bool", 15: "bfloat16",
}  # fmt: skip
"""torch's numbers of dtypes in recorded code."""

_AS_IT_IS = frozenset({"NumToTensor", "ScalarImplicit", "contiguous", "detach", "alias"})
_CASTS = {"int": "python.int", "Int": "python.int", "IntImplicit": "python.int"}
_WITHOUT_EFFECT = frozenset(
    {"copy", "device", "layout", "memory_format", "non_blocking", "pin_memory"}
)
_SETTLED: Mapping[str, Callable[..., Any]] = {
    "__contains__": operator.contains, "__is__": operator.is_, "__isnot__": operator.is_not,
    "__not__": operator.not_, "__and__": operator.and_, "__or__": operator.or_,
    "__getitem__": operator.getitem, "add": operator.add, "eq": operator.eq,
    "floordiv": operator.floordiv, "ge": operator.ge, "gt": operator.gt, "le": operator.le,
    "len": len, "lt": operator.lt, "mul": operator.mul, "ne": operator.ne, "sub": operator.sub,
}  # fmt: skip
"""What is computed at once where no value of a model has a part in it."""

_ARITHMETIC = ("add", "floordiv", "mul", "sub")

_FUNCTION = re.compile(r"__torch__\.torch\.nn\.functional\.(?:___torch_mangle_\d+\.)?(\w+)")


class Module(NamedTuple):
    """A sub-module where it is called: its place, its class, and the class's name."""

    path: str
    cls: ScriptClass
    qualified: str


class Function(NamedTuple):
    """A function of torch.nn.functional that the text names."""

    name: str


class Frame:
    """The expressions of one method that is being followed."""

    def __init__(self, reader: Reader, cls: ScriptClass, scope: dict[str, Any], depth: int) -> None:
        self.reader, self.cls, self.scope, self._depth = reader, cls, scope, depth

    def within(self, scope: dict[str, Any]) -> Frame:
        """Return the frame of a loop's body."""
        return Frame(self.reader, self.cls, scope, self._depth)

    def unpacked(self, node: ast.expr, names: list[str]) -> list[Any]:
        """Return the parts of a value, as many as there are names for them."""
        whole = self.value(node, f"{names[0]}_all" if names else "all")
        if isinstance(whole, tuple | list):
            if len(whole) != len(names):
                raise self.unknown(node, f"{len(whole)} values for {len(names)} names")
            return list(whole)
        return [self.reader.add("aten.unpacked", n, whole, k) for k, n in enumerate(names)]

    def value(self, node: ast.expr, hint: str = "v") -> Any:
        """Return what an expression stands for: a constant, a Ref, or a container of them."""
        match node:
            case ast.Constant(value=value) if value is not Ellipsis:
                return value
            case ast.Name(name):
                return self._name(node, name)
            case ast.Tuple(parts):
                return tuple(self.value(part) for part in parts)
            case ast.List(parts):
                return [self.value(part) for part in parts]
            case ast.Call():
                return self._call(node, hint)
            case ast.Subscript(owner, index):
                return self._item(node, self.value(owner), self.value(index), hint)
            case _:
                return self._reached(node)

    def _item(self, node: ast.expr, whole: Any, place: Any, hint: str) -> Any:
        if not isinstance(whole, tuple | list):
            return self.reader.add("aten.unpacked", hint, whole, place)
        if type(place) is int and -len(whole) <= place < len(whole):
            return whole[place]
        raise self.unknown(node, f"item {place} of {len(whole)}")

    def _reached(self, node: ast.expr) -> Any:
        match node:
            case ast.UnaryOp(ast.USub(), operand):
                number = self.value(operand)
                if isinstance(number, int | float):
                    return -number
            case ast.Attribute(ast.Name("CONSTANTS"), name):
                return self.reader.constant(name)
            case ast.Attribute() if (found := _FUNCTION.fullmatch(ast.unparse(node))) is not None:
                return Function(found[1])
            case ast.Attribute(owner, name):
                module = self.value(owner)
                if isinstance(module, Module):
                    return self.reader.now(self.reader.child(module, name))
            case _:
                pass
        raise self.unknown(node, f"{ast.unparse(node)[:60]!r}")

    def _name(self, node: ast.expr, name: str) -> Any:
        if name in self.scope:
            found = self.scope[name]
            if self.reader.is_open(found):
                raise self.unknown(node, f"{name!r}, a list that a loop is still making")
            return self.reader.now(found)
        if name in ("inf", "nan"):
            return getattr(math, name)
        raise self.unknown(node, f"the name {name!r}, which nothing defines")

    def _call(self, node: ast.Call, hint: str) -> Any:
        match node.func:
            case ast.Name(name):
                return self._call_named(node, name, hint)
            case ast.Attribute(ast.Name("torch"), "device"):
                return None
            case ast.Attribute(ast.Name("torch") | ast.Attribute(ast.Name("ops")), name):
                return self._operation(node, name, hint)
            case ast.Attribute() if found := _FUNCTION.fullmatch(ast.unparse(node.func)):
                return self._function(node, found[1], hint)
            case ast.Attribute(owner, method):
                module = self.value(owner)
                if isinstance(module, Module):
                    values = [self.value(argument) for argument in node.args]
                    return self.reader.call(module, method, values, self._depth + 1)
            case _:
                pass
        raise self.unknown(node, f"{ast.unparse(node.func)[:60]!r}")

    def _call_named(self, node: ast.Call, name: str, hint: str) -> Any:
        """A call of what TorchScript itself, or a line before, gives a name."""
        function = self.scope.get(name)
        if isinstance(function, Function):
            return self._function(node, function.name, hint)
        if name in ("annotate", "unchecked_cast") and node.args:
            return self.value(node.args[-1], hint)
        if name == "getattr" and len(node.args) == 2:
            owner, member = (self.value(argument) for argument in node.args)
            if isinstance(owner, Module) and isinstance(member, str):
                return self.reader.now(self.reader.child(owner, member))
        if name in ("int", "float") and node.args:
            value = self.value(node.args[0], hint)
            if isinstance(value, Ref):
                return self.reader.add(f"python.{name}", hint, value)
            if isinstance(value, int | float):
                return {"int": int, "float": float}[name](value)
        raise self.unknown(node, f"{name!r}")

    def _function(self, node: ast.Call, short: str, hint: str) -> Any:
        """A function of torch.nn.functional, with its arguments in its own order."""
        found = f"functional.{short}"
        if found not in TORCH_OPERATIONS:
            raise self.unknown(node, found)
        args = [self.value(argument) for argument in node.args]
        return self.reader.add(found, short if hint == "v" else hint, *args)

    def _operation(self, node: ast.Call, short: str, hint: str) -> Any:
        if short == "append":
            return self._append(node)
        args = [self.value(argument) for argument in node.args]
        if short in _SETTLED and not any(map(_of_model, args)):
            return self._settled(node, short, args)
        if short in _AS_IT_IS or short == "format":
            return args[0]
        if short in _CASTS:
            return self.reader.add(_CASTS[short], hint, args[0])
        special = self._special(short, args, hint)
        return self._by_name(node, short, args, hint) if special is None else special

    def _settled(self, node: ast.Call, short: str, args: list[Any]) -> Any:
        """Compute what no value of the model has a part in; numbers stay those of 64 bits."""
        numbers = all(isinstance(a, int | float) and abs(a) < 1 << 63 for a in args)
        try:
            if short in _ARITHMETIC and not numbers:
                raise TypeError("no numbers")
            return _SETTLED[short](*args)
        except (TypeError, ValueError, LookupError, ArithmeticError) as error:
            raise self.unknown(node, f"aten::{short} of other arguments: {error}"[:80]) from error

    def _append(self, node: ast.Call) -> Any:
        if len(node.args) != 2:
            raise self.unknown(node, "aten::append of other arguments")
        place, value = node.args
        whole = self.scope.get(place.id) if isinstance(place, ast.Name) else self.value(place)
        if not isinstance(whole, list) or not self.reader.append(whole, self.value(value)):
            raise self.unknown(node, "a list that a loop in another method appends to")
        return whole

    def _special(self, short: str, args: list[Any], hint: str) -> Ref | None:
        """What needs more than a name to be known; None for anything else."""
        if short == "_weight_norm":
            return self.reader.weight_norm(*args)
        if short == "embedding_renorm_" and isinstance(args[0], Ref):
            return self.reader.change("aten.embedding_renorm", *args)
        if short == "__not__":
            return self.reader.add("operator.not_", hint, *args)
        if short == "__contains__":
            return self.reader.add("python.contains", hint, *args)
        return None

    def _by_name(self, node: ast.Call, short: str, args: list[Any], hint: str) -> Ref:
        names = (f"aten.{short}", f"torch.{short}", f"functional.{short}")
        found = next((name for name in names if name in TORCH_OPERATIONS), None)
        if found is None or short.endswith("_"):
            raise self.unknown(node, f"aten::{short}")
        named = {k.arg: self.value(k.value) for k in node.keywords if k.arg not in _WITHOUT_EFFECT}
        if short == "to":
            args = args[:1] + [_DTYPES[v] for v in args[1:] if type(v) is int and v in _DTYPES][:1]
        if type(named.get("dtype")) is int:
            named["dtype"] = _DTYPES.get(named["dtype"], "")
        given = {str(k): v for k, v in named.items() if v is not None}
        return self.reader.add(found, short if hint == "v" else hint, *args, **given)

    def unknown(self, node: ast.AST, got: str) -> UnsupportedError:
        """Return the refusal of what cannot be followed, with its line."""
        return self.reader.unknown(self.cls, node, got)


def _of_model(value: Any) -> bool:
    """Whether a value, or a part of it, is known at the call only."""
    if isinstance(value, tuple | list):
        return any(map(_of_model, value))
    return isinstance(value, Ref)
