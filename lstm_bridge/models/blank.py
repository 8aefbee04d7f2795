"""Models before their numbers are there, and their numbers from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from lstm_bridge.checkpoints.base import Checkpoint, TensorInfo
from lstm_bridge.checkpoints.dtypes import DTYPES, to_mlx
from lstm_bridge.converters.recipe import Recipe, evaluate, sources
from lstm_bridge.models.tree import take_over


def blank_arrays(facts: Mapping[str, TensorInfo]) -> dict[str, mx.array]:
    """Return arrays of the right shapes and dtypes that take no memory until they are used."""
    with mx.stream(mx.cpu):  # float64 has no other place
        return {name: mx.zeros(t.shape, DTYPES[t.dtype].mlx) for name, t in facts.items()}


def filled(model: nn.Module, recipes: Mapping[str, Recipe], checkpoint: Checkpoint) -> None:
    """Give a model its numbers, in the dtypes that the checkpoint has them in."""
    arrays = {}
    for name, recipe in recipes.items():
        code = checkpoint.tensors[next(sources(recipe))].dtype
        arrays[name] = to_mlx(evaluate(recipe, checkpoint.read), code)
    own = dict(tree_flatten(model.parameters()))  # some files hold a number as an array of one
    take_over(model, [(n, a.reshape(own[n].shape) if n in own else a) for n, a in arrays.items()])
