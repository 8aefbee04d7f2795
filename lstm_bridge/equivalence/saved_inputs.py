"""Inputs of a comparison from an .npz file, by layer and by what each array is.

Shape letters: N batch, L length, D input.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_bridge.checkpoints import open_checkpoint
from lstm_bridge.equivalence.bits import decoded
from lstm_bridge.equivalence.kinds import example_inputs
from lstm_bridge.equivalence.tree import leaves, rebuild
from lstm_bridge.errors import UsageError
from lstm_bridge.models.source import SourceLayer

Array = NDArray[Any]


def read_inputs(
    file: Path, layers: Sequence[SourceLayer], whole: Sequence[str] = ()
) -> dict[str, tuple[Any, ...]]:
    """Return call arguments by layer path.

    Args:
        file: arrays named ``LAYER/x``, ``LAYER/state0``, ``LAYER/state1`` … and, for Keras,
            ``LAYER/mask``; ``LAYER/`` may be left out where there is one layer. States stand in
            the order in which the layer takes them: h before c, layer by layer; without them the
            layer starts from zero.
        layers: the source's.
        whole: names of a whole model's inputs, whose arrays have just these names. Default: none.

    Raises:
        UsageError: a name is none of these, a layer has states but no x, or some but not all.
        RefusedInput: the file is damaged.
    """
    with open_checkpoint(file) as checkpoint:
        arrays = {name: np.asarray(checkpoint.read(name)) for name in checkpoint.tensors}
    of_whole = {name: arrays.pop(name) for name in whole if name in arrays}
    if of_whole and len(of_whole) < len(whole):
        missing = next(name for name in whole if name not in of_whole)
        raise UsageError(f"inputs {file.name}", expected=f"{missing!r}, an input of the model too",
                         got=", ".join(of_whole))  # fmt: skip
    by_path = {layer.path: layer for layer in layers}
    found: dict[str, dict[str, Array]] = {}
    for name, array in arrays.items():
        path, _, role = name.rpartition("/")
        path = layers[0].path if not path and len(layers) == 1 else path
        if path not in by_path or not _is_role(role):
            raise UsageError(
                f"inputs {file.name}",
                expected=f"LAYER/x, LAYER/state0 … or LAYER/mask with LAYER of "
                f"{', '.join(map(repr, by_path))}",
                got=repr(name),
            )
        found.setdefault(path, {})[role] = array
    made = {path: _arguments(file, by_path[path], given) for path, given in found.items()}
    return made | ({"": tuple(of_whole[name] for name in whole)} if of_whole else {})


def _is_role(role: str) -> bool:
    return role in ("x", "mask") or (role.startswith("state") and role[5:].isdecimal())


def _arguments(file: Path, layer: SourceLayer, given: dict[str, Array]) -> tuple[Any, ...]:
    x = given.get("x")
    names = [f"state{k}" for k in range(sum(role.startswith("state") for role in given))]
    like = example_inputs(layer.kind, layer.options, decoded(layer.params))[1:]
    if x is None or not set(names) <= set(given) or len(names) not in (0, len(leaves(like))):
        raise UsageError(
            f"inputs {file.name} of {layer.path!r}",
            expected=f"x, and no state or state0 to state{len(leaves(like)) - 1}",
            got=", ".join(given),
        )
    states = rebuild(like, [given[name] for name in names]) if names else ()
    if "mask" not in given:
        return (x, *states)
    return (x, *(states or (None,)), given["mask"].astype(bool))
