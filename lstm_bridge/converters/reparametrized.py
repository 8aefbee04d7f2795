"""Parameters stored as others: weight_norm's g and v, in both spellings, and weight-drop's raw.

.. math:: w = g \\, v / \\lVert v \\rVert \\quad\\text{over all axes but the first}
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from lstm_bridge.converters.recipe import Apply, Recipe, Source

_OLD = re.compile(r"(.*_l\d+(?:_reverse)?|.*weight_[ih]h)_([gv])", re.ASCII)
_NEW = re.compile(r"(.*?)\.?parametrizations\.([^.]+)\.original([01])", re.ASCII)
_RAW = "_raw"


def recipes_of(names: Mapping[str, str]) -> tuple[dict[str, Recipe], dict[str, str]]:
    """Return how each parameter is made, and what stored copies that makes superfluous.

    Args:
        names: source name → cleaned name.

    Returns:
        Parameter's cleaned name → recipe; source name → why it is left out.
    """
    recipes: dict[str, Recipe] = {clean: Source(source) for source, clean in names.items()}
    sources = {clean: source for source, clean in names.items()}
    for target, (g, v) in _normed(sources).items():
        del recipes[g], recipes[v]
        recipes[target] = Apply("weight norm", (Source(sources[g]), Source(sources[v])))
    left_out: dict[str, str] = {}
    for raw in [name for name in recipes if name.endswith(_RAW)]:
        target = _raw_target(raw, recipes)
        if target in recipes:
            left_out[sources[target]] = f"a copy of {sources[raw]!r} with dropout applied"
        recipes[target] = recipes.pop(raw)
    return recipes, left_out


def target_of(g: str, v: str) -> str:
    """Return the parameter that weight_norm makes of two arrays by their names; "" if none."""
    if v.endswith("_v") and g == f"{v.removesuffix('_v')}_g":
        return v.removesuffix("_v")
    new = _NEW.fullmatch(v)
    if new is None or new[3] != "1" or g != f"{v[:-1]}0":
        return ""
    return f"{new[1]}.{new[2]}" if new[1] else new[2]


def _normed(sources: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return parameter → its g and v, where both are there."""
    halves: dict[str, dict[str, str]] = {}
    for name in sources:
        if old := _OLD.fullmatch(name):
            halves.setdefault(old[1], {})[old[2]] = name
        elif new := _NEW.fullmatch(name):
            target = f"{new[1]}.{new[2]}" if new[1] else new[2]
            halves.setdefault(target, {})["gv"[int(new[3])]] = name
    return {t: (h["g"], h["v"]) for t, h in halves.items() if len(h) == 2}


def _raw_target(raw: str, recipes: Mapping[str, Recipe]) -> str:
    """Return the parameter that a raw one stands for: beside it, or in the wrapped ``module``."""
    path, _, parameter = raw.removesuffix(_RAW).rpartition(".")
    inner = f"{path}.module." if path else "module."
    if any(name.startswith(f"{inner}weight_") for name in recipes):
        return inner + parameter
    return raw.removesuffix(_RAW)
