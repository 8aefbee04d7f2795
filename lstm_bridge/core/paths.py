"""Which way the time loop runs: with everything that is fast, or with plain MLX operations only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_portable = ContextVar("lstm_bridge_portable", default=False)


@contextmanager
def portable() -> Iterator[None]:
    """Build graphs of MLX's own operations alone, as ``mx.export_function`` needs them.

    The hand-written gradient is a custom transform, which MLX 0.32 cannot serialize. Within this
    context LSTMs compute the same numbers without it, and autodiff takes the gradient.
    """
    token = _portable.set(True)
    try:
        yield
    finally:
        _portable.reset(token)


def is_portable() -> bool:
    """Say whether ``portable`` is in force."""
    return _portable.get()
