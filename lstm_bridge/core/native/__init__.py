"""The fused CPU kernel, where it was built: whether it serves, and the call.

It is optional. An installation without it, another MLX than it was built for, a GPU stream, or a
case that it has not computes the same numbers with MLX's own operations.

Shape letters: N batch, L length, D input, H hidden, P projection (P = H without one).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import mlx.core as mx

from lstm_bridge.core.native.sources import digest
from lstm_bridge.core.paths import is_portable
from lstm_bridge.core.weights import LSTMWeights

_NAME = "lstm_bridge.core.native._fused"
_SECTIONS = (40, 48), (58, 60), (60, 62)  # in an ELF header: their table's place, width and length

_off = ContextVar("lstm_bridge_native_off", default=False)
_composing = ContextVar("lstm_bridge_composing", default=False)


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
def composing() -> Iterator[None]:
    """Compute with MLX's own operations, for a transformation that the kernel has not."""
    token = _composing.set(True)
    try:
        with disabled():
            yield
    finally:
        _composing.reset(token)


def is_composing() -> bool:
    """Say whether operations are composed for a transformation."""
    return _composing.get()


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
        reverse: start at the last step.
        mask: boolean, ``[L, N]``, or None.
        zero_masked: masked outputs are zero instead of repeating the output before.
        cells: also return every step's cell state.

    Returns:
        y ``[L, N, P]``, h, c and, if asked for, cells ``[L, N, H]``.
    """
    module = serving()
    if module is None:
        return None
    done: list[mx.array] | None = module.lstm(
        x,
        weights.Wx,
        weights.Wh,
        weights.bias,
        weights.Wp,
        h,
        c,
        mask,
        reverse,
        zero_masked,
        cells,
    )
    return done


def layers(
    x: mx.array,
    weights: list[mx.array],
    h: mx.array | None,
    c: mx.array | None,
    *,
    biased: bool,
    projected: bool,
    directions: int,
    batch_first: bool,
    mask: mx.array | None = None,
) -> list[mx.array] | None:
    """Run layers × directions in one call, or return None where the kernel does not serve.

    Args:
        x: inputs, ``[L, N, D]``, or ``[N, L, D]`` with batch_first.
        weights: of each layer's each direction Wx, Wh, two biases if biased, Wp if projected.
        h: initial hidden states, ``[layers·directions, N, P]``, or None for zeros.
        c: initial cell states, ``[layers·directions, N, H]``, or None for zeros.
        biased: there are biases, two each.
        projected: there are projections.
        directions: 1 or 2.
        batch_first: input and output are ``[N, L, ·]``.
        mask: boolean, ``[L, N]``; masked outputs are zero. Default: None.

    Returns:
        Outputs, and the last states, layer by layer.
    """
    module = serving()
    if module is None:
        return None
    done: list[mx.array] | None = module.layers(
        x, weights, biased, projected, directions, h, c, mask, batch_first
    )
    return done


def cell(
    x: mx.array,
    Wx: mx.array,
    Wh: mx.array,
    bias_x: mx.array | None,
    bias_h: mx.array | None,
    h: mx.array | None,
    c: mx.array | None,
) -> list[mx.array] | None:
    """Advance one step of ``[N, D]`` or ``[D]``, or return None where the kernel does not serve.

    Returns:
        The next h and c, with the axes of x.
    """
    module = serving()
    if module is None:
        return None
    done: list[mx.array] | None = module.cell(x, Wx, Wh, bias_x, bias_h, h, c)
    return done


def trajectory(
    x: mx.array,
    Wx: mx.array,
    Wh: mx.array,
    bias: mx.array | None,
    h: mx.array | None,
    c: mx.array | None,
) -> list[mx.array] | None:
    """Return all states over ``[N, L, D]`` or ``[L, D]``, or None where the kernel does not serve.

    Returns:
        Hidden and cell states of every step, with the axes of x.
    """
    module = serving()
    if module is None:
        return None
    done: list[mx.array] | None = module.trajectory(x, Wx, Wh, bias, h, c)
    return done


def serving() -> ModuleType | None:
    """Return the kernel's Python module, or None where it does not serve in this context."""
    return None if _off.get() or is_portable() else _load().module


@cache
def _load() -> _Loaded:
    if os.environ.get("LSTM_BRIDGE_NATIVE", "1") == "0":
        return _Loaded(None, "turned off by LSTM_BRIDGE_NATIVE=0")
    found = find_spec(_NAME)
    if found is None or found.origin is None:
        return _Loaded(None, "not built: the installation had no C++20 compiler, or it failed")
    if not _is_whole(Path(found.origin)):
        return _Loaded(None, f"not loadable: {found.origin} is cut off")
    running = str(mx.__version__)  # type: ignore[attr-defined]  # missing in mlx's stubs
    try:
        module = import_module(_NAME)
    except ImportError as error:
        return _Loaded(None, f"not loadable with mlx {running}: {error}")
    if module.mlx_version != running:
        return _Loaded(None, f"built for mlx {module.mlx_version}, but mlx {running} is running")
    mine = digest()
    if mine and getattr(module, "sources", None) != mine:
        return _Loaded(None, "built from other sources than those beside it: install again")
    return _smoke(module)


def _is_whole(library: Path) -> bool:
    """Say whether an ELF file reaches to its table of sections, which is its end.

    Linux maps a file that was cut off, and ends the process where it reads what is missing.
    """
    with library.open("rb") as file:
        head = file.read(64)
    if head[:6] != b"\x7fELF\2\1":  # 64 bits, little-endian; other systems' loaders look themselves
        return True
    start, each, count = (int.from_bytes(head[k:m], "little") for k, m in _SECTIONS)
    return start + each * count <= library.stat().st_size


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
    module.set_composed(_composed)
    return _Loaded(module, "") if served else _Loaded(None, "does not work with this mlx")


def _composed(arrays: list[mx.array], flags: list[bool]) -> list[mx.array]:
    """Compute the same of MLX's own operations: derivatives that the kernel has not need it."""
    from lstm_bridge.core.sequence import composed  # which calls this module

    return composed(arrays, flags)
