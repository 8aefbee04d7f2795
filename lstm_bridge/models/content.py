"""What a conversion writes: how each array is made, and the description that goes with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lstm_bridge.converters.layer import FoundLayer
from lstm_bridge.converters.plan import Plan
from lstm_bridge.converters.recipe import Recipe, Shape, Source
from lstm_bridge.models.quantize import Packed


class Content(NamedTuple):
    """Everything about an output but its numbers.

    Args:
        recipes: array → how it is made from the source's tensors.
        layers: the recurrent layers among them.
        left_out: what the source holds besides → why it is left out.
        ignored: tensors left out because the caller asked for it.
        description: what makes a whole model again. Default: none, layers and loose arrays.
        shapes: array → its shape, where that is known otherwise than from its recipe.
        packed: array → how quantization makes it from its recipe's. Default: none.
        places: array → its place in a Keras weights file. Default: none.
        architecture: the config of a ``.keras`` archive of a whole model. Default: none.
    """

    recipes: Mapping[str, Recipe]
    layers: Sequence[FoundLayer]
    left_out: Mapping[str, str]
    ignored: tuple[str, ...] = ()
    description: Mapping[str, Any] = {}
    shapes: Mapping[str, Shape] = {}
    packed: Mapping[str, Packed] = {}
    places: Mapping[str, str] = {}
    architecture: Mapping[str, Any] = {}


def of_plan(plan: Plan, layers: Sequence[FoundLayer]) -> Content:
    """Return what a plan writes: its layers, as they are translated, and all other tensors."""
    recipes = {layer.name_of(p): r for layer in layers for p, r in layer.parameters.items()}
    recipes |= {target: Source(name) for name, target in plan.passed.items()}
    return Content(recipes, layers, {**plan.left_out, **plan.code}, plan.ignored)
