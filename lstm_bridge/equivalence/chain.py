"""Layers of another framework put together again as the layer that they were converted from.

Shape letters: N batch, L length, D input, H hidden, K layers · directions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_bridge.equivalence.chain_gradients import Joint, States, chain_gradients, pull_stock
from lstm_bridge.equivalence.oracle.keras import wrapped
from lstm_bridge.equivalence.parties.base import Party
from lstm_bridge.equivalence.tree import leaves
from lstm_bridge.errors import UnsupportedError

Array = NDArray[Any]
Weights = dict[str, Array]


def strands(kind: str, params: Mapping[str, Array]) -> dict[str, Weights]:
    """Return what each stock layer must hold: strand name → Wx, Wh and, where there is one, bias.

    Args:
        kind: class path of the source layer.
        params: its parameters.

    Raises:
        UnsupportedError: the layer is no LSTM that stock layers can make up.
    """
    if kind == "mlx.nn.LSTM":
        return {"l0": dict(params)}
    if kind == "torch.nn.LSTM":
        names = [n.removeprefix("weight_ih_") for n in params if n.startswith("weight_ih_")]
        return {name: _from_torch(params, f"_{name}") for name in sorted(names)}
    if kind == "torch.nn.LSTMCell":
        return {"l0": _from_torch(params, "")}
    if kind.startswith("keras."):
        starts = [n.removesuffix("kernel") for n in params if n.endswith(".kernel")]
        sides = {"forward_layer.": "l0", "backward_layer.": "l0_reverse"}
        named = {
            next((v for s, v in sides.items() if start.startswith(s)), f"l{k}"): start
            for k, start in enumerate(starts)
        }
        return {name: _from_keras(params, start) for name, start in named.items()}
    raise UnsupportedError(
        kind, expected="an LSTM, which stock mlx.nn.LSTM layers can make up", got="another cell"
    )


def _from_torch(p: Mapping[str, Array], end: str) -> Weights:
    found = {"Wx": p[f"weight_ih{end}"], "Wh": p[f"weight_hh{end}"]}
    if f"bias_ih{end}" in p:
        found["bias"] = p[f"bias_ih{end}"] + p[f"bias_hh{end}"]
    return found


def _from_keras(p: Mapping[str, Array], start: str) -> Weights:
    found = {"Wx": p[f"{start}kernel"].T, "Wh": p[f"{start}recurrent_kernel"].T}
    return found | ({"bias": p[f"{start}bias"]} if f"{start}bias" in p else {})


@dataclass(frozen=True, slots=True)
class Chain:
    """Layers one after the other, run as the layer that they were converted from runs.

    Args:
        kind: class path of the source layer.
        options: its constructor arguments.
        params: the source's parameters.
        links: the layers.
        parties: who computes them.
    """

    kind: str
    options: Mapping[str, Any]
    params: Mapping[str, Array]
    links: Sequence[Joint]
    parties: Sequence[Party]

    def party(self) -> Party:
        """Return the whole as one party."""
        first = self.parties[0]
        gradients = chain_gradients(self.kind, self.options, self.params, self.links)
        if self.kind == "mlx.nn.LSTM":
            gradients = first.gradients or gradients
        able = all(party.gradients is not None for party in self.parties)
        return Party(
            f"{len(self.parties)} x {first.name}",
            self.call,
            gradients=gradients if able else None,
            eps=first.eps,
        )

    def call(self, inputs: Sequence[Any]) -> Any:
        """Take and return what the source layer does."""
        if self.kind == "mlx.nn.LSTM":
            return self.parties[0].call(inputs)
        return self._torch(inputs) if self.kind.startswith("torch.") else self._keras(inputs)

    def _torch(self, inputs: Sequence[Any]) -> Any:
        x, pair = (*inputs, None)[:2]
        if self.kind.endswith("Cell"):
            _, [(h, c)] = self._layers(x[:, None], None if pair is None else [pair])
            return h, c
        batch_first = self.options.get("batch_first", False)
        x = x if batch_first else x.swapaxes(0, 1)
        x, last = self._layers(x, None if pair is None else list(zip(*pair, strict=True)))
        hs, cs = zip(*last, strict=True)
        return (x if batch_first else x.swapaxes(0, 1)), (np.stack(hs), np.stack(cs))

    def _layers(self, x: Array, states: States | None) -> tuple[Array, States]:
        last: States = []
        for joint in self.links:
            own = None if states is None else states[len(last) : len(last) + joint.directions]
            x, ends = joint.run(x, own)
            last += ends
        return x, last

    def _keras(self, inputs: Sequence[Any]) -> Any:
        x, state, *rest = (*inputs, None)[: max(2, len(inputs))]
        if any(value is not None for value in rest):
            raise UnsupportedError(
                "another framework's layers", expected="inputs without a mask", got="a mask"
            )
        options: Mapping[str, Any] = self.options
        merge = None
        if self.kind.endswith("Bidirectional"):
            merge = options.get("merge_mode", "concat")
            options = wrapped(options["layer"])
        flat = leaves(state)
        pairs = list(zip(flat[::2], flat[1::2], strict=True))
        y, last = self._layers(x, pairs or None)
        if not options.get("return_sequences", False):
            y = self._last(y, last)
        outs = [y] if not self.kind.endswith("Bidirectional") else _merged(y, merge)
        if options.get("return_state", False):
            outs += [s for pair in last for s in pair]
        return tuple(outs) if len(outs) > 1 else outs[0]

    def _last(self, y: Array, last: list[tuple[Array, Array]]) -> Array:
        if self.kind.endswith("Bidirectional"):
            return np.concatenate([h for h, _ in last], axis=-1)
        return y[:, -1]


def _merged(y: Array, mode: str | None) -> list[Array]:
    a, b = np.split(y, 2, axis=-1)
    if mode is None:
        return [a, b]
    merged = {"concat": y, "sum": a + b, "ave": (a + b) / 2, "mul": a * b}
    return [merged[mode]]


def stock(
    kind: str,
    options: Mapping[str, Any],
    params: Mapping[str, Array],
    parts: Mapping[str, Party],
) -> Chain:
    """Return stock mlx.nn.LSTM layers, by strand name, as the source layer.

    Args:
        kind: class path of the source layer.
        options: its constructor arguments.
        params: its parameters.
        parts: strand name (``l0``, ``l0_reverse`` …) → the stock layer as a party.
    """
    links: list[Joint] = []
    while f"l{len(links)}" in parts:
        names = [f"l{len(links)}{end}" for end in ("", "_reverse")]
        sides = [parts[name] for name in names if name in parts]
        links.append(Joint(partial(_stock_link, sides), len(sides), partial(pull_stock, sides)))
    return Chain(kind, options, params, links, list(parts.values()))


def _stock_link(sides: Sequence[Party], x: Array, states: States | None) -> tuple[Array, States]:
    """Forward and backward stock layers side by side, outputs at the input's time positions."""
    outs, last = [], []
    starts: Sequence[tuple[Array, ...]] = states or [()] * len(sides)
    for turn, side, start in zip((1, -1), sides, starts, strict=False):
        hs, cs = side.call((x[:, ::turn], *start))
        outs.append(hs[:, ::turn])
        last.append((hs[:, -1], cs[:, -1]))
    return np.concatenate(outs, axis=-1), last
