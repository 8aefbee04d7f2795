"""The account of a conversion: every output tensor, where it came from, what happened to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lstm_bridge import __version__
from lstm_bridge.checkpoints.base import Array, Checkpoint, Filling
from lstm_bridge.checkpoints.dtypes import DTYPES, FLOATS
from lstm_bridge.checkpoints.safetensors_index import SafetensorsIndex
from lstm_bridge.checkpoints.safetensors_writer import Made
from lstm_bridge.converters.layer import FoundLayer
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
from lstm_bridge.errors import TensorError
from lstm_bridge.models.content import Content
from lstm_bridge.models.digests import Digests
from lstm_bridge.models.quantize import Packed
from lstm_bridge.models.schema import FORMAT, FORMAT_VERSION

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
    """The account of a conversion, as the output carries it.

    Args:
        source: the source's file name, container format, framework, version, size and SHA-256.
        layout: ``"source"``, or the framework it was written for.
        layers: path, class, options and rules of each layer.
        tensors: output tensor → its fate.
        left_out: what the source holds besides weights → why it is left out.
        ignored: tensors left out because the caller asked for it.
        description: what makes a whole model again; empty where the layers alone are known.
    """

    source: dict[str, Any]
    layout: str
    layers: tuple[dict[str, Any], ...]
    tensors: dict[str, TensorFate]
    left_out: dict[str, str]
    ignored: tuple[str, ...]
    description: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the account as plain data, ready for ``json.dumps``."""
        head = {"format": FORMAT, "version": FORMAT_VERSION, "lstm_bridge": __version__}
        account: dict[str, Any] = asdict(self)
        return {**head, **account.pop("description"), **account}


class _Job(NamedTuple):
    """One array to write."""

    recipe: Recipe
    shape: Shape
    stored: str  # dtype code in the source
    written: str  # dtype code in the output
    packed: Packed | None = None


class Policy(NamedTuple):
    """What a caller allows to happen to numbers.

    Args:
        allow_downcast: write float64 as float32. Default: False, refuse it.
        allow_nonfinite: take NaN and infinity as they are. Default: False, refuse them.
    """

    allow_downcast: bool = False
    allow_nonfinite: bool = False


class Accountant:
    """Makes the output's arrays one at a time, checking and digesting each as it goes out.

    Args:
        checkpoint: the open source.
        facts: header facts of its tensors.
        content: what to make of them.
        policy: what may happen to numbers.
        progress: called as arrays are made; None for silence.

    Raises:
        TensorError: a tensor's dtype is not taken; nothing has been read yet.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        facts: Mapping[str, Entry],
        content: Content,
        policy: Policy,
        progress: Progress | None,
    ) -> None:
        self._checkpoint, self._policy, self._progress = checkpoint, policy, progress
        self._content = content
        self._jobs = {name: self._job(facts, name) for name in sorted(content.recipes)}
        self._digests = Digests(files_of(checkpoint))
        self._done = 0
        self._total = sum(_nbytes(job) for job in self._jobs.values())

    @property
    def content(self) -> Content:
        """What is written."""
        return self._content

    def _job(self, facts: Mapping[str, Entry], name: str) -> _Job:
        recipe = self._content.recipes[name]
        origin = next(sources(recipe))
        stored = facts[origin].dtype
        if stored == "F64" and not self._policy.allow_downcast:
            raise TensorError(
                self._checkpoint.path,
                tensor=origin,
                expected="float32 or narrower, since MLX has float64 on the CPU only",
                got="float64",
                fix="pass --allow-downcast to round it to float32",
            )
        packed = self._content.packed.get(name)
        if packed is not None:
            return _Job(recipe, packed.shape, stored, packed.dtype, packed)
        shape = self._content.shapes.get(name) or shape_of(recipe, facts)
        return _Job(recipe, shape, stored, _narrowed(stored))

    def entries(self) -> Iterator[tuple[str, tuple[str, Shape, Callable[[], Array]]]]:
        """Yield each output tensor's name with its dtype, shape and the function that makes it."""
        for name, job in self._jobs.items():
            yield name, (job.written, job.shape, partial(self.make, name))

    def passing(self) -> Iterator[tuple[str, tuple[str, Shape, Callable[[], Made]]]]:
        """Yield the same, with functions that make of what is copied its bytes block by block."""
        for name, job in self._jobs.items():
            yield name, (job.written, job.shape, partial(self._made, name))

    def _made(self, name: str) -> Made:
        job = self._jobs[name]
        copied = isinstance(job.recipe, Source) and job.stored == job.written and not job.packed
        filling = self._checkpoint.blocks(job.recipe.name) if copied else None  # type: ignore[union-attr]
        return self.make(name) if filling is None else self._passed(name, filling)

    def _passed(self, name: str, filling: Filling) -> Iterator[memoryview]:
        """Yield one output array's bytes, each block checked before."""
        job = self._jobs[name]
        origin, kind = next(sources(job.recipe)), DTYPES[job.stored].bits
        check = job.stored in FLOATS and not self._policy.allow_nonfinite
        for block in self._digests.passing(name, filling):
            if check and _nonfinite(np.frombuffer(block, kind), job.stored).any():
                whole = self._checkpoint.read(origin)  # to say which, and how many
                _check_finite(self._checkpoint.path, origin, whole, job.stored)
            self._report(len(block))
            yield block

    def _report(self, nbytes: int) -> None:
        self._done += nbytes
        if self._progress is not None:
            self._progress(self._done, self._total)

    def make(self, name: str) -> Array:
        """Return one output array; bfloat16 as its bits.

        Raises:
            TensorError: it holds NaN or infinity and the policy does not allow them.
        """
        job = self._jobs[name]
        self._digests.settle()
        array = evaluate(job.recipe, self._checkpoint.read)
        if not self._policy.allow_nonfinite:
            _check_finite(self._checkpoint.path, next(sources(job.recipe)), array, job.stored)
        if job.packed is not None:
            code = _narrowed(job.stored)
            array = job.packed.array(np.asarray(array, DTYPES[code].bits), code)
        array = np.asarray(array, DTYPES[job.written].bits, order="C").reshape(job.shape)
        self._digests.add(name, array)
        self._report(array.nbytes)
        return array

    def account(self, layout: str, *, draft: bool = False) -> Conversion:
        """Return the account; in a draft, every digest is sixty-four zeros."""
        files = None if draft else self._digests.files()
        arrays = None if draft else self._digests.arrays()
        return Conversion(
            source=_describe(self._checkpoint, files),
            layout=layout,
            layers=tuple(_layer_entry(layer) for layer in self._content.layers),
            tensors={name: self._fate(name, arrays) for name in self._jobs},
            left_out={**self._checkpoint.left_out, **self._content.left_out},
            ignored=self._content.ignored,
            description=dict(self._content.description),
        )

    def close(self) -> None:
        """Stop hashing the source, when something was refused before it was done."""
        self._digests.close()

    def _fate(self, name: str, digests: Mapping[str, str] | None) -> TensorFate:
        job = self._jobs[name]
        how = describe(job.recipe) + ("" if job.stored != "F64" else ", rounded to float32")
        how += f", quantized ({job.packed.leaf})" if job.packed is not None else ""
        return TensorFate(
            tuple(sources(job.recipe)),
            how,
            job.shape,
            job.written,
            digests[name] if digests else _NO_DIGEST,
        )


