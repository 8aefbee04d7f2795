"""Ways to call the kernel's functions: transformed, by two threads, not yet computed."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Sequence

import mlx.core as mx

from lstm_bridge.core import native

Way = Callable[[], mx.array]
Function = Callable[[mx.array, mx.array], mx.array]


def transformations(y: Function, x: mx.array, W: mx.array) -> dict[str, Way]:
    """What MLX makes of a function of two arrays, the first of which may be one of a batch."""

    def loss(x: mx.array, W: mx.array) -> mx.array:
        return y(x, W).square().sum()

    xs, both = mx.stack([x, x * 0.5, -x]), (x, W)
    return {
        "vmap": lambda: mx.vmap(y, (0, None))(xs, W),
        "vmap over the last axis": lambda: mx.vmap(y, (-1, None))(mx.moveaxis(xs, 0, -1), W),
        "vmap(grad)": lambda: mx.vmap(mx.grad(loss), (0, None))(xs, W),
        "grad(vmap)": lambda: mx.grad(lambda v: mx.vmap(loss, (0, None))(v, W).sum())(xs),
        "jvp": lambda: mx.jvp(y, both, (x * 2, W * 3))[1][0],
        "grad(grad)": lambda: mx.grad(lambda x, W: mx.grad(loss)(x, W).square().sum(), 1)(*both),
        "checkpoint": lambda: mx.grad(mx.checkpoint(loss), 1)(*both),
    }


def second_derivatives(y: Callable[..., mx.array], inputs: Sequence[mx.array]) -> dict[str, Way]:
    """The gradient, by each input, of the square of all first gradients together."""
    every = list(range(len(inputs)))

    def loss(*inputs: mx.array) -> mx.array:
        return y(*inputs).square().sum()

    def steepness(*inputs: mx.array) -> mx.array:
        return sum((g.square().sum() for g in mx.grad(loss, every)(*inputs)), mx.array(0.0))

    return {f"by input {k}": lambda k=k: mx.grad(steepness, k)(*inputs) for k in every}  # type: ignore[misc]


def compilations(y: Function, x: mx.array, W: mx.array) -> dict[str, tuple[Way, Way]]:
    """Calls by ``mx.compile``, and beside each the plain one.

    Compiled, MLX's own operations would call a C++ compiler here: the plain call stands in.
    """

    def loss(x: mx.array, W: mx.array) -> mx.array:
        return y(x, W).square().sum()

    return {
        "compile": (lambda: mx.compile(y)(x, W), lambda: y(x, W)),
        "compile(grad)": (lambda: mx.compile(mx.grad(loss))(x, W), lambda: mx.grad(loss)(x, W)),
    }


def apart(ways: dict[str, Way | tuple[Way, Way]], bound: float) -> list[str]:
    """Those that differ, by more than the bound times the largest number, without the kernel."""
    far = []
    with mx.stream(mx.cpu):
        for name, way in ways.items():
            with_it, without = way if isinstance(way, tuple) else (way, way)
            ours = with_it()
            with native.disabled():
                theirs = without()
            gap, scale = float(mx.abs(theirs - ours).max()), float(mx.abs(theirs).max())
            if not gap <= bound * scale:
                far.append(f"{name}: {gap / scale:.1e}")
    return far


def at_once(work: Callable[[int], None]) -> None:
    """Do the work of 0 and of 1 in two Python threads at the same time."""
    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def graph(way: Callable[[], mx.array | Sequence[mx.array]]) -> str:
    """The primitives of what is still to be computed of a call on a CPU, as text."""
    text = io.StringIO()
    with mx.stream(mx.cpu):
        found = way()
        mx.export_to_dot(text, *([found] if isinstance(found, mx.array) else found))
    return text.getvalue()
