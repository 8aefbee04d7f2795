"""What float32 can know of a problem: the errors of other float32 answers to the same equations.

On one small array the source's own error may be near zero by luck, or one number of a draw so
ill-conditioned that every order of the same sums gives another error. So the oracle's equations are
evaluated in float32, too, from inputs that each move by half a rounding step: how far those answers
are from the truth depends on the problem, and on no code of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]

_WAYS = 4


def conditioning(
    answer: Callable[[Arrays, Any], Arrays], inputs: Arrays, eps: float = 2.0**-23
) -> dict[str, float]:
    """Return, for each array of the answer, the largest error of a few float32 evaluations.

    Args:
        answer: what the oracle makes of inputs in a dtype.
        inputs: exact inputs.
        eps: the rounding step of the inputs at 1. Default: float32's.
    """
    exact = answer(inputs, np.float64)
    rng = np.random.default_rng(0)
    found = dict.fromkeys(exact, 0.0)
    for _ in range(_WAYS):
        moved = {
            name: a * (1 + eps * rng.choice((-0.5, 0.5), a.shape)) for name, a in inputs.items()
        }
        for name, a in answer(moved, np.float32).items():
            far = np.abs(a - exact[name])
            found[name] = max(found[name], float(far[np.isfinite(far)].max(initial=0)))
    return found
