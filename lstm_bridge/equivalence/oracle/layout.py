"""What every framework's LSTM has in common: translate in, run, translate out, and back again.

A layout turns one framework's options, parameters and inputs into plain directions over
``[N, L, D]``, and the runs into that framework's own return structure. The same translation gives
the outputs, the gradients and the teacher-forced one-step inputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from lstm_bridge.equivalence.oracle.gradients import RunGradients, backward_layers
from lstm_bridge.equivalence.oracle.lstm import (
    Array,
    Direction,
    Options,
    Params,
    Run,
    run_layers,
    states_before,
)

States = list[tuple[Array | None, Array | None]]
Pulled = Sequence[tuple[Array | None, ...]]


class Layout(ABC):
    """One layer of one framework, ready to run.

    Args:
        options: the front-end's constructor arguments.
        params: its parameters under its own names, in its own layout.
        inputs: its call arguments, in order.
        dtype: what to compute in.
    """

    def __init__(self, options: Options, params: Params, inputs: Sequence[Any], dtype: Any) -> None:
        self.options = options
        self.dtype = dtype
        self.params = {name: np.asarray(value, dtype) for name, value in params.items()}
        self.layers: list[list[Direction]] = []
        self.states: States = []
        self.mask: Array | None = None
        self.zero_masked = True
        self.x = np.asarray(inputs[0], dtype)
        self.prepare(list(inputs[1:]))

    @abstractmethod
    def prepare(self, inputs: list[Any]) -> None:
        """Set layers, states, mask; turn ``self.x`` into ``[N, L, D]``."""

    @abstractmethod
    def outputs(self, runs: list[list[Run]]) -> Any:
        """The framework's own return structure."""

    @abstractmethod
    def pull(self, runs: list[list[Run]], cotangents: list[Array]) -> tuple[Array, Pulled]:
        """From cotangents of the outputs' leaves to those of the last layer's y and all states."""

    @abstractmethod
    def named(self, dx: Array, grads: list[list[RunGradients]]) -> dict[str, Array]:
        """Gradients under the names of the inputs and the parameters, in their layout."""

    def one_step(self, states: list[tuple[Array, Array]], x: Array) -> tuple[Any, ...] | None:
        """Call arguments that do single steps: ``x [M, 1, D]`` from states ``[M, P], [M, H]``."""
        return None

    def run(self) -> list[list[Run]]:
        """Run all layers."""
        return run_layers(self.layers, self.x, self.states, self.mask, self.zero_masked)

    def gradients(self, cotangents: list[Array]) -> dict[str, Array]:
        """Gradients of the sum over outputs of cotangent · output."""
        runs = self.run()
        dy, dstates = self.pull(runs, [np.asarray(v, self.dtype) for v in cotangents])
        return self.named(*backward_layers(runs, dy, dstates))

    def teacher_forced(self) -> tuple[Any, ...] | None:
        """Call arguments that repeat every valid step alone, from the state it really started in.

        Time is folded into the batch; None for what is a single step already.
        """
        runs = self.run()
        valid = np.ones(self.x.shape[:2], bool) if self.mask is None else self.mask
        flat = [states_before(r) for layer in runs for r in layer]
        return self.one_step([(h[valid], c[valid]) for h, c in flat], self.x[valid][:, None])

    def cast(self, value: Any) -> Array | None:
        """``value`` in the layout's dtype; None stays None."""
        return None if value is None else np.asarray(value, self.dtype)
