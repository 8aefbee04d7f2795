"""Sharded safetensors: an index and, beside it, shards that must hold exactly what it lists."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from lstm_bridge.checkpoints.base import Array, Checkpoint, TensorInfo
from lstm_bridge.checkpoints.place import Place
from lstm_bridge.checkpoints.probe import Probe
from lstm_bridge.checkpoints.safetensors_file import SafetensorsFile
from lstm_bridge.checkpoints.source import Source
from lstm_bridge.checkpoints.strict_json import MAX_BYTES, JsonError, parse
from lstm_bridge.errors import quote

_SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\.safetensors")
_NUMBERED = re.compile(r"(.+)-\d+-of-(\d+)\.safetensors")
_MAX_SHARDS = 10_000


@dataclass(slots=True)
class SafetensorsIndex(Checkpoint):
    """A ``model.safetensors.index.json`` and the shards it names; one shard is open at a time."""

    format: ClassVar[str] = "safetensors index"
    framework: ClassVar[str] = ""
    extensions: ClassVar[tuple[str, ...]] = (".json",)

    shards: dict[str, str] = field(default_factory=dict)
    current: tuple[str, SafetensorsFile] | None = None

    @classmethod
    def recognises(cls, probe: Probe) -> bool:
        """Say whether the file is JSON with a weight map."""
        if not probe.head.lstrip().startswith(b"{"):
            return False
        return b'"weight_map"' in probe.source.read(0, MAX_BYTES)

    @classmethod
    def of(cls, probe: Probe) -> Self:
        """Open the index: check it against every shard's header, read no tensor."""
        source = probe.source
        shards, metadata = _index(source)
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

    def _shard(self, shard: str) -> SafetensorsFile:
        """Return the open shard; the one before it is closed."""
        if self.current is None or self.current[0] != shard:
            self.close()
            source = Source(self.path.parent / shard)
            try:
                self.current = (shard, SafetensorsFile.of(Probe(source)))
            except BaseException:
                source.close()
                raise
        return self.current[1]

    def read(self, name: str) -> Array:
        """Return one tensor from its shard."""
        held = self._shard(self.shards[name])
        if held.tensors.get(name) != self.tensors[name]:
            place = Place(held.path)
            raise place.tensor(name, "the shard as it was when opened", "another", "try again")
        return held.read(name)

    def close(self) -> None:
        """Release the shard that is open."""
        if self.current is not None:
            self.current[1].close()
            self.current = None


def _index(source: Source) -> tuple[dict[str, str], dict[str, Any]]:
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
        if type(shard) is not str or not _SHARD.fullmatch(shard):
            got = quote(shard)
            raise place.header("a .safetensors file name beside the index", got, tensor=name)
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
