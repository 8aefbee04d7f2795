"""HDF5 files that nobody's framework wrote: arrays under any names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Self

from lstm_bridge.checkpoints.base import Array, Checkpoint
from lstm_bridge.checkpoints.hdf5 import Hdf5File
from lstm_bridge.checkpoints.probe import Probe
from lstm_bridge.checkpoints.source import Source


@dataclass(slots=True)
class Hdf5Arrays(Checkpoint):
    """An HDF5 file of plain arrays; tensor names are dataset paths."""

    format: ClassVar[str] = "hdf5"
    framework: ClassVar[str] = ""
    extensions: ClassVar[tuple[str, ...]] = (".h5", ".hdf5", ".hdf", ".he5")

    file: Hdf5File = field(kw_only=True)
    source: Source = field(kw_only=True)

    @classmethod
    def recognises(cls, probe: Probe) -> bool:
        """Say whether the file is HDF5."""
        return probe.hdf5 is not None

    @classmethod
    def of(cls, probe: Probe) -> Self:
        """Open the file; nothing in it is read yet."""
        if probe.hdf5 is None:
            raise TypeError("not an HDF5 file")
        tensors = {path: dataset.info for path, dataset in probe.hdf5.datasets.items()}
        return cls(probe.source.path, tensors, file=probe.hdf5, source=probe.source)

    def read(self, name: str) -> Array:
        """Return one tensor: C-contiguous, native byte order, bfloat16 as its uint16 bits."""
        return self.file.read(name)

    def close(self) -> None:
        """Release the file."""
        self.file.close()
        self.source.close()
