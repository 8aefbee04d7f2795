"""Judge a converted folder or file against the checkpoint it came from, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from lstm_bridge.converters.plan import assumable
from lstm_bridge.equivalence.bits import decoded, difference
from lstm_bridge.equivalence.chain import stock as stock_chain
from lstm_bridge.equivalence.chain import strands
from lstm_bridge.equivalence.judging import judge_layer
from lstm_bridge.equivalence.kinds import example_inputs
from lstm_bridge.equivalence.links import judge_file
from lstm_bridge.equivalence.live import live_party
from lstm_bridge.equivalence.oracle import ORACLES
from lstm_bridge.equivalence.parties import Party, party_of
from lstm_bridge.equivalence.parties.find import kind_of
from lstm_bridge.equivalence.quantization import is_quantized, judge_quantized
from lstm_bridge.equivalence.report import LayerResult, Report
from lstm_bridge.equivalence.saved_inputs import read_inputs
from lstm_bridge.equivalence.truth import truth_of
from lstm_bridge.equivalence.whole.judge import judge_whole, whole_in
from lstm_bridge.equivalence.whole.source import WholeModel
from lstm_bridge.errors import SemanticError, UnsupportedError, UsageError
from lstm_bridge.models.folder import load
from lstm_bridge.models.graph import descend
from lstm_bridge.models.schema import read_config
from lstm_bridge.models.source import Choices, Pathish, SourceLayer, read_layers

Array = NDArray[Any]


def verify(
    source: Pathish,
    converted: Pathish,
    *,
    inputs: Mapping[str, Any] | Pathish | None = None,
    gradients: bool = False,
    assume: Mapping[str, Any] | None = None,
    ignore: tuple[str, ...] = (),
    prefix: str | None = None,
    config: Pathish | None = None,
    seed: int = 0,
) -> Report:
    """Judge a converted model: weights bit for bit, then the whole and every recurrent layer.

    A folder that describes a whole model is run as such, by the three-party rule: the source, the
    port, and a NumPy oracle built from the source's own config and weights.

    The source speaks for itself where its framework is installed; where it is not, the oracle run
    in float32 stands in for it, and the report says so. Half-precision layers are run in float32.

    Args:
        source: the checkpoint that was converted.
        converted: the folder, or the file of another framework, that ``lstm_bridge.convert`` wrote.
        inputs: layer path → call arguments as a tuple, or an .npz file of them (see
            ``saved_inputs``); of the whole model under "". Default: seeded example inputs.
        gradients: compare gradients too; another framework's file is differentiated there.
            Default: False.
        assume: as given to ``convert``. Default: none.
        ignore: as given to ``convert``. Default: none.
        prefix: as given to ``convert``. Default: None.
        config: as given to ``convert``. Default: None.
        seed: of generated inputs. Default: 0.

    Returns:
        Report with one result per layer of the source.

    Raises:
        RefusedInput: source or folder cannot be read.
        UsageError: ``inputs`` names no layer of the source.
    """
    choices = Choices(assume=assume or {}, ignore=ignore, prefix=prefix, config=config)
    target = Path(converted)
    whole, not_judged = _whole(Path(source), target)
    layers = _recurrent(source, choices, alone=whole is None)
    if isinstance(inputs, str | PathLike):
        inputs = read_inputs(Path(inputs), layers, () if whole is None else whole.inputs)
    known = {layer.path for layer in layers} | ({""} if whole is not None else set())
    unknown = sorted(set(inputs or {}) - known)
    if unknown:
        paths = ", ".join(map(repr, sorted(known)))
        raise UsageError("verify inputs", expected=f"a path of {paths}", got=repr(unknown[0]))
    judged = _judged(inputs or {}, gradients, seed)
    if target.is_file():
        results = judge_file(layers, target, _for_file(choices), judged)
    else:
        results = _in_folder(layers, target, judged, alone=whole is None)
    if whole is not None:
        given = (inputs or {}).get("")
        result = judge_whole(whole, load(target), given, gradients=gradients, seed=seed)
        results.insert(0, result)
    if is_quantized(target):
        found = judge_quantized(Path(source), target, choices, (inputs or {}).get(""), seed)
        return Report(str(converted), (*results, *found.layers), found.cost)
    return Report(str(converted), tuple(results), not_judged=not_judged)


def _whole(source: Path, target: Path) -> tuple[WholeModel | None, str]:
    """The source of a whole model's folder; or None, and why what it describes has no oracle."""
    try:
        return whole_in(source, target), ""
    except UnsupportedError as error:
        why = f"{error.subject}: expected {error.expected}, got {error.got}"
        return None, f"the whole model, only its recurrent layers ({why})"


def _recurrent(source: Pathish, choices: Choices, *, alone: bool) -> list[SourceLayer]:
    """The source's recurrent layers; none at all is an answer where the whole is judged too."""
    try:
        return read_layers(source, choices)
    except SemanticError:
        if alone:
            raise
        return []


def _for_file(choices: Choices) -> Choices:
    """What is known of the converted file: the converter writes what it was told to assume."""
    return Choices(config=choices.config, of_many=True)


