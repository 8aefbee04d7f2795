"""A quantized folder against its source: is the port right, and what does quantization cost?

No quantized model is equivalent to its source, and none is asked to be. The verdict rests on what
can be right or wrong: every number that was not packed is the source's bit for bit, every packed
one stands for the source's within one step of its scale, the graph is the source's, and each packed
layer computes with the numbers that it stands for, by the three-party rule. What the packing costs
is measured on the outputs of the whole model, and reported as numbers without a verdict.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from numpy.typing import NDArray

from lstm_bridge.equivalence.bits import difference
from lstm_bridge.equivalence.judging import judge_layer
from lstm_bridge.equivalence.kinds import L, N, example_inputs
from lstm_bridge.equivalence.oracle import ORACLES
from lstm_bridge.equivalence.parties import party_of
from lstm_bridge.equivalence.parties.find import kind_of
from lstm_bridge.equivalence.parties.mlx import to_numpy
from lstm_bridge.equivalence.report import Cost, LayerResult, Quantization
from lstm_bridge.equivalence.tree import leaves
from lstm_bridge.equivalence.truth import stand_in, truth_of
from lstm_bridge.errors import BridgeError, UsageError
from lstm_bridge.models.folder import load
from lstm_bridge.models.graph import Ref, descend
from lstm_bridge.models.schema import MARK, read_config
from lstm_bridge.models.source import Choices
from lstm_bridge.models.whole import Model
from lstm_bridge.models.whole_source import load_whole

Array = NDArray[Any]


class Verdict(NamedTuple):
    """What is said of a quantized folder.

    Args:
        layers: the packed layers and the model around them, judged.
        cost: what packing costs.
    """

    layers: list[LayerResult]
    cost: Quantization


def is_quantized(folder: Path) -> bool:
    """Say whether a folder holds a quantized model."""
    return (folder / MARK).is_file() and bool(read_config(folder).get("quantized"))


def judge_quantized(
    source: Path, folder: Path, choices: Choices, inputs: Any = None, seed: int = 0
) -> Verdict:
    """Judge a quantized folder against the file that it was converted from.

    Args:
        source: the file.
        folder: what was written.
        choices: as given to ``convert``.
        inputs: call arguments of the whole, to measure the cost on. Default: drawn.
        seed: of drawn inputs. Default: 0.

    Raises:
        RefusedInput: a side cannot be read.
        UsageError: the source describes no whole model, or inputs cannot be drawn for it.
    """
    full, packed = load_whole(source, choices), load(folder)
    config = read_config(folder)
    places = {str(one["path"]): one for one in config["quantized"]}
    owner = LayerResult(
        "", config["model"], "the source's own file", "bits", (), reason=_odd(full, packed, config)
    )
    bits = sorted({int(one["bits"]) for one in places.values()})
    given = inputs if inputs is not None else drawn_inputs(full, seed)
    cost = Quantization(tuple(bits), tuple(_costs(full, packed, given)))
    results = [owner] if owner.reason else []
    return Verdict(results + [_judge(path, full, packed, seed) for path in places], cost)


def _odd(full: Model, packed: Model, config: Mapping[str, Any]) -> str:
    """Say what differs besides the packed layers; "" if nothing does."""
    wanted = json.loads(json.dumps(full.describe()))
    for key in ("model", "graph", "modules", "options"):
        if wanted[key] != config.get(key):
            return f"{key}: not what the source describes"
    prefixes = tuple(f"{one['path']}." for one in config["quantized"])
    rest = {n: a for n, a in tree_flatten(full.parameters()) if not n.startswith(prefixes)}
    held = dict(tree_flatten(packed.parameters()))
    odd = sorted(n for n in held.keys() ^ rest.keys() if not n.startswith(prefixes))
    if odd:
        return f"weights: {odd[0]} is on one side only"
    plain = {n: _stored(a) for n, a in rest.items()}
    return difference(_Holder({n: held[n] for n in rest}), plain)


class _Holder:
    """Some arrays under full names, as ``difference`` asks for them."""

    def __init__(self, arrays: Mapping[str, mx.array]) -> None:
        self._arrays = dict(arrays)

    def parameters(self) -> dict[str, mx.array]:
        """The arrays by name."""
        return self._arrays


def _stored(array: mx.array) -> Array:
    return np.array(array.view(mx.uint16)) if array.dtype == mx.bfloat16 else np.array(array)


def _judge(path: str, full: Model, packed: Model, seed: int) -> LayerResult:
    plain, layer = descend(full, path), descend(packed, path)
    kind = kind_of(plain)
    if kind not in ORACLES:
        return LayerResult(path, type(plain).__name__, "nobody", "none", (),
                           reason="no oracle computes this class")  # fmt: skip
    own = dict(tree_flatten(plain.parameters()))
    held = dict(tree_flatten(layer.parameters()))
    parameter = next(n for n in own if n not in held or own[n].shape != held[n].shape)
    stands_for = mx.dequantize(
        layer.weight, layer.scales, layer.get("biases"),
        group_size=layer.group_size, bits=layer.bits, mode=layer.mode,
    ).astype(mx.float32)  # fmt: skip
    turned = parameter == "kernel"
    matrix = own[parameter].astype(mx.float32)
    weights = _beyond_a_step(
        f"{path}.{parameter}", layer, stands_for, matrix.T if turned else matrix
    )
    params = {n: to_numpy(a).astype(np.float32) for n, a in own.items()}
    params[parameter] = np.ascontiguousarray(to_numpy(stands_for.T if turned else stands_for))
    for name in (n for n in own if n != parameter and not weights):
        weights = difference(_Holder({name: held[name]}), {name: _stored(own[name])})
    layer.set_dtype(mx.float32)
    options = _options(path, plain, full)
    source = stand_in(kind, options, params, "computed with the numbers that are stored")
    given = example_inputs(kind, options, params, seed)
    ported = party_of(layer, "converted")
    return judge_layer(path, source, ported, truth_of(source, None), given, weights=weights)


def _options(path: str, plain: Any, full: Model) -> dict[str, Any]:
    if hasattr(plain, "get_config"):
        return dict(plain.get_config())
    return next((dict(part.options) for part in full.parts if part.path == path), {})


def _beyond_a_step(name: str, layer: Any, ours: mx.array, theirs: mx.array) -> str:
    """Say which packed numbers do not stand for the source's; "" if all do.

    The grid of a group is laid so that zero is on it, which moves its far end by up to one step.
    """
    if ours.shape != theirs.shape:
        return f"weights: {name} has shape {list(ours.shape)}, not {list(theirs.shape)}"
    step = mx.repeat(mx.abs(layer.scales.astype(mx.float32)), layer.group_size, axis=-1)
    slack = 1e-3 if layer.scales.dtype == mx.float32 else 0.02  # of scales in half precision
    off = np.array(mx.abs(ours - theirs) > step * (1 + slack) + 1e-30)
    if not off.any():
        return ""
    at = [int(k) for k in np.argwhere(off)[0]]
    return (
        f"weights: {name}: {int(off.sum())} of {off.size} packed numbers are more than one step "
        f"from the source's, first {at}"
    )


def _costs(full: Model, packed: Model, inputs: tuple[Any, ...]) -> list[Cost]:
    """Return how far the outputs are apart, one entry each."""
    arrays = [mx.array(a) for a in inputs]
    pairs = zip(*(map(_flat, (full.eval()(*arrays), packed.eval()(*arrays)))), strict=True)
    return [_cost(k, exact, rough) for k, (exact, rough) in enumerate(pairs)]


def _flat(outputs: Any) -> list[Array]:
    if isinstance(outputs, Mapping):
        outputs = [outputs[key] for key in sorted(outputs)]
    return [to_numpy(a).astype(np.float64) for a in leaves(outputs)]


def _cost(index: int, exact: Array, rough: Array) -> Cost:
    apart = np.abs(rough - exact)
    size = np.sqrt(np.mean(exact**2)) if exact.size else 0.0
    rms = np.sqrt(np.mean(apart**2)) if exact.size else 0.0
    relative = float(rms / size) if size else float("inf") if rms else 0.0
    return Cost(f"output[{index}]", float(apart.max(initial=0.0)), relative)


def drawn_inputs(model: Model, seed: int) -> tuple[Any, ...]:
    """Return seeded inputs of a whole model, by what its first layers take.

    Raises:
        UsageError: nothing says what one of them is.
    """
    shapes = {str(one["name"]): one["shape"] for one in model._options.get("inputs", ())}
    found = []
    for number, name in enumerate(model.graph.inputs):
        reader = _reader(model, name)
        array = _drawn(reader, shapes.get(name), seed + number)
        if array is None:
            raise UsageError(
                "verify inputs", expected=f"inputs for {name!r}, to measure the cost on",
                got="none, and nothing in the model says what they are",
                fix="give them with --inputs",
            )  # fmt: skip
        found.append(array)
    return tuple(found)


def _reader(model: Model, name: str) -> Any:
    """Return the part that an input goes into first; None if it goes elsewhere."""
    parts = {part.path: part for part in model.parts}
    for node in model.graph.nodes:
        if node.args and node.args[0] == Ref(name):
            return parts.get(node.target) if node.op == "module" else None
    return None


def _drawn(part: Any, shape: Any, seed: int) -> Array | None:
    rng = np.random.default_rng(seed)
    if part is not None and part.kind.endswith(".Embedding"):
        rows = int(part.options.get("input_dim") or part.options.get("num_embeddings"))
        sizes = [L if n is None else n for n in shape[1:]] if shape else [L]
        return rng.integers(0, rows, (N, *sizes)).astype(np.int32)
    if shape is not None:
        return rng.normal(0.2, 0.7, (N, *(L if n is None else n for n in shape[1:]))).astype("f4")
    if part is None:
        return None
    params = {n: to_numpy(a) for n, a in tree_flatten(part.module.parameters())}
    try:
        made: Array = example_inputs(part.kind, part.options, params, seed)[0]
    except BridgeError:
        return None
    return made
