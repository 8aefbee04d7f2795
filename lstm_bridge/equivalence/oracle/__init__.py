"""The float64 truth, in plain NumPy: every layer the package ports, sharing no code with it.

``ORACLES[kind](options, params, *inputs)`` returns what the layer of that class path returns,
``GRADIENTS[kind]`` its gradients, ``ONE_STEP[kind]`` the inputs that repeat every time step alone
from the state it really started in. All take ``dtype=``: float32 makes the same oracle a stand-in
for a framework that is not installed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lstm_bridge.equivalence.oracle import pytorch_forecasting
from lstm_bridge.equivalence.oracle.activations import ACTIVATIONS
from lstm_bridge.equivalence.oracle.gradients import finite_differences
from lstm_bridge.equivalence.oracle.keras import (
    KerasBidirectional,
    KerasLSTM,
    KerasLSTMCell,
    keras_lstm,
)
from lstm_bridge.equivalence.oracle.keras_layers import KERAS_LAYERS as _KERAS_SIMPLE
from lstm_bridge.equivalence.oracle.keras_wrappers import is_of_lstm_cells, parts_of, wrappers
from lstm_bridge.equivalence.oracle.layout import Layout
from lstm_bridge.equivalence.oracle.lstm import Array, Options, Params
from lstm_bridge.equivalence.oracle.mlx import MlxLSTM, mlx_lstm
from lstm_bridge.equivalence.oracle.one_state import ONE_STATE
from lstm_bridge.equivalence.oracle.pytorch_forecasting import mlstm_cell, slstm_cell
from lstm_bridge.equivalence.oracle.torch import (
    TorchLSTM,
    TorchLSTMCell,
    torch_lstm,
    torch_lstm_cell,
)
from lstm_bridge.equivalence.oracle.torch_layers import TORCH_LAYERS
from lstm_bridge.equivalence.tree import apply, leaves, rebuild

__all__ = [
    "GATED",
    "GRADIENTS",
    "KERAS_LAYERS",
    "LAYOUTS",
    "ONE_STATE",
    "ONE_STEP",
    "ORACLES",
    "PLAIN_KINDS",
    "TORCH_LAYERS",
    "computable",
    "has_exact_gradients",
    "has_known_mistakes",
    "keras_lstm",
    "mlstm_cell",
    "mlx_lstm",
    "slstm_cell",
    "torch_lstm",
    "torch_lstm_cell",
]

Oracle = Callable[..., Any]

LAYOUTS: dict[str, type[Layout]] = {
    "torch.nn.LSTM": TorchLSTM,
    "torch.nn.LSTMCell": TorchLSTMCell,
    "keras.layers.LSTMCell": KerasLSTMCell,
    "keras.layers.LSTM": KerasLSTM,
    "keras.layers.RNN": KerasLSTM,
    "keras.layers.Bidirectional": KerasBidirectional,
    "mlx.nn.LSTM": MlxLSTM,
}


def _layout_oracle(layout: type[Layout]) -> Oracle:
    def oracle(options: Options, params: Params, *inputs: Any, dtype: Any = np.float64) -> Any:
        ready = layout(options, params, inputs, dtype)
        return ready.outputs(ready.run())

    return oracle


def _layout_gradients(kind: str, layout: type[Layout]) -> Oracle:
    def gradients(
        options: Options,
        params: Params,
        inputs: Sequence[Any],
        cotangents: Sequence[Array],
        dtype: Any = np.float64,
    ) -> dict[str, Array]:
        if not _of_lstm_cells(kind, options):
            found: dict[str, Array] = _plain_gradients(kind)(
                options, params, inputs, cotangents, dtype
            )
            return found
        return layout(options, params, inputs, dtype).gradients(list(cotangents))

    return gradients


def _layout_one_step(kind: str, layout: type[Layout]) -> Oracle:
    def one_step(options: Options, params: Params, inputs: Sequence[Any]) -> Any:
        if not _of_lstm_cells(kind, options):
            return None
        return layout(options, params, inputs, np.float64).teacher_forced()

    return one_step


def _forecasting_oracle(function: Oracle) -> Oracle:
    def oracle(options: Options, params: Params, *inputs: Any, dtype: Any = np.float64) -> Any:
        cast = {name: np.asarray(value, dtype) for name, value in params.items()}
        x, *states = (_cast(value, dtype) for value in inputs)
        # Overflow and NaN are facts about the inputs that the verdict looks at, not warnings.
        with np.errstate(all="ignore"):
            return function(options, cast, x, *states)

    return oracle


def _cast(value: Any, dtype: Any) -> Any:
    if value is None or isinstance(value, list | tuple):
        return value
    return np.asarray(value, dtype)


_FORECASTING = {
    f"pytorch_forecasting.layers.{name}": _forecasting_oracle(function)
    for name, function in pytorch_forecasting.FUNCTIONS.items()
}


def _plain_oracle(function: Oracle) -> Oracle:
    """A function of options, parameters and arguments, in a dtype of the caller's choice."""

    def oracle(
        options: Options, params: Params, *inputs: Any, dtype: Any = np.float64, **named: Any
    ) -> Any:
        def cast(value: Any) -> Any:
            if isinstance(value, bool | int | float | str):
                return value
            array = np.asarray(value)
            return array.astype(dtype) if np.issubdtype(array.dtype, np.floating) else array

        weights = {name: np.asarray(value, dtype) for name, value in params.items()}
        with np.errstate(all="ignore"):
            return function(options, weights, *apply(cast, inputs), **apply(cast, named))

    return oracle


