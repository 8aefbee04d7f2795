"""The single files that conversion writes for other frameworks, by suffix."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lstm_bridge.checkpoints.keras_writer import (
    KERAS_VERSION,
    write_keras_archive,
    write_keras_weights,
)
from lstm_bridge.checkpoints.safetensors_writer import write_safetensors
from lstm_bridge.checkpoints.torch_writer import write_torch
from lstm_bridge.converters.layer import FoundLayer
from lstm_bridge.converters.plan import Plan
from lstm_bridge.converters.recipe import Entry, sources
from lstm_bridge.converters.targets import TARGETS
from lstm_bridge.errors import SemanticError, UsageError
from lstm_bridge.models.account import Accountant, Conversion
from lstm_bridge.models.keras.model import places, sequential

NOTE = "lstm_bridge"
"""Where an output keeps its account: the metadata key."""

Account = Callable[..., Conversion]
"""``Accountant.account`` of one layout."""


def suffix_for(to: str, target: Path) -> str:
    """Return the suffix of ``target`` that decides the container.

    Raises:
        UsageError: the framework is unknown, or reads no file of that name.
    """
    if to not in TARGETS:
        raise UsageError("to", expected=f"one of {', '.join(TARGETS)}", got=repr(to))
    for suffix in TARGETS[to].suffixes:
        if target.name.endswith(suffix) and target.name != suffix:
            return suffix
    raise UsageError(
        f"target for {to}",
        expected=f"a file name ending in {' or '.join(TARGETS[to].suffixes)}",
        got=repr(target.name),
    )


def check_whole(file: str, to: str, plan: Plan) -> None:
    """Refuse what a Keras file has no place for: several layers, or tensors of no layer.

    Raises:
        SemanticError: naming what is too much, and how to leave it out.
    """
    if to != "keras":
        return
    if len(plan.layers) > 1:
        raise SemanticError(
            file,
            expected="one recurrent layer, since how several are connected is not known",
            got=", ".join(layer.path for layer in plan.layers),
            fix="choose one with --prefix PATH",
        )
    if plan.passed:
        raise SemanticError(
            file,
            expected="no tensors beside the recurrent layer's",
            got=f"{len(plan.passed)}, the first {next(iter(plan.passed))!r}",
            fix="leave them out with --prefix or --ignore",
        )


def write_file(
    path: Path,
    suffix: str,
    accountant: Accountant,
    facts: Mapping[str, Entry],
    account: Account,
) -> None:
    """Write the accountant's arrays to a file of the kind that ``suffix`` names."""

    def note(draft: bool = False) -> bytes:
        return json.dumps(account(draft=draft).to_json(), sort_keys=True).encode()

    def text(draft: bool = False) -> dict[str, str]:
        return {"format": "pt", NOTE: note(draft).decode()}

    if suffix == ".safetensors":
        write_safetensors(path, accountant.passing(), text(draft=True), seal=text)
    elif suffix == ".pt":
        write_torch(path, accountant.passing(), note)
    else:
        _write_keras(path, suffix, accountant, facts, note)


def _write_keras(
    path: Path,
    suffix: str,
    accountant: Accountant,
    facts: Mapping[str, Entry],
    note: Callable[[], bytes],
) -> None:
    content = accountant.content
    model, where = dict(content.architecture), content.places
    if not where:
        model = _sequential(list(content.layers), facts)
        where = places(model, KERAS_VERSION)
    entries = [(where[name], entry) for name, entry in accountant.entries()]
    write = (
        write_keras_weights
        if suffix == ".weights.h5"
        else partial(write_keras_archive, config=model)
    )
    write(path, entries, note)


def _sequential(layers: list[FoundLayer], facts: Mapping[str, Entry]) -> dict[str, Any]:
    dtype = facts[next(sources(next(iter(layers[0].parameters.values()))))].dtype
    return sequential(layers, facts, "F32" if dtype == "F64" else dtype)
