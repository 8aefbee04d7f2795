"""The classes of a TorchScript archive, from its source text: parsed, bounded, and never run."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from lstm_bridge.checkpoints.torch_zip import TorchZip
from lstm_bridge.errors import ConfigError

_DEEPEST = 60
"""Parentheses in one another: Python's own parser stops, or falls over, not far above."""


class ScriptClass(NamedTuple):
    """One class of the archive.

    Args:
        file: its file below ``code/``, for messages.
        attributes: name → type, as the text spells it.
        parameters: names of its own parameters.
        buffers: names of its own buffers.
        methods: name → parsed function.
        finals: option → its value, which a scripted class holds.
    """

    file: str
    attributes: Mapping[str, str]
    parameters: tuple[str, ...]
    buffers: tuple[str, ...]
    methods: Mapping[str, ast.FunctionDef]
    finals: Mapping[str, Any]


class ScriptCode:
    """Finds classes by their qualified names, and parses each file once.

    Args:
        archive: the open archive.
    """

    def __init__(self, archive: TorchZip) -> None:
        self._archive = archive
        self._files: dict[str, dict[str, ScriptClass]] = {}

    def find(self, qualified: str) -> ScriptClass:
        """Return a class such as ``__torch__.torch.nn.modules.rnn.LSTM``.

        Raises:
            RefusedInput: the archive has no such class, or text that is none of TorchScript's.
        """
        module, _, name = qualified.rpartition(".")
        if not re.fullmatch(r"[A-Za-z0-9_.]+", qualified):
            raise self.refuse("code", "a class's name", repr(qualified)[:80])
        file = module.replace(".", "/") + ".py"
        if file not in self._files:
            self._files[file] = self._parsed(file)
        found = self._files[file].get(name)
        if found is None:
            raise self.refuse(file, f"a class {name}", "none")
        return found

    def refuse(self, member: str, expected: str, got: str) -> ConfigError:
        """Return the refusal of a part of the archive."""
        return ConfigError(
            self._archive.path, member=member, expected=expected, got=got,
            fix="record the module again with torch.jit.trace",
        )  # fmt: skip

    def _parsed(self, file: str) -> dict[str, ScriptClass]:
        text = self._archive.code(file)
        if _depth(text) > _DEEPEST:
            raise self.refuse(file, f"expressions {_DEEPEST} deep at most", "deeper ones")
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise self.refuse(file, "TorchScript's text", type(error).__name__) from None
        return {
            node.name: _class(node, file) for node in tree.body if isinstance(node, ast.ClassDef)
        }


def _depth(text: str) -> int:
    """Return how deep brackets and signs go, strings not looked into: an upper bound."""
    deepest = now = 0
    for sign in re.findall(r"[()\[\]{}]|(?:[-+~] *)+|\b(?:not +)+|\blambda\b", text):
        if sign in "([{":
            now += 1
        elif sign in ")]}":
            now = max(0, now - 1)
        else:
            deepest = max(deepest, now + len(sign.split()) + sign.count("-") + sign.count("~"))
        deepest = max(deepest, now)
    return deepest


def _class(node: ast.ClassDef, file: str) -> ScriptClass:
    attributes: dict[str, str] = {}
    finals: dict[str, Any] = {}
    lists: dict[str, tuple[str, ...]] = {}
    methods: dict[str, ast.FunctionDef] = {}
    for line in node.body:
        match line:
            case ast.AnnAssign(target=ast.Name(name), annotation=kind, value=value):
                attributes[name] = ast.unparse(kind)
                if value is not None:
                    finals |= _final(name, value)
            case ast.Assign(targets=[ast.Name(name)], value=ast.List(parts)):
                lists[name] = tuple(str(p.value) for p in parts if isinstance(p, ast.Constant))
            case ast.Assign(
                targets=[ast.Subscript(ast.Name("__annotations__"), ast.Constant(str(name)))],
                value=kind,
            ):
                attributes[name] = ast.unparse(kind)
            case ast.FunctionDef(name=name):
                methods[name] = line
            case _:
                continue  # what a forward does not read does not matter
    parameters, buffers = (lists.get(f"__{k}__", ()) for k in ("parameters", "buffers"))
    return ScriptClass(file, attributes, parameters, buffers, methods, finals)


def _final(name: str, value: ast.expr) -> dict[str, Any]:
    """Return an option with its value, if that is plain."""
    try:
        return {name: ast.literal_eval(value)}
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return {}
