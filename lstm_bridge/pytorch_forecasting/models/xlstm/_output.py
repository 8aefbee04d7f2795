"""What pytorch-forecasting's models return: a named tuple that answers like a dict too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import mlx.core as mx


class _Fields(NamedTuple):
    prediction: mx.array


class Output(_Fields):
    """A network's output: ``out.prediction``, ``out["prediction"]``, ``out[0]``.

    Source: pytorch_forecasting.utils.OutputMixIn 1.8.0.
    """

    __slots__ = ()

    def __getitem__(self, k: Any) -> Any:
        """Return a field by name, position or slice."""
        return getattr(self, k) if isinstance(k, str) else super().__getitem__(k)

    def get(self, k: str, default: Any = None) -> Any:
        """Return the field named k, or the default."""
        return getattr(self, k, default)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Return pairs of name and value."""
        return zip(self._fields, self, strict=True)

    def keys(self) -> tuple[str, ...]:
        """Return the names."""
        return self._fields

    def iget(self, idx: int | slice) -> Output:
        """Return the output of the selected rows of the batch."""
        return Output(*(x[idx] for x in self))
