"""torch's dialect: ``weight_ih_l0``, ``weight_hh_l0_reverse`` …; gates i f g o, no transpose.

Shape letters: D input, H hidden, P projection (P = H without one). GRU and RNN live under the same
names with 3H and H rows, so a layer is never classified by its names alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from lstm_bridge.converters.layer import FLAG, RATE, Dialect, Found, FoundLayer, Slot, Tensors
from lstm_bridge.converters.names import clean, grouped
from lstm_bridge.converters.recipe import Recipe, Shape, shape_of, sources
from lstm_bridge.converters.reparametrized import recipes_of
from lstm_bridge.errors import SemanticError

SLOTS = (
    Slot("weight_ih", "Wx", "copy"),
    Slot("weight_hh", "Wh", "copy"),
    Slot("bias_ih", "bias_x", "copy"),
    Slot("bias_hh", "bias_h", "copy"),
    Slot("weight_hr", "Wp", "copy"),
)

_ROLE = re.compile(r"(weight_(?:ih|hh|hr)|bias_(?:ih|hh))(.*)", re.DOTALL)
_STRAND = re.compile(r"_l(0|[1-9][0-9]{0,4})(_reverse)?", re.ASCII)
_HALF = re.compile(r"(?:_l[0-9]+(?:_reverse)?)?_[gv]", re.ASCII)
_OTHER_CELLS = {3: "a GRU", 1: "a simple RNN"}


class Part(NamedTuple):
    """One parameter: how it is made, its shape, and the source tensor that messages name."""

    recipe: Recipe
    shape: Shape
    source: str


Strands = dict[str, dict[str, Part]]  # "_l0_reverse" (or "" for a cell) → role → parameter


def find(tensors: Tensors) -> Found:
    """Find ``nn.LSTM`` and ``nn.LSTMCell`` parameters under any prefix."""
    renamed = clean(tensors)
    recipes, left_out = recipes_of(renamed)
    parts = {
        name: Part(recipe, shape_of(recipe, tensors.entries), next(sources(recipe)))
        for name, recipe in recipes.items()
    }
    found = Found(renamed=renamed)
    for path, members in grouped(parts, lambda name: bool(_ROLE.fullmatch(name))).items():
        try:
            found.layers.append(_layer(tensors, path, members))
        except SemanticError as refusal:
            found.refused[path] = refusal
            for part in members.values():
                found.claimed.update(dict.fromkeys(sources(part.recipe), path))
    layers = {layer.path for layer in found.layers}
    for source, why in left_out.items():
        if renamed[source].rpartition(".")[0] in layers:
            found.left_out[source] = why
    return found


def _layer(tensors: Tensors, path: str, members: Mapping[str, Part]) -> FoundLayer:
    """Make one layer of the parameters under ``path``, or refuse them."""
    strands = _strands(tensors, path, members)
    first = strands.get("_l0", strands.get("", {}))
    H, P = _sizes(tensors, path, first)
    biased = "bias_ih" in first or "bias_hh" in first
    options: dict[str, Any] = {
        "input_size": first["weight_ih"].shape[-1],
        "hidden_size": H,
    }
    if "" in strands:
        if len(strands) > 1:
            raise tensors.refuse(
                path,
                "the parameters of one cell or of one LSTM",
                f"both {', '.join(sorted(members))}",
                "split the file",
            )
        _check_strand(tensors, first, options["input_size"], H, P, biased, projected=False)
        kind, rules = "torch.nn.LSTMCell", []
        options |= {"bias": biased}
    else:
        kind, rules = "torch.nn.LSTM", [_unstored(tensors)]
        options |= _check_layers(tensors, path, strands, options["input_size"], H, P, biased)
        options |= {"bias": biased} | _stated(tensors)
    parameters = {name: part.recipe for name, part in members.items()}
    return FoundLayer(path, kind, options, parameters, tuple(rules))


_DEFAULTS: dict[str, bool | float] = {"batch_first": False, "dropout": 0.0}
"""Options that a state dict does not hold: a caller may state them, torch's defaults hold else."""


def _stated(tensors: Tensors) -> dict[str, bool | float]:
    return {key: tensors.assume.get(key, default) for key, default in _DEFAULTS.items()}


def _unstored(tensors: Tensors) -> str:
    said = ", ".join(
        f"{key}={value} ({'stated' if key in tensors.assume else 'torch default'})"
        for key, value in _stated(tensors).items()
    )
    return f"a state dict does not hold {said}; --assume changes it"


