"""SHA-256 of the source and of every array, computed beside the reading and the writing."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np

from lstm_bridge.checkpoints.base import Array
from lstm_bridge.checkpoints.source import CHUNK, Source


class Digests:
    """Hashes in two threads: hashlib lets go of the interpreter, so the caller's work goes on.

    Args:
        files: the source's files; their hashing begins at once.
    """

    def __init__(self, files: list[Path]) -> None:
        self._stopped = Event()
        self._threads = ThreadPoolExecutor(2, "digest")
        self._files = self._threads.submit(lambda: {p.name: self._of_file(p) for p in files})
        self._done: dict[str, str] = {}
        self._pending: tuple[str, Future[str]] | None = None

    def settle(self) -> None:
        """Wait for the last array: two of them are never held at once."""
        if self._pending is not None:
            name, digest = self._pending
            self._pending = None
            self._done[name] = digest.result()

    def add(self, name: str, array: Array) -> None:
        """Begin to hash an array, which must not change until ``settle``."""
        self.settle()
        self._pending = name, self._threads.submit(_of_array, array)

    def arrays(self) -> dict[str, str]:
        """Return name → digest of the arrays added so far."""
        self.settle()
        return self._done

    def files(self) -> dict[str, str]:
        """Return file name → digest of the source's files.

        Raises:
            FileSystemError: one of them changed meanwhile.
        """
        return self._files.result()

    def close(self) -> None:
        """Stop hashing what nobody waits for."""
        self._stopped.set()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _of_file(self, path: Path) -> str:
        digest, source = hashlib.sha256(), Source(path)
        buffer = memoryview(bytearray(min(CHUNK, source.size)))
        try:
            for at in range(0, source.size, CHUNK):
                part = buffer[: source.size - at]
                source.read_into(at, part)
                digest.update(part)
                if self._stopped.is_set():
                    break
        finally:
            source.close()
        return digest.hexdigest()


def _of_array(array: Array) -> str:
    return hashlib.sha256(array.reshape(-1).view(np.uint8).data).hexdigest()
