"""A recorded TorchScript module (``torch.jit.trace``) as a running MLX model, without torch.

The archive holds the record as text that looks like Python: one call after the other. It is parsed
and followed, never run. Scripted modules (``torch.jit.script``) hold control flow, and are refused
where they use it.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx

from lstm_bridge.checkpoints import Checkpoint, open_checkpoint
from lstm_bridge.checkpoints.torch_zip import TorchZip
from lstm_bridge.converters.recipe import Apply, Recipe, Source
from lstm_bridge.converters.reparametrized import target_of
from lstm_bridge.errors import ContainerError, UnsupportedError
from lstm_bridge.models.blank import blank_arrays, filled
from lstm_bridge.models.graph import Node, Ref
from lstm_bridge.models.torch.fold import folded
from lstm_bridge.models.torch.model import TorchModel
from lstm_bridge.models.torch.operations import TORCH_OPERATIONS
from lstm_bridge.models.torch.script_code import ScriptClass, ScriptCode

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
_DEEPEST = 64
_LARGEST = 200_000
"""Calls within calls, and nodes, of one model."""


def script_structure(archive: Checkpoint) -> tuple[TorchModel, dict[str, Recipe]]:
    """Return the model of a recorded archive without its numbers, and how each of them is made.

    Args:
        archive: the open file.

    Raises:
        UnsupportedError: naming the operation, and the line of the archive's code.
        RefusedInput: the archive is damaged.
    """
    if not isinstance(archive, TorchZip) or not is_script(archive):
        raise ContainerError(
            archive.path, expected="a recorded TorchScript file", got=archive.format,
            fix="port the torch module itself, or convert the weights",
        )  # fmt: skip
    names = archive.constants()
    scalars = {n: archive.read(n).item() for n in names if archive.tensors[n].shape == ()}
    tensors = [n for n in archive.tensors if n not in scalars]
    aliases = _aliases(archive, tensors)
    values = [scalars.get(n, n) for n in names]
    reader = _Reader(ScriptCode(archive), values, aliases, frozenset(archive.tensors))
    nodes = reader.read(str(archive.metadata["class"]))
    halves = {half for pair in reader.normed.values() for half in pair} - _read(nodes)
    held = [n for n in tensors if n not in aliases and n not in halves]
    facts = {n: archive.tensors[n] for n in held}
    facts |= {target: archive.tensors[v] for target, (_, v) in reader.normed.items()}
    graph, parts = folded(nodes, {n: info.shape for n, info in facts.items()})
    owned = tuple(f"{part.path}." for part in parts)
    loose = {n: info for n, info in facts.items() if not n.startswith(owned)}
    options: dict[str, Any] = {
        "aliases": aliases,
        "buffers": [n for n in held if n in reader.buffers],
        "constants": [n for n in names if n in loose],
    }
    if reader.normed:
        options["folded"] = dict.fromkeys(reader.normed, "weight_norm")
    model = TorchModel(parts, graph, blank_arrays(loose), options)
    model.eval()
    recipes: dict[str, Recipe] = {n: Source(n) for n in held}
    for target, pair in reader.normed.items():
        recipes[target] = Apply("weight norm", tuple(Source(half) for half in pair))
    return model, recipes


def _read(nodes: list[Node]) -> set[str]:
    """Return the arrays that nodes read."""
    refs = {name for node in nodes for name in node.refs()}
    return {node.target for node in nodes if node.op == "parameter" and node.name in refs}


def _aliases(archive: TorchZip, names: list[str]) -> dict[str, str]:
    """Return the further names of tied tensors: of the same place in the file, in one shape."""
    first: dict[Any, str] = {}
    found = {name: first.setdefault(archive.views[name], name) for name in names}
    return {name: kept for name, kept in found.items() if name != kept}


class _Module(NamedTuple):
    """A sub-module where it is called."""

    path: str
    cls: ScriptClass


class _Reader:
    """Follows the record from its inputs to its outputs.

    Args:
        code: the archive's classes.
        constants: numbers, and names of tensors.
        aliases: further names of tied tensors → the kept one.
        known: names of the archive's tensors.
    """

    def __init__(
        self,
        code: ScriptCode,
        constants: list[Any],
        aliases: Mapping[str, str],
        known: frozenset[str],
    ) -> None:
        self._code, self._constants, self._aliases, self._known = code, constants, aliases, known
        self._nodes: list[Node] = []
        self._taken: set[str] = set()
        self._parameters: dict[str, Ref] = {}
        self.buffers: set[str] = set()
        self.normed: dict[str, tuple[str, str]] = {}
        self._changed: dict[Ref, Ref] = {}

    def read(self, qualified: str) -> list[Node]:
        """Return the nodes of the module's forward."""
        root = self._code.find(qualified)
        names = [argument.arg for argument in _forward(root, "forward", self._code).args.args[1:]]
        for name in names:
            self._taken.add(name)
            self._nodes.append(Node(name, "input"))
        result = self._call_method(_Module("", root), "forward", [Ref(n) for n in names], 0)
        self._nodes.append(Node(self._fresh("output"), "output", "", (result,)))
        return self._nodes

    # --- statements ----------------------------------------------------------------------------

    def _call_method(self, module: _Module, method: str, values: list[Any], depth: int) -> Any:
        if depth > _DEEPEST:
            raise self._code.refuse(module.cls.file, f"calls {_DEEPEST} deep at most", "deeper")
        function = _forward(module.cls, method, self._code)
        own, *names = [argument.arg for argument in function.args.args]
        if len(names) != len(values):
            raise self._unknown(module.cls, function, f"{len(values)} arguments")
        scope: dict[str, Any] = {own: module, **dict(zip(names, values, strict=True))}
        frame = _Frame(self, module.cls, scope, depth)
        for line in function.body:
            match line:
                case ast.Assign(targets=[ast.Name(name)], value=value):
                    scope[name] = frame.value(value, name)
                case ast.Assign(targets=[ast.Tuple(targets)], value=value):
                    names = [t.id for t in targets if isinstance(t, ast.Name)]
                    scope |= dict(zip(names, frame.unpacked(value, names), strict=True))
                case ast.AnnAssign(target=ast.Name(name), value=value) if value is not None:
                    scope[name] = frame.value(value, name)
                case ast.Return(value=value) if value is not None:
                    return frame.value(value, "result")
                case _:
                    raise self._unknown(module.cls, line, "control flow, which is not recorded")
        raise self._unknown(module.cls, function, "no result")

    def add(self, op: str, hint: str, *args: Any, **kwargs: Any) -> Ref:
        """Add a node, and return what stands for its value."""
        if len(self._nodes) > _LARGEST:
            raise self._code.refuse("code", f"at most {_LARGEST} operations", "more")
        name = self._fresh(hint)
        self._nodes.append(Node(name, op, "", args, kwargs))
        return Ref(name)

    def parameter(self, path: str) -> Ref:
        """Return what stands for an array of the model."""
        kept = self._aliases.get(path, path)
        if kept not in self._known and kept not in self.normed:
            raise self._code.refuse("data.pkl", f"a tensor {path!r}", "none")
        if kept not in self._parameters:
            name = self._fresh(kept.replace(".", "_"))
            self._nodes.append(Node(name, "parameter", kept))
            self._parameters[kept] = Ref(name)
        return self._parameters[kept]

    def weight_norm(self, v: Any, g: Any, axis: Any = 0) -> Ref | None:
        """Return the array that weight_norm makes of two others; None if it makes it otherwise."""
        paths = {ref.node: path for path, ref in self._parameters.items()}
        halves = [paths.get(one.node, "") for one in (g, v) if isinstance(one, Ref)]
        target = target_of(*halves) if len(halves) == 2 and axis == 0 else ""
        if not target:
            return None
        self.normed[target] = (halves[0], halves[1])
        return self.parameter(target)

    def change(self, op: str, whole: Any, *args: Any) -> Ref:
        """Add a change in place: what stood for the value before stands for the new one now."""
        made = self.add(op, "changed", whole, *args)
        self._changed[whole] = made
        return made

    def now(self, value: Any) -> Any:
        """Return what stands for a value after all changes in place."""
        while isinstance(value, Ref) and value in self._changed:
            value = self._changed[value]
        return value

    def child(self, module: _Module, name: str) -> Any:
        """Return a module's sub-module or array."""
        path = f"{module.path}.{name}".lstrip(".")
        kind = module.cls.attributes.get(name, "")
        if kind.startswith("__torch__."):
            return _Module(path, self._code.find(kind))
        if name in module.cls.buffers:
            self.buffers.add(path)
        return self.parameter(path)

    def constant(self, name: str) -> Any:
        """Return one of the archive's constants."""
        index = name.removeprefix("c")
        if not index.isdigit() or int(index) >= len(self._constants):
            raise self._code.refuse("constants", "one of the archive's constants", name)
        found = self._constants[int(index)]
        return self.parameter(found) if isinstance(found, str) else found

    def _fresh(self, hint: str) -> str:
        name, count = hint, 1
        while name in self._taken:
            count += 1
            name = f"{hint}_{count}"
        self._taken.add(name)
        return name

    def _unknown(self, cls: ScriptClass, node: ast.AST, got: str) -> UnsupportedError:
        line = getattr(node, "lineno", 0)
        return UnsupportedError(
            f"port TorchScript at {cls.file}:{line}",
            expected="operations that graphs have, one after the other",
            got=got,
            fix="port the torch module itself",
        )


