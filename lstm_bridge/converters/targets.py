"""Any LSTM as the layers of another framework: stock MLX, torch or Keras."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lstm_bridge.converters import torch
from lstm_bridge.converters.keras import SLOTS as KERAS_SLOTS
from lstm_bridge.converters.layer import FoundLayer
from lstm_bridge.converters.recipe import Apply, Entry, Recipe, applied
from lstm_bridge.converters.strands import Strand, options_of, strands, unfit

Entries = Mapping[str, Entry]

SUM_KEPT = "bias = bias_ih + bias_hh: only their sum is kept"
_CLASSIC = {"activation": "tanh", "recurrent_activation": "sigmoid"}


def as_mlx(layer: FoundLayer, entries: Entries) -> list[FoundLayer]:
    """Return the layer as stock ``mlx.nn.LSTM`` layers, one per layer and direction.

    Raises:
        UnsupportedError: stock mlx.nn.LSTM cannot compute this layer.
    """
    if layer.kind == "mlx.nn.LSTM":
        return [layer]
    name = "stock mlx.nn.LSTM"
    _check(layer, name, _CLASSIC)
    _check_direction(layer, name)
    parts = strands(layer)
    return [_as_mlx(layer, part, len(parts) == 1, entries) for part in parts]


def _as_mlx(layer: FoundLayer, part: Strand, alone: bool, entries: Entries) -> FoundLayer:
    parameters, rules = _single_bias(layer, part, "stock mlx.nn.LSTM")
    if part.backward:
        rules.append("runs backward: give it the sequence flipped, and flip its outputs")
    D, H = part.sizes(entries)
    options = {"input_size": D, "hidden_size": H, "bias": "bias_x" in parameters}
    names = {"Wx": "Wx", "Wh": "Wh", "bias_x": "bias"}
    path = layer.path if alone else f"{layer.path}.{part.suffix}".lstrip(".")
    return FoundLayer(
        path,
        "mlx.nn.LSTM",
        options,
        {names[slot]: recipe for slot, recipe in parameters.items()},
        (*layer.rules, *rules),
    )


def _single_bias(
    layer: FoundLayer, part: Strand, target: str
) -> tuple[dict[str, Recipe], list[str]]:
    """Return a strand's slots with at most one bias, and the rule where two were summed."""
    if "Wp" in part.slots:
        raise unfit(layer, target, "no projection", "proj_size > 0")
    slots = {name: recipe for name, recipe in part.slots.items() if name != "bias_h"}
    if "bias_h" not in part.slots:
        return slots, []
    slots["bias_x"] = Apply("sum", (part.slots["bias_x"], part.slots["bias_h"]))
    return slots, [SUM_KEPT]


def as_torch(layer: FoundLayer, entries: Entries) -> list[FoundLayer]:
    """Return the layer as one ``torch.nn.LSTM``.

    Raises:
        UnsupportedError: torch.nn.LSTM cannot compute this layer.
    """
    if layer.kind.startswith(("torch.", "pytorch_forecasting.")):
        return [layer]
    name = "torch.nn.LSTM"
    _check(layer, name, _CLASSIC | {"merge_mode": "concat"})
    _check_direction(layer, name)
    parts = strands(layer)
    parameters: dict[str, Recipe] = {}
    for part in parts:
        slots = dict(part.slots)
        if "bias_x" in slots:
            slots["bias_h"] = Apply("zeros like", (slots["bias_x"],))
        by_slot = {slot.canonical: slot.parameter for slot in torch.SLOTS}
        parameters |= {f"{by_slot[s]}_{part.suffix}": recipe for s, recipe in slots.items()}
    D, H = parts[0].sizes(entries)
    if any(part.sizes(entries)[1] != H for part in parts):
        raise unfit(layer, name, "one hidden size in all layers", "several")
    options = {
        "input_size": D,
        "hidden_size": H,
        "num_layers": parts[-1].depth + 1,
        "bidirectional": parts[-1].backward,
        "bias": "bias_x" in parts[0].slots,
        "batch_first": True,
    }
    rules = ["batch_first=True, and torch returns every step's output with the last states"]
    if options["bias"]:
        rules.append("bias_ih is the bias, bias_hh is zero: torch adds the two")
    return [FoundLayer(layer.path, name, options, parameters, (*layer.rules, *rules))]


def as_keras(layer: FoundLayer, entries: Entries) -> list[FoundLayer]:
    """Return the layer as Keras layers, one per depth, to be called one after the other.

    Raises:
        UnsupportedError: Keras 3 cannot compute this layer.
    """
    if layer.kind.startswith("keras."):
        for key, value in options_of(layer.options):
            if value == "hard_sigmoid_keras2":
                raise unfit(
                    layer, "Keras 3", f"a {key} that Keras 3 has", "hard_sigmoid of slope 0.2"
                )
        return [layer]
    depths: dict[int, list[Strand]] = {}
    for part in strands(layer):
        depths.setdefault(part.depth, []).append(part)
    return [_as_keras(layer, parts, len(depths) == 1, entries) for parts in depths.values()]


def _as_keras(layer: FoundLayer, parts: list[Strand], alone: bool, entries: Entries) -> FoundLayer:
    parameters: dict[str, Recipe] = {}
    rules: list[str] = []
    for part, prefix in zip(parts, _SIDES[len(parts)], strict=True):
        slots, told = _single_bias(layer, part, "keras.layers.LSTM")
        rules = told
        for slot in KERAS_SLOTS:
            if slot.canonical in slots:
                recipe = applied(slot.operation, slots[slot.canonical])
                parameters[f"{prefix}cell.{slot.parameter}"] = recipe
    _, H = parts[0].sizes(entries)
    name = layer.path.replace(".", "_") or "lstm"
    name = name if alone else f"{name}_l{parts[0].depth}"
    options: dict[str, Any] = {
        "units": H,
        "use_bias": "bias_x" in parts[0].slots,
        "return_sequences": True,
    }
    kind = "keras.layers.LSTM"
    if len(parts) == 2:
        inner = {"class_name": "LSTM", "config": options}
        kind, options = "keras.layers.Bidirectional", {"layer": inner, "merge_mode": "concat"}
    rules.append("inputs and outputs are (batch, time, features)")
    return FoundLayer(name, kind, {"name": name, **options}, parameters, (*layer.rules, *rules))


_SIDES = {1: ("",), 2: ("forward_layer.", "backward_layer.")}


def _check(layer: FoundLayer, target: str, required: Mapping[str, Any]) -> None:
    """Refuse options that the target has no argument for."""
    for key, value in options_of(layer.options):
        if key in required and value != required[key]:
            raise unfit(layer, target, f"{key}={required[key]}", f"{key}={value}")


def _check_direction(layer: FoundLayer, target: str) -> None:
    """Refuse a layer that runs backwards, the backward side of a Bidirectional aside."""
    forward = {key: value for key, value in layer.options.items() if key != "backward_layer"}
    if any(key == "go_backwards" and value for key, value in options_of(forward)):
        raise unfit(layer, target, "go_backwards=False", "go_backwards=True")


class Target(NamedTuple):
    """A framework to write for: how layers are translated, and the file suffixes it reads."""

    translate: Callable[[FoundLayer, Entries], list[FoundLayer]]
    suffixes: tuple[str, ...]


TARGETS: dict[str, Target] = {
    "mlx": Target(as_mlx, (".safetensors",)),
    "torch": Target(as_torch, (".safetensors", ".pt")),
    "keras": Target(as_keras, (".weights.h5", ".keras")),
}
"""Every framework that conversion writes for: the only list of them."""
