"""The kernel's operations besides the LSTM, each with the same composed of MLX's own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import ModuleType

import mlx.core as mx

from lstm_bridge.core import native

Inputs = Sequence[mx.array | None]
Composed = Callable[[Inputs, Sequence[float]], list[mx.array]]

# Whether the kernel serves what has no state, too: macOS has Accelerate, and stays with it.
DENSE_SERVES = sys.platform != "darwin"


class Operation:
    """One operation of the kernel.

    Args:
        name: the kernel's name for it.
        composed: the same of MLX's own operations, from the inputs and the settings to the outputs.
            Derivatives and maps that the kernel has not go through it.
    """

    def __init__(self, name: str, composed: Composed) -> None:
        self.name = name
        self.composed = composed
        self._known_to: ModuleType | None = None

    def __call__(self, inputs: Inputs, settings: Sequence[float] = ()) -> list[mx.array]:
        """Return the outputs, by the kernel where it serves."""
        done = self.fused(inputs, settings)
        return self.composed(inputs, settings) if done is None else done

    def fused(self, inputs: Inputs, settings: Sequence[float] = ()) -> list[mx.array] | None:
        """Return the outputs by the kernel, or None where it does not serve.

        float16 and bfloat16 go through float32, if all inputs but a mask are of the same dtype.
        """
        module = native.serving()
        if module is None:
            return None
        if self._known_to is not module:
            module.set_composed_op(self.name, self._composed_alone)
            self._known_to = module
        return module.run_op(self.name, inputs, settings)  # type: ignore[no-any-return]

    def _composed_alone(self, inputs: Inputs, settings: Sequence[float]) -> list[mx.array]:
        with native.composing():
            return self.composed(inputs, settings)
