"""One source and one front-end per LSTM-family class, with the same random parameters.

Shape letters: D input, H hidden, P projection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from lstm_bridge.equivalence.case import Case
from lstm_bridge.equivalence.kinds import example_inputs
from lstm_bridge.models.classes import make

Array = NDArray[Any]
Options = Mapping[str, Any]
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Pair:
    """A class of a source framework, which its front-end mirrors.

    Args:
        label: for people.
        kind: class path.
        options: constructor arguments.
        D: width of the input.
        H: width of the state.
    """

    label: str
    kind: str
    options: Options
    D: int = 3
    H: int = 5

    def params(self, seed: int = 0) -> dict[str, Array]:
        """Return parameters, distinct everywhere."""
        rng = np.random.default_rng(seed)
        shapes = _SHAPES[self.kind](self)
        # Away from zero on average, so that a dropped or swapped part cannot cancel out.
        return {n: rng.normal(0.15, 0.5, s).astype(np.float32) for n, s in shapes.items()}

    def case(self, seed: int = 0) -> Case:
        """Return the layer with example inputs."""
        params = self.params(seed)
        inputs = example_inputs(self.kind, self.options, params, seed)
        return Case(self.kind, self.options, params, inputs)

    def front_end(self, params: Mapping[str, Array], options: Options | None = None) -> Any:
        """Return this package's layer with the given parameters."""
        weights = {k: mx.array(np.array(v, order="C")) for k, v in params.items()}
        shape = (None, self.D) if self.kind.endswith("Cell") else (None, None, self.D)
        options = self.options if options is None else options
        layer: Any = make(self.kind, options, {"input_shape": shape})
        layer.load_weights(list(weights.items()))
        return layer


def _gates(pair: Pair) -> int:
    name = pair.kind.rpartition(".")[2]
    return 3 if name.startswith("GRU") else 1 if name.startswith(("RNN", "SimpleRNN")) else 4


def _torch(pair: Pair) -> Shapes:
    o, D, H = pair.options, pair.D, pair.H
    G = _gates(pair) * H
    directions = ("", "_reverse") if o.get("bidirectional") else ("",)
    P = o.get("proj_size") or H
    found: Shapes = {}
    for k in range(o.get("num_layers", 1)):
        for end in directions:
            width = D if k == 0 else P * len(directions)
            found |= {f"weight_ih_l{k}{end}": (G, width), f"weight_hh_l{k}{end}": (G, P)}
            found |= {f"bias_ih_l{k}{end}": (G,), f"bias_hh_l{k}{end}": (G,)}
            if o.get("proj_size"):
                found[f"weight_hr_l{k}{end}"] = (P, H)
    return found


def _torch_cell(pair: Pair) -> Shapes:
    D, H = pair.D, pair.H
    G = _gates(pair) * H
    return {"weight_ih": (G, D), "weight_hh": (G, H), "bias_ih": (G,), "bias_hh": (G,)}


def _keras(*prefixes: str) -> Callable[[Pair], Shapes]:
    def shapes(pair: Pair) -> Shapes:
        D, H = pair.D, pair.H
        G = _gates(pair) * H
        two = "GRU" in pair.kind and pair.options.get("reset_after", True)
        bias: tuple[int, ...] = (2, G) if two else (G,)
        cell = {"kernel": (D, G), "recurrent_kernel": (H, G), "bias": bias}
        return {prefix + name: shape for prefix in prefixes for name, shape in cell.items()}

    return shapes


def _mlx(pair: Pair) -> Shapes:
    D, H = pair.D, pair.H
    return {"Wx": (4 * H, D), "Wh": (4 * H, H), "bias": (4 * H,)}


def _mlstm(pair: Pair) -> Shapes:
    return dict(_mlstm_shapes(pair))


def _mlstm_shapes(pair: Pair) -> Iterator[tuple[str, tuple[int, ...]]]:
    for gate in "qkvifo":
        yield f"W{gate}.weight", (pair.H, pair.D)
        yield f"W{gate}.bias", (pair.H,)
        if pair.options["layer_norm"]:
            yield f"ln_{gate}.weight", (pair.H,)
            yield f"ln_{gate}.bias", (pair.H,)


def _mlstm_layer(pair: Pair) -> Shapes:
    cell = dict(_mlstm_shapes(pair))
    return {f"cells.0.{name}": shape for name, shape in cell.items()}


