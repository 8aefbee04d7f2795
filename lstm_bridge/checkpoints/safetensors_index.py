"""Sharded checkpoints: an index and, beside it, shards that must hold exactly what it lists."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from lstm_bridge.checkpoints.base import Array, Checkpoint, Filling, TensorInfo
from lstm_bridge.checkpoints.place import Place
from lstm_bridge.checkpoints.probe import Probe
from lstm_bridge.checkpoints.safetensors_file import SafetensorsFile
from lstm_bridge.checkpoints.source import Source
from lstm_bridge.checkpoints.strict_json import MAX_BYTES, JsonError, parse
from lstm_bridge.checkpoints.torch_legacy import TorchLegacy
from lstm_bridge.checkpoints.torch_zip import TorchZip
from lstm_bridge.errors import quote

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_NUMBERED = re.compile(r"(.+)-\d+-of-(\d+)\.[a-z]+")
_MAX_SHARDS = 10_000


@dataclass(slots=True)
class SafetensorsIndex(Checkpoint):
    """A ``model.safetensors.index.json`` and the shards it names; one shard is open at a time."""

    format: ClassVar[str] = "safetensors index"
    framework: ClassVar[str] = ""
    extensions: ClassVar[tuple[str, ...]] = (".json",)
    endings: ClassVar[tuple[str, ...]] = (".safetensors",)

    shards: dict[str, str] = field(default_factory=dict)
    current: tuple[str, Checkpoint] | None = None

    @classmethod
    def recognises(cls, probe: Probe) -> bool:
        """Say whether the file is JSON with a weight map."""
        return _weight_map(probe) is not None

    @classmethod
    def of(cls, probe: Probe) -> Self:
        """Open the index: check it against every shard's header, read no tensor."""
        source = probe.source
        shards, metadata = _index(source, cls.endings)
        source.close()
        file = cls(source.path, shards=shards)
        facts: dict[str, TensorInfo] = {}
        try:
            for shard in dict.fromkeys(shards.values()):
                facts |= file._check_shard(shard, source.place)
        except BaseException:
            file.close()
            raise
        file.tensors = {name: facts[name] for name in shards}
        file.metadata = {**metadata, "shards": list(dict.fromkeys(shards.values()))}
        return file

    def _check_shard(self, shard: str, place: Place) -> dict[str, TensorInfo]:
        held = self._shard(shard)
        listed = {name for name, where in self.shards.items() if where == shard}
        for name in sorted(listed ^ set(held.tensors)):
            has = ("the index", "the shard") if name in listed else ("the shard", "the index")
            raise place.inside(shard).header(
                "an index and a shard that agree", f"it only in {has[0]}, not {has[1]}", tensor=name
            )
        return dict(held.tensors)

    @staticmethod
    def open_shard(probe: Probe) -> Checkpoint:
        """Open one shard."""
        return SafetensorsFile.of(probe)

    def _shard(self, shard: str) -> Checkpoint:
        """Return the open shard; the one before it is closed."""
        if self.current is None or self.current[0] != shard:
            self.close()
            source = Source(self.path.parent / shard)
            try:
                self.current = (shard, self.open_shard(Probe(source)))
            except BaseException:
                source.close()
                raise
        return self.current[1]

    def read(self, name: str) -> Array:
        """Return one tensor from its shard."""
        return self._holding(name).read(name)

    def blocks(self, name: str) -> Filling | None:
        """Return what reads one tensor block by block from its shard."""
        return self._holding(name).blocks(name)

    def _holding(self, name: str) -> Checkpoint:
        held = self._shard(self.shards[name])
        if held.tensors.get(name) != self.tensors[name]:
            place = Place(held.path)
            raise place.tensor(name, "the shard as it was when opened", "another", "try again")
        return held

    def close(self) -> None:
        """Release the shard that is open."""
        if self.current is not None:
            self.current[1].close()
            self.current = None


@dataclass(slots=True)
class TorchIndex(SafetensorsIndex):
    """A ``pytorch_model.bin.index.json`` and the shards it names, each a file of ``torch.save``."""

    format: ClassVar[str] = "torch index"
    framework: ClassVar[str] = "torch"
    endings: ClassVar[tuple[str, ...]] = (".bin", ".pt", ".pth")

    @classmethod
    def recognises(cls, probe: Probe) -> bool:
        """Say whether the file is JSON with a weight map of torch's files."""
        text = _weight_map(probe)
        if text is None or b'.safetensors"' in text:
            return False
        return any(f'{ending}"'.encode() in text for ending in cls.endings)

    @staticmethod
    def open_shard(probe: Probe) -> Checkpoint:
        """Open one shard, in whichever of torch's containers it is."""
        if TorchZip.recognises(probe):
            return TorchZip.of(probe)
        if TorchLegacy.recognises(probe):
            return TorchLegacy.of(probe)
        raise probe.source.place.container("a shard that torch.save wrote", "another file")


def _weight_map(probe: Probe) -> bytes | None:
    """Return the file, if it is JSON with a weight map."""
    if not probe.head.lstrip().startswith(b"{"):
        return None
    text = probe.source.read(0, MAX_BYTES)
    return text if b'"weight_map"' in text else None


def _index(source: Source, endings: tuple[str, ...]) -> tuple[dict[str, str], dict[str, Any]]:
    """Return tensor → shard, and the index's own metadata."""
    place = source.place
    try:
        found = parse(source.read(0, MAX_BYTES + 1))
    except JsonError as error:
        raise place.header(error.expected, error.got) from None
    shards, metadata = found.get("weight_map"), found.get("metadata", {})
    if not isinstance(shards, dict) or not isinstance(metadata, dict):
        raise place.header("a weight_map and metadata of names", "other values")
    for name, shard in shards.items():
        fits = type(shard) is str and _NAME.fullmatch(shard) and shard.endswith(endings)
        if not fits:
            expected = f"a {' or '.join(endings)} file name beside the index"
            raise place.header(expected, quote(shard), tensor=name)
    names = set(shards.values())
    if len(names) > _MAX_SHARDS:
        raise place.header(f"at most {_MAX_SHARDS} shards", str(len(names)))
    _check_complete(names, place)
    return shards, metadata


def _check_complete(names: set[str], place: Place) -> None:
    """Refuse an index that leaves out some of the shards its numbered names promise."""
    for name in sorted(names):
        match = _NUMBERED.fullmatch(name)
        if match is None:
            continue
        total = int(match[2])
        here = [other for other in names if other.startswith(match[1] + "-")]
        if len(here) != total:
            raise place.header(f"{total} shards like {quote(name)}", f"{len(here)} in the index")
