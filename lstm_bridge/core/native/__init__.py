"""The fused CPU kernel, where it was built: whether it serves, and the call.

It is optional. An installation without it, another MLX than it was built for, a GPU stream, or a
case that it has not computes the same numbers with MLX's own operations.

Shape letters: N batch, L length, D input, H hidden, P projection (P = H without one).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

import mlx.core as mx

from lstm_bridge.core.weights import LSTMWeights

Composed = Callable[[list[mx.array], list[bool]], list[mx.array]]

_off = ContextVar("lstm_bridge_native_off", default=False)
_HALF = (mx.float16, mx.bfloat16)


class Status(NamedTuple):
    """Whether the fused kernel serves, and how."""

    serves: bool
    reason: str  # why it does not, or an empty string
    variant: str | None = None  # the instruction set in use
    variants: tuple[str, ...] = ()  # those that this processor has, the fastest first
    threads: int = 0


class _Loaded(NamedTuple):
    module: ModuleType | None
    reason: str


def status() -> Status:
    """Say whether LSTMs on a CPU stream run on the fused kernel, and if not, why."""
    module, reason = _load()
    if module is None:
        return Status(False, reason)
    return Status(
        not _off.get(),
        "turned off in this context" if _off.get() else "",
        module.variant(),
        tuple(module.variants()),
        module.threads(),
    )


@contextmanager
def disabled() -> Iterator[None]:
    """Compute with MLX's own operations within this context."""
    token = _off.set(True)
    try:
        yield
    finally:
        _off.reset(token)


@contextmanager
def using(variant: str) -> Iterator[None]:
    """Run one instruction set's code, for the whole process, within this context.

    Args:
        variant: one of ``status().variants``.

    Raises:
        ValueError: the kernel does not serve, or this processor has no such variant.
    """
    module = _load().module
    if module is None or variant not in module.variants():
        raise ValueError(f"expected one of {list(status().variants)}, got {variant!r}")
    before = module.variant()
    module.choose(variant)
    try:
        yield
    finally:
        module.choose(before)


def lstm(
    weights: LSTMWeights,
    x: mx.array,
    h: mx.array | None,
    c: mx.array | None,
    composed: Composed,
    *,
    reverse: bool,
    mask: mx.array | None,
    zero_masked: bool,
    cells: bool,
) -> list[mx.array] | None:
    """Run one layer in one direction on the fused kernel, or return None where it does not serve.

    Args:
        weights: canonical weights.
        x: inputs, ``[L, N, D]``.
        h: initial hidden state, ``[N, P]``, or None for zeros.
        c: initial cell state, ``[N, H]``, or None for zeros.
        composed: the same of MLX's own operations: from the arrays that are there, in the order x,
            Wx, Wh, bias, Wp, h, c, mask, and eight flags that say which these are, then reverse and
            zero_masked, to y, h, c and cells. Derivatives that the kernel has not go through it.
        reverse: start at the last step.
        mask: boolean, ``[L, N]``, or None.
        zero_masked: masked outputs are zero instead of repeating the output before.
        cells: also return every step's cell state.

    Returns:
        y ``[L, N, P]``, h, c and, if asked for, cells ``[L, N, H]``.
    """
    module = None if _off.get() else _load().module
    if module is None:
        return None
    module.set_composed(composed)
    arrays = [x, weights.Wx, weights.Wh, weights.bias, weights.Wp, h, c]
    half = x.dtype in _HALF
    if half:
        if any(a is not None and a.dtype != x.dtype for a in arrays):
            return None
        arrays = [None if a is None else a.astype(mx.float32) for a in arrays]
    done: list[mx.array] | None = module.lstm(*arrays, mask, reverse, zero_masked, cells)
    if done is None or not half:
        return done
    return [a.astype(x.dtype) for a in done]


@cache
def _load() -> _Loaded:
    if os.environ.get("LSTM_BRIDGE_NATIVE", "1") == "0":
        return _Loaded(None, "turned off by LSTM_BRIDGE_NATIVE=0")
    try:
        module = import_module("lstm_bridge.core.native._fused")
    except ModuleNotFoundError:
        return _Loaded(None, "not built: no C++20 compiler was found at installation")
    except ImportError as error:
        return _Loaded(None, f"not loadable: {error}")
    running = str(mx.__version__)  # type: ignore[attr-defined]  # missing in mlx's stubs
    if module.mlx_version != running:
        return _Loaded(None, f"built for mlx {module.mlx_version}, but mlx {running} is running")
    return _smoke(module)


def _smoke(module: ModuleType) -> _Loaded:
    """Call it once: another build of the same MLX version may lay out its arrays differently."""
    try:
        with mx.stream(mx.cpu):
            y = module.lstm(
                mx.ones((1, 1, 1)),
                mx.zeros((4, 1)),
                mx.zeros((4, 1)),
                mx.full((4,), 40.0),
                *[None] * 4,
                False,
                False,
                False,
            )[0]
            served = y.shape == (1, 1, 1) and abs(y.item() - 0.76159416) < 1e-6  # tanh(1)
    except (TypeError, RuntimeError, ValueError) as error:
        return _Loaded(None, f"does not work with this mlx: {error}")
    return _Loaded(module, "") if served else _Loaded(None, "does not work with this mlx")
