"""What a converter finds in a file: layers, each with the front-end it becomes and its recipes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from lstm_bridge.converters.recipe import Entry, Recipe
from lstm_bridge.errors import RefusedInput, SemanticError


@dataclass(frozen=True, slots=True)
class FoundLayer:
    """One recurrent layer of a source file.

    Args:
        path: dotted place in the module tree; "" when the file is the layer itself.
        kind: front-end class it becomes, e.g. ``"torch.nn.LSTM"``.
        options: that class's constructor arguments.
        parameters: front-end parameter name → how it is made from the source's tensors.
        rules: what was decided on the way, one line each, for the report.
    """

    path: str
    kind: str
    options: Mapping[str, Any]
    parameters: Mapping[str, Recipe]
    rules: tuple[str, ...] = ()

    def name_of(self, parameter: str) -> str:
        """Return the parameter's full name in the converted file."""
        return f"{self.path}.{parameter}" if self.path else parameter


@dataclass(slots=True)
class Found:
    """All that one dialect makes of a file.

    Args:
        layers: the layers that convert.
        refused: path → why a recurrent layer does not convert.
        claimed: tensors that belong to a refused layer, with that layer's path.
        left_out: source tensors that a layer makes superfluous, with the reason.
        renamed: tensors passed through, source name → name in the output.
        code: layers that are code or another package's → why they are not read.
    """

    layers: list[FoundLayer] = field(default_factory=list)
    refused: dict[str, RefusedInput] = field(default_factory=dict)
    claimed: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    code: dict[str, str] = field(default_factory=dict)


class Slot(NamedTuple):
    """One row of a dialect's table: its parameter, the canonical slot, and the way between."""

    parameter: str
    canonical: str  # Wx, Wh, Wp, bias_x or bias_h
    operation: str  # an OPERATIONS name that has an inverse


class Open(NamedTuple):
    """An option that a file leaves open: what a caller may state for it."""

    expected: str
    takes: Callable[[Any], bool]


FLAG = Open("true or false", lambda value: isinstance(value, bool))
NAME = Open("a name", lambda value: isinstance(value, str))
RATE = Open("a number from 0 to 1", lambda v: type(v) in (int, float) and 0 <= v <= 1)


class Dialect(NamedTuple):
    """A framework's names for one direction of one LSTM layer, and how to find them in a file."""

    name: str
    kinds: tuple[str, ...]  # front-end classes that its layers become
    assumable: Mapping[str, Open]  # options its files may not hold, which a caller may state
    slots: tuple[Slot, ...]  # empty for cells with equations of their own
    find: Callable[[Tensors], Found]


class Tensors(NamedTuple):
    """What a finder works on: header facts, and what the caller states beyond them."""

    file: str
    entries: Mapping[str, Entry]
    metadata: Mapping[str, Any]
    assume: Mapping[str, Any] = {}

    def refuse(self, path: str, expected: str, got: str, fix: str) -> SemanticError:
        """Return the refusal of the layer at ``path``."""
        return SemanticError(
            self.file, tensor=path or "(root)", expected=expected, got=got, fix=fix
        )
