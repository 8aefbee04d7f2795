"""A whole model's folder judged against the file that it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from lstm_bridge.checkpoints import open_checkpoint
from lstm_bridge.equivalence.bits import difference
from lstm_bridge.equivalence.inputs import drawn
from lstm_bridge.equivalence.judging import judge_layer
from lstm_bridge.equivalence.parties import party_of
from lstm_bridge.equivalence.report import LayerResult
from lstm_bridge.equivalence.truth import Inputs, truth_of
from lstm_bridge.equivalence.whole.source import WholeModel, whole_keras
from lstm_bridge.equivalence.whole.torch_file import whole_torch
from lstm_bridge.errors import SemanticError, UsageError
from lstm_bridge.models.folder import load
from lstm_bridge.models.schema import MARK, read_config
from lstm_bridge.models.torch.model import TorchModel


def whole_in(source: Path, folder: Path) -> WholeModel | None:
    """Return the source of a folder that describes a whole model; None if it describes none.

    Args:
        source: the file that it came from.
        folder: what was written.
    """
    if not (folder / MARK).is_file():
        return None
    config = read_config(folder)
    if "graph" not in config or config.get("quantized"):
        return None
    return whole_of(source, load(folder))


def whole_of(source: Path, model: Any) -> WholeModel | None:
    """Return the source of a whole model; None where it is a folder itself.

    Args:
        source: the file that it came from.
        model: what was made of it.
    """
    if source.is_dir():
        return None
    with open_checkpoint(source) as checkpoint:
        if (checkpoint.framework == "keras") == isinstance(model, TorchModel):
            raise SemanticError(
                str(source),
                expected="the file that the model was made of",
                got=f"one of another framework ({checkpoint.format})",
                fix="give verify the source that convert was given",
            )
    if isinstance(model, TorchModel):
        return whole_torch(source, model)
    return whole_keras(source)


def judge_whole(
    known: WholeModel,
    module: Any,
    inputs: Inputs | None,
    *,
    gradients: bool,
    seed: int,
) -> LayerResult:
    """Judge the whole: weights bit for bit, outputs, and every layer within.

    Args:
        known: the source.
        module: what was made of it; it is left in float32.
        inputs: call arguments. Default: drawn as the model's own inputs say.
        gradients: compare gradients too.
        seed: of the inputs and cotangents.
    """
    held = _held(known.arrays, module)
    weights = difference(module, held)
    party = known.party
    if _shapes(dict(tree_flatten(module.parameters()))) != _shapes(held):
        return LayerResult("", party.name, party.name, "none", (), weights=weights, reason=weights)
    module.set_dtype(mx.float32)
    if inputs is None and party.specs is None:
        raise UsageError(
            "inputs of the whole model",
            expected=f"arrays {', '.join(known.inputs)}, whose shapes the source does not say",
            got="none",
            fix="give inputs, as --inputs FILE.npz on the command line",
        )
    given = inputs if inputs is not None else tuple(drawn(party.specs, seed))
    if gradients and party.in_float64 is None:
        # Differences in every weight of a whole model would take too long.
        party = replace(party, name=f"{party.name[:-1]}; gradients of recurrent layers only)")
        gradients = False
    return judge_layer(
        "",
        party,
        party_of(module, "converted"),
        truth_of(party, None),
        given,
        gradients=gradients,
        seed=seed,
        weights=weights,
    )


def _shapes(arrays: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(array.shape) for name, array in arrays.items()}


def _held(arrays: Mapping[str, Any], module: Any) -> dict[str, Any]:
    """The source's weights but for counters, which nothing computes with."""
    own = dict(tree_flatten(module.parameters()))
    wanted = {n: v for n, v in arrays.items() if n in own or not n.endswith(".count")}
    # Some releases store a number as an array of one.
    return {
        n: v.reshape(own[n].shape) if n in own and v.size == 1 else v for n, v in wanted.items()
    }
