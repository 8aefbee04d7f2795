"""JSON files that strangers wrote, read bounded and strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lstm_bridge.checkpoints.source import Source
from lstm_bridge.checkpoints.strict_json import MAX_BYTES, JsonError, parse
from lstm_bridge.errors import ConfigError


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        ConfigError: it holds no JSON object, or one beyond the bounds.
        FileSystemError: it cannot be read.
    """
    source = Source(path)
    try:
        value = parse(source.read(0, MAX_BYTES + 1))
    except JsonError as error:
        raise ConfigError(
            path, expected=error.expected, got=error.got, fix="the file is damaged"
        ) from error
    finally:
        source.close()
    if not isinstance(value, dict):
        raise ConfigError(
            path, expected="a JSON object", got=type(value).__name__, fix="check the path"
        )
    return value