def _strands(tensors: Tensors, path: str, members: Mapping[str, Part]) -> Strands:
    """Sort the parameters by layer and direction; refuse layer numbers torch never writes."""
    strands: Strands = {}
    for name, part in members.items():
        role, suffix = _ROLE.fullmatch(name).groups()  # type: ignore[union-attr]
        if suffix and _HALF.fullmatch(suffix):
            raise tensors.refuse(
                part.source,
                "weight_norm's g and v together",
                "one of them without the other",
                "the checkpoint is incomplete",
            )
        if suffix and not _STRAND.fullmatch(suffix):
            raise tensors.refuse(
                part.source,
                "a layer suffix such as _l0 or _l1_reverse",
                repr(suffix),
                "rename the tensor to torch's own spelling, or pass --ignore",
            )
        strands.setdefault(suffix, {})[role] = part
    for suffix, roles in strands.items():
        for role in ("weight_ih", "weight_hh"):
            if role not in roles:
                raise tensors.refuse(
                    path, f"a tensor {role}{suffix}", "none", "the checkpoint is incomplete"
                )
    return strands


def _sizes(tensors: Tensors, path: str, first: Mapping[str, Part]) -> tuple[int, int]:
    """Return H and P, and refuse what is not an LSTM by its row count."""
    if not first:
        raise tensors.refuse(
            path, "a layer l0 that runs forward", "none", "the checkpoint is incomplete"
        )
    shape = first["weight_hh"].shape
    if len(shape) != 2 or 0 in shape:
        raise tensors.refuse(first["weight_hh"].source, "shape [4H, H]", str(list(shape)), _NO_LSTM)
    rows, P = shape
    H = first["weight_hr"].shape[-1] if "weight_hr" in first else P
    if rows != 4 * H:
        other = _OTHER_CELLS.get(rows // H) if rows % H == 0 else None
        looks = f" ({rows // H}H: looks like {other})" if other else ""
        raise tensors.refuse(
            first["weight_hh"].source,
            f"4H = {4 * H} rows for H = {H}",
            f"{rows} rows{looks}",
            _NO_LSTM,
        )
    return H, P


_NO_LSTM = "this is no LSTM; pass --ignore 'PREFIX.*' to leave it out"


def _check_layers(
    tensors: Tensors, path: str, strands: Strands, D: int, H: int, P: int, biased: bool
) -> dict[str, int | bool]:
    """Check all layers and directions against layer 0; return the options they imply."""
    bidirectional = "_l0_reverse" in strands
    directions = 2 if bidirectional else 1
    depth = 1 + max(int(_STRAND.fullmatch(s).group(1)) for s in strands)  # type: ignore[union-attr]
    wanted = [
        f"_l{k}{r}" for k in range(min(depth, len(strands) + 1)) for r in _REVERSE[directions]
    ]
    for missing in [s for s in wanted if s not in strands]:
        raise tensors.refuse(
            path, f"layer {missing[1:]}", "none", "layers and directions must be complete"
        )
    extra = sorted(set(strands) - set(wanted))
    if extra:
        raise tensors.refuse(
            path, "reverse weights for every layer or none", f"only {extra[0][1:]}", "complete it"
        )
    projected = "weight_hr" in strands["_l0"]
    for k in range(depth):
        for r in _REVERSE[directions]:
            width = D if k == 0 else P * directions
            _check_strand(tensors, strands[f"_l{k}{r}"], width, H, P, biased, projected)
    return {
        "num_layers": depth,
        "bidirectional": bidirectional,
        "proj_size": P if projected else 0,
    }


_REVERSE = {1: ("",), 2: ("", "_reverse")}


def _check_strand(
    tensors: Tensors,
    roles: Mapping[str, Part],
    D: int,
    H: int,
    P: int,
    biased: bool,
    projected: bool,
) -> None:
    """Check one layer's one direction: all parts there, of the right shapes."""
    shapes: dict[str, tuple[int, ...]] = {"weight_ih": (4 * H, D), "weight_hh": (4 * H, P)}
    if biased:
        shapes |= {"bias_ih": (4 * H,), "bias_hh": (4 * H,)}
    if projected:
        shapes |= {"weight_hr": (P, H)}
    for role in [*shapes, *(r for r in roles if r not in shapes)]:
        if (role in roles) == (role in shapes):
            _check_shape(tensors, roles[role], shapes[role])
            continue
        expected, got = (f"a {role}", "none") if role in shapes else (f"no {role}", "one")
        raise tensors.refuse(
            roles["weight_ih"].source,
            f"{expected} beside it, as in layer 0",
            got,
            "every layer needs the same parts, and a bias both of its halves",
        )


def _check_shape(tensors: Tensors, part: Part, shape: Shape) -> None:
    if part.shape != shape or 0 in part.shape:
        raise tensors.refuse(part.source, f"shape {list(shape)}", str(list(part.shape)), _NO_LSTM)


DIALECT = Dialect(
    "torch",
    ("torch.nn.LSTM", "torch.nn.LSTMCell"),
    {"batch_first": FLAG, "dropout": RATE},
    SLOTS,
    find,
)
