"""What is known of each class path: example inputs, names of the outputs, the axis of time.

Shape letters: N batch, L length, D input, H hidden, P projection, K layers · directions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_bridge.equivalence.examples import around_inputs
from lstm_bridge.equivalence.oracle import PLAIN_KINDS
from lstm_bridge.errors import UsageError

Array = NDArray[Any]
Inputs = tuple[Any, ...]

SEQUENTIAL = frozenset(
    f"keras.layers.{name}"
    for name in ("RNN", "LSTM", "GRU", "SimpleRNN", "Bidirectional", "ConvLSTM1D", "ConvLSTM2D")
)
"""Keras classes called as ``layer(x, initial_state=…, mask=…)``."""

N, L = 4, 7
"""Rows and steps of generated inputs: unequal, so that a swapped axis shows."""


@dataclass(frozen=True, slots=True)
class Draw:
    """Random arrays, and how many rows and steps are wanted."""

    rng: np.random.Generator
    N: int
    L: int

    def __call__(self, *shape: int) -> Array:
        """Return float32 numbers around 0.2."""
        return self.rng.normal(0.2, 0.7, shape).astype(np.float32)


def example_inputs(
    kind: str,
    options: Mapping[str, Any],
    params: Mapping[str, Array],
    seed: int = 0,
    rows: int = N,
    steps: int = L,
) -> Inputs:
    """Return seeded call arguments for one layer, initial states included.

    Args:
        kind: class path, e.g. ``"torch.nn.LSTM"``.
        options: its constructor arguments.
        params: its parameters, which hold the sizes.
        seed: of the random numbers. Default: 0.
        rows: rows of the batch. Default: 4.
        steps: length of sequences. Default: 7.

    Returns:
        Float32 arrays in the nesting that the class is called with, neither symmetric nor zero.

    Raises:
        UsageError: nothing is known of the class.
    """
    draw = Draw(np.random.default_rng(seed), rows, steps)
    around = around_inputs(kind, options, params, draw)
    if around is not None:
        return around
    for prefix, make in _MAKERS.items():
        if kind.startswith(prefix):
            return make(kind, options, params, draw)
    raise UsageError(
        "compare inputs",
        expected=f"inputs for a {kind or 'function'}",
        got="none",
        fix="pass inputs=(x, ...)",
    )


def _torch(
    kind: str, options: Mapping[str, Any], params: Mapping[str, Array], draw: Draw
) -> Inputs:
    end = "" if kind.endswith("Cell") else "_l0"
    rows, D = params[f"weight_ih{end}"].shape
    H, P = rows // 4, params[f"weight_hh{end}"].shape[1]
    if kind.endswith("Cell"):
        return draw(draw.N, D), (draw(draw.N, H), draw(draw.N, H))
    K = sum(name.startswith("weight_ih") for name in params)
    x = draw(draw.N, draw.L, D) if options.get("batch_first", False) else draw(draw.L, draw.N, D)
    return x, (draw(K, draw.N, P), draw(K, draw.N, H))


def _keras(
    kind: str, options: Mapping[str, Any], params: Mapping[str, Array], draw: Draw
) -> Inputs:
    kernels = {n: v for n, v in params.items() if n.endswith("kernel") and "recurrent" not in n}
    pairs = [[draw(draw.N, v.shape[1] // 4) for _ in "hc"] for v in kernels.values()]
    D = next(iter(kernels.values())).shape[0]
    if kind.endswith("Cell"):
        return draw(draw.N, D), pairs[0]
    if kind.endswith("Bidirectional"):
        return draw(draw.N, draw.L, D), [s for pair in pairs for s in pair]
    return draw(draw.N, draw.L, D), pairs if len(pairs) > 1 else pairs[0]


def _mlx(kind: str, options: Mapping[str, Any], params: Mapping[str, Array], draw: Draw) -> Inputs:
    rows, D = params["Wx"].shape
    return draw(draw.N, draw.L, D), draw(draw.N, rows // 4), draw(draw.N, rows // 4)


def _forecasting(
    kind: str, options: Mapping[str, Any], params: Mapping[str, Array], draw: Draw
) -> Inputs:
    D, H = options["input_size"], options["hidden_size"]
    count = 3 if ".mLSTM" in kind else 2
    if kind.endswith("Cell"):
        return draw(draw.N, D), *(draw(draw.N, H) for _ in range(count))
    K = options.get("num_layers", 1)
    if count == 3:
        return draw(draw.L, draw.N, D), *(draw(K, draw.N, H) for _ in range(count))
    return draw(draw.L, draw.N, D), *([draw(draw.N, H) for _ in range(K)] for _ in range(count))


_MAKERS: dict[str, Callable[..., Inputs]] = {
    "torch.": _torch,
    "keras.": _keras,
    "mlx.": _mlx,
    "pytorch_forecasting.": _forecasting,
}

_NAMES = {
    "torch.nn.LSTM": ("output", "h_n", "c_n"),
    "torch.nn.LSTMCell": ("h", "c"),
    "torch.nn.GRU": ("output", "h_n"),
    "torch.nn.RNN": ("output", "h_n"),
    "keras.layers.GRU": ("output", "h"),
    "keras.layers.SimpleRNN": ("output", "h"),
    "keras.layers.LSTM": ("output", "h", "c"),
    "keras.layers.LSTMCell": ("output", "h", "c"),
    "keras.layers.Bidirectional": ("output", "forward h", "forward c", "backward h", "backward c"),
    "mlx.nn.LSTM": ("hidden", "cell"),
    "pytorch_forecasting.layers.mLSTMCell": ("h", "c", "n"),
    "pytorch_forecasting.layers.mLSTMLayer": ("output", "h", "c", "n"),
    "pytorch_forecasting.layers.mLSTMNetwork": ("output", "h", "c", "n"),
    "pytorch_forecasting.layers.sLSTMCell": ("h", "c"),
}


def output_names(kind: str, count: int) -> list[str]:
    """Return a name for each of ``count`` outputs of a class, numbered where it has none."""
    known = _NAMES.get(kind, ())
    if count <= len(known) and count in (1, len(known)):
        return list(known[:count])
    return ["output"] if count == 1 else [f"output[{k}]" for k in range(count)]


def time_axis(kind: str, options: Mapping[str, Any], index: int, ndim: int) -> int | None:
    """Return the axis of time of output number ``index``, or None where it has none."""
    if kind.endswith(("Cell", "Network")):
        return None
    if kind in ("torch.nn.LSTM", "torch.nn.GRU", "torch.nn.RNN"):
        batch_first = options.get("batch_first", False) and ndim == 3
        return (1 if batch_first else 0) if index == 0 else None
    if kind.startswith("pytorch_forecasting."):
        return 0 if index == 0 else None
    if kind == "mlx.nn.LSTM":
        return ndim - 2
    if kind.startswith("torch.") and kind in PLAIN_KINDS:
        return None
    return 1 if ndim == 3 else None
