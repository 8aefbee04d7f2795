"""Targets that appear whole or not at all, also when the process is killed half-way."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from lstm_bridge.errors import FileSystemError
from lstm_bridge.models.schema import MARK

_RENAME_EXCHANGE = 2  # renameat2's flag on Linux, renamex_np's on macOS


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
    _check_target(target, force)
    scratch = target.with_name(f".{target.name}.{secrets.token_hex(6)}.partial")
    with _refusing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            scratch.mkdir()
            yield scratch
            _publish(scratch, target)
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
    if os.path.lexists(target):
        if target.is_symlink() or not target.is_file():
            got, fix = "a folder, link or device", "choose another target"
            raise FileSystemError(str(target), expected="no such path", got=got, fix=fix)
        if not force:
            got, fix = "a file", "pass --force to replace it"
            raise FileSystemError(str(target), expected="no such path", got=got, fix=fix)
    scratch = target.with_name(f".{target.name}.{secrets.token_hex(6)}.partial")
    with _refusing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield scratch
            os.replace(scratch, target)
        finally:
            scratch.unlink(missing_ok=True)


@contextlib.contextmanager
def _refusing(target: Path) -> Iterator[None]:
    """Turn what the operating system says of ``target`` into one line."""
    try:
        yield
    except FileSystemError:
        raise
    except OSError as error:
        raise FileSystemError(
            str(target), expected="a writable place", got=error.strerror or str(error)
        ) from error


def _check_target(target: Path, force: bool) -> None:
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        raise FileSystemError(
            str(target), expected="no such path", got="a file or link", fix="choose another target"
        )
    if not force:
        raise FileSystemError(
            str(target), expected="no such path", got="a folder", fix="pass --force to replace it"
        )
    if any(target.iterdir()) and not (target / MARK).is_file():
        raise FileSystemError(
            str(target),
            expected="a converted model",
            got="a folder of other things, which --force does not delete",
            fix="choose another target",
        )


def _publish(scratch: Path, target: Path) -> None:
    """Put the finished folder in place; the scratch name then holds what stood there before."""
    if not target.exists():
        os.rename(scratch, target)
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
