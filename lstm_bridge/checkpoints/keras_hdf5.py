"""Keras's HDF5 files: models and weights of Keras 1 to 3, and Keras 3's ``.weights.h5``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from lstm_bridge.checkpoints.hdf5 import Hdf5File
from lstm_bridge.checkpoints.hdf5_arrays import Hdf5Arrays
from lstm_bridge.checkpoints.place import Place
from lstm_bridge.checkpoints.probe import Probe
from lstm_bridge.checkpoints.strict_json import JsonError, parse
from lstm_bridge.errors import quote

_MODEL = "model_weights"
_TOP_LEVEL = "top_level_model_weights"
_TRAINING = {
    "optimizer_weights": "optimizer state, not weights",
    "optimizer": "optimizer state, not weights",
    "metrics": "metrics of the training, not weights",
}
_NUMBER = re.compile(r"(\d+)")


@dataclass(slots=True)
class KerasHdf5(Hdf5Arrays):
    """Named arrays of a Keras file; tensor names are dataset paths."""

    framework: ClassVar[str] = "keras"
    extensions: ClassVar[tuple[str, ...]] = (".h5", ".hdf5", ".hdf")

    def take(self, names: list[str], metadata: dict[str, Any]) -> Self:
        """Make ``names``, then all other weights, the tensors; leave a training's state out."""
        layers = {path.partition("/")[0] for path in names}
        state = {group: why for group, why in _TRAINING.items() if group not in layers}
        rest = sorted(set(self.file.datasets) - set(names), key=natural)
        kept = [*names, *(path for path in rest if path.partition("/")[0] not in state)]
        self.tensors = {path: self.file.datasets[path].info for path in kept}
        self.left_out = {group: why for group, why in state.items() if group in self.file.groups}
        self.metadata = metadata
        return self


@dataclass(slots=True)
class KerasLegacyH5(KerasHdf5):
    """A model or its weights as Keras 1 to 3 and tf.keras write them to ``.h5`` or ``.hdf5``."""

    format: ClassVar[str] = "keras legacy h5"

    @classmethod
    def recognises(cls, probe: Probe) -> bool:
        """Say whether the file lists layers as the legacy format does."""
        file = probe.hdf5
        return file is not None and _prefix(file) is not None

    @classmethod
    def of(cls, probe: Probe) -> Self:
        """Open the file: read its lists of names and the config, read no array."""
        file, place = probe.hdf5, probe.source.place
        if file is None or (prefix := _prefix(file)) is None:
            raise TypeError("not a legacy Keras file")
        layers = file.texts(prefix, "layer_names") or []
        if _join(prefix, _TOP_LEVEL) in file.groups and _TOP_LEVEL not in layers:
            layers.append(_TOP_LEVEL)
        weights = {layer: _weights(file, prefix, layer, place) for layer in layers}
        version = file.text("", "keras_version") or file.text(prefix, "keras_version")
        metadata: dict[str, Any] = {
            "keras_version": version or "1",
            "backend": file.text("", "backend") or file.text(prefix, "backend"),
            "layout": "legacy",
            "layer_names": layers,
            "weight_names": weights,
        }
        if (config := file.text("", "model_config")) is not None:
            metadata["config"] = parse_config(config.encode(), place.inside("model_config"))
        names = list(dict.fromkeys(path for paths in weights.values() for path in paths))
        opened = cls(probe.source.path, file=file, source=probe.source)
        return opened.take(names, metadata)


@dataclass(slots=True)
class KerasWeightsH5(KerasHdf5):
    """Weights as Keras 3 (and 2.13 or later) writes them: ``layers/lstm/cell/vars/0``."""

    format: ClassVar[str] = "keras weights h5"

    @classmethod
    def recognises(cls, probe: Probe) -> bool:
        """Say whether the file holds variables by number, in groups named vars."""
        return probe.hdf5 is not None and has_vars(probe.hdf5)

    @classmethod
    def of(cls, probe: Probe) -> Self:
        """Open the file: read its lists of names, read no array."""
        if probe.hdf5 is None:
            raise TypeError("not an HDF5 file")
        metadata = {"keras_version": None, "backend": None, **vars_metadata(probe.hdf5)}
        opened = cls(probe.source.path, file=probe.hdf5, source=probe.source)
        return opened.take(vars_names(metadata), metadata)


def has_vars(file: Hdf5File) -> bool:
    """Say whether the file has Keras 3's groups of numbered variables."""
    return any(path.rpartition("/")[2] == "vars" for path in file.groups)


def vars_metadata(file: Hdf5File) -> dict[str, Any]:
    """Return the layer and weight names of a file of numbered variables.

    A layer is the group that owns a ``vars`` group; ``names`` has what Keras called it.
    """
    weights: dict[str, list[str]] = {}
    for path in sorted(file.datasets, key=natural):
        owner, marker, _ = path.rpartition("/vars/")
        if not marker and path.startswith("vars/"):
            owner, marker = "", "vars/"
        if marker and path.partition("/")[0] not in _TRAINING:
            weights.setdefault(owner, []).append(path)
    names = {}
    for group in file.groups:
        owner, _, last = group.rpartition("/")
        if last == "vars" and (name := file.text(group, "name")) is not None:
            names[owner] = name
    return {
        "layout": "vars",
        "layer_names": list(weights),
        "weight_names": weights,
        "names": names,
    }


def vars_names(metadata: dict[str, Any]) -> list[str]:
    """Return the dataset paths of ``vars_metadata``, in order."""
    return [path for paths in metadata["weight_names"].values() for path in paths]


def natural(path: str) -> tuple[tuple[int, str], ...]:
    """Return a sort key that puts lstm_2 before lstm_10."""
    parts = _NUMBER.split(path)
    return tuple((int(p[:18]), p) if i % 2 else (-1, p) for i, p in enumerate(parts))


def parse_config(raw: bytes, place: Place) -> Any:
    """Return a model config's JSON.

    Raises:
        ConfigError: if it is no strict JSON object or list.
    """
    try:
        config = parse(raw)
    except JsonError as error:
        raise place.config(error.expected, error.got) from None
    if not isinstance(config, dict | list):
        raise place.config("a JSON object", quote(config))
    return config


def _prefix(file: Hdf5File) -> str | None:
    """Return the group that lists the layers: the root, or that of a whole model."""
    for path in (_MODEL, ""):
        if path in file.groups and file.texts(path, "layer_names") is not None:
            return path
    return None


def _weights(file: Hdf5File, prefix: str, layer: str, place: Place) -> list[str]:
    """Return the dataset paths of a layer's weights, in the layer's own order."""
    group = _join(prefix, layer)
    if group not in file.groups:
        raise place.container("a group for each layer in layer_names", f"none for {quote(layer)}")
    names = file.texts(group, "weight_names") or []
    paths = [_join(group, name) for name in names]
    for path in paths:
        if path not in file.datasets:
            got = f"none at {quote(path)}"
            raise place.container("a dataset for each name in weight_names", got)
    return paths


def _join(group: str, name: str) -> str:
    return f"{group}/{name}" if group else name
