"""Whole torch models in NumPy: a graph as data, walked with the source's own weights.

Source: torch 2.13.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lstm_bridge.equivalence.oracle import ORACLES
from lstm_bridge.equivalence.oracle.around import Array
from lstm_bridge.equivalence.oracle.keras_wrappers import under
from lstm_bridge.equivalence.oracle.seen import Recorder, Seen
from lstm_bridge.equivalence.oracle.torch_operations import TORCH_OPERATIONS
from lstm_bridge.equivalence.oracle.torch_packed import (
    Packed,
    lengths_of,
    packed_like,
    padded_rows,
)
from lstm_bridge.equivalence.tree import apply, leaves
from lstm_bridge.errors import UnsupportedError

_RECURRENT = ("torch.nn.LSTM", "torch.nn.GRU", "torch.nn.RNN")
_FLAGS = {"models.torch.mode.Mode": False, "models.torch.mode.EvalOnly": None}
"""Modules that are values in evaluation."""


class TorchOracle:
    """A model traced from torch.

    Args:
        description: ``modules`` and ``graph`` of a converted folder's config.
        arrays: parameters, buffers and constants by the source's names.

    Raises:
        UnsupportedError: a layer or a function without an oracle.
    """

    def __init__(self, description: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        self.modules = {m["path"]: m for m in description["modules"]}
        self.nodes: Sequence[Mapping[str, Any]] = description["graph"]
        self.arrays = arrays
        for path, module in self.modules.items():
            if module["class"] not in ORACLES and module["class"] not in _FLAGS:
                raise _unknown(path, str(module["class"]))
        for node in self.nodes:
            known = node["op"] in ("input", "output", "module", "parameter")
            if not known and node["op"] not in TORCH_OPERATIONS:
                raise _unknown(node["name"], str(node["op"]))

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of what the model takes."""
        return tuple(node["name"] for node in self.nodes if node["op"] == "input")

    def part(self, path: str) -> tuple[str, Mapping[str, Any], dict[str, Array]]:
        """Return class path, options and weights of a layer."""
        module = self.modules[path]
        return module["class"], module["options"], under(self.arrays, f"{path}.")

    def __call__(self, *inputs: Any, dtype: Any = np.float64) -> Any:
        """Run the model."""
        return self.trace(inputs, dtype)[0]

    def trace(self, inputs: Sequence[Any], dtype: Any = np.float64) -> tuple[Any, list[Seen]]:
        """Run the model, and return what every layer did at its first call too."""
        values: dict[str, Any] = {}
        given: Iterator[Any] = iter(inputs)
        seen = Recorder()
        cast = _caster(dtype)
        with np.errstate(all="ignore"):
            for node in self.nodes:
                args = _resolved(node.get("args", []), values)
                named = _resolved(node.get("kwargs", {}), values)
                if node["op"] == "output":
                    return args[0], seen.all()
                if node["op"] == "input":
                    value = next(given, args[0] if args else None)
                elif node["op"] == "parameter":
                    value = self.arrays[node["target"]]
                elif node["op"] == "module":
                    value = self._layer(node["target"], args, named, dtype)
                    self._record(seen, node["target"], value, args, named)
                else:
                    value = TORCH_OPERATIONS[node["op"]](*args, **named)
                values[node["name"]] = _mapped(cast, value)
        raise UnsupportedError("oracle of a graph", expected="an output at its end", got="none")

    def _layer(self, path: str, args: Any, named: Any, dtype: Any) -> Any:
        kind, options, weights = self.part(path)
        if kind in _FLAGS:
            return _FLAGS[kind]
        if kind in _RECURRENT:
            x, hx = args[0], args[1] if len(args) > 1 else named.get("hx")
            return _run_recurrent(kind, options, weights, x, hx, dtype)
        if kind == "torch.nn.LSTMCell" and "hx" in named:
            args, named = (*args, named["hx"]), {}
        return ORACLES[kind](options, weights, *args, dtype=dtype, **named)

    def _record(self, seen: Recorder, path: str, value: Any, args: Any, named: Any) -> None:
        arrays = tuple(a for a in leaves(value) if isinstance(a, np.ndarray))
        plain = not named and all(isinstance(a, np.ndarray) for a in leaves(args))
        kind = str(self.modules[path]["class"]).rpartition(".")[2]
        seen.add(path, kind, arrays, tuple(args) if plain else None)


def _unknown(where: str, what: str) -> UnsupportedError:
    return UnsupportedError(
        f"oracle of {where!r}",
        expected="a layer or function that the NumPy oracle computes",
        got=what,
    )


def _run_recurrent(kind: str, o: Any, weights: Any, x: Any, hx: Any, dtype: Any) -> Any:
    if not isinstance(x, Packed):
        return ORACLES[kind](o, weights, x, hx, dtype=dtype)
    rows, options = padded_rows(x), {**o, "batch_first": True}
    if hx is not None and x.sorted_indices is not None:
        hx = apply(lambda s: s[:, x.sorted_indices], hx)
    if kind != "torch.nn.LSTM":
        y, last = _each_length(kind, options, weights, rows, lengths_of(x), hx, dtype)
    else:
        y, last = ORACLES[kind](options, weights, rows, hx, lengths_of(x), dtype=dtype)
    if x.unsorted_indices is not None:
        last = apply(lambda s: s[:, x.unsorted_indices], last)
    return packed_like(y, x), last


def _each_length(
    kind: str, o: Any, weights: Any, rows: Array, lengths: Array, hx: Any, dtype: Any
) -> tuple[Array, Array]:
    """Every row by itself over its own length."""
    ys, lasts = [], []
    for k, n in enumerate(lengths):
        own = None if hx is None else hx[:, k : k + 1]
        y, last = ORACLES[kind](o, weights, rows[k : k + 1, : int(n)], own, dtype=dtype)
        ys.append(np.pad(y, ((0, 0), (0, rows.shape[1] - int(n)), (0, 0))))
        lasts.append(last)
    return np.concatenate(ys), np.concatenate(lasts, axis=1)


def _caster(dtype: Any) -> Callable[[Any], Any]:
    def cast(value: Any) -> Any:
        array = isinstance(value, np.ndarray | np.generic)
        return value.astype(dtype) if array and np.issubdtype(value.dtype, np.floating) else value

    return cast


def _mapped(f: Callable[[Any], Any], value: Any) -> Any:
    """Apply to every array of a nest, named tuples kept."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_mapped(f, v) for v in value))
    if isinstance(value, tuple | list):
        return type(value)(_mapped(f, v) for v in value)
    if isinstance(value, Mapping):
        return {k: _mapped(f, v) for k, v in value.items()}
    if isinstance(value, np.generic):
        value = np.asarray(value)
    return f(value)


def _resolved(value: Any, values: Mapping[str, Any]) -> Any:
    """An argument of a node, written as data, with the values that it refers to."""
    if isinstance(value, list):
        return [_resolved(v, values) for v in value]
    if not isinstance(value, Mapping):
        return value
    if len(value) == 1:
        ((tag, inner),) = value.items()
        if tag in _TAGS:
            return _TAGS[tag](inner, values)
    return {k: _resolved(v, values) for k, v in value.items()}


def _listed(value: Any, values: Mapping[str, Any]) -> list[Any]:
    return [_resolved(v, values) for v in value]


_TAGS: dict[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "node": lambda v, values: values[v],
    "tuple": lambda v, values: tuple(_listed(v, values)),
    "slice": lambda v, values: slice(*_listed(v, values)),
    "ellipsis": lambda v, values: Ellipsis,
    "dict": lambda v, values: {k: _resolved(x, values) for k, x in v.items()},
}
