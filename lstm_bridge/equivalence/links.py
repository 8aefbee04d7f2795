"""A file written for another framework, judged against the layers that it was made of.

Each of the file's layers runs in its own framework, where that is installed.
Shape letters: N batch, L length, D input, H hidden, K layers · directions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_bridge.equivalence.bits import decoded
from lstm_bridge.equivalence.chain import Chain, stock, strands
from lstm_bridge.equivalence.chain_gradients import Joint, States, pull_keras, pull_torch
from lstm_bridge.equivalence.live import live_party
from lstm_bridge.equivalence.oracle.keras import wrapped
from lstm_bridge.equivalence.parties import Party
from lstm_bridge.equivalence.precision import to_bfloat16
from lstm_bridge.equivalence.report import LayerResult
from lstm_bridge.models.source import Choices, SourceLayer, read_layers

Array = NDArray[Any]
Params = Mapping[str, Array]
Judged = Callable[..., LayerResult]


def judge_file(
    layers: Sequence[SourceLayer], target: Path, choices: Choices, judged: Judged
) -> list[LayerResult]:
    """Judge every layer of a source with what a file holds of it.

    Args:
        layers: the source's.
        target: a file that ``convert --to`` wrote.
        choices: what the caller says that a file does not, of the source's own kind of file.
        judged: judges a source layer, a source party and a ported party, with ``weights=``.

    Returns:
        One result per layer of the source, and failures for layers that only the file has.
    """
    found = read_layers(target, choices)
    results, used = [], set()
    for layer in layers:
        made = [f for f in found if _belongs(f, layer.path)]
        used |= {f.path for f in made}
        results.append(_judge(layer, made, judged))
    extra = [f for f in found if f.path not in used]
    return results + [_failed(f, "no such layer in the source") for f in extra]


def _failed(layer: SourceLayer, reason: str) -> LayerResult:
    return LayerResult(layer.path, layer.kind, "nobody", "none", (), reason=reason)


def _belongs(made: SourceLayer, path: str) -> bool:
    """Whether a file's layer is of the source's, by its name; a Keras file is of one layer."""
    start = re.escape(path)
    strand = r"\.?l\d+(_reverse)?"
    return made.kind.startswith("keras.") or bool(re.fullmatch(f"{start}({strand})?", made.path))


def _judge(layer: SourceLayer, made: list[SourceLayer], judged: Judged) -> LayerResult:
    if not made:
        return _failed(layer, "the file holds nothing of it")
    params = _singles(layer.params)
    if [f.kind for f in made] == [layer.kind]:
        ours = _singles(made[0].params)
        weights = _difference(layer.params, made[0].params)
        if _shapes(layer.params) != _shapes(made[0].params):
            return _failed(layer, weights)
        ported = live_party(layer.kind, layer.options, ours)
        source = live_party(layer.kind, layer.options, params)
        return judged(layer, source, ported, weights=weights)
    held = _all_strands(made)
    wanted = strands(layer.kind, decoded(layer.params))
    flat = [
        {f"{name}.{leaf}": a for name, strand in group.items() for leaf, a in strand.items()}
        for group in (wanted, held)
    ]
    weights = _difference(*flat)
    if _shapes(flat[0]) != _shapes(flat[1]):
        return _failed(layer, weights)
    described = _described(layer, params, held)
    source = _source(layer, described)
    links, parties = _links(made)
    ported = Chain(described.kind, described.options, described.params, links, parties).party()
    return judged(described, source, ported, weights=weights)


def _singles(params: Params) -> dict[str, Array]:
    return {name: v.astype(np.float32) for name, v in decoded(params).items()}


def _all_strands(made: Sequence[SourceLayer]) -> dict[str, dict[str, Array]]:
    """The file's strands, numbered through from its first layer to its last."""
    if made[0].kind == "mlx.nn.LSTM":
        return {_strand(f): dict(f.params) for f in made}
    held: dict[str, dict[str, Array]] = {}
    depth = 0
    for layer in made:
        own = strands(layer.kind, layer.params)
        for name, strand in own.items():
            number, _, reverse = name.removeprefix("l").partition("_")
            end = "_reverse" if reverse else ""
            held[f"l{depth + int(number)}{end}"] = strand
        depth += len([name for name in own if not name.endswith("_reverse")])
    return held


def _strand(made: SourceLayer) -> str:
    found = re.search(r"l\d+(_reverse)?$", made.path)
    return found[0] if found and made.path.rpartition(".")[2] == found[0] else "l0"


def _shapes(params: Params) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in params.items()}


