"""Follows the text of a TorchScript archive from its inputs to its outputs, without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lstm_bridge.converters.reparametrized import target_of
from lstm_bridge.errors import UnsupportedError
from lstm_bridge.models.classes import make
from lstm_bridge.models.graph import Node, Ref
from lstm_bridge.models.torch.script_code import ScriptClass, ScriptCode
from lstm_bridge.models.torch.script_flow import UNFINISHED, follow
from lstm_bridge.models.torch.script_frame import Frame, Module
from lstm_bridge.models.torch.script_layers import layer_of
from lstm_bridge.models.whole import Part

_DEEPEST = 64
_LARGEST = 200_000
"""Calls within calls, and nodes or statements, of one model."""

_WIDEST = 1 << 24


@dataclass(slots=True)
class Inside:
    """What a loop's body holds: its nodes, and lists outside of it with what it appends to them."""

    nodes: list[Node] = field(default_factory=list)
    collected: list[tuple[list[Any], list[Any]]] = field(default_factory=list)


class Reader:
    """Follows the record from its inputs to its outputs.

    Args:
        code: the archive's classes.
        constants: numbers, and names of tensors.
        aliases: further names of tied tensors → the kept one.
        known: names of the archive's tensors.
        training: what a module's flag of that name says.
    """

    def __init__(
        self,
        code: ScriptCode,
        constants: list[Any],
        aliases: Mapping[str, str],
        known: frozenset[str],
        training: bool = False,
    ) -> None:
        self._code, self._constants, self._aliases, self._known = code, constants, aliases, known
        self._nodes: list[Node] = []
        self._taken: set[str] = set()
        self._parameters: dict[str, Ref] = {}
        self.buffers: set[str] = set()
        self.normed: dict[str, tuple[str, str]] = {}
        self.layers: dict[str, Part] = {}
        self.training, self.asked_mode = training, False
        self._held: list[Node] = []
        self._inside: Inside | None = None
        self._followed = 0
        self._changed: dict[Ref, Ref] = {}
        self._became: dict[int, tuple[list[Any], Ref]] = {}

    def read(self, qualified: str) -> list[Node]:
        """Return the nodes of the module's forward."""
        root = Module("", self._code.find(qualified), qualified)
        function = self._method(root, "forward")
        names = [argument.arg for argument in function.args.args[1:]]
        settled = dict(zip(names[::-1], function.args.defaults[::-1], strict=False))
        given: list[Any] = [Ref(name) for name in names if name not in settled]
        self._taken.update(names)
        inputs = [Node(ref.node, "input") for ref in given]
        frame = Frame(self, root.cls, {}, 0)
        given += [frame.value(settled[name]) for name in names if name in settled]
        result = self.call(root, "forward", given, 0)
        output = Node(self.fresh("output"), "output", "", (self.now(result),))
        return [*inputs, *self._held, *self._nodes, output]

    def call(self, module: Module, method: str, values: list[Any], depth: int) -> Any:
        """Follow a method, or put the layer itself in its place."""
        if depth > _DEEPEST:
            raise self._code.refuse(module.cls.file, f"calls {_DEEPEST} deep at most", "deeper")
        layer = None if self._is_tied(module) else layer_of(module.qualified, module.cls)
        if layer is not None and method in ("forward", "forward__0"):
            return self._call_layer(module, *layer, values)
        function = self._method(module, method)
        own, *names = [argument.arg for argument in function.args.args]
        if len(names) != len(values):
            raise self.unknown(module.cls, function, f"{len(values)} arguments")
        scope: dict[str, Any] = {own: module, **dict(zip(names, values, strict=True))}
        result = follow(Frame(self, module.cls, scope, depth), function.body)
        if result is UNFINISHED:
            raise self.unknown(module.cls, function, "no result")
        return result

    def _method(self, module: Module, name: str) -> ast.FunctionDef:
        found = module.cls.methods.get(name)
        if found is None:
            raise self._code.refuse(module.cls.file, f"a method {name}", "none")
        return found

    def _is_tied(self, module: Module) -> bool:
        """Whether a module is the whole, or shares an array with another."""
        tied = {*self._aliases, *self._aliases.values()}
        own = {f"{module.path}.{name}" for name in (*module.cls.parameters, *module.cls.buffers)}
        return not module.path or bool(own & tied)

    def _call_layer(
        self, module: Module, kind: str, options: dict[str, Any], values: list[Any]
    ) -> Ref:
        path = module.path
        if path not in self.layers:
            self.layers[path] = Part(path, kind, options, self._made(module, kind, options))
            self.buffers.update(f"{path}.{name}" for name in module.cls.buffers)
        name = self.fresh(path.replace(".", "_"))
        self._nodes.append(Node(name, "module", path, tuple(self.now(v) for v in values)))
        return Ref(name)

    def _made(self, module: Module, kind: str, options: dict[str, Any]) -> Any:
        sizes = [value for value in options.values() if type(value) is int]
        many = options.get("num_layers", 0)
        try:
            if many > len(module.cls.parameters) or any(size > _WIDEST for size in sizes):
                raise ValueError(f"{max(sizes)}, larger than its arrays")
            return make(kind, options, None)
        except (ValueError, TypeError) as error:  # ours are ValueErrors, too
            place, got = module.cls.file, f"{error}"[:120]
            raise self._code.refuse(place, f"options of a {kind}", got) from error

    def count(self, line: ast.AST, frame: Frame) -> None:
        """Refuse text that goes on for ever."""
        self._followed += 1
        if self._followed > _LARGEST:
            raise frame.unknown(line, f"more than {_LARGEST} statements, one after the other")

    # --- loops ---------------------------------------------------------------------------------

    @property
    def looping(self) -> bool:
        """Whether the body of a loop over a length is being followed."""
        return self._inside is not None

    @contextmanager
    def apart(self, lists: list[list[Any]]) -> Iterator[Inside]:
        """Put the nodes that are added aside, with what is appended to the lists."""
        before, inside = self._nodes, Inside(collected=[(one, []) for one in lists])
        self._nodes, self._inside = inside.nodes, inside
        try:
            yield inside
        finally:
            self._nodes, self._inside = before, None

    def placeholder(self, hint: str) -> Ref:
        """Add an input of the body that is being followed."""
        name = self.fresh(hint)
        self._nodes.append(Node(name, "input"))
        return Ref(name)

    def append(self, whole: list[Any], value: Any) -> bool:
        """Append to a list, or collect what a loop appends; False where neither can be."""
        for one, values in self._inside.collected if self._inside else ():
            if one is whole:
                values.append(value)
                return True
        if not self.looping:
            whole.append(value)
        return not self.looping

    def became(self, whole: list[Any], made: Ref) -> None:
        """Let what stood for a list stand for what a loop collected."""
        self._became[id(whole)] = (whole, made)

    def is_open(self, value: Any) -> bool:
        """Whether a value is a list that the loop being followed appends to."""
        lists = self._inside.collected if self._inside else ()
        return any(one is value for one, _ in lists)

    # --- nodes ---------------------------------------------------------------------------------

    def add(self, op: str, hint: str, *args: Any, **kwargs: Any) -> Ref:
        """Add a node, and return what stands for its value."""
        if len(self._nodes) > _LARGEST:
            raise self._code.refuse("code", f"at most {_LARGEST} operations", "more")
        name = self.fresh(hint)
        self._nodes.append(Node(name, op, "", args, kwargs))
        return Ref(name)

    def parameter(self, path: str) -> Ref:
        """Return what stands for an array of the model."""
        kept = self._aliases.get(path, path)
        if kept not in self._known and kept not in self.normed:
            raise self._code.refuse("data.pkl", f"a tensor {path!r}", "none")
        if kept not in self._parameters:
            name = self.fresh(kept.replace(".", "_"))
            self._held.append(Node(name, "parameter", kept))
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
        if type(value) is tuple:
            return tuple(self.now(one) for one in value)
        if isinstance(value, list):
            return self._became[id(value)][1] if id(value) in self._became else value
        while isinstance(value, Ref) and value in self._changed:
            value = self._changed[value]
        return value

    def child(self, module: Module, name: str) -> Any:
        """Return a module's sub-module, array, option or mode."""
        path = f"{module.path}.{name}".lstrip(".")
        kind = module.cls.attributes.get(name, "")
        if kind.startswith("__torch__."):
            return Module(path, self._code.find(kind), kind)
        if name in module.cls.finals:
            return module.cls.finals[name]
        if name == "training" and kind == "bool":
            self.asked_mode = True
            return self.training
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

    def fresh(self, hint: str) -> str:
        """Return a name that no node has."""
        name, count = hint, 1
        while name in self._taken:
            count += 1
            name = f"{hint}_{count}"
        self._taken.add(name)
        return name

    def unknown(self, cls: ScriptClass, node: ast.AST, got: str) -> UnsupportedError:
        """Return the refusal of what cannot be followed, with its line."""
        line = getattr(node, "lineno", 0)
        return UnsupportedError(
            f"port TorchScript at {cls.file}:{line}",
            expected="operations that graphs have, one after the other",
            got=got,
            fix="port the torch module itself",
        )
