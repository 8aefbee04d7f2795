"""One side of a comparison: a name, a way to run it, and its options and parameters if known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from lstm_bridge.equivalence.oracle.seen import Seen

if TYPE_CHECKING:
    from lstm_bridge.equivalence.inputs import InputSpec
    from lstm_bridge.equivalence.parties.watch import Visit

Array = NDArray[Any]
Gradients = tuple[list[Array], dict[str, Array]]
"""Gradients of the floating-point input arrays, in order, and of the parameters by name."""


class WholeOracle(Protocol):
    """A whole model in NumPy."""

    def __call__(self, *inputs: Any, dtype: Any = ...) -> Any:
        """Run it."""

    def trace(self, inputs: Sequence[Any], dtype: Any = ...) -> tuple[Any, list[Seen]]:
        """Run it, and return what every layer did too."""

    def part(self, path: str) -> tuple[str, Mapping[str, Any], Mapping[str, Array]]:
        """Return class path, options and weights of a layer."""


@dataclass(frozen=True, slots=True)
class Party:
    """One side of a comparison.

    Args:
        name: who it is, with its version, e.g. ``"torch 2.13.0"``.
        call: nested NumPy inputs in, nested NumPy outputs out.
        kind: class path that an oracle exists for, e.g. ``"torch.nn.LSTM"``; "" if none.
        options: constructor arguments.
        params: parameters under the class's own names.
        gradients: inputs and cotangents of the outputs' arrays in, gradients out; None if it
            cannot be differentiated.
        in_float64: the same thing computed in float64, if it offers that.
        eps: rounding step of its dtype at 1.
        trace: inputs in, what every sub-module returned out; None if it cannot be watched.
        steps_first: whether sequences inside it are ``[L, N, ...]``, not ``[N, L, ...]``.
        specs: what it takes, for generated inputs; None if it does not say.
        part: the sub-module at a dotted path as a party of its own; None if there are none.
        whole: the NumPy oracle of a whole model, built from the source itself; None if it is none.
        described: modules and graph of a model ported from torch, as data; None if it is none.
    """

    name: str
    call: Callable[[Sequence[Any]], Any]
    kind: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Array] = field(default_factory=dict)
    gradients: Callable[[Sequence[Any], Sequence[Array]], Gradients] | None = None
    in_float64: Callable[[], Party] | None = None
    eps: float = 2.0**-23
    trace: Callable[[Sequence[Any]], list[Visit]] | None = None
    steps_first: bool = False
    specs: tuple[InputSpec, ...] | None = None
    part: Callable[[str], Party] | None = None
    whole: Callable[[], WholeOracle] | None = None
    described: Callable[[], Mapping[str, Any]] | None = None


@contextmanager
def evaluation(module: Any) -> Iterator[None]:
    """Put a torch or MLX module and all its parts in evaluation mode, and each back after."""
    # Parents come before their children, so that a child's own mode is what remains.
    before = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in before:
            part.train(training)
