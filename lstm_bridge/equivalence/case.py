"""One layer as the oracle runs it: what known mistakes are made in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstm_bridge.equivalence.oracle import ORACLES

Array = NDArray[Any]
Params = Mapping[str, Array]


def _same(outputs: Any) -> Any:
    return outputs


@dataclass(frozen=True, slots=True)
class Case:
    """One layer with its inputs, and what is done to its outputs.

    Args:
        kind: class path.
        options: constructor arguments.
        params: parameters under the class's own names.
        inputs: call arguments.
        after: applied to the outputs. Default: nothing.
    """

    kind: str
    options: Mapping[str, Any]
    params: Params
    inputs: tuple[Any, ...]
    after: Callable[[Any], Any] = _same

    def outputs(self, dtype: Any = np.float64) -> Any:
        """What the oracle makes of the case."""
        oracle = ORACLES[self.kind]
        return self.after(oracle(self.options, self.params, *self.inputs, dtype=dtype))
