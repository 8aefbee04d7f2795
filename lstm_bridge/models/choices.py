"""What a caller says of a source beyond what the file says; refused where it means nothing."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from os import PathLike
from typing import Any, NamedTuple

from lstm_bridge.checkpoints.base import Checkpoint
from lstm_bridge.converters.plan import DIALECTS, Plan
from lstm_bridge.errors import UsageError
from lstm_bridge.models.torch.script import is_script

Pathish = str | PathLike[str]


class Choices(NamedTuple):
    """What a caller decides about reading a source, beyond what the file itself says.

    Args:
        assume: options the file does not hold, e.g. ``{"batch_first": True}`` of a torch state
            dict or ``{"recurrent_activation": "sigmoid"}`` of Keras weights. Default: none.
        ignore: shell patterns of tensor names to leave out. Default: none.
        prefix: path of the one layer to convert; the rest is left out. Default: None, all.
        config: a Keras architecture JSON for a weights-only file. Default: None.
        of_many: the same is said of many files, and need not mean something to each of them.
            Default: False.
    """

    assume: Mapping[str, Any] = {}
    ignore: tuple[str, ...] = ()
    prefix: str | None = None
    config: Pathish | None = None
    of_many: bool = False


NOTHING_CHOSEN = Choices()


def check_choices(checkpoint: Checkpoint, plan: Plan, choices: Choices) -> None:
    """Refuse a choice that means nothing for a file, rather than drop it.

    Raises:
        UsageError: naming it.
    """
    if choices.of_many:
        return
    for pattern in choices.ignore:
        if not any(fnmatchcase(name, pattern) for name in checkpoint.tensors):
            raise UsageError(
                "ignore", expected="a pattern that some tensor's name matches", got=repr(pattern),
                fix="see the names with: lstm-bridge inspect FILE",
            )  # fmt: skip
    if choices.config is not None and checkpoint.framework != "keras":
        raise UsageError(
            "config", expected="a Keras weights file to go with it", got=checkpoint.format
        )
    if not plan.refused:
        _check_assumed(checkpoint, plan, choices)


def _check_assumed(checkpoint: Checkpoint, plan: Plan, choices: Choices) -> None:
    stated = choices.config is not None or "config" in checkpoint.metadata or is_script(checkpoint)
    kinds = {layer.kind for layer in plan.layers}
    left_open = {
        key
        for dialect in DIALECTS.values()
        if kinds & set(dialect.kinds) and not stated
        for key in dialect.assumable
    }
    for key in choices.assume:
        if key not in left_open and kinds:
            known = ", ".join(sorted(left_open)) or "nothing: this file states everything"
            raise UsageError("assume", expected=f"what the file leaves open ({known})", got=key)


def check_folder(choices: Choices) -> None:
    """Refuse choices about a folder that convert wrote: it says everything itself.

    Raises:
        UsageError: naming the first.
    """
    for name in ("assume", "ignore", "config"):
        if getattr(choices, name) and not choices.of_many:
            raise UsageError(
                name, expected="none for a folder that convert wrote", got="one",
                fix="give it when converting the source",
            )  # fmt: skip
