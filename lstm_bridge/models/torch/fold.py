"""Operations on a module's own arrays as the layers that they came from.

A record of a module calls ``torch.lstm`` with twenty arrays and ``torch.linear`` with two. Where
all of them are one module's, named as torch names them, and nothing else reads them, the layer
itself stands in the graph: it is listed, judged, quantized and trained as such.

Shape letters: V rows, E width, D input, H hidden, P projection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from lstm_bridge.models.classes import make
from lstm_bridge.models.graph import Graph, Node, Ref
from lstm_bridge.models.whole import Part

Shapes = Mapping[str, tuple[int, ...]]


class _Layer(NamedTuple):
    """A layer that one node could be."""

    kind: str
    options: dict[str, Any]
    arrays: tuple[str, ...]
    args: tuple[Any, ...]


def folded(nodes: list[Node], shapes: Shapes) -> tuple[Graph, list[Part]]:
    """Return the graph with layers in the place of operations, and the layers.

    Args:
        nodes: of a record, in order.
        shapes: of the model's arrays.
    """
    targets = {node.name: node.target for node in nodes if node.op == "parameter"}
    users = _users(nodes)
    found = {n.name: layer for n in nodes if (layer := _layer(n, nodes, targets, shapes, users))}
    parts: dict[str, Part] = {}
    chosen: dict[str, str] = {}
    for path in {arrays.rpartition(".")[0] for one in found.values() for arrays in one.arrays}:
        own = {n for n in shapes if n.startswith(f"{path}.")}
        readers = {u for n, t in targets.items() if t in own for u in users.get(n, ())}
        layers = [found.get(reader) for reader in readers]
        first = next(iter(layers), None)
        same = first is not None and all(
            one is not None and (one.kind, one.options, set(one.arrays)) ==
            (first.kind, first.options, own) for one in layers
        )  # fmt: skip
        if path and first is not None and same:
            parts[path] = Part(
                path, first.kind, first.options, make(first.kind, first.options, None)
            )
            chosen |= dict.fromkeys(readers, path)
    return Graph(tuple(_alive(_replaced(nodes, found, chosen)))), [parts[p] for p in sorted(parts)]


def _users(nodes: list[Node]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for node in nodes:
        for name in node.refs():
            found.setdefault(name, []).append(node.name)
    return found


def _layer(
    node: Node,
    nodes: list[Node],
    targets: Mapping[str, str],
    shapes: Shapes,
    users: Mapping[str, list[str]],
) -> _Layer | None:
    """Return the layer that a node could be; None for any other node."""
    if node.kwargs:
        return None
    if node.op == "functional.linear" or node.op == "aten.embedding":
        return (_linear if node.op == "functional.linear" else _embedding)(node, targets, shapes)
    recurrent = _RECURRENT.get(node.op)
    by_name = {one.name: one for one in nodes}
    unpacked = all(by_name[user].op == "aten.unpacked" for user in users.get(node.name, ()))
    if recurrent is None or not unpacked:
        return None
    return _rnn(node, *recurrent, by_name, targets, shapes)


def _named(value: Any, targets: Mapping[str, str]) -> str:
    return targets.get(value.node, "") if isinstance(value, Ref) else ""


def _linear(node: Node, targets: Mapping[str, str], shapes: Shapes) -> _Layer | None:
    x, weight, *rest = node.args
    bias = rest[0] if rest else None
    arrays = [_named(weight, targets)] + ([] if bias is None else [_named(bias, targets)])
    path = arrays[0].rpartition(".")[0]
    if arrays != [f"{path}.{n}" for n in ("weight", "bias")][: len(arrays)]:
        return None
    F, D = shapes[arrays[0]]
    options = {"in_features": D, "out_features": F, "bias": bias is not None}
    return _Layer("torch.nn.Linear", options, tuple(arrays), (x,))


def _embedding(node: Node, targets: Mapping[str, str], shapes: Shapes) -> _Layer | None:
    weight, x, *rest = node.args
    name = _named(weight, targets)
    padding = rest[0] if rest else -1
    if not name.endswith(".weight") or any(rest[1:]):
        return None
    V, E = shapes[name]
    options = {"num_embeddings": V, "embedding_dim": E,
               "padding_idx": None if padding < 0 else padding}  # fmt: skip
    return _Layer("torch.nn.Embedding", options, (name,), (x,))


_RECURRENT: dict[str, tuple[str, int, dict[str, Any]]] = {
    "aten.lstm": ("torch.nn.LSTM", 4, {}),
    "aten.gru": ("torch.nn.GRU", 3, {}),
    "aten.rnn_tanh": ("torch.nn.RNN", 1, {"nonlinearity": "tanh"}),
    "aten.rnn_relu": ("torch.nn.RNN", 1, {"nonlinearity": "relu"}),
}
"""Operation → class, gates and further options."""


def _rnn(
    node: Node,
    kind: str,
    gates: int,
    more: dict[str, Any],
    by_name: Mapping[str, Node],
    targets: Mapping[str, str],
    shapes: Shapes,
) -> _Layer | None:
    if len(node.args) != 9 or not isinstance(node.args[2], list):
        return None  # packed sequences
    x, states, weights, bias, layers, dropout, train, both, first = node.args
    arrays = tuple(_named(w, targets) for w in weights)
    path = arrays[0].rpartition(".")[0]
    roles = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if bias else [])]
    ends = [f"_l{k}{end}" for k in range(layers) for end in ("", "_reverse")[: 2 if both else 1]]
    projected = len(arrays) == len(ends) * (len(roles) + 1)
    roles += ["weight_hr"] if projected else []
    if arrays != tuple(f"{path}.{role}{end}" for end in ends for role in roles):
        return None
    if train and dropout:
        return None  # a layer drops only while it trains, and this record always
    rows, D = shapes[arrays[0]]
    options: dict[str, Any] = {
        "input_size": D, "hidden_size": rows // gates, "num_layers": layers, "bias": bias,
        "batch_first": first, "dropout": 0.0, "bidirectional": both, **more,
    }  # fmt: skip
    if kind == "torch.nn.LSTM":
        options["proj_size"] = shapes[arrays[1]][1] if projected else 0
    given = states if isinstance(states, list) else [states]
    blank = all(isinstance(s, Ref) and by_name[s.node].op == "torch.zeros" for s in given)
    args = (x,) if blank else (x, tuple(states) if isinstance(states, list) else states)
    return _Layer(kind, options, arrays, args)


def _replaced(
    nodes: list[Node], found: Mapping[str, _Layer], chosen: Mapping[str, str]
) -> list[Node]:
    """Put calls of layers in the place of operations; an LSTM's states become a pair."""
    made: list[Node] = []
    pairs: dict[str, str] = {}
    for node in nodes:
        if node.name in chosen:
            layer = found[node.name]
            made.append(Node(node.name, "module", chosen[node.name], layer.args))
            if layer.kind == "torch.nn.LSTM":
                pairs[node.name] = f"{node.name}_states"
                made.append(Node(pairs[node.name], "item", "", (Ref(node.name), 1)))
        elif node.op == "aten.unpacked" and node.args[0] in map(Ref, pairs) and node.args[1]:
            states = Ref(pairs[node.args[0].node])
            made.append(replace(node, args=(states, node.args[1] - 1)))
        else:
            made.append(node)
    return made


def _alive(nodes: list[Node]) -> list[Node]:
    """Leave out what no output reads, inputs aside."""
    wanted: set[str] = set()
    kept: list[Node] = []
    for node in reversed(nodes):
        if node.op in ("input", "output", "python.assert") or node.name in wanted:
            wanted.update(node.refs())
            kept.append(node)
    return kept[::-1]
