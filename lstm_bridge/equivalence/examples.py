"""Example inputs of the layers around recurrent ones, by what their weights and options say.

Shape letters: N batch, L length, C channels, H hidden, K layers · directions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_bridge.equivalence.oracle import KERAS_LAYERS, ONE_STATE, TORCH_LAYERS

Array = NDArray[Any]
Inputs = tuple[Any, ...]
WIDTH = 6
"""Features of layers that take any number."""

_TIME_LAST = ("Conv1d", "MaxPool1d", "AvgPool1d", "BatchNorm1d", "GroupNorm")
_MERGES = ("Add", "Multiply", "Maximum", "Minimum", "Subtract", "Average", "Concatenate")


def around_inputs(
    kind: str, options: Mapping[str, Any], params: Mapping[str, Array], draw: Any
) -> Inputs | None:
    """Return call arguments for a layer that is no LSTM; None for one that is.

    Args:
        kind: class path.
        options: its constructor arguments.
        params: its parameters.
        draw: makes an array of a shape; knows N, L and a random generator.
    """
    name = kind.rpartition(".")[2]
    if kind in ONE_STATE:
        return _one_state(kind, options, params, draw)
    if kind not in TORCH_LAYERS and kind not in KERAS_LAYERS:
        return None
    if name == "Embedding":
        (table,) = params.values()
        return (draw.rng.integers(0, len(table), (draw.N, draw.L), dtype=np.int32),)
    C = _channels(name, options, params)
    if name in _MERGES:
        return ([draw(draw.N, draw.L, C), draw(draw.N, draw.L, C)],)
    if name == "Reshape":
        return (draw(draw.N, abs(math.prod(options["target_shape"]))),)
    if name == "RepeatVector":
        return (draw(draw.N, C),)
    return (draw(draw.N, C, draw.L) if name in _TIME_LAST else draw(draw.N, draw.L, C),)


def _channels(name: str, options: Mapping[str, Any], params: Mapping[str, Array]) -> int:
    readers: dict[str, Callable[[], Any]] = {
        "Linear": lambda: params["weight"].shape[1],
        "Dense": lambda: params["kernel"].shape[0],
        "Conv1d": lambda: params["weight"].shape[1] * options.get("groups", 1),
        "Conv1D": lambda: params["kernel"].shape[1] * options.get("groups", 1),
        "BatchNorm1d": lambda: options["num_features"],
        "GroupNorm": lambda: options["num_channels"],
    }
    if name in readers:
        return int(readers[name]())
    return int(next(iter(params.values())).shape[-1]) if params else WIDTH


def _one_state(
    kind: str, options: Mapping[str, Any], params: Mapping[str, Array], draw: Any
) -> Inputs:
    N, L = draw.N, draw.L
    if kind.startswith("keras."):
        kernel = next(v for n, v in params.items() if n.rpartition(".")[2] == "kernel")
        state = [draw(N, options["units"])]
        return draw(N, kernel.shape[0]) if kind.endswith("Cell") else draw(N, L, len(kernel)), state
    end = "" if kind.endswith("Cell") else "_l0"
    D, H = params[f"weight_ih{end}"].shape[1], params[f"weight_hh{end}"].shape[1]
    if not end:
        return draw(N, D), draw(N, H)
    K = sum(name.startswith("weight_ih") for name in params)
    return draw(N, L, D) if options.get("batch_first", False) else draw(L, N, D), draw(K, N, H)
