"""Example inputs of the layers around recurrent ones, by what their weights and options say.

Shape letters: N batch, L length, C channels, H hidden, K layers · directions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_bridge.equivalence.oracle import ONE_STATE, PLAIN_KINDS, has_known_mistakes
from lstm_bridge.errors import UsageError

Array = NDArray[Any]
Inputs = tuple[Any, ...]
WIDTH = 6
"""Features of layers that take any number."""

Options = Mapping[str, Any]
Params = Mapping[str, Array]
Maker = Callable[[Options, Params, Any], Inputs]

_CHANNELS_SECOND = (
    *("Conv1d", "ConvTranspose1d", "MaxPool1d", "AvgPool1d", "BatchNorm1d", "GroupNorm"),
    *("AdaptiveAvgPool1d", "AdaptiveMaxPool1d", "InstanceNorm1d", "Dropout1d", "PReLU"),
    *("ConstantPad1d", "ZeroPad1d", "ReflectionPad1d", "ReplicationPad1d"),
)
_CHANNELS_SECOND_2D = (
    *("Conv2d", "MaxPool2d", "AvgPool2d", "BatchNorm2d", "Dropout2d"),
    *("AdaptiveAvgPool2d", "AdaptiveMaxPool2d"),
)
_IMAGES = (
    *("Conv2D", "MaxPooling2D", "AveragePooling2D", "GlobalMaxPooling2D"),
    "GlobalAveragePooling2D",
)
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
    if kind not in PLAIN_KINDS or has_known_mistakes(kind, options):
        return None
    if name in _MAKERS:
        return _MAKERS[name](options, params, draw)
    C = _channels(name, options, params)
    if name in _MERGES:
        return ([draw(draw.N, draw.L, C), draw(draw.N, draw.L, C)],)
    if name in _CHANNELS_SECOND and kind.startswith("torch."):
        return (draw(draw.N, C, draw.L),)
    if name in _CHANNELS_SECOND_2D:
        return (draw(draw.N, C, draw.L, 8),)
    if name in _IMAGES:
        first = options.get("data_format") == "channels_first"
        return (draw(draw.N, C, draw.L, 8) if first else draw(draw.N, draw.L, 8, C),)
    if options.get("data_format") == "channels_first":
        return (draw(draw.N, C, draw.L),)
    return (draw(draw.N, draw.L, C),)


def _numbers(o: Options, p: Params, draw: Any) -> Inputs:
    (table,) = p.values()
    return (draw.rng.integers(0, len(table), (draw.N, draw.L), dtype=np.int32),)


def _two_widths(o: Options, p: Params, draw: Any) -> Inputs:
    _, first, second = p["weight"].shape
    return draw(draw.N, draw.L, first), draw(draw.N, draw.L, second)


def _pair(o: Options, p: Params, draw: Any) -> Inputs:
    return draw(draw.N, WIDTH), draw(draw.N, WIDTH)


def _attended(o: Options, p: Params, draw: Any) -> Inputs:
    scale = p.get("scale")
    D = WIDTH if scale is None or scale.ndim == 0 else len(scale)
    return ([draw(draw.N, draw.L, D), draw(draw.N, draw.L + 2, D), draw(draw.N, draw.L + 2, D)],)


def _multi_head_keras(o: Options, p: Params, draw: Any) -> Inputs:
    query, value, key = (len(p[f"{n}_dense.kernel"]) for n in ("query", "value", "key"))
    S = draw.L + 2
    return draw(draw.N, draw.L, query), draw(draw.N, S, value), draw(draw.N, S, key)


def _multi_head_torch(o: Options, p: Params, draw: Any) -> Inputs:
    E = o["embed_dim"]
    made = [
        draw(draw.N, steps, o.get(width) or E)
        for steps, width in ((draw.L, "embed_dim"), (draw.L + 2, "kdim"), (draw.L + 2, "vdim"))
    ]
    return tuple(a if o.get("batch_first") else a.swapaxes(0, 1) for a in made)


def _spatial_sequence(rank: int) -> Maker:
    def make(o: Options, p: Params, draw: Any) -> Inputs:
        C = p["cell.kernel"].shape[-2]
        sizes = (8, 9)[:rank]
        first = o.get("data_format") == "channels_first"
        return (draw(draw.N, draw.L, C, *sizes) if first else draw(draw.N, draw.L, *sizes, C),)

    return make


def _first_kernel(p: Params) -> int:
    return int(next(v for n, v in p.items() if n.rpartition(".")[2] == "kernel").shape[0])


def _sequence(o: Options, p: Params, draw: Any) -> Inputs:
    return (draw(draw.N, draw.L, _first_kernel(p)),)


def _distributed(o: Options, p: Params, draw: Any) -> Inputs:
    """What the inner layer takes, with an axis of time after the batch."""
    kind = f"keras.layers.{o['layer']['class_name']}"
    inner = {n.removeprefix("layer."): v for n, v in p.items()}
    made = around_inputs(kind, o["layer"]["config"], inner, draw)
    if made is None:
        raise UsageError("compare inputs", expected=f"inputs for a TimeDistributed {kind}",
                         got="none", fix="pass inputs=(x, ...)")  # fmt: skip
    return tuple(np.stack([a, a[::-1] * 0.5], axis=1) for a in made)


def _stacked_cells(o: Options, p: Params, draw: Any) -> Inputs:
    widths = [cell["config"]["units"] for cell in o["cells"]]
    states = [
        [draw(draw.N, w), draw(draw.N, w)] if cell["class_name"] == "LSTMCell" else draw(draw.N, w)
        for cell, w in zip(o["cells"], widths, strict=True)
    ]
    return draw(draw.N, _first_kernel(p)), states


def _flat(o: Options, p: Params, draw: Any) -> Inputs:
    return (draw(draw.N, abs(math.prod(o["target_shape"]))),)


def _forecast(o: Options, p: Params, draw: Any) -> Inputs:
    return ({"encoder_cont": draw(draw.N, draw.L, o["input_size"])},)


_MAKERS: dict[str, Maker] = {
    "Embedding": _numbers,
    "EmbeddingBag": _numbers,
    "Bilinear": _two_widths,
    "CosineSimilarity": _pair,
    "PairwiseDistance": _pair,
    "Attention": _attended,
    "AdditiveAttention": _attended,
    "MultiHeadAttention": _multi_head_keras,
    "MultiheadAttention": _multi_head_torch,
    "ConvLSTM1D": _spatial_sequence(1),
    "ConvLSTM2D": _spatial_sequence(2),
    "RNN": _sequence,
    "Bidirectional": _sequence,
    "TimeDistributed": _distributed,
    "StackedRNNCells": _stacked_cells,
    "Reshape": _flat,
    "RepeatVector": lambda o, p, draw: (draw(draw.N, WIDTH),),
    "Unflatten": lambda o, p, draw: (
        draw(draw.N, abs(math.prod(o["unflattened_size"])) if o["dim"] == 1 else draw.L),
    ),
    "Dot": lambda o, p, draw: ([draw(draw.N, WIDTH, WIDTH), draw(draw.N, WIDTH, WIDTH)],),
    "xLSTMTime": _forecast,
}


def _channels(name: str, options: Options, params: Params) -> int:
    readers: dict[str, Callable[[], Any]] = {
        "Linear": lambda: params["weight"].shape[1],
        "Dense": lambda: params["kernel"].shape[0],
        **dict.fromkeys(
            ("Conv1d", "Conv2d"),
            lambda: params["weight"].shape[1] * options.get("groups", 1),
        ),
        "ConvTranspose1d": lambda: params["weight"].shape[0],
        **dict.fromkeys(
            ("Conv1D", "Conv2D"),
            lambda: params["kernel"].shape[-2] * options.get("groups", 1),
        ),
        "SeparableConv1D": lambda: params["depthwise_kernel"].shape[-2],
        **dict.fromkeys(
            ("BatchNorm1d", "BatchNorm2d", "InstanceNorm1d"), lambda: options["num_features"]
        ),
        "GroupNorm": lambda: options["num_channels"],
        "PReLU": lambda: _prelu_channels(params),
    }
    if name in readers:
        return int(readers[name]())
    return int(next(iter(params.values())).shape[-1]) if params else WIDTH


def _prelu_channels(params: Params) -> int:
    (slopes,) = params.values()
    return WIDTH if slopes.size == 1 else int(slopes.shape[-1])


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
