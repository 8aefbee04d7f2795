"""Writes Keras 3's ``.weights.h5`` and ``.keras``, without Keras."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

import h5py
import numpy as np

from lstm_bridge.checkpoints.base import Array

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

Entry = tuple[str, tuple[int, ...], Callable[[], Array]]

KERAS_VERSION = "3.0.0"
"""The oldest release that reads what is written here."""

NOTE = "lstm_bridge"
"""Attributes of the weights file's root, numbered from 0, that hold the conversion's account."""

_ATTRIBUTE = 60_000  # HDF5 holds attributes of less than 64 KiB

_EPOCH = (1980, 1, 1, 0, 0, 0)  # one date for all files: the same content gives the same bytes


def write_keras_weights(
    target: Path, entries: Iterable[tuple[str, Entry]], note: Callable[[], bytes]
) -> None:
    """Write a ``.weights.h5``, holding one tensor at a time.

    Args:
        target: the file to write.
        entries: dataset path with (dtype code, shape, function that makes the array).
        note: called once all arrays are written; kept as attributes of the root.
    """
    with _Steady(target) as steady, h5py.File(steady, "w", libver="earliest") as file:
        for path, (dtype, shape, make) in entries:
            steady.check()
            array = np.asarray(make(), order="C")
            # Keras keeps bfloat16 as two opaque bytes, and says so beside them.
            stored = array.view("V2") if dtype == "BF16" else array
            dataset = file.create_dataset(path, shape, stored.dtype, data=stored)
            if dtype == "BF16":
                dataset.attrs["dtype"] = "bfloat16"
            _own_variables(file, path)
        text = note()
        for k in range(0, len(text), _ATTRIBUTE):
            file.attrs[f"{NOTE}{k // _ATTRIBUTE}"] = np.void(text[k : k + _ATTRIBUTE])


def _own_variables(file: h5py.File, path: str) -> None:
    """Give all that hold a layer a group of variables, if an empty one: tf.keras asks for it."""
    owner = path.rpartition("/vars/")[0]
    while owner:
        owner = owner.rpartition("/")[0]
        file.require_group(f"{owner}/vars")


class _Steady(io.FileIO):
    """A new file for the HDF5 library, which cannot close a file that it failed to write to.

    It is told that all went well; ``check``, and leaving the context, tell the caller of the first
    failure.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self._failure: OSError | None = None

    def write(self, data: Buffer) -> int:
        """Write all of ``data``; after a failure, none of it."""
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view) and self._failure is None:
            try:
                done += super().write(view[done:])
            except OSError as error:
                self._failure = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the file's length, unless it failed before."""
        try:
            return super().truncate(size) if self._failure is None else 0
        except OSError as error:
            self._failure = error
            return 0

    def check(self) -> None:
        """Raise the first failure, if there was one."""
        if self._failure is not None:
            raise self._failure

    def __exit__(self, *error: object) -> None:
        self.close()
        self.check()


def write_keras_archive(
    target: Path,
    entries: Iterable[tuple[str, Entry]],
    note: Callable[[], bytes],
    config: dict[str, Any],
) -> None:
    """Write a ``.keras`` archive.

    Args:
        target: the file to write.
        entries: dataset path with (dtype code, shape, function that makes the array).
        note: called once all arrays are written; kept in the weights file.
        config: the serialized model.
    """
    weights = target.with_name(f"{target.name}.weights")
    try:
        write_keras_weights(weights, entries, note)
        with ZipFile(target, "w", ZIP_STORED) as archive:
            version = json.dumps({"keras_version": KERAS_VERSION, "date_saved": ""})
            for name, text in (("metadata.json", version), ("config.json", json.dumps(config))):
                archive.writestr(ZipInfo(name, _EPOCH), text)
            info = ZipInfo("model.weights.h5", _EPOCH)
            with archive.open(info, "w", force_zip64=True) as member, open(weights, "rb") as file:
                while block := file.read(1 << 20):
                    member.write(block)
    finally:
        weights.unlink(missing_ok=True)