def _difference(wanted: Params, held: Params) -> str:
    """One line of how the file's weights differ from the source's, rounded once if at all."""
    odd = sorted(set(wanted) ^ set(held))
    if odd:
        return f"weights: {odd[0]} is {'missing from' if odd[0] in wanted else 'only in'} the file"
    for name, value in wanted.items():
        ours, theirs = decoded({name: held[name]})[name], decoded({name: value})[name]
        if ours.shape != theirs.shape:
            return f"weights: {name} has shape {list(ours.shape)}, not {list(theirs.shape)}"
        if held[name].dtype == np.uint16:
            theirs = to_bfloat16(theirs.astype(np.float32))
        unequal = ours != theirs.astype(ours.dtype)
        unequal &= ~(np.isnan(ours) & np.isnan(theirs))
        if unequal.any():
            at = [int(k) for k in np.argwhere(unequal)[0]]
            return f"weights: {name} differs in {int(unequal.sum())} places, first {at}"
    return ""


def _described(layer: SourceLayer, params: Params, held: Mapping[str, Params]) -> SourceLayer:
    """The source layer as something that another framework can imitate, with the same numbers."""
    if layer.kind == "mlx.nn.LSTM":  # it returns every cell state, which no other layer does
        options = {**layer.options, "batch_first": True}
        names = {"Wx": "weight_ih_l0", "Wh": "weight_hh_l0", "bias": "bias_ih_l0"}
        renamed = {names[n]: v for n, v in params.items()}
        if "bias" in params:
            renamed["bias_hh_l0"] = np.zeros_like(params["bias"])
        return SourceLayer(layer.path, "torch.nn.LSTM", options, renamed)
    new = dict(params)
    if layer.kind == "torch.nn.LSTM" and layer.params["weight_ih_l0"].dtype.itemsize <= 2:
        # The sum of two half-precision biases was rounded once: judged above, bit by bit.
        for name, strand in held.items():
            if "bias" in strand:
                new[f"bias_ih_{name}"] = _singles(strand)["bias"]
                new[f"bias_hh_{name}"] = np.zeros_like(new[f"bias_ih_{name}"])
    return layer._replace(params=new)


def _source(layer: SourceLayer, described: SourceLayer) -> Party:
    if layer.kind != "mlx.nn.LSTM":
        return live_party(described.kind, described.options, described.params)
    party = live_party(layer.kind, layer.options, _singles(layer.params))
    whole = stock(described.kind, described.options, described.params, {"l0": party}).party()
    return replace(
        whole,
        name=party.name,
        in_float64=None,
        kind=described.kind,
        options=described.options,
        params=described.params,
    )


def _links(made: Sequence[SourceLayer]) -> tuple[list[Joint], list[Party]]:
    """The file's layers as links of a chain, and who computes them."""
    if made[0].kind == "mlx.nn.LSTM":
        parts = {_strand(f): live_party(f.kind, f.options, _singles(f.params)) for f in made}
        chain = stock("torch.nn.LSTM", {}, {}, parts)
        return list(chain.links), list(chain.parties)
    links: list[Joint] = []
    parties = []
    for layer in made:
        torch = layer.kind.startswith("torch.")
        options = {**layer.options, "batch_first": True} if torch else _emitting(layer)
        parties.append(live_party(layer.kind, options, _singles(layer.params)))
        run = partial(_torch_link if torch else _keras_link, parties[-1])
        pull = partial(pull_torch if torch else pull_keras, parties[-1])
        links.append(Joint(run, len(strands(layer.kind, decoded(layer.params))), pull))
    return links, parties


def _torch_link(party: Party, x: Array, states: States | None) -> tuple[Array, States]:
    pair = states and tuple(np.stack(s) for s in zip(*states, strict=True))
    y, (h, c) = party.call((x, pair) if pair else (x,))
    return y, list(zip(h, c, strict=True))


def _keras_link(party: Party, x: Array, states: States | None) -> tuple[Array, States]:
    y, *flat = party.call((x, [s for pair in states for s in pair]) if states else (x,))
    return y, list(zip(flat[::2], flat[1::2], strict=True))


def _emitting(layer: SourceLayer) -> dict[str, Any]:
    """A Keras layer's options, with every output and the states returned."""
    every = {"return_sequences": True, "return_state": True}
    if not layer.kind.endswith("Bidirectional"):
        return {**layer.options, **every}
    options = dict(layer.options)
    for side in ("layer", "backward_layer"):
        if options.get(side) is not None:
            inner = {"class_name": "LSTM", "config": {**wrapped(options[side]), **every}}
            options[side] = inner
    return options
