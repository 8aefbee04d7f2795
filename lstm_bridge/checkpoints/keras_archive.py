"""The ``.keras`` archive of Keras 3 (and 2.13 or later): config, version and weights in a zip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from lstm_bridge.checkpoints.hdf5 import Hdf5File
from lstm_bridge.checkpoints.keras_hdf5 import KerasHdf5, parse_config, vars_metadata, vars_names
from lstm_bridge.checkpoints.probe import Probe
from lstm_bridge.checkpoints.strict_json import MAX_BYTES
from lstm_bridge.checkpoints.zip_archive import ZipArchive

_WEIGHTS = "model.weights.h5"
_PARTS = {"metadata.json", "config.json", _WEIGHTS}


@dataclass(slots=True)
class KerasArchive(KerasHdf5):
    """One ``.keras`` file."""

    format: ClassVar[str] = "keras archive"
    extensions: ClassVar[tuple[str, ...]] = (".keras",)

    @classmethod
    def recognises(cls, probe: Probe) -> bool:
        """Say whether the zip holds a Keras config and its version."""
        return {"metadata.json", "config.json"} <= set(probe.members)

    @classmethod
    def of(cls, probe: Probe) -> Self:
        """Open the archive: parse config and version, list the weights, read no array."""
        archive = probe.archive
        if archive is None:
            raise TypeError("not a zip")
        if _WEIGHTS not in archive.members:
            found = [name for name in archive.members if name.startswith("model.weights")]
            raise archive.place.container(
                f"weights in {_WEIGHTS}",
                found[0] if found else "no weights",
                "save the model again with Keras's default settings",
            )
        metadata = {
            "keras_version": _version(archive),
            "backend": None,
            "config": _json(archive, "config.json"),
        }
        size = archive.members[_WEIGHTS].size
        file = Hdf5File(archive.open(_WEIGHTS), size, archive.place.inside(_WEIGHTS))
        try:
            metadata |= vars_metadata(file)
            opened = cls(probe.source.path, file=file, source=probe.source)
            opened.take(vars_names(metadata), metadata)
        except BaseException:
            file.close()
            raise
        assets = [name for name in archive.members if name not in _PARTS]
        opened.left_out = {**opened.left_out, **dict.fromkeys(assets, "an asset, not a weight")}
        return opened


def _json(archive: ZipArchive, name: str) -> Any:
    return parse_config(archive.read(name, MAX_BYTES), archive.place.inside(name))


def _version(archive: ZipArchive) -> str:
    found = _json(archive, "metadata.json")
    version = found.get("keras_version") if isinstance(found, dict) else None
    if type(version) is not str:
        place = archive.place.inside("metadata.json")
        raise place.config("a keras_version", "none")
    return version
