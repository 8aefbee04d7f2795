"""Checkpoint → folder of ``config.json`` and ``model.safetensors``, every tensor accounted for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from lstm_bridge import __version__
from lstm_bridge.checkpoints.base import Array, Checkpoint
from lstm_bridge.checkpoints.dtypes import DTYPES
from lstm_bridge.checkpoints.safetensors_writer import write_safetensors
from lstm_bridge.converters.layer import FoundLayer
from lstm_bridge.converters.layout import as_mlx
from lstm_bridge.converters.plan import Plan
from lstm_bridge.converters.recipe import (
    Entry,
    Recipe,
    Shape,
    Source,
    describe,
    evaluate,
    shape_of,
    sources,
)
from lstm_bridge.errors import FileSystemError, TensorError, UsageError
from lstm_bridge.models.atomic import MARK, new_folder
from lstm_bridge.models.source import Choices, Pathish, entries, opened

FORMAT, FORMAT_VERSION, WEIGHTS = "lstm_bridge", 1, "model.safetensors"

Layout = Literal["source", "mlx"]
LAYOUTS: tuple[Layout, ...] = ("source", "mlx")

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes in all."""


@dataclass(frozen=True, slots=True)
class TensorFate:
    """One tensor of the output: where it came from and what happened to it."""

    sources: tuple[str, ...]
    how: str
    shape: Shape
    dtype: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Conversion:
    """The account of a conversion, as it stands in ``config.json``.

    Args:
        source: the source's file name, container format, framework, version, size and SHA-256.
        layout: ``"source"`` or ``"mlx"``.
        layers: path, class, options and rules of each layer.
        tensors: output tensor → its fate.
        left_out: what the source holds besides weights → why it is left out.
        ignored: tensors left out because the caller asked for it.
    """

    source: dict[str, Any]
    layout: Layout
    layers: tuple[dict[str, Any], ...]
    tensors: dict[str, TensorFate]
    left_out: dict[str, str]
    ignored: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the account as plain data, ready for ``json.dumps``."""
        head = {"format": FORMAT, "version": FORMAT_VERSION, "lstm_bridge": __version__}
        return head | asdict(self)


class _Job(NamedTuple):
    """One array to write."""

    recipe: Recipe
    shape: Shape
    stored: str  # dtype code in the source
    written: str  # dtype code in the output


def convert(
    source: Pathish,
    target: Pathish,
    *,
    layout: Layout = "source",
    force: bool = False,
    assume: Mapping[str, Any] | None = None,
    ignore: tuple[str, ...] = (),
    config: Pathish | None = None,
    allow_downcast: bool = False,
    allow_nonfinite: bool = False,
    progress: Progress | None = None,
) -> Conversion:
    """Convert a checkpoint to a folder that ``lstm_bridge.load`` runs.

    Args:
        source: a checkpoint of any supported format.
        target: the folder to make.
        layout: ``"source"`` keeps the source framework's names and layout, for the matching
            front-end; ``"mlx"`` writes Wx, Wh and bias for stock mlx.nn.LSTM. Default: "source".
        force: replace a converted model that stands at the target. Default: False.
        assume: options the file does not hold, e.g. ``{"batch_first": True}`` of a torch state
            dict or ``{"recurrent_activation": "sigmoid"}`` of Keras weights. Default: none.
        ignore: shell patterns of tensor names to leave out. Default: none.
        config: Keras architecture JSON for a weights-only file. Default: None.
        allow_downcast: write float64 as float32. Default: False, refuse it.
        allow_nonfinite: take NaN and infinity as they are. Default: False, refuse them.
        progress: called as bytes are written. Default: None.

    Returns:
        Conversion, the account of every tensor.

    Raises:
        RefusedInput: something in the source does not convert; nothing was written.
        UnsupportedError: a layer does not fit the asked layout; nothing was written.
        FileSystemError: the target exists or cannot be written.
    """
    if layout not in LAYOUTS:
        raise UsageError("layout", expected=f"one of {', '.join(LAYOUTS)}", got=repr(layout))
    source, target = Path(source), Path(target)
    with opened(source, Choices(assume or {}, ignore, config)) as (checkpoint, plan):
        plan.require(str(source))
        _check_apart(source, target)
        facts = entries(checkpoint)
        layers = sorted(_in_layout(plan, layout, facts), key=lambda layer: layer.path)
        jobs = _jobs(checkpoint, plan, layers, facts, allow_downcast)
        with new_folder(target, force=force) as folder:
            writer = _Writer(checkpoint, allow_nonfinite, progress, jobs)
            write_safetensors(
                folder / WEIGHTS,
                {n: (j.written, j.shape, writer.producer(n)) for n, j in jobs.items()},
                {"format": "mlx"},
            )
            account = Conversion(
                source=_describe(checkpoint),
                layout=layout,
                layers=tuple(_layer_entry(layer) for layer in layers),
                tensors={name: writer.fate(name) for name in sorted(jobs)},
                left_out=dict(checkpoint.left_out),
                ignored=plan.ignored,
            )
            text = json.dumps(account.to_json(), indent=1, sort_keys=True, ensure_ascii=True)
            (folder / MARK).write_text(text + "\n", encoding="utf-8")
    return account


def _check_apart(source: Path, target: Path) -> None:
    """Refuse a target that holds the source: replacing it would delete what is being read."""
    inside = target.exists() and any(p.samefile(target) for p in source.resolve().parents)
    if inside or (target.exists() and target.samefile(source)):
        raise FileSystemError(
            str(target), expected="a target apart from the source", got="one that holds it"
        )


def _in_layout(plan: Plan, layout: Layout, facts: dict[str, Entry]) -> Iterable[FoundLayer]:
    for layer in plan.layers:
        yield from [layer] if layout == "source" else as_mlx(layer, facts)


def _jobs(
    checkpoint: Checkpoint,
    plan: Plan,
    layers: list[FoundLayer],
    facts: dict[str, Entry],
    allow_downcast: bool,
) -> dict[str, _Job]:
    """List every array to write, in order of name."""
    recipes = {layer.name_of(p): r for layer in layers for p, r in layer.parameters.items()}
    recipes |= {target: Source(name) for name, target in plan.passed.items()}
    jobs = {}
    for name, recipe in sorted(recipes.items()):
        origin = next(sources(recipe))
        stored = facts[origin].dtype
        if stored == "F64" and not allow_downcast:
            raise TensorError(
                checkpoint.path,
                tensor=origin,
                expected="float32 or narrower, since MLX has float64 on the CPU only",
                got="float64",
                fix="pass --allow-downcast to round it to float32",
            )
        written = "F32" if stored == "F64" else stored
        jobs[name] = _Job(recipe, shape_of(recipe, facts), stored, written)
    return jobs


class _Writer:
    """Makes the arrays one at a time, checking and digesting each as it goes out."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        allow_nonfinite: bool,
        progress: Progress | None,
        jobs: dict[str, _Job],
    ) -> None:
        self._checkpoint, self._jobs, self._progress = checkpoint, jobs, progress
        self._allow_nonfinite = allow_nonfinite
        self._digests: dict[str, str] = {}
        self._done = 0
        self._total = sum(
            int(np.prod(j.shape, dtype=np.int64)) * DTYPES[j.written].bits.itemsize
            for j in jobs.values()
        )

    def producer(self, name: str) -> Callable[[], Array]:
        """Return the function that makes the array when its turn comes."""
        return lambda: self._make(name)

    def _make(self, name: str) -> Array:
        job = self._jobs[name]
        array = evaluate(job.recipe, self._checkpoint.read)
        if not self._allow_nonfinite:
            _check_finite(self._checkpoint.path, next(sources(job.recipe)), array, job.stored)
        array = np.ascontiguousarray(array.astype(DTYPES[job.written].bits, copy=False))
        self._digests[name] = hashlib.sha256(array.reshape(-1).view(np.uint8)).hexdigest()
        self._done += array.nbytes
        if self._progress is not None:
            self._progress(self._done, self._total)
        return array

    def fate(self, name: str) -> TensorFate:
        """Return what happened to a written array."""
        job = self._jobs[name]
        how = describe(job.recipe) + ("" if job.stored == job.written else ", rounded to float32")
        return TensorFate(
            tuple(sources(job.recipe)), how, job.shape, job.written, self._digests[name]
        )


def _check_finite(file: Path, name: str, array: Array, code: str) -> None:
    """Refuse NaN and infinity, naming the first and counting them."""
    if code == "BF16":
        bad = (array & 0x7F80) == 0x7F80
    elif array.dtype.kind == "f":
        bad = ~np.isfinite(array)
    else:
        return
    if bad.any():
        first = [int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape)]
        raise TensorError(
            file,
            tensor=name,
            expected="finite numbers",
            got=f"{int(bad.sum())} NaN or infinite, the first at {first}",
            fix="pass --allow-nonfinite to take them as they are",
        )


def _layer_entry(layer: FoundLayer) -> dict[str, Any]:
    return {
        "path": layer.path,
        "class": layer.kind,
        "options": dict(layer.options),
        "parameters": sorted(layer.parameters),
        "rules": list(layer.rules),
    }


def _describe(checkpoint: Checkpoint) -> dict[str, Any]:
    with open(checkpoint.path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "file": checkpoint.path.name,
        "bytes": checkpoint.path.stat().st_size,
        "sha256": digest,
        "format": checkpoint.format,
        "framework": checkpoint.framework,
        "framework_version": str(checkpoint.metadata.get("keras_version") or ""),
    }
