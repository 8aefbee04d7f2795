"""SHA-256 of the source and of every array, computed beside the reading and the writing."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np

from lstm_bridge.checkpoints.base import Array, Filling
from lstm_bridge.checkpoints.source import CHUNK, Source

_BLOCK, _BLOCKS = 2 * CHUNK, 6
"""Size and number of the buffers that arrays pass through: what caches hold."""


class Digests:
    """Hashes in two threads: hashlib lets go of the interpreter, so the caller's work goes on.

    Args:
        files: the source's files; their hashing begins at once.
    """

    def __init__(self, files: list[Path]) -> None:
        self._stopped = Event()
        self._of_files = ThreadPoolExecutor(1, "digest of files")
        self._of_arrays = ThreadPoolExecutor(1, "digest of arrays")
        self._files = self._of_files.submit(lambda: {p.name: self._of_file(p) for p in files})
        self._buffers: list[memoryview] = []
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
        self._pending = name, self._of_arrays.submit(_of_array, array)

    def passing(self, name: str, fill: Filling) -> Iterator[memoryview]:
        """Yield an array's bytes block by block, as ``fill`` fills buffers with them.

        Each block is hashed while the caller does something with it, and the next ones are filled;
        it must not change, and holds other bytes some blocks later.
        """
        self.settle()
        digest = hashlib.sha256()
        if not self._buffers:
            self._buffers = [memoryview(bytearray(_BLOCK)) for _ in range(_BLOCKS)]
        hashed: deque[Future[None]] = deque()

        def free() -> Iterator[memoryview]:
            while True:
                for buffer in self._buffers:
                    if len(hashed) == _BLOCKS:
                        hashed.popleft().result()
                    yield buffer

        for block in fill(free()):
            hashed.append(self._of_arrays.submit(digest.update, block))
            yield block
        self._pending = name, self._of_arrays.submit(digest.hexdigest)

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
        for threads in (self._of_files, self._of_arrays):
            threads.shutdown(wait=True, cancel_futures=True)

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
