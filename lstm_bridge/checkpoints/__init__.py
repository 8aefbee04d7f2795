"""File → lazily readable named arrays and metadata. No meaning, no code execution, no framework."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from lstm_bridge.checkpoints.base import Array, Checkpoint, TensorInfo
from lstm_bridge.checkpoints.probe import Format, Probe
from lstm_bridge.checkpoints.source import Source
from lstm_bridge.errors import ContainerError, quote

__all__ = ["FORMATS", "Array", "Checkpoint", "TensorInfo", "open_checkpoint"]

FORMATS = (
    "torch_zip:TorchZip",
    "keras_archive:KerasArchive",
    "keras_hdf5:KerasLegacyH5",
    "keras_hdf5:KerasWeightsH5",
    "hdf5_arrays:Hdf5Arrays",
    "torch_legacy:TorchLegacy",
    "npz:NpzFile",
    "npz:NpyFile",
    "safetensors_index:TorchIndex",
    "safetensors_index:SafetensorsIndex",
    "safetensors_file:SafetensorsFile",
)
"""Every container format, as module:class; asked in this order. The only list of them."""

_NOT_CHECKPOINTS = (
    (b"version https://git-lfs", "a Git-LFS pointer", "fetch the real file with git lfs pull"),
    (b"<!doctype", "an HTML page", "download the file itself, not the page about it"),
    (b"<html", "an HTML page", "download the file itself, not the page about it"),
    (b"<?xml", "an XML document", "give the path of a checkpoint"),
    (b"\x1f\x8b", "a gzip file", "unpack it first"),
    (b"7z\xbc\xaf", "a 7-Zip archive", "unpack it first"),
    (b"GGUF", "a GGUF file", "give a torch, Keras, safetensors or NumPy file"),
    (b"PK\x05\x06", "an empty zip archive", "get the file again from where it was made"),
    (b"\x80", "a plain pickle, not torch's", "save it with torch.save"),
    (b"{", "JSON without weights", "give the file that holds the weights"),
)


def formats() -> Iterator[type[Format]]:
    """Yield the classes that ``FORMATS`` names, each imported when its turn comes."""
    for line in FORMATS:
        module, _, name = line.partition(":")
        yield getattr(import_module(f"{__name__}.{module}"), name)


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a checkpoint file of any format, found by its content.

    Args:
        path: the file.

    Returns:
        The open checkpoint: headers are checked, no array is read yet. Close it, or use ``with``.

    Raises:
        FileSystemError: if the path is no readable regular file.
        RefusedInput: if the file is no checkpoint, or a damaged, hostile or unreadable one.
    """
    probe = Probe(Source(Path(path)))
    try:
        kind = _recognise(probe)
        _check_extension(kind, probe)
        return kind.of(probe)
    except BaseException:
        probe.close()
        raise


def _recognise(probe: Probe) -> type[Format]:
    if not probe.head:
        raise probe.source.place.container("a checkpoint", "an empty file")
    head = probe.head.lstrip()
    for magic, what, fix in _NOT_CHECKPOINTS[:4]:
        if head[: len(magic)].lower() == magic:
            raise probe.source.place.container("a checkpoint", what, fix)
    for kind in formats():
        if kind.recognises(probe):
            return kind
    raise _unknown(probe)


def _unknown(probe: Probe) -> ContainerError:
    place = probe.source.place
    for magic, what, fix in _NOT_CHECKPOINTS:
        if probe.head.startswith(magic):
            return place.container("a checkpoint", what, fix)
    if probe.head[257:262] == b"ustar":
        what = "a tar file, such as torch wrote before 0.4"
        return place.container("a checkpoint", what, "load and save it with a torch that reads it")
    if probe.archive is not None:
        names = ", ".join(quote(name) for name in probe.members[:3]) or "nothing"
        got = f"a zip with {names}"
        return place.container("a torch, Keras or NumPy archive", got, "give the weights' file")
    known = ", ".join(kind.format for kind in formats())
    got = f"unknown magic {quote(probe.head[:8].decode('latin-1'))}"
    return place.container(f"a checkpoint ({known})", got, "save it in one of these formats")


def _check_extension(kind: type[Format], probe: Probe) -> None:
    """Refuse a name that claims another format than the content has."""
    suffix = probe.source.path.suffix.lower()
    if suffix in kind.extensions:
        return
    claimed = [one.format for one in formats() if suffix in one.extensions]
    if claimed:
        raise probe.source.place.container(
            f"{claimed[0]} content in a {suffix} file",
            f"{kind.format} content",
            f"rename it to *{kind.extensions[0]} if you trust it",
        )