def _in_folder(
    layers: Sequence[SourceLayer],
    folder: Path,
    judged: Callable[..., LayerResult],
    *,
    alone: bool,
) -> list[LayerResult]:
    """Every layer of the source, then what the folder has beyond them.

    Beside a verdict on the whole, layers that only one side lists by themselves are left to it.
    """
    module = load(folder)
    written = read_config(folder)
    stock = written.get("layout") == "mlx"
    found = {entry["path"]: descend(module, entry["path"]) for entry in written["layers"]}
    options = {entry["path"]: entry["options"] for entry in written["layers"]}
    results = []
    for layer in layers:
        paths = _paths(layer, stock)
        missing = [path for path in paths if path not in found]
        if not alone and (missing or _stated_otherwise(layer, options[layer.path])):
            continue
        if missing:
            why = f"{missing[0] or '(root)'} is not in the folder"
            results.append(_failed(layer.path, layer.kind, why))
        elif not stock and (why := _stated_otherwise(layer, options[layer.path])):
            results.append(_failed(layer.path, layer.kind, why))
        else:
            results.append(_judge(layer, {p: found[p] for p in paths}, stock, judged))
    if not alone:
        return results
    covered = {path for layer in layers for path in _paths(layer, stock)}
    return results + [
        _failed(path, type(found[path]).__name__, "no such layer in the source")
        for path in sorted(set(found) - covered)
    ]


def _stated_otherwise(layer: SourceLayer, written: Mapping[str, Any]) -> str:
    """Say which option that the source leaves open the folder was converted with, if another."""
    for key in assumable():
        there, here = written.get(key), layer.options.get(key)
        if key in written and key in layer.options and there != here:
            return (
                f"the folder has {key}={there!r} and the source, as read here, {key}={here!r}: "
                f"give verify the --assume that convert was given"
            )
    return ""


def _paths(layer: SourceLayer, stock: bool) -> dict[str, str]:
    """Where a layer's parts stand in the folder: path → strand name ("" for the layer itself)."""
    if not stock:
        return {layer.path: ""}
    names = list(strands(layer.kind, decoded(layer.params)))
    if len(names) == 1:
        return {layer.path: names[0]}
    return {f"{layer.path}.{name}".lstrip("."): name for name in names}


def _judge(
    layer: SourceLayer, found: Mapping[str, Any], stock: bool, judged: Callable[..., LayerResult]
) -> LayerResult:
    if layer.kind not in ORACLES:
        return _failed(layer.path, layer.kind, "no oracle computes this class")
    if not stock and (kind := kind_of(found[layer.path])) != layer.kind:
        return _failed(
            layer.path, layer.kind, f"the folder holds a {kind or 'layer without oracle'}"
        )
    paths = _paths(layer, stock)
    wanted = strands(layer.kind, decoded(layer.params)) if stock else {"": layer.params}
    weights = next(
        (w for path, name in paths.items() if (w := difference(found[path], wanted[name]))), ""
    )
    # From here all parties use the same numbers: what the cast lost is judged above, bit by bit.
    params = {name: v.astype(np.float32) for name, v in decoded(layer.params).items()}
    if stock:
        params |= _summed_biases(layer, {name: found[path] for path, name in paths.items()})
    for path in paths:
        found[path].set_dtype(mx.float32)
    parts = {name: party_of(found[path], "converted") for path, name in paths.items()}
    ported = stock_chain(layer.kind, layer.options, params, parts).party() if stock else parts[""]
    return judged(layer, live_party(layer.kind, layer.options, params), ported, weights=weights)


def _judged(inputs: Mapping[str, Any], gradients: bool, seed: int) -> Callable[..., LayerResult]:
    """Judge a layer of the source with a port of it, on given or generated inputs."""

    def judged(layer: SourceLayer, source: Party, ported: Party, *, weights: str) -> LayerResult:
        if gradients and ported.gradients is None:
            raise UnsupportedError(
                "verify gradients",
                expected="layers that can be differentiated",
                got=ported.name,
            )
        given = inputs.get(layer.path)
        if given is None:
            given = example_inputs(layer.kind, layer.options, source.params, seed)
        return judge_layer(
            layer.path,
            source,
            ported,
            truth_of(source, None),
            tuple(given) if isinstance(given, tuple | list) else (given,),
            gradients=gradients,
            seed=seed,
            weights=weights,
        )

    return judged


def _summed_biases(layer: SourceLayer, parts: Mapping[str, Any]) -> dict[str, Array]:
    """The one bias that a stock layer holds for torch's two, whose sum half precision rounds."""
    if layer.kind != "torch.nn.LSTM" or layer.params["weight_ih_l0"].dtype.itemsize > 2:
        return {}
    found: dict[str, Array] = {}
    for name, part in parts.items():
        if f"bias_ih_{name}" in layer.params:
            found[f"bias_ih_{name}"] = np.array(part.bias.astype(mx.float32))
            found[f"bias_hh_{name}"] = np.zeros_like(found[f"bias_ih_{name}"])
    return found


def _failed(path: str, kind: str, reason: str) -> LayerResult:
    return LayerResult(path, kind, "nobody", "none", (), reason=reason)
