"""What a directory is: a converted folder, one sharded checkpoint, or a place with files in it."""

from __future__ import annotations

from pathlib import Path

from lstm_bridge.checkpoints.source import Source
from lstm_bridge.checkpoints.strict_json import MAX_BYTES
from lstm_bridge.errors import BridgeError
from lstm_bridge.models.json_file import read_object
from lstm_bridge.models.schema import FORMAT, MARK

INDEX_ENDINGS = (".safetensors.index.json", ".bin.index.json")
"""How the names of shards' indexes end."""


def is_converted(folder: Path) -> bool:
    """Say whether convert wrote a folder: other tools have a config.json too."""
    return (folder / MARK).is_file() and f'"{FORMAT}"'.encode() in _start_of(folder / MARK)


def index_in(folder: Path) -> Path | None:
    """Return the index of a folder that is one sharded checkpoint; None of any other path."""
    found = [p for end in INDEX_ENDINGS for p in folder.glob(f"*{end}")] if folder.is_dir() else []
    return found[0] if len(found) == 1 else None


def shards_of(index: Path) -> set[str]:
    """Return the shards that an index lists; none of any other file, or of a damaged index."""
    if not index.name.endswith(INDEX_ENDINGS):
        return set()
    try:
        listed = read_object(index).get("weight_map")
    except BridgeError:
        return set()
    shards = listed.values() if isinstance(listed, dict) else ()
    return {shard for shard in shards if isinstance(shard, str)}


def _start_of(path: Path) -> bytes:
    source = Source(path)
    try:
        return source.read(0, MAX_BYTES)
    finally:
        source.close()
