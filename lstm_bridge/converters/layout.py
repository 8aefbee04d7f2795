"""Layers in the canonical slots, and from there in the layout of stock ``mlx.nn.LSTM``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lstm_bridge.converters.layer import Dialect, FoundLayer
from lstm_bridge.converters.plan import DIALECTS
from lstm_bridge.converters.recipe import Apply, Entry, Recipe, shape_of
from lstm_bridge.errors import UnsupportedError


@dataclass(slots=True)
class Strand:
    """One layer's one direction in canonical slots (Wx, Wh, bias_x, bias_h, Wp)."""

    name: str  # l0, l0_reverse, l1 …
    slots: dict[str, Recipe] = field(default_factory=dict)


def strands(layer: FoundLayer) -> list[Strand]:
    """Split a layer into its strands, translating every parameter to its canonical slot.

    Raises:
        UnsupportedError: the layer's equations are not the LSTM's.
    """
    dialect = DIALECTS[layer.kind.partition(".")[0]]
    if not dialect.slots:
        raise UnsupportedError(
            f"{layer.path or '(root)'} ({layer.kind})",
            expected="an LSTM",
            got="a cell with equations of its own",
            fix="keep the source's layout",
        )
    made: dict[tuple[str, str], Strand] = {}
    for parameter, recipe in layer.parameters.items():
        before, canonical, operation, after = _parse(dialect, parameter)
        strand = made.setdefault((before, after), Strand(_name(before, after, len(made))))
        strand.slots[canonical] = recipe if operation == "copy" else Apply(operation, (recipe,))
    return list(made.values())


def _parse(dialect: Dialect, parameter: str) -> tuple[str, str, str, str]:
    """Split ``forward_layer.cell.kernel`` or ``weight_ih_l0`` around the slot that it spells."""
    prefix, dot, leaf = parameter.rpartition(".")
    slot = max(
        (s for s in dialect.slots if leaf.startswith(s.parameter)), key=lambda s: len(s.parameter)
    )
    return prefix + dot, slot.canonical, slot.operation, leaf[len(slot.parameter) :]


def _name(before: str, after: str, index: int) -> str:
    if after:
        return after[1:]
    if before.startswith(("forward_layer.", "backward_layer.")):
        return "l0_reverse" if before.startswith("backward") else "l0"
    return f"l{index}"


def as_mlx(layer: FoundLayer, entries: Mapping[str, Entry]) -> list[FoundLayer]:
    """Return the layer as stock ``mlx.nn.LSTM`` layers, one per layer and direction.

    Args:
        layer: any LSTM.
        entries: header facts of the source's tensors.

    Raises:
        UnsupportedError: stock mlx.nn.LSTM cannot compute this layer.
    """
    if layer.kind == "mlx.nn.LSTM":
        return [layer]
    _check_stock(layer)
    parts = strands(layer)
    return [_stock(layer, part, len(parts) == 1, dict(entries)) for part in parts]


def _stock(layer: FoundLayer, part: Strand, alone: bool, entries: dict[str, Entry]) -> FoundLayer:
    if "Wp" in part.slots:
        raise _no_stock(layer, "no projection", "proj_size > 0")
    parameters = {"Wx": part.slots["Wx"], "Wh": part.slots["Wh"]}
    biases = tuple(part.slots[name] for name in ("bias_x", "bias_h") if name in part.slots)
    rules = list(layer.rules)
    if biases:
        parameters["bias"] = biases[0] if len(biases) == 1 else Apply("sum", biases)
    if len(biases) == 2:
        rules.append("bias = bias_ih + bias_hh: only their sum is kept")
    if part.name.endswith("_reverse"):
        rules.append("runs backward: give it the sequence flipped, and flip its outputs")
    rows, D = shape_of(parameters["Wx"], entries)
    options = {"input_size": D, "hidden_size": rows // 4, "bias": bool(biases)}
    path = layer.path if alone else f"{layer.path}.{part.name}".lstrip(".")
    return FoundLayer(path, "mlx.nn.LSTM", options, parameters, tuple(rules))


def _check_stock(layer: FoundLayer) -> None:
    """Refuse activations and directions that stock mlx.nn.LSTM has no argument for."""
    stock = {"activation": "tanh", "recurrent_activation": "sigmoid", "go_backwards": False}
    for key, value in _options(layer.options):
        if key in stock and value != stock[key]:
            raise _no_stock(layer, f"{key}={stock[key]}", f"{key}={value}")


def _options(options: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield every option, those of nested layers and cells included."""
    for key, value in options.items():
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, Mapping):
                yield from _options(inner)
        yield key, value


def _no_stock(layer: FoundLayer, expected: str, got: str) -> UnsupportedError:
    return UnsupportedError(
        f"{layer.path or '(root)'} as stock mlx.nn.LSTM",
        expected=expected,
        got=got,
        fix="convert without --layout mlx: lstm_bridge's own front-end computes it",
    )
