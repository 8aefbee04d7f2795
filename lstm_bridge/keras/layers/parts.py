"""What layers with weights have per weight: an initializer, a regularizer and a constraint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from lstm_bridge.errors import UnsupportedError, UsageError
from lstm_bridge.keras import constraints, initializers, regularizers
from lstm_bridge.keras.layers.layer import Layer
from lstm_bridge.keras.layers.lstm_cell import RANDOM_STREAM

_KINDS = {"initializer": initializers, "regularizer": regularizers, "constraint": constraints}

_CONSTRAINT = "applied by apply_constraints(): call it after each optimizer update"


def notes_on(*parts: str) -> dict[str, str]:
    """Return the notes on the initializers and constraints of weights."""
    notes = {f"{part}_initializer": RANDOM_STREAM for part in parts}
    return notes | {f"{part}_constraint": _CONSTRAINT for part in parts}


class WeightedLayer(Layer):
    """A layer whose constructor takes ``{part}_initializer`` and so on for each of its weights."""

    PARTS: ClassVar[tuple[str, ...]] = ("kernel", "bias")
    kernel: Any
    bias: Any

    def _take(self, arguments: Mapping[str, Any]) -> None:
        """Keep the constructor's per-weight arguments."""
        for part in self.PARTS:
            for kind, module in _KINDS.items():
                name = f"{part}_{kind}"
                if name in arguments:
                    setattr(self, name, module.get(arguments[name]))

    def _add(self, name: str, shape: Sequence[int], part: str = "", trainable: bool = True) -> None:
        """Create one weight; ``part`` is the prefix of its arguments where not its name."""
        part = part or name
        weight = self.add_weight(
            shape=tuple(shape),
            name=name,
            trainable=trainable,
            initializer=getattr(self, f"{part}_initializer"),
            regularizer=getattr(self, f"{part}_regularizer", None),
            constraint=getattr(self, f"{part}_constraint", None),
        )
        setattr(self, name, weight)

    def _parts_config(self) -> dict[str, Any]:
        """Return the per-weight arguments in Keras's own form."""
        return {
            f"{part}_{kind}": module.serialize(getattr(self, f"{part}_{kind}"))
            for kind, module in _KINDS.items()
            for part in self.PARTS
            if hasattr(self, f"{part}_{kind}")
        }


def refuse_extras(**arguments: Any) -> None:
    """Refuse arguments that ask for something that no layer here does, unless they are None.

    Raises:
        UnsupportedError: naming the first that is given.
    """
    for name, value in arguments.items():
        if value is not None:
            raise UnsupportedError(name, expected="None", got=repr(value)[:80])


def positive(name: str, value: Any) -> int:
    """Return a positive integer; UsageError unless it is one."""
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise UsageError(name, expected="a positive integer", got=repr(value))
    return value


def fraction(name: str, value: Any) -> Any:
    """Return a number from 0 to 1; UsageError unless it is one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise UsageError(name, expected="a number from 0 to 1", got=repr(value))
    return value


REFUSED_LORA = {
    "lora_rank": "refused unless None: fine-tune the kernel itself",
    "lora_alpha": "refused unless None, like lora_rank",
}
REFUSED_QUANTIZATION = {
    "quantization_config": "refused unless None: mlx.nn.quantize quantizes the loaded layer"
}
"""Notes on the arguments that ``refuse_extras`` refuses."""
