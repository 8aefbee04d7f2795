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
        for node in _walk(self.nodes):
            known = node["op"] in ("input", "output", "module", "parameter", "branch", "loop")
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
        run = _Run(self, dtype)
        taken: Iterator[Any] = iter(inputs)
        values = {}
        for node in self.nodes:
            if node["op"] == "input":
                default = _resolved(node.get("args", []), {})
                values[node["name"]] = next(taken, default[0] if default else None)
        with np.errstate(all="ignore"):
            return run.graph(self.nodes, values), run.seen.all()


class _Run:
    """One run of a graph and of the graphs within it."""

    def __init__(self, model: TorchOracle, dtype: Any) -> None:
        self.model, self.dtype = model, dtype
        self.seen = Recorder()
        self.cast = _caster(dtype)

    def graph(self, nodes: Sequence[Mapping[str, Any]], before: Mapping[str, Any]) -> Any:
        """Run nodes, which may read values of the graph around them."""
        values = dict(before)
        for node in nodes:
            if node["op"] == "input":
                values[node["name"]] = _mapped(self.cast, values[node["name"]])
                continue
            if node["op"] == "output":
                return _resolved(node["args"], values)[0]
            values[node["name"]] = _mapped(self.cast, self._value(node, values))
        raise UnsupportedError("oracle of a graph", expected="an output at its end", got="none")

    def _value(self, node: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
        args = _resolved(node.get("args", []), values)
        kwargs = node.get("kwargs", {})
        if node["op"] == "branch":
            return self.graph(kwargs["yes" if args[0] else "no"]["graph"], values)
        if node["op"] == "loop":
            return self._loop(kwargs["body"]["graph"], args[0], args[1], values)
        named = _resolved(kwargs, values)
        if node["op"] == "parameter":
            return self.model.arrays[node["target"]]
        if node["op"] == "module":
            value = self._layer(node["target"], args, named)
            self._record(node["target"], value, args, named)
            return value
        return TORCH_OPERATIONS[node["op"]](*args, **named)

    def _loop(
        self,
        body: Sequence[Mapping[str, Any]],
        steps: int,
        carried: Sequence[Any],
        values: Mapping[str, Any],
    ) -> list[Any]:
        """The last values, then a list for each thing collected."""
        names = [node["name"] for node in body if node["op"] == "input"]
        collected: list[list[Any]] = []
        for step in range(int(steps)):
            given = dict(zip(names, (step, *carried), strict=True))
            carried, found = self.graph(body, {**values, **given})
            collected = collected or [[] for _ in found]
            for kept, value in zip(collected, found, strict=True):
                kept.append(value)
        return [*carried, *collected]

    def _layer(self, path: str, args: Any, named: Any) -> Any:
        kind, options, weights = self.model.part(path)
        if kind in _FLAGS:
            return _FLAGS[kind]
        if kind in _RECURRENT:
            x, hx = args[0], args[1] if len(args) > 1 else named.get("hx")
            return _run_recurrent(kind, options, weights, x, hx, self.dtype)
        if kind == "torch.nn.LSTMCell" and "hx" in named:
            args, named = (*args, named["hx"]), {}
        return ORACLES[kind](options, weights, *args, dtype=self.dtype, **named)

    def _record(self, path: str, value: Any, args: Any, named: Any) -> None:
        arrays = tuple(a for a in leaves(value) if isinstance(a, np.ndarray))
        plain = not named and all(isinstance(a, np.ndarray) for a in leaves(args))
        kind = str(self.model.modules[path]["class"]).rpartition(".")[2]
        self.seen.add(path, kind, arrays, tuple(args) if plain else None)


def _walk(nodes: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """All nodes, those of branches and loops too."""
    for node in nodes:
        yield node
        if node["op"] in ("branch", "loop"):
            for inner in node["kwargs"].values():
                yield from _walk(inner["graph"])


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
    "float": lambda v, values: float(v),
    "dict": lambda v, values: {k: _resolved(x, values) for k, x in v.items()},
}
