"""The torch file that a whole model came from: a recorded module that runs, or weights alone."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from mlx.utils import tree_flatten
from numpy.typing import NDArray

from lstm_bridge.checkpoints import open_checkpoint
from lstm_bridge.equivalence.bits import decoded
from lstm_bridge.equivalence.inputs import InputSpec
from lstm_bridge.equivalence.kinds import example_inputs
from lstm_bridge.equivalence.live import missing_framework
from lstm_bridge.equivalence.oracle.torch_model import TorchOracle
from lstm_bridge.equivalence.parties import party_of
from lstm_bridge.equivalence.parties.mlx import to_numpy
from lstm_bridge.equivalence.truth import whole_stand_in
from lstm_bridge.equivalence.whole.source import WholeModel
from lstm_bridge.errors import BridgeError, UsageError

Array = NDArray[Any]


def whole_torch(file: Path, model: Any) -> WholeModel:
    """Return the torch model that a file holds.

    A recorded module (``torch.jit.trace``) runs itself. A state dict has no forward: then NumPy
    walks the port's graph with the file's weights, and the report says so.

    Args:
        file: the source.
        model: the port, a TorchModel.

    Raises:
        RefusedInput: the file cannot be read.
        UsageError: it holds other weights than the model's.
    """
    held = dict(tree_flatten(model.parameters()))
    described = model.describe()
    constants = set(described["options"].get("constants", ()))
    arrays = _read(file, [name for name in held if name not in constants])
    own = {name: to_numpy(a) for name, a in held.items() if name in constants}
    floats = {n: _single(v) for n, v in decoded(arrays).items()}
    oracle = TorchOracle(described, own | floats)
    specs = _specs(oracle)
    if _is_recorded(file) and not missing_framework("torch"):
        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch announces the end of its recorded files
            live = party_of(torch.jit.load(str(file), map_location="cpu"), "source")
        party = replace(live, whole=lambda: oracle, specs=specs, trace=None, part=None)
    else:
        why = missing_framework("torch") or "a state dict has no forward"
        party = whole_stand_in(oracle, f"{why}: the graph is the port's own", specs)
    bits = arrays | {name: np.array(held[name]) for name in own}
    return WholeModel(party, bits, oracle.inputs)


def _single(value: Array) -> Array:
    return value.astype(np.float32) if np.issubdtype(value.dtype, np.floating) else value


def _is_recorded(file: Path) -> bool:
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any("/code/" in name for name in archive.namelist())


def _read(file: Path, names: Iterable[str]) -> dict[str, Array]:
    """The file's arrays of these names, which may all stand behind one prefix."""
    wanted = list(names)
    with open_checkpoint(file) as checkpoint:
        found = checkpoint.tensors
        first = wanted[0] if wanted else ""
        prefixes = [n.removesuffix(first) for n in found if n.endswith(first)]
        fits = [p for p in prefixes if all(p + name in found for name in wanted)]
        if not fits:
            missing = next((n for n in wanted if n not in found), first)
            raise UsageError(
                f"verify {file.name}",
                expected=f"weights of the model, as {missing!r}",
                got=", ".join(list(found)[:5]) or "none",
            )
        return {name: np.asarray(checkpoint.read(fits[0] + name)) for name in wanted}


def _specs(oracle: TorchOracle) -> tuple[InputSpec, ...] | None:
    """Inputs of the kind that the layers which read them take; None where no layer says."""
    specs = []
    for node in oracle.nodes:
        if node["op"] == "input" and not node.get("args"):
            found = _first_reader(oracle, str(node["name"]))
            if found is None:
                return None
            specs.append(found)
    return tuple(specs)


def _first_reader(oracle: TorchOracle, name: str) -> InputSpec | None:
    for node in oracle.nodes:
        if node["op"] == "module" and node.get("args", [])[:1] == [{"node": name}]:
            return _like(*oracle.part(str(node["target"])))
    return None


def _like(kind: str, options: Mapping[str, Any], params: Mapping[str, Array]) -> InputSpec | None:
    try:
        x = example_inputs(kind, options, params)[0]
    except BridgeError:
        return None
    if np.issubdtype(x.dtype, np.integer):
        return InputSpec(x.shape, 0, len(next(iter(params.values()))), "int32")
    return InputSpec(x.shape)
