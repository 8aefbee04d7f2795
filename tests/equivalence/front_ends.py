"""One live source and one front-end per LSTM-family class, with the same random parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import mlx.core as mx
import numpy as np

from lstm_bridge.equivalence.kinds import example_inputs
from lstm_bridge.equivalence.mistakes import Case

D, H = 3, 5
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Pair:
    """A class of the source framework and how to make it."""

    label: str
    kind: str
    options: Mapping[str, Any]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return dict(SHAPES[self.kind](self.options))

    def params(self, seed: int = 0) -> Arrays:
        rng = np.random.default_rng(seed)
        made = {}
        for name, shape in self.shapes().items():
            # Away from zero on average, so that a dropped or swapped part cannot cancel out.
            made[name] = rng.normal(0.15, 0.5, shape).astype(np.float32)
        return made

    def case(self, seed: int = 0) -> Case:
        params = self.params(seed)
        inputs = example_inputs(self.kind, self.options, params, seed)
        return Case(self.kind, self.options, params, inputs)

    def source(self, params: Mapping[str, np.ndarray]) -> Any:
        """The live framework's own object."""
        return LIVE[self.kind.partition(".")[0]](self.kind, self.options, params)

    def front_end(
        self, params: Mapping[str, np.ndarray], options: Mapping[str, Any] | None = None
    ) -> Any:
        """This package's object."""
        module, _, name = self.kind.rpartition(".")
        cls = getattr(import_module(f"lstm_bridge.{module}"), name)
        options = self.options if options is None else options
        if self.kind.startswith("keras."):
            layer = cls.from_config(dict(options)) if "layer" in options else cls(**options)
            layer.build((None, D) if name.endswith("Cell") else (None, None, D))
        else:
            layer = cls(**options)
        layer.load_weights([(k, mx.array(np.array(v, order="C"))) for k, v in params.items()])
        return layer


def _torch_shapes(o: Mapping[str, Any]) -> Any:
    directions = ("", "_reverse") if o.get("bidirectional") else ("",)
    P = o.get("proj_size") or H
    for k in range(o.get("num_layers", 1)):
        for end in directions:
            width = D if k == 0 else P * len(directions)
            yield f"weight_ih_l{k}{end}", (4 * H, width)
            yield f"weight_hh_l{k}{end}", (4 * H, P)
            yield f"bias_ih_l{k}{end}", (4 * H,)
            yield f"bias_hh_l{k}{end}", (4 * H,)
            if o.get("proj_size"):
                yield f"weight_hr_l{k}{end}", (P, H)


def _keras_cell(prefix: str) -> dict[str, tuple[int, ...]]:
    shapes = {"kernel": (D, 4 * H), "recurrent_kernel": (H, 4 * H), "bias": (4 * H,)}
    return {prefix + name: shape for name, shape in shapes.items()}


def _mlstm(o: Mapping[str, Any]) -> Any:
    for gate in "qkvifo":
        yield f"W{gate}.weight", (H, D)
        yield f"W{gate}.bias", (H,)
        if o["layer_norm"]:
            yield f"ln_{gate}.weight", (H,)
            yield f"ln_{gate}.bias", (H,)


def _slstm(o: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {
        "input_weights.weight": (4 * H, D),
        "input_weights.bias": (4 * H,),
        "hidden_weights.weight": (4 * H, H),
        "hidden_weights.bias": (4 * H,),
    }


SHAPES: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "torch.nn.LSTM": _torch_shapes,
    "torch.nn.LSTMCell": lambda o: {
        "weight_ih": (4 * H, D),
        "weight_hh": (4 * H, H),
        "bias_ih": (4 * H,),
        "bias_hh": (4 * H,),
    },
    "keras.layers.LSTM": lambda o: _keras_cell("cell."),
    "keras.layers.LSTMCell": lambda o: _keras_cell(""),
    "keras.layers.Bidirectional": lambda o: (
        _keras_cell("forward_layer.cell.") | _keras_cell("backward_layer.cell.")
    ),
    "mlx.nn.LSTM": lambda o: {"Wx": (4 * H, D), "Wh": (4 * H, H), "bias": (4 * H,)},
    "pytorch_forecasting.layers.mLSTMCell": _mlstm,
    "pytorch_forecasting.layers.sLSTMCell": _slstm,
}


def _live_torch(kind: str, options: Any, params: Any) -> Any:
    from lstm_bridge.equivalence.parties.torch import build_torch

    return build_torch(kind, options, params)


def _live_keras(kind: str, options: Any, params: Any) -> Any:
    from lstm_bridge.equivalence.live import live_party

    return live_party(kind, options, params)


def _live_mlx(kind: str, options: Any, params: Any) -> Any:
    import mlx.nn

    layer = mlx.nn.LSTM(**options)
    return layer.load_weights([(k, mx.array(v)) for k, v in params.items()])


LIVE = {
    "torch": _live_torch,
    "keras": _live_keras,
    "mlx": _live_mlx,
    "pytorch_forecasting": _live_torch,
}

_SIZES = {"input_size": D, "hidden_size": H}
_ALL = {"return_sequences": True, "return_state": True}
PAIRS = [
    Pair("torch LSTM", "torch.nn.LSTM", {**_SIZES, "batch_first": True}),
    Pair(
        "torch bidirectional LSTM of two layers",
        "torch.nn.LSTM",
        {**_SIZES, "num_layers": 2, "bidirectional": True},
    ),
    Pair("torch LSTM with projection", "torch.nn.LSTM", {**_SIZES, "proj_size": 4}),
    Pair("torch LSTMCell", "torch.nn.LSTMCell", _SIZES),
    Pair("keras LSTM", "keras.layers.LSTM", {"units": H, **_ALL}),
    Pair(
        "keras LSTM, hard_sigmoid",
        "keras.layers.LSTM",
        {"units": H, "recurrent_activation": "hard_sigmoid", **_ALL},
    ),
    Pair(
        "keras LSTM, Keras 2's hard_sigmoid",
        "keras.layers.LSTM",
        {"units": H, "recurrent_activation": "hard_sigmoid_keras2", "go_backwards": True, **_ALL},
    ),
    Pair("keras LSTMCell", "keras.layers.LSTMCell", {"units": H}),
    Pair(
        "keras Bidirectional",
        "keras.layers.Bidirectional",
        {
            "layer": {
                "class_name": "LSTM",
                "config": {"units": H, "recurrent_activation": "hard_sigmoid", **_ALL},
            },
            "merge_mode": "concat",
        },
    ),
    Pair("mlx LSTM", "mlx.nn.LSTM", _SIZES),
    Pair(
        "mLSTMCell",
        "pytorch_forecasting.layers.mLSTMCell",
        {**_SIZES, "layer_norm": True},
    ),
    Pair(
        "sLSTMCell",
        "pytorch_forecasting.layers.sLSTMCell",
        {**_SIZES, "use_layer_norm": False},
    ),
]