def _slstm(pair: Pair) -> Shapes:
    D, H = pair.D, pair.H
    return {
        "input_weights.weight": (4 * H, D),
        "input_weights.bias": (4 * H,),
        "hidden_weights.weight": (4 * H, H),
        "hidden_weights.bias": (4 * H,),
    }


_SHAPES: dict[str, Callable[[Pair], Shapes]] = {
    "torch.nn.LSTM": _torch,
    "torch.nn.LSTMCell": _torch_cell,
    "torch.nn.GRU": _torch,
    "torch.nn.RNN": _torch,
    "torch.nn.GRUCell": _torch_cell,
    "keras.layers.GRU": _keras("cell."),
    "keras.layers.SimpleRNN": _keras("cell."),
    "pytorch_forecasting.layers.mLSTMLayer": _mlstm_layer,
    "keras.layers.LSTM": _keras("cell."),
    "keras.layers.LSTMCell": _keras(""),
    "keras.layers.Bidirectional": _keras("forward_layer.cell.", "backward_layer.cell."),
    "mlx.nn.LSTM": _mlx,
    "pytorch_forecasting.layers.mLSTMCell": _mlstm,
    "pytorch_forecasting.layers.sLSTMCell": _slstm,
}

_ALL: dict[str, Any] = {"return_sequences": True, "return_state": True}


def _sized(label: str, kind: str, **options: Any) -> Pair:
    return resized(Pair(label, kind, options), Pair.D, Pair.H)


def resized(pair: Pair, D: int, H: int) -> Pair:
    """Return the same class at other sizes."""
    if "layer" in pair.options:
        inner = pair.options["layer"]
        sized = {**inner, "config": {**inner["config"], "units": H}}
        return Pair(pair.label, pair.kind, {**pair.options, "layer": sized}, D, H)
    keras = pair.kind.startswith("keras.")
    size = {"units": H} if keras else {"input_size": D, "hidden_size": H}
    return Pair(pair.label, pair.kind, {**pair.options, **size}, D, H)


PAIRS = [
    _sized("torch LSTM", "torch.nn.LSTM", batch_first=True),
    _sized(
        *("torch bidirectional LSTM of two layers", "torch.nn.LSTM"),
        num_layers=2,
        bidirectional=True,
    ),
    _sized("torch LSTM with projection", "torch.nn.LSTM", proj_size=4),
    _sized("torch LSTMCell", "torch.nn.LSTMCell"),
    _sized("keras LSTM", "keras.layers.LSTM", **_ALL),
    _sized(
        *("keras LSTM, hard_sigmoid", "keras.layers.LSTM"),
        recurrent_activation="hard_sigmoid",
        **_ALL,
    ),
    _sized(
        *("keras LSTM, Keras 2's hard_sigmoid", "keras.layers.LSTM"),
        recurrent_activation="hard_sigmoid_keras2",
        go_backwards=True,
        **_ALL,
    ),
    _sized("keras LSTMCell", "keras.layers.LSTMCell"),
    Pair(
        "keras Bidirectional",
        "keras.layers.Bidirectional",
        {
            "layer": {
                "class_name": "LSTM",
                "config": {"units": 5, "recurrent_activation": "hard_sigmoid", **_ALL},
            },
            "merge_mode": "concat",
        },
    ),
    _sized("mlx LSTM", "mlx.nn.LSTM"),
    _sized("mLSTMCell", "pytorch_forecasting.layers.mLSTMCell", layer_norm=True),
    _sized("torch GRU", "torch.nn.GRU", batch_first=True),
    _sized(
        *("torch bidirectional GRU of two layers", "torch.nn.GRU"),
        num_layers=2,
        bidirectional=True,
    ),
    _sized("torch GRUCell", "torch.nn.GRUCell"),
    _sized("torch RNN", "torch.nn.RNN", nonlinearity="relu"),
    _sized("keras GRU", "keras.layers.GRU", **_ALL),
    _sized("keras GRU, reset first", "keras.layers.GRU", reset_after=False, **_ALL),
    _sized("keras SimpleRNN", "keras.layers.SimpleRNN", **_ALL),
    _sized("sLSTMCell", "pytorch_forecasting.layers.sLSTMCell", use_layer_norm=False),
]
"""Every class that the mistakes are made in."""
