"""Judge a converted folder against the checkpoint it came from, layer by layer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.utils
import numpy as np
from numpy.typing import NDArray

from lstm_bridge.equivalence.compare import judge_layer
from lstm_bridge.equivalence.kinds import example_inputs
from lstm_bridge.equivalence.oracle import ORACLES
from lstm_bridge.equivalence.parties import Party, party_of
from lstm_bridge.equivalence.parties.find import kind_of
from lstm_bridge.equivalence.report import LayerResult, Report
from lstm_bridge.equivalence.stock import Stock, strands
from lstm_bridge.equivalence.truth import stand_in, truth_of
from lstm_bridge.errors import UnsupportedError, UsageError
from lstm_bridge.models.folder import load
from lstm_bridge.models.schema import read_config
from lstm_bridge.models.source import Choices, Pathish, SourceLayer, read_layers

Array = NDArray[Any]


def verify(
    source: Pathish,
    converted: Pathish,
    *,
    inputs: Mapping[str, Any] | None = None,
    gradients: bool = False,
    assume: Mapping[str, Any] | None = None,
    ignore: tuple[str, ...] = (),
    prefix: str | None = None,
    config: Pathish | None = None,
    seed: int = 0,
) -> Report:
    """Judge a converted model: weights bit for bit, then every layer by the three-party rule.

    The source speaks for itself where its framework is installed; where it is not, the oracle run
    in float32 stands in for it, and the report says so. Half-precision layers are run in float32.

    Args:
        source: the checkpoint that was converted.
        converted: the folder that ``lstm_bridge.convert`` wrote.
        inputs: layer path → call arguments as a tuple. Default: seeded example inputs.
        gradients: compare gradients too; not for ``--layout mlx``. Default: False.
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
    layers = read_layers(source, choices)
    folder = Path(converted)
    module = load(folder)
    written = read_config(folder)
    stock = written.get("layout") == "mlx"
    unknown = sorted(set(inputs or {}) - {layer.path for layer in layers})
    if unknown:
        paths = ", ".join(repr(layer.path) for layer in layers)
        raise UsageError("verify inputs", expected=f"a path of {paths}", got=repr(unknown[0]))
    found = {entry["path"]: _descend(module, entry["path"]) for entry in written["layers"]}
    results = [
        _judge(layer, found, stock, (inputs or {}).get(layer.path), gradients, seed)
        for layer in layers
    ]
    covered = {path for layer in layers for path in _paths(layer, stock)}
    results += [
        _failed(path, type(found[path]).__name__, "no such layer in the source")
        for path in sorted(set(found) - covered)
    ]
    return Report(str(converted), tuple(results))


def _descend(module: Any, path: str) -> Any:
    for part in path.split(".") if path else ():
        module = module[part]
    return module


def _paths(layer: SourceLayer, stock: bool) -> dict[str, str]:
    """Where a layer's parts stand in the folder: path → strand name ("" for the layer itself)."""
    if not stock:
        return {layer.path: ""}
    names = list(strands(layer.kind, _decoded(layer.params)))
    if len(names) == 1:
        return {layer.path: names[0]}
    return {f"{layer.path}.{name}".lstrip("."): name for name in names}


def _judge(
    layer: SourceLayer,
    found: Mapping[str, Any],
    stock: bool,
    inputs: Any,
    gradients: bool,
    seed: int,
) -> LayerResult:
    paths = _paths(layer, stock)
    missing = [path for path in paths if path not in found]
    if missing:
        return _failed(layer.path, layer.kind, f"{missing[0] or '(root)'} is not in the folder")
    if layer.kind not in ORACLES:
        return _failed(layer.path, layer.kind, "no oracle computes this class")
    if not stock and (kind := kind_of(found[layer.path])) != layer.kind:
        return _failed(
            layer.path, layer.kind, f"the folder holds a {kind or 'layer without oracle'}"
        )
    wanted = strands(layer.kind, _decoded(layer.params)) if stock else {"": layer.params}
    weights = next(
        (w for path, name in paths.items() if (w := _difference(found[path], wanted[name]))), ""
    )
    # From here all parties use the same numbers: what the cast lost is judged above, bit by bit.
    params = {name: v.astype(np.float32) for name, v in _decoded(layer.params).items()}
    if stock:
        params |= _summed_biases(layer, {name: found[path] for path, name in paths.items()})
    for path in paths:
        found[path].set_dtype(mx.float32)
    parts = {name: party_of(found[path], "converted") for path, name in paths.items()}
    ported = Stock(layer.kind, layer.options, parts).party() if stock else parts[""]
    given = inputs
    if given is None:
        given = example_inputs(layer.kind, layer.options, params, seed)
    party = _source_party(layer.kind, layer.options, params)
    if stock and gradients:
        raise UnsupportedError(
            "verify gradients", expected="a folder in the source's layout", got="layout mlx"
        )
    return judge_layer(
        layer.path,
        party,
        ported,
        truth_of(party, None),
        tuple(given) if isinstance(given, tuple | list) else (given,),
        gradients=gradients,
        seed=seed,
        weights=weights,
    )


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


