"""What every container format gives: named arrays, read one at a time, and plain metadata."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from numpy.typing import NDArray

Array = NDArray[Any]

Filling = Callable[[Iterator[memoryview]], Iterator[memoryview]]
"""Fills writable buffers one after the other, and yields the part of each that it has filled."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """What a header says of one tensor.

    Args:
        shape: its dimensions.
        dtype: its safetensors code (``"F32"``, ``"BF16"`` …; see ``dtypes.py``).
        stored_as: name of the storage or dataset that holds the bytes; two tensors with the same
            value share memory in the source (tied weights).
    """

    shape: tuple[int, ...]
    dtype: str
    stored_as: str = ""


@dataclass(slots=True)
class Checkpoint(ABC):
    """An open checkpoint file. Use as a context manager; arrays are read when asked for.

    Attributes:
        path: the file, as the caller named it.
        tensors: name → header facts, in the file's order.
        metadata: plain data beside the tensors: versions, model configs, orderings.
        left_out: name → reason, for what the file holds besides tensors (optimizer state,
            hyper-parameters, objects kept as inert placeholders).
    """

    format: ClassVar[str]
    framework: ClassVar[str]

    path: Path
    tensors: Mapping[str, TensorInfo] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

    @abstractmethod
    def read(self, name: str) -> Array:
        """Return one tensor: C-contiguous, native byte order, bfloat16 as its uint16 bits."""

    def blocks(self, name: str) -> Filling | None:
        """Return what reads one tensor block by block, as ``read`` has its bytes.

        None where its bytes do not lie in the file as they are wanted. What is wrong with the whole
        of them is said after the last block.
        """
        return None

    def close(self) -> None:  # noqa: B027  (formats that hold no handle have nothing to close)
        """Release the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
