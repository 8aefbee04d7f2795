"""Comparisons with files: each layer that a checkpoint or a converted folder holds, as a party."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from lstm_bridge.equivalence.bits import decoded
from lstm_bridge.equivalence.judging import judge_layer
from lstm_bridge.equivalence.kinds import example_inputs
from lstm_bridge.equivalence.live import live_party
from lstm_bridge.equivalence.parties import Party, party_of
from lstm_bridge.equivalence.precision import Precision, as_given
from lstm_bridge.equivalence.report import Report
from lstm_bridge.equivalence.truth import truth_of
from lstm_bridge.equivalence.whole.judge import judge_whole, whole_in, whole_of
from lstm_bridge.equivalence.whole.source import WholeModel
from lstm_bridge.errors import UsageError
from lstm_bridge.models.folder import load
from lstm_bridge.models.schema import MARK, read_config
from lstm_bridge.models.source import read_layers
from lstm_bridge.models.whole import Model

Layers = dict[str, Callable[[], Party]]


def compare_files(
    source: Any,
    ported: Any,
    inputs: Any,
    *,
    gradients: bool,
    chosen: Precision | None,
    seed: int,
) -> Report:
    """Compare where at least one side is a path; see ``compare``.

    Layers are paired by their paths; a single layer is paired with the other side's only one.

    Raises:
        UsageError: a side lacks a layer of the other's.
    """
    known_whole = _whole(source, ported) if chosen is None else None
    if known_whole is not None:
        target = load(ported) if _is_path(ported) else ported
        given = inputs.get("") if isinstance(inputs, Mapping) else inputs
        if given is not None and not isinstance(given, tuple):
            given = (given,)
        result = judge_whole(known_whole, target, given, gradients=gradients, seed=seed)
        return Report(str(ported) if _is_path(ported) else "port", (result,))
    theirs, ours = _layers(source, "source", chosen), _layers(ported, "ported", chosen)
    paths = list(theirs if _is_path(source) else ours)
    results = []
    for path in paths:
        known, judged = (
            _found(thing, layers, path, len(paths), role, chosen)
            for thing, layers, role in ((source, theirs, "source"), (ported, ours, "ported"))
        )
        given = inputs.get(path) if isinstance(inputs, Mapping) else inputs
        if given is None:
            given = example_inputs(known.kind, known.options, known.params, seed)
        arguments = as_given(given if isinstance(given, tuple) else (given,), chosen)
        truth = truth_of(known, None, judged)
        results.append(
            judge_layer(path, known, judged, truth, arguments, gradients=gradients, seed=seed)
        )
    return Report(str(ported) if _is_path(ported) else results[0].path or "port", tuple(results))


def _whole(source: Any, ported: Any) -> WholeModel | None:
    """The source of a whole model, where a file stands beside a folder or a model of the whole."""
    if not _is_path(source):
        return None
    if _is_path(ported):
        return whole_in(Path(source), Path(ported))
    return whole_of(Path(source), ported) if isinstance(ported, Model) else None


def _is_path(thing: Any) -> bool:
    return isinstance(thing, str | PathLike)


def _layers(thing: Any, role: str, chosen: Precision | None) -> Layers:
    """The layers of a path, made when asked for; nothing of an object."""
    if not _is_path(thing):
        return {}
    path = Path(thing)
    if role == "ported" and (path / MARK).is_file():
        module = load(path)
        parts = dict(module.named_modules())
        config = read_config(path)
        places = [entry["path"] for entry in config.get("layers", ())]
        if not places or "graph" in config:  # a model that runs as a whole
            return {"": partial(party_of, module, role, chosen)}
        return {place: partial(party_of, parts[place], role, chosen) for place in places}
    found: Layers = {}
    for layer in read_layers(path):
        params = {name: v.astype(np.float32) for name, v in decoded(layer.params).items()}
        found[layer.path] = partial(live_party, layer.kind, layer.options, params, chosen)
    return found


def _found(
    thing: Any, layers: Layers, path: str, count: int, role: str, chosen: Precision | None
) -> Party:
    if _is_path(thing):
        if path not in layers and count == len(layers) == 1:
            path = next(iter(layers))
        if path in layers:
            return layers[path]()
    else:
        parts = dict(thing.named_modules()) if hasattr(thing, "named_modules") else {}
        if path in parts and (path or count == 1):
            return party_of(parts[path], role, chosen)
        if count == 1:
            return party_of(thing, role, chosen)
    raise UsageError(
        f"compare {role}",
        expected=f"a layer {path!r}, as the other side has",
        got=", ".join(map(repr, layers)) or type(thing).__name__,
    )