def _forward(cls: ScriptClass, name: str, code: ScriptCode) -> ast.FunctionDef:
    found = cls.methods.get(name)
    if found is None:
        raise code.refuse(cls.file, f"a method {name}", "none")
    return found


class _Frame:
    """The expressions of one method that is being followed."""

    def __init__(
        self, reader: _Reader, cls: ScriptClass, scope: dict[str, Any], depth: int
    ) -> None:
        self._reader, self._cls, self._scope, self._depth = reader, cls, scope, depth

    def unpacked(self, node: ast.expr, names: list[str]) -> list[Any]:
        """Return the parts of a value, as many as there are names for them."""
        whole = self.value(node, f"{names[0]}_all" if names else "all")
        if isinstance(whole, tuple | list):
            if len(whole) != len(names):
                raise self._unknown(node, f"{len(whole)} values for {len(names)} names")
            return list(whole)
        return [self._reader.add("aten.unpacked", n, whole, k) for k, n in enumerate(names)]

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
            return self._reader.add("aten.unpacked", hint, whole, place)
        if type(place) is int and -len(whole) <= place < len(whole):
            return whole[place]
        raise self._unknown(node, f"item {place} of {len(whole)}")

    def _reached(self, node: ast.expr) -> Any:
        match node:
            case ast.UnaryOp(ast.USub(), operand):
                number = self.value(operand)
                if isinstance(number, int | float):
                    return -number
            case ast.Attribute(ast.Name("CONSTANTS"), name):
                return self._reader.constant(name)
            case ast.Attribute(owner, name):
                module = self.value(owner)
                if isinstance(module, _Module):
                    return self._reader.now(self._reader.child(module, name))
            case _:
                pass
        raise self._unknown(node, f"{ast.unparse(node)[:60]!r}")

    def _name(self, node: ast.expr, name: str) -> Any:
        if name in self._scope:
            return self._reader.now(self._scope[name])
        if name in ("inf", "nan"):
            return getattr(math, name)
        raise self._unknown(node, f"the name {name!r}, which nothing defines")

    def _call(self, node: ast.Call, hint: str) -> Any:
        match node.func:
            case ast.Name("annotate" | "unchecked_cast"):
                return self.value(node.args[-1], hint)
            case ast.Name("getattr"):
                owner, name = (self.value(argument) for argument in node.args)
                if isinstance(owner, _Module) and isinstance(name, str):
                    return self._reader.now(self._reader.child(owner, name))
            case ast.Name("int" | "float" as name):
                value = self.value(node.args[0], hint)
                if not isinstance(value, Ref):
                    return {"int": int, "float": float}[name](value)
                return self._reader.add(f"python.{name}", hint, value)
            case ast.Attribute(ast.Name("torch"), "device"):
                return None
            case ast.Attribute(ast.Name("torch") | ast.Attribute(ast.Name("ops")), name):
                return self._operation(node, name, hint)
            case ast.Attribute(owner, method):
                module = self.value(owner)
                if isinstance(module, _Module):
                    values = [self.value(argument) for argument in node.args]
                    return self._reader._call_method(module, method, values, self._depth + 1)
            case _:
                pass
        raise self._unknown(node, f"{ast.unparse(node.func)[:60]!r}")

    def _operation(self, node: ast.Call, short: str, hint: str) -> Any:
        args = [self.value(argument) for argument in node.args]
        if short in _AS_IT_IS:
            return args[0]
        if short == "_weight_norm" and (made := self._reader.weight_norm(*args)) is not None:
            return made
        if short == "embedding_renorm_" and isinstance(args[0], Ref):
            return self._reader.change("aten.embedding_renorm", *args)
        if short in _CASTS:
            return self._reader.add(_CASTS[short], hint, args[0])
        names = (f"aten.{short}", f"torch.{short}", f"functional.{short}")
        found = next((name for name in names if name in TORCH_OPERATIONS), None)
        if found is None or short.endswith("_"):
            raise self._unknown(node, f"aten::{short}")
        named = {k.arg: self.value(k.value) for k in node.keywords if k.arg not in _WITHOUT_EFFECT}
        if short == "to":
            args = args[:1] + [_DTYPES[v] for v in args[1:] if type(v) is int and v in _DTYPES][:1]
        if type(named.get("dtype")) is int:
            named["dtype"] = _DTYPES.get(named["dtype"], "")
        given = {str(k): v for k, v in named.items() if v is not None}
        return self._reader.add(found, short if hint == "v" else hint, *args, **given)

    def _unknown(self, node: ast.AST, got: str) -> UnsupportedError:
        return self._reader._unknown(self._cls, node, got)


def port_script(file: str | PathLike[str]) -> TorchModel:
    """Return the model of a recorded TorchScript file.

    Args:
        file: what ``torch.jit.save`` wrote.

    Raises:
        UnsupportedError: naming the operation, and the line of the archive's code.
        RefusedInput: the file is damaged, or no TorchScript.
        FileSystemError: it cannot be read.
    """
    with open_checkpoint(Path(file)) as archive:
        model, recipes = script_structure(archive)
        filled(model, recipes, archive)
        mx.eval(model.parameters())
        return model


def is_script(checkpoint: Checkpoint) -> bool:
    """Say whether a checkpoint is a TorchScript archive."""
    return isinstance(checkpoint, TorchZip) and bool(checkpoint.metadata["torchscript"])
