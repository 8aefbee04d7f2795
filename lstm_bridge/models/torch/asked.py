"""What forward's own control flow asks about its inputs, as operations of a graph.

Also the marks that a trace leaves where it took one of two ways, or started a loop's next step:
they are gone from the finished graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx

from lstm_bridge.errors import UnsupportedError, UsageError
from lstm_bridge.torch.nn.utils.rnn import PackedSequence

_KINDS: dict[str, Callable[[Any], bool]] = {
    "Tensor": lambda v: isinstance(v, mx.array),
    "PackedSequence": lambda v: isinstance(v, PackedSequence),
    "tuple": lambda v: isinstance(v, tuple),
    "list": lambda v: isinstance(v, list),
    "dict": lambda v: isinstance(v, dict),
    "Mapping": lambda v: isinstance(v, dict),
    "int": lambda v: isinstance(v, int),
    "float": lambda v: isinstance(v, float),
    "bool": lambda v: isinstance(v, bool),
    "str": lambda v: isinstance(v, str),
    "Parameter": lambda v: False,
}
"""Class that ``isinstance`` asks for, by name → whether a value is one, or stands for one, here."""

KINDS = frozenset(_KINDS)


def is_none(value: Any) -> bool:
    """Whether an optional input was left out."""
    return value is None


def is_instance(value: Any, kinds: tuple[str, ...]) -> bool:
    """Whether a value is of one of the kinds in ``KINDS``."""
    return any(_KINDS[kind](value) for kind in kinds)


def limit_of(dtype: str, name: str) -> float:
    """A limit of a floating dtype: ``min``, ``max``, ``eps`` or ``tiny``.

    Raises:
        UnsupportedError: another one.
    """
    if name not in ("min", "max", "eps", "tiny", "smallest_normal"):
        raise UnsupportedError("finfo", expected="min, max, eps or tiny", got=name)
    kind: Any = getattr(mx, dtype)
    if name in ("tiny", "smallest_normal"):
        return {"float16": 2.0**-14, "float64": 2.0**-1022}.get(dtype, 2.0**-126)
    return float(getattr(mx.finfo(kind), name))


def steps_after(steps: int, done: int) -> int:
    """How many steps are left after the first ones.

    Raises:
        UsageError: there are fewer.
    """
    if steps < done:
        raise UsageError("model input", expected=f"a length of at least {done}", got=str(steps))
    return steps - done


def steps(start: int, stop: int, step: int) -> int:
    """How many numbers a range has."""
    return len(range(start, stop, step))


def chained(*parts: list[Any] | tuple[Any, ...]) -> list[Any]:
    """Several lists end to end."""
    return [value for part in parts for value in part]


def backwards(values: list[Any]) -> list[Any]:
    """A list from its end to its start."""
    return values[::-1]


@mx.custom_function
def _with_data(value: mx.array, data: mx.array) -> mx.array:
    return mx.array(data)


@_with_data.vjp
def _with_data_vjp(primals: Any, cotangent: mx.array, output: mx.array) -> tuple[Any, Any]:
    return cotangent, mx.zeros_like(primals[1])


def with_data(value: mx.array, data: mx.array) -> mx.array:
    """Other numbers in an array whose gradient goes on to the old ones, as ``x.data`` gives."""
    made: Any = _with_data(value, data)
    replaced: mx.array = made
    return replaced


def refuse(reason: str) -> Any:
    """Refuse inputs that lead to lines of forward that could not be ported.

    Raises:
        UnsupportedError: always.
    """
    raise UnsupportedError(
        "model input", expected="one that takes a way which was ported", got=reason
    )


def decided(condition: Any, answer: bool) -> None:
    """Mark where a trace went on as if a condition held, or did not."""


def stepped(loop: int, step: int, *count: Any) -> None:
    """Mark where a step of a loop begins; the first holds what the number of steps follows from."""


def ended(loop: int) -> None:
    """Mark where a loop has ended."""


MARKS = {decided: "mark.decided", stepped: "mark.stepped", ended: "mark.ended"}
"""Function that marks a place in a trace → name of its node."""

ASKED: dict[str, Callable[..., Any]] = {
    "is_none": is_none,
    "is_instance": is_instance,
    "limit_of": limit_of,
    "steps": steps,
    "steps_after": steps_after,
    "chained": chained,
    "backwards": backwards,
    "refuse": refuse,
    "with_data": with_data,
}
"""Name behind ``python.`` → operation."""