_NO_DIGEST = "0" * 64


def _narrowed(code: str) -> str:
    return "F32" if code == "F64" else code


def _nbytes(job: _Job) -> int:
    return int(np.prod(job.shape, dtype=np.int64)) * DTYPES[job.written].bits.itemsize


_BLOCK = 1 << 18  # elements looked at together: what a core's cache holds


def _check_finite(file: Path, name: str, array: Array, code: str) -> None:
    """Refuse NaN and infinity, naming the first and counting them."""
    if code not in FLOATS:
        return
    flat = array.reshape(-1)
    starts = range(0, flat.size, _BLOCK)
    bad = ((k, _nonfinite(flat[k : k + _BLOCK], code)) for k in starts)
    found = [(k + int(block.argmax()), int(block.sum())) for k, block in bad if block.any()]
    if found:
        first = [int(i) for i in np.unravel_index(found[0][0], array.shape)]
        raise TensorError(
            file,
            tensor=name,
            expected="finite numbers",
            got=f"{sum(count for _, count in found)} NaN or infinite, the first at {first}",
            fix="pass --allow-nonfinite to take them as they are",
        )


def _nonfinite(block: Array, code: str) -> Array:
    bad: Array = (block & 0x7F80) == 0x7F80 if code == "BF16" else ~np.isfinite(block)
    return bad


def _layer_entry(layer: FoundLayer) -> dict[str, Any]:
    return {
        "path": layer.path,
        "class": layer.kind,
        "options": dict(layer.options),
        "parameters": sorted(layer.parameters),
        "rules": list(layer.rules),
    }


def _describe(checkpoint: Checkpoint, digests: Mapping[str, str] | None) -> dict[str, Any]:
    names = [path.name for path in files_of(checkpoint)]
    sha256 = {name: digests[name] if digests else _NO_DIGEST for name in names}
    described = {
        "file": names[0],
        "bytes": checkpoint.path.stat().st_size,
        "sha256": sha256[names[0]],
        "format": checkpoint.format,
        "framework": checkpoint.framework,
        "framework_version": str(checkpoint.metadata.get("keras_version") or ""),
    }
    return described | ({"shards": {n: sha256[n] for n in names[1:]}} if names[1:] else {})


def files_of(checkpoint: Checkpoint) -> list[Path]:
    """Return the files that a checkpoint is read from: one, but for an index and its shards."""
    shards = checkpoint.metadata["shards"] if isinstance(checkpoint, SafetensorsIndex) else ()
    return [checkpoint.path, *(checkpoint.path.parent / shard for shard in shards)]
