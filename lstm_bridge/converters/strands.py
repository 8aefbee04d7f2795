"""Any LSTM in canonical slots: a strand per layer and direction, whatever framework it is from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lstm_bridge.converters.layer import Dialect, FoundLayer
from lstm_bridge.converters.plan import DIALECTS
from lstm_bridge.converters.recipe import Entry, Recipe, applied, shape_of
from lstm_bridge.errors import UnsupportedError


@dataclass(slots=True)
class Strand:
    """One layer's one direction.

    Args:
        depth: which layer, counted from 0.
        backward: whether it runs from the last step to the first.
        slots: canonical slot (Wx, Wh, bias_x, bias_h, Wp) → recipe.
    """

    depth: int
    backward: bool
    slots: dict[str, Recipe] = field(default_factory=dict)

    @property
    def suffix(self) -> str:
        """torch's name of the strand: ``l0``, ``l0_reverse`` …"""
        return f"l{self.depth}" + ("_reverse" if self.backward else "")

    def sizes(self, entries: Mapping[str, Entry]) -> tuple[int, int]:
        """Return D and H."""
        rows, D = shape_of(self.slots["Wx"], entries)
        return D, rows // 4


def strands(layer: FoundLayer) -> list[Strand]:
    """Split a layer into its strands, layer by layer, forward before backward.

    Raises:
        UnsupportedError: the layer's equations are not the LSTM's.
    """
    dialect = DIALECTS[layer.kind.partition(".")[0]]
    if not dialect.slots:
        raise unfit(layer, "another framework", "an LSTM", "a cell with equations of its own")
    made: dict[tuple[str, str], Strand] = {}
    for parameter, recipe in layer.parameters.items():
        before, canonical, operation, after = _parse(dialect, parameter)
        if (before, after) not in made:
            made[before, after] = _place(layer, before, after)
        made[before, after].slots[canonical] = applied(operation, recipe)
    return sorted(made.values(), key=lambda strand: (strand.depth, strand.backward))


def _parse(dialect: Dialect, parameter: str) -> tuple[str, str, str, str]:
    """Split ``forward_layer.cell.kernel`` or ``weight_ih_l0`` around the slot that it spells."""
    prefix, dot, leaf = parameter.rpartition(".")
    slot = max(
        (s for s in dialect.slots if leaf.startswith(s.parameter)), key=lambda s: len(s.parameter)
    )
    return prefix + dot, slot.canonical, slot.operation, leaf[len(slot.parameter) :]


def _place(layer: FoundLayer, before: str, after: str) -> Strand:
    """Read depth and direction from what stands around the slot's name."""
    if after:  # torch: _l1_reverse
        number, _, reverse = after.removeprefix("_l").partition("_")
        return Strand(int(number), bool(reverse))
    parts = before.split(".")  # Keras: forward_layer.cell., cell.cells.1.
    if "cells" in parts and len(parts) > 4:
        raise unfit(layer, "another framework", "one cell per direction", "stacked cells in both")
    depth = int(parts[parts.index("cells") + 1]) if "cells" in parts else 0
    return Strand(depth, parts[0] == "backward_layer")


def options_of(options: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield every option, those of nested layers and cells included."""
    for key, value in options.items():
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, Mapping):
                yield from options_of(inner)
        yield key, value


def unfit(layer: FoundLayer, target: str, expected: str, got: str) -> UnsupportedError:
    """Return the refusal of a layer that the target framework cannot compute."""
    return UnsupportedError(
        f"{layer.path or '(root)'} as {target}",
        expected=expected,
        got=got,
        fix="convert without a target layout: lstm_bridge's own front-end computes it",
    )
