"""Targets that appear whole or not at all, also when the process is killed half-way."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from lstm_bridge.errors import FileSystemError, printable
from lstm_bridge.models.schema import MARK

_RENAME_EXCHANGE = 2  # renameat2's flag on Linux, renamex_np's on macOS
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFREG: "a file", stat.S_IFLNK: "a link"}


@contextlib.contextmanager
def new_folder(target: Path, *, force: bool) -> Iterator[Path]:
    """Yield a scratch folder beside ``target``; on success it becomes ``target``.

    Args:
        target: the folder to make.
        force: replace a converted model that stands there.

    Raises:
        FileSystemError: the target exists, or cannot be written.
    """
    target = Path(os.path.abspath(target))
    _check_folder(target, force)
    with _refusing(target), _parents(target):
        scratch = _beside(target)
        try:
            scratch.mkdir()
            yield scratch
            _publish_folder(scratch, target, force)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def new_file(target: Path, *, force: bool) -> Iterator[Path]:
    """Yield a scratch file's path beside ``target``; on success it becomes ``target``.

    Args:
        target: the file to make.
        force: replace a regular file that stands there.

    Raises:
        FileSystemError: the target exists, or cannot be written.
    """
    target = Path(os.path.abspath(target))
    _check_file(target, force)
    with _refusing(target), _parents(target):
        scratch = _beside(target)
        try:
            yield scratch
            _publish_file(scratch, target, force)
        finally:
            scratch.unlink(missing_ok=True)


def _beside(target: Path) -> Path:
    # Cut short: the scratch name must not be longer than the file system allows where the
    # target's own name is not.
    return target.with_name(f".{target.name[:40]}.{secrets.token_hex(6)}.partial")


@contextlib.contextmanager
def _refusing(target: Path) -> Iterator[None]:
    """Turn what the operating system says of ``target`` into one line."""
    try:
        yield
    except FileSystemError:
        raise
    except OSError as error:
        raise FileSystemError(
            printable(target),
            expected="a writable place",
            got=error.strerror or str(error),
            fix="nothing was written: make room or choose another target",
        ) from error


@contextlib.contextmanager
def _parents(target: Path) -> Iterator[None]:
    """Make the folders that ``target`` needs; those made here go again when it fails."""
    missing = [parent for parent in target.parents if not parent.exists()]
    made: list[Path] = []
    try:
        for parent in reversed(missing):
            parent.mkdir(exist_ok=True)
            made.append(parent)
        yield
    except BaseException:
        for parent in reversed(made):
            with contextlib.suppress(OSError):  # another writer may be at work in it
                parent.rmdir()
        raise


def _kind(path: Path) -> str:
    """Return what stands at a path, links not followed; "" for nothing."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ""
    return _KINDS.get(stat.S_IFMT(mode), "a device, FIFO or socket")


def _check_folder(target: Path, force: bool) -> None:
    """Refuse what stands at ``target``, unless it is a converted model and may be replaced."""
    with _refusing(target):
        kind = _kind(target)
        if kind == "a folder" and force:
            if any(target.iterdir()) and not (target / MARK).is_file():
                raise FileSystemError(
                    printable(target),
                    expected="a converted model",
                    got="a folder of other things, which --force does not delete",
                    fix="choose another target",
                )
        elif kind:
            raise _taken(target, kind, "a folder")


def _check_file(target: Path, force: bool) -> None:
    """Refuse what stands at ``target``, unless it is a regular file and may be replaced."""
    with _refusing(target):
        kind = _kind(target)
        if kind and not (kind == "a file" and force):
            raise _taken(target, kind, "a file")


def _taken(target: Path, kind: str, replaceable: str) -> FileSystemError:
    fix = "pass --force to replace it" if kind == replaceable else "choose another target"
    return FileSystemError(printable(target), expected="no such path", got=kind, fix=fix)


def _publish_folder(scratch: Path, target: Path, force: bool) -> None:
    """Put the finished folder in place; the scratch name then holds what stood there before."""
    if not force or not target.exists():
        _check_folder(target, force)  # another writer may have been faster
        os.rename(scratch, target)  # which fails, and is said, if one still is
    elif not _exchange(scratch, target):
        # Without an atomic exchange the old folder steps aside first, and comes back on failure.
        aside = scratch.with_suffix(".old")
        os.rename(target, aside)
        try:
            os.rename(scratch, target)
        except OSError:
            os.rename(aside, target)
            raise
        shutil.rmtree(aside, ignore_errors=True)


def _publish_file(scratch: Path, target: Path, force: bool) -> None:
    """Put the finished file in place; without ``force``, only where nothing stands."""
    if force:
        _check_file(target, force)
        os.replace(scratch, target)
        return
    try:
        os.link(scratch, target)
    except FileExistsError:
        raise _taken(target, _kind(target), "a file") from None
    except (OSError, AttributeError):  # no hard links here, as on exFAT
        _check_file(target, force)
        os.replace(scratch, target)


def _exchange(a: Path, b: Path) -> bool:
    """Swap two folders in one step of the file system; False where that does not exist."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        first, second = os.fsencode(a), os.fsencode(b)
        if sys.platform == "darwin":
            return int(libc.renamex_np(first, second, _RENAME_EXCHANGE)) == 0
        at_cwd = -100
        return int(libc.renameat2(at_cwd, first, at_cwd, second, _RENAME_EXCHANGE)) == 0
    except (AttributeError, OSError, TypeError):
        return False