KERAS_LAYERS: dict[str, Oracle] = _KERAS_SIMPLE | {
    f"keras.layers.{name}": function
    for name, function in wrappers(lambda kind: _in_its_dtype(ORACLES[kind])).items()
}
"""Class path → function of options, parameters and inputs."""


def _in_its_dtype(oracle: Oracle) -> Oracle:
    """An oracle that computes in the dtype of its first input, as the others' parts do."""

    def run(options: Options, params: Params, x: Array, *inputs: Any) -> Any:
        return oracle(options, params, x, *inputs, dtype=x.dtype)

    return run


_PLAIN = {
    k: _plain_oracle(f)
    for k, f in (TORCH_LAYERS | KERAS_LAYERS | ONE_STATE | pytorch_forecasting.AROUND).items()
}

PLAIN_KINDS = frozenset(_PLAIN)
"""Classes whose oracle is a plain function; RNN and Bidirectional of LSTM cells have another."""

GATED = frozenset({*LAYOUTS, *_FORECASTING, *ONE_STATE})
"""Classes with the states and gates that the known mistakes are about."""


def _of_lstm_cells(kind: str, options: Options) -> bool:
    """Whether a class with two oracles, one for LSTM cells and one for any, holds LSTM cells."""
    return kind not in LAYOUTS or kind not in _PLAIN or is_of_lstm_cells(options)


def computable(kind: str, options: Options) -> bool:
    """Say whether an oracle computes a layer of these options: all that it wraps is known too."""
    if kind not in ORACLES:
        return False
    names = [options.get(n) for n in ("activation", "recurrent_activation")]
    known = all(n is None or (isinstance(n, str) and n in ACTIVATIONS) for n in names)
    return known and all(computable(*part) for part in parts_of(options))


def has_exact_gradients(kind: str, options: Options) -> bool:
    """Say whether an oracle differentiates by the equations, not by finite differences."""
    return kind in LAYOUTS and _of_lstm_cells(kind, options)


def has_known_mistakes(kind: str, options: Options) -> bool:
    """Say whether the known mistakes are about a layer of this class and these options."""
    return kind in GATED and _of_lstm_cells(kind, options)


def _of_either(kind: str) -> Oracle:
    """The oracle of LSTM cells, whose gradients are exact, or the one of any cells."""

    def oracle(options: Options, params: Params, *inputs: Any, dtype: Any = np.float64) -> Any:
        chosen = _layout_oracle(LAYOUTS[kind]) if _of_lstm_cells(kind, options) else _PLAIN[kind]
        return chosen(options, params, *inputs, dtype=dtype)

    return oracle


