"""A checkpoint of one framework becomes a folder that runs, or a file of another framework."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from lstm_bridge.checkpoints.base import Checkpoint
from lstm_bridge.checkpoints.safetensors_writer import write_safetensors
from lstm_bridge.converters.layer import FoundLayer
from lstm_bridge.converters.plan import Plan
from lstm_bridge.converters.recipe import Entry
from lstm_bridge.converters.targets import TARGETS
from lstm_bridge.errors import FileSystemError, UnsupportedError, UsageError, printable
from lstm_bridge.models.account import Accountant, Conversion, Policy, Progress, files_of
from lstm_bridge.models.atomic import new_file, new_folder
from lstm_bridge.models.content import Content, of_plan
from lstm_bridge.models.directory import is_converted
from lstm_bridge.models.files import Account, check_whole, suffix_for, write_file
from lstm_bridge.models.json_file import read_object
from lstm_bridge.models.quantize import BITS
from lstm_bridge.models.schema import MARK, WEIGHTS, read_config
from lstm_bridge.models.source import Choices, Pathish, entries, opened
from lstm_bridge.models.torch.script import is_script
from lstm_bridge.models.whole_source import (
    WholeSource,
    content_for,
    content_of,
    refuse_quantized,
    whole_source,
)

LAYOUTS = ("source", "mlx")


def convert(
    source: Pathish,
    target: Pathish,
    *,
    layout: str = "source",
    to: str | None = None,
    force: bool = False,
    assume: Mapping[str, Any] | None = None,
    ignore: tuple[str, ...] = (),
    prefix: str | None = None,
    config: Pathish | None = None,
    quantize: int | None = None,
    allow_downcast: bool = False,
    allow_nonfinite: bool = False,
    progress: Progress | None = None,
    of_many: bool = False,
) -> Conversion:
    """Convert a checkpoint to a folder that ``lstm_bridge.load`` runs, or to a framework's file.

    A source that describes a whole model becomes that model; any other, the tree of its layers.

    Args:
        source: a checkpoint of any supported format, or a folder that convert wrote.
        target: the folder to make; with ``to``, the file.
        layout: ``"source"`` keeps the source framework's names and layout, for the matching
            front-end; ``"mlx"`` writes Wx, Wh and bias for stock mlx.nn.LSTM. Default: "source".
        to: write one file for a framework instead: ``"torch"`` (.pt, .safetensors), ``"keras"``
            (.weights.h5, .keras) or ``"mlx"`` (.safetensors). Default: None, a folder.
        force: replace a converted model, or a file, that stands at the target. Default: False.
        assume: options the file does not hold, e.g. ``{"batch_first": True}`` of a torch state
            dict or ``{"recurrent_activation": "sigmoid"}`` of Keras weights. Default: none.
        ignore: shell patterns of tensor names to leave out. Default: none.
        prefix: path of the one layer to convert; the rest is left out. Default: None, all.
        config: Keras architecture JSON for a weights-only file. Default: None.
        quantize: 8 or 4: pack the weights of a whole model's Linear, Dense and Embedding layers to
            so many bits with MLX's own quantization, in groups of 64 numbers, or of 32 where 64
            does not divide a layer's width. ``verify`` reports what it costs. Default: None, no.
        allow_downcast: write float64 as float32. Default: False, refuse it.
        allow_nonfinite: take NaN and infinity as they are. Default: False, refuse them.
        progress: called as bytes are written. Default: None.
        of_many: this is one file of many, to which ``assume``, ``ignore`` and ``config`` need not
            mean something. Default: False, refuse them where they do not.

    Returns:
        Conversion, the account of every tensor.

    Raises:
        RefusedInput: something in the source does not convert; nothing was written.
        UnsupportedError: a layer does not fit the asked layout; nothing was written.
        FileSystemError: the target exists or cannot be written.
    """
    check_layout(layout, to)
    check_quantize(quantize, layout, to)
    source, target = Path(source), Path(target)
    suffix = suffix_for(to, target) if to else ""
    policy = Policy(allow_downcast, allow_nonfinite)
    choices = Choices(assume or {}, ignore, prefix, config, of_many)
    with opened(source, choices) as (checkpoint, plan):
        _check_apart(checkpoint, target)
        written_for = to or layout
        facts = entries(checkpoint)
        asked = _Asked(written_for, suffix, quantize)
        content = _content(source, checkpoint, plan, choices, asked)
        accountant = Accountant(checkpoint, facts, content, policy, progress)
        account = partial(accountant.account, written_for)
        with closing(accountant):
            if to:
                with new_file(target, force=force) as path:
                    write_file(path, suffix, accountant, facts, account)
            else:
                with new_folder(target, force=force) as folder:
                    _write_folder(folder, accountant, account)
            return account()


def check_layout(layout: str, to: str | None) -> None:
    """Refuse an unknown layout, or one beside a framework whose file has its own.

    Raises:
        UsageError: it is so.
    """
    if layout not in LAYOUTS:
        raise UsageError("layout", expected=f"one of {', '.join(LAYOUTS)}", got=repr(layout))
    if to is not None and layout != "source":
        raise UsageError(
            "layout", expected=f"none beside to={to!r}", got=repr(layout), fix="choose one of them"
        )


def check_quantize(bits: int | None, layout: str, to: str | None) -> None:
    """Refuse a number of bits that MLX is not asked for, or one where no folder is written.

    Raises:
        UsageError: it is so.
    """
    if bits is None:
        return
    if type(bits) is not int or bits not in BITS:
        raise UsageError("quantize", expected=" or ".join(map(str, BITS)), got=repr(bits))
    if to is not None or layout != "source":
        raise UsageError(
            "quantize",
            expected="a folder in the source's layout to write",
            got=f"to={to!r}" if to else f"layout={layout!r}",
            fix="leave one of them out",
        )


def _content(
    source: Path,
    checkpoint: Checkpoint,
    plan: Plan,
    choices: Choices,
    asked: _Asked,
) -> Content:
    """Return what is written: a whole model if there is one and it is asked for, or layers."""
    whole = _whole(source, checkpoint, choices, asked)
    if isinstance(whole, WholeSource):
        content = _content_of_whole(whole, plan, asked)
        if content is not None:
            return content
    why = whole if isinstance(whole, str) else ""
    if asked.bits is not None:
        raise UsageError(
            "quantize", expected="a source that describes a whole model", got=why,
            fix="port the model, or load it, then lstm_bridge.save what mlx.nn.quantize made of it",
        )  # fmt: skip
    if asked.written_for != "source" and is_converted(source):
        layout = asked.written_for == "mlx" and not asked.suffix
        option = "--layout" if layout else "--to"
        refuse_quantized(read_config(source), f"{option} {asked.written_for}")
    plan.require(str(source))
    check_whole(str(source), asked.written_for, plan)
    content = of_plan(plan, _translated(plan, asked.written_for, entries(checkpoint)))
    if asked.written_for == "source" and _describes(checkpoint) and why and not plan.code:
        content = content._replace(left_out={**content.left_out, "the whole model": why})
    return content


class _Asked(NamedTuple):
    """What is to be written: for whom, to a file of which suffix, and in how many bits."""

    written_for: str
    suffix: str
    bits: int | None


def _whole(
    source: Path, checkpoint: Checkpoint, choices: Choices, asked: _Asked
) -> WholeSource | str:
    """Return the whole model that a source describes, or why none is written."""
    for name in ("prefix", "ignore"):
        if getattr(choices, name):
            return f"{name} asks for a part of it"
    if asked.written_for == "mlx":
        return "stock mlx.nn.LSTM is a layer"
    config = read_object(Path(choices.config)) if choices.config is not None else None
    return whole_source(source, checkpoint, config)


def _content_of_whole(whole: WholeSource, plan: Plan, asked: _Asked) -> Content | None:
    """Return what is written of a whole model; None where its layers alone are."""
    if asked.written_for == "source":
        return content_of(whole, plan.layers, asked.bits)
    try:
        return content_for(whole, asked.written_for, asked.suffix)
    except UnsupportedError:
        if plan.passed or len(plan.layers) != 1:
            raise
        return None  # a single layer has a way of its own


def _describes(checkpoint: Checkpoint) -> bool:
    """Whether a file says more than weights, so that it is worth saying why that is not used."""
    return "config" in checkpoint.metadata or is_script(checkpoint)


def _write_folder(folder: Path, accountant: Accountant, account: Account) -> None:
    write_safetensors(folder / WEIGHTS, accountant.passing(), {"format": "mlx"})
    text = json.dumps(account().to_json(), indent=1, sort_keys=True, ensure_ascii=True)
    (folder / MARK).write_text(text + "\n", encoding="utf-8")


def _translated(plan: Plan, written_for: str, facts: Mapping[str, Entry]) -> list[FoundLayer]:
    """Return the plan's layers as the target framework's, in order of their paths."""
    if written_for == "source":
        return sorted(plan.layers, key=lambda layer: layer.path)
    translate = TARGETS[written_for].translate
    made = [new for layer in plan.layers for new in translate(layer, facts)]
    return sorted(made, key=lambda layer: layer.path)


def _check_apart(checkpoint: Checkpoint, target: Path) -> None:
    """Refuse a target that is or holds an input: replacing it would delete what is being read."""
    if not os.path.exists(target):
        return
    holders = Path(os.path.realpath(checkpoint.path)).parents
    if any(os.path.samefile(path, target) for path in (*files_of(checkpoint), *holders)):
        raise FileSystemError(
            printable(target),
            expected="a target apart from the source",
            got="one that is or holds it",
            fix="choose another target",
        )
