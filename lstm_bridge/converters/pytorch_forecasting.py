"""pytorch-forecasting's cells: mLSTMCell (``Wq.weight`` …), sLSTMCell (``input_weights.weight`` …).

Shape letters: D input, H hidden. These cells have equations of their own, so there is nothing to
translate: their parameters keep their names and layouts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from lstm_bridge.converters.layer import RATE, Dialect, Found, FoundLayer, Tensors
from lstm_bridge.converters.names import clean, grouped, inverted
from lstm_bridge.converters.recipe import Source

Shapes = dict[str, tuple[int, ...]]


class _Cell(NamedTuple):
    """One cell class: what its parameters are called and what shapes they have."""

    kind: str
    anchor: str  # the parameter whose shape [multiple · H, D] gives H and D
    multiple: int
    norm_option: str
    weights: Callable[[int, int], Shapes]
    norms: Callable[[int], Shapes]


def _linear(names: str, rows: int, columns: int) -> Shapes:
    return {f"{n}.weight": (rows, columns) for n in names.split()} | {
        f"{n}.bias": (rows,) for n in names.split()
    }


def _norm(names: str, width: int) -> Shapes:
    return {f"{n}.{part}": (width,) for n in names.split() for part in ("weight", "bias")}


CELLS = (
    _Cell(
        "pytorch_forecasting.layers.mLSTMCell",
        "Wq.weight",
        1,
        "layer_norm",
        lambda D, H: _linear("Wq Wk Wv Wi Wf Wo", H, D),
        lambda H: _norm("ln_q ln_k ln_v ln_i ln_f ln_o", H),
    ),
    _Cell(
        "pytorch_forecasting.layers.sLSTMCell",
        "input_weights.weight",
        4,
        "use_layer_norm",
        lambda D, H: _linear("input_weights", 4 * H, D) | _linear("hidden_weights", 4 * H, H),
        lambda H: _norm("ln_cell ln_hidden", H) | _norm("ln_input ln_hidden_update", 4 * H),
    ),
)


def find(tensors: Tensors) -> Found:
    """Find mLSTM and sLSTM cells under any prefix."""
    found = Found(renamed=clean(tensors))
    for cell in CELLS:
        known = {*cell.weights(1, 1), *cell.norms(1)}
        for path, members in grouped(inverted(found.renamed), known.__contains__, depth=2).items():
            if cell.anchor in members:
                _add(tensors, found, cell, path, members)
    return found


def _add(tensors: Tensors, found: Found, cell: _Cell, path: str, members: dict[str, str]) -> None:
    got = {name: tensors.entries[source].shape for name, source in members.items()}
    rows, D = got[cell.anchor] if len(got[cell.anchor]) == 2 else (0, 0)
    H = rows // cell.multiple
    normed = any(name in got for name in cell.norms(H))
    wanted = cell.weights(D, H) | (cell.norms(H) if normed else {})
    wrong = [name for name in wanted if got.get(name) != wanted[name] or 0 in wanted[name]]
    if wrong:
        found.refused[path] = tensors.refuse(
            members.get(wrong[0], path),
            f"{wrong[0]} of shape {list(wanted[wrong[0]])}",
            str(list(got[wrong[0]])) if wrong[0] in got else "none",
            f"this is no {cell.kind}; pass --ignore 'PREFIX.*' to leave it out",
        )
        found.claimed.update(dict.fromkeys(members.values(), path))
        return
    dropout = tensors.assume.get("dropout", 0.0)
    options = {"input_size": D, "hidden_size": H, "dropout": dropout, cell.norm_option: normed}
    rule = (
        f"a state dict does not hold dropout={dropout}, which acts in training; --assume changes it"
    )
    parameters = {name: Source(source) for name, source in members.items()}
    found.layers.append(FoundLayer(path, cell.kind, options, parameters, (rule,)))


DIALECT = Dialect(
    "pytorch_forecasting", tuple(cell.kind for cell in CELLS), {"dropout": RATE}, (), find
)