ORACLES: dict[str, Oracle] = _PLAIN | _FORECASTING | {k: _of_either(k) for k in LAYOUTS}
"""Class path → ``oracle(options, params, *inputs, dtype=float64)`` → the class's own outputs."""


def _forecasting_one_step(kind: str) -> Oracle:
    """Every step of an mLSTM or sLSTM layer alone, from the states it really started in."""

    def one_step(options: Options, params: Params, inputs: Sequence[Any]) -> Any:
        x, *states = inputs
        if not leaves(states):
            return None
        before: list[list[Array]] = []
        for t in range(len(x)):
            before.append([np.asarray(a, np.float64) for a in leaves(states)])
            states = list(ORACLES[kind](options, params, x[t : t + 1], *states)[1])
        # States are [N, H], or [K, N, H] in one array: the batch is the last axis but one.
        joined = [np.concatenate(same, axis=-2) for same in zip(*before, strict=True)]
        rows = np.concatenate(list(x))[None]
        return (rows, *rebuild(list(inputs[1:]), joined))

    return one_step


ONE_STEP: dict[str, Oracle] = {k: _layout_one_step(k, v) for k, v in LAYOUTS.items()} | {
    k: _forecasting_one_step(k) for k in _FORECASTING if k.endswith("Layer")
}
"""Class path → ``one_step(options, params, inputs)`` → inputs of all single steps, or None."""


def _forecasting_gradients(kind: str) -> Oracle:
    def gradients(
        options: Options,
        params: Params,
        inputs: Sequence[Any],
        cotangents: Sequence[Array],
        dtype: Any = np.float64,
    ) -> dict[str, Array]:
        names = list(params)
        held = leaves(inputs)
        ends = list(cotangents)
        if "sLSTMLayer" in kind or "sLSTMNetwork" in kind:
            # The layer detaches its returned states: only the output has a gradient.
            ends[1:] = [np.zeros_like(c) for c in ends[1:]]

        def f(arrays: Sequence[Array]) -> list[Array]:
            weights = dict(zip(names, arrays[len(held) :], strict=True))
            given = rebuild(inputs, list(arrays[: len(held)]))
            return leaves(ORACLES[kind](options, weights, *given))

        found = finite_differences(f, [*held, *params.values()], ends)
        labels = ["x", *(f"state {k}" for k in range(len(held) - 1)), *names]
        return {k: v.astype(dtype) for k, v in zip(labels, found, strict=True)}

    return gradients


def _plain_gradients(kind: str) -> Oracle:
    def gradients(
        options: Options,
        params: Params,
        inputs: Sequence[Any],
        cotangents: Sequence[Array],
        dtype: Any = np.float64,
    ) -> dict[str, Array]:
        held = leaves(inputs)
        places = [k for k, a in enumerate(held) if np.issubdtype(a.dtype, np.floating)]

        def f(arrays: Sequence[Array]) -> list[Array]:
            given = list(held)
            for place, array in zip(places, arrays, strict=False):
                given[place] = array
            weights = dict(zip(params, arrays[len(places) :], strict=True))
            return leaves(ORACLES[kind](options, weights, *rebuild(inputs, given)))

        at = [*(held[k] for k in places), *params.values()]
        labels = [*("x" if k == 0 else f"input {k}" for k in places), *params]
        found = finite_differences(f, at, cotangents)
        return {k: v.astype(dtype) for k, v in zip(labels, found, strict=True)}

    return gradients


GRADIENTS: dict[str, Oracle] = (
    {kind: _plain_gradients(kind) for kind in _PLAIN}
    | {k: _layout_gradients(k, v) for k, v in LAYOUTS.items()}
    | {kind: _forecasting_gradients(kind) for kind in _FORECASTING}
)
"""Class path → ``gradients(options, params, inputs, cotangents, dtype=float64)`` → by name."""