def _source_party(kind: str, options: Mapping[str, Any], params: Mapping[str, Array]) -> Party:
    """The live framework where it is installed; the float32 oracle where it is not."""
    package = kind.partition(".")[0]
    if package == "mlx":
        import mlx.nn

        layer = mlx.nn.LSTM(**options)
        layer.load_weights([(name, mx.array(value)) for name, value in params.items()])
        return _known_as(party_of(layer, "source"), kind, options, params)
    if find_spec(package) is None or (package == "pytorch_forecasting" and not find_spec("torch")):
        why = f"{package.replace('_', '-')} not installed"
        return stand_in(kind, options, params, why)
    if package == "keras":
        return _keras_party(kind, options, params)
    from lstm_bridge.equivalence.parties.torch import build_torch

    return _known_as(party_of(build_torch(kind, options, params), "source"), kind, options, params)


def _keras_party(kind: str, options: Mapping[str, Any], params: Mapping[str, Array]) -> Party:
    backends = [name for name in ("tensorflow", "torch", "jax") if find_spec(name)]
    if not backends:
        return stand_in(kind, options, params, "keras has no backend installed")
    # Keras falls back on TensorFlow, installed or not, and reads this once, when imported.
    if "tensorflow" not in backends:
        os.environ.setdefault("KERAS_BACKEND", backends[0])
    from lstm_bridge.equivalence.parties.keras import build_keras

    return build_keras(kind, options, params)


def _known_as(
    party: Party, kind: str, options: Mapping[str, Any], params: Mapping[str, Array]
) -> Party:
    """A party under the options that the file gives, which say more than the live object does."""
    return Party(party.name, party.call, kind, options, params, party.gradients)


def _difference(module: Any, wanted: Mapping[str, Array]) -> str:
    """One line of how a module's parameters differ from the source's bits; "" if they do not."""
    held = dict(mlx.utils.tree_flatten(module.parameters()))
    odd = sorted(set(held) ^ set(wanted))
    if odd:
        side = "missing from" if odd[0] in wanted else "only in"
        return f"weights: {odd[0]} is {side} the folder"
    for name, value in wanted.items():
        ours, theirs = _bits(held[name]), _source_bits(value, held[name].dtype)
        if ours.shape != theirs.shape:
            return f"weights: {name} has shape {list(ours.shape)}, not {list(theirs.shape)}"
        if ours.dtype != theirs.dtype:
            return f"weights: {name} is of another dtype than the source's"
        if (ours != theirs).any():
            at = [int(k) for k in np.argwhere(ours != theirs)[0]]
            return f"weights: {name} differs in {int((ours != theirs).sum())} places, first {at}"
    return ""


_UNSIGNED = {2: np.uint16, 4: np.uint32, 8: np.uint64}


def _bits(array: mx.array) -> Array:
    if array.dtype == mx.bfloat16:
        return np.array(array.view(mx.uint16))
    made = np.array(array)
    return made.view(_UNSIGNED[made.dtype.itemsize])


def _source_bits(value: Array, dtype: mx.Dtype) -> Array:
    """The source's bits; float64 rounded once to float32 where the folder holds that."""
    if value.dtype == np.float64 and dtype == mx.float32:
        value = value.astype(np.float32)
    if value.dtype == np.float32 and dtype == mx.bfloat16:  # a sum of two bfloat16 biases
        return _bits(mx.array(value).astype(mx.bfloat16))
    value = np.ascontiguousarray(value)
    return value.view(_UNSIGNED[value.dtype.itemsize])


def _decoded(params: Mapping[str, Array]) -> dict[str, Array]:
    """Parameters as floats: bfloat16 arrives as its bits."""
    return {
        name: (v.astype(np.uint32) << 16).view(np.float32) if v.dtype == np.uint16 else v
        for name, v in params.items()
    }
