"""A tree of checkpoints, converted one by one: refusals are listed, and the rest goes on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lstm_bridge.checkpoints import formats
from lstm_bridge.checkpoints.probe import Probe
from lstm_bridge.checkpoints.source import Source
from lstm_bridge.converters.plan import check_assumptions
from lstm_bridge.converters.targets import TARGETS
from lstm_bridge.errors import BridgeError, FileSystemError, RefusedInput, UsageError, printable
from lstm_bridge.models.convert import check_layout, check_quantize, convert
from lstm_bridge.models.directory import INDEX_ENDINGS, index_in, is_converted, shards_of
from lstm_bridge.models.source import Pathish

Fate = Literal["converted", "refused", "skipped"]

TreeProgress = Callable[[str, int, int], None]
"""Called with the path in hand, the checkpoints done and the checkpoints in all."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file of a tree.

    Args:
        path: the file, relative to the tree.
        fate: converted, refused or skipped.
        detail: the output, relative to the target; or the reason.
        exit_status: what converting this file alone would exit with.
    """

    path: str
    fate: Fate
    detail: str
    exit_status: int = 0


@dataclass(frozen=True, slots=True)
class TreeReport:
    """What became of every file of a tree.

    Args:
        source: the tree.
        target: the folder that holds the outputs.
        outcomes: one per file, in the order they were met.
    """

    source: str
    target: str
    outcomes: tuple[Outcome, ...]

    def of(self, fate: Fate) -> list[Outcome]:
        """Return the outcomes of one kind."""
        return [one for one in self.outcomes if one.fate == fate]

    @property
    def exit_status(self) -> int:
        """0; 3 when an input was refused; 4 when only the file system stood in the way."""
        statuses = {one.exit_status for one in self.of("refused")}
        if not statuses:
            return 0
        only_files = statuses == {FileSystemError.exit_status}
        return FileSystemError.exit_status if only_files else RefusedInput.exit_status

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain data, ready for ``json.dumps``."""
        return asdict(self)


class _Found(NamedTuple):
    """One entry of the walk: a checkpoint to convert, or why it is none."""

    path: Path
    skipped: str = ""


def is_tree(source: Pathish) -> bool:
    """Say whether a path is a folder of files, not one checkpoint that happens to be a folder."""
    folder = Path(source)
    return folder.is_dir() and not is_converted(folder) and index_in(folder) is None


def convert_tree(
    source: Pathish,
    target: Pathish,
    *,
    progress: TreeProgress | None = None,
    **options: Any,
) -> TreeReport:
    """Convert every checkpoint below a folder, going on past those that are refused.

    ``a/model.pt`` becomes the folder ``target/a/model.pt``; with ``to``, a file of that name,
    followed by the framework's suffix where it does not end in one. Links are followed to files
    inside the tree only, and never to folders.

    Args:
        source: the folder; it may hold converted folders and sharded checkpoints.
        target: the folder for the outputs; one inside ``source`` is left out of the walk.
        progress: called before each checkpoint and at the end. Default: None.
        options: those of ``convert``, for every checkpoint alike.

    Returns:
        TreeReport.

    Raises:
        UsageError: ``source`` is no such folder, or an option is wrong for every file.
        FileSystemError: ``target`` is or holds ``source``.
    """
    root, out = Path(source), Path(target)
    _check(root, out, options)
    found = [*_walk(root, out)]
    todo = sum(not one.skipped for one in found)
    outcomes: list[Outcome] = []
    written: set[tuple[int, int]] = set()
    done = 0
    for path, skipped in found:
        name = path.relative_to(root).as_posix()
        if skipped:
            outcomes.append(Outcome(name, "skipped", skipped))
            continue
        if progress is not None:
            progress(name, done, todo)
        outcomes.append(_convert_one(path, name, out, written, options))
        done += 1
    if progress is not None:
        progress("", done, todo)
    return TreeReport(str(source), str(target), tuple(outcomes))


def _check(root: Path, out: Path, options: dict[str, Any]) -> None:
    if not is_tree(root):
        raise UsageError("source", expected="a folder of checkpoints", got=printable(root))
    to, layout = options.get("to"), options.get("layout", "source")
    if to is not None and to not in TARGETS:
        raise UsageError("to", expected=f"one of {', '.join(TARGETS)}", got=repr(to))
    check_layout(layout, to)
    check_quantize(options.get("quantize"), layout, to)
    check_assumptions(options.get("assume") or {})
    if _real(out) in (_real(root), *_real(root).parents):
        raise FileSystemError(
            printable(out),
            expected="a target apart from the source",
            got="one that is or holds it",
            fix="choose another target",
        )


def _walk(root: Path, out: Path) -> Iterator[_Found]:
    """Yield every file below ``root``; folders that are checkpoints as one."""
    inside, left_out = _real(root), _real(out)
    for folder, folders, files in os.walk(root, onerror=_raise, followlinks=False):
        here = Path(folder)
        kept = []
        for name in sorted(folders):
            path = here / name
            if path.is_symlink():
                yield _Found(path, "a link to a folder")
            elif is_converted(path):
                yield _Found(path)
            elif _real(path) != left_out:
                kept.append(name)
        folders[:] = kept
        shards = {shard for name in files for shard in shards_of(here / name)}
        for name in sorted(files):
            path = here / name
            reason = "a shard, read through its index" if name in shards else ""
            yield _Found(path, reason or _no_checkpoint(path, inside))


def _real(path: Path) -> Path:
    """Return where a path leads; unlike Path.resolve, also of links that lead round."""
    return Path(os.path.realpath(path))


def _raise(error: OSError) -> None:
    raise FileSystemError(
        printable(error.filename), expected="a readable folder", got=error.strerror or str(error)
    )


def _no_checkpoint(path: Path, inside: Path) -> str:
    """Return why a file is passed over; "" if its content or its name makes it a checkpoint.

    A name that claims a format is enough: what cannot be read under it must be refused aloud.
    """
    if path.is_symlink() and not _real(path).is_relative_to(inside):
        return "a link out of the tree"
    claims = {ending for one in formats() for ending in one.extensions} - {".json"}
    if path.suffix.lower() in claims or path.name.endswith(INDEX_ENDINGS):
        return ""
    try:
        probe = Probe(Source(path))
    except FileSystemError as error:
        return error.got
    try:
        recognised = any(kind.recognises(probe) for kind in formats())
    except RefusedInput as error:
        return f"no checkpoint's name, and {error.got}"
    finally:
        probe.close()
    return "" if recognised else "no checkpoint"


def _convert_one(
    path: Path, name: str, out: Path, written: set[tuple[int, int]], options: dict[str, Any]
) -> Outcome:
    target = out / _output_name(name, options.get("to"))
    try:
        _check_own(target, written)
        convert(path, target, of_many=True, **options)
    except BridgeError as error:
        return Outcome(name, "refused", str(error), error.exit_status)
    facts = target.stat()
    written.add((facts.st_dev, facts.st_ino))
    return Outcome(name, "converted", target.relative_to(out).as_posix())


def _output_name(name: str, to: str | None) -> str:
    if to is None or name.endswith(TARGETS[to].suffixes):
        return name
    return name + TARGETS[to].suffixes[0]


def _check_own(target: Path, written: set[tuple[int, int]]) -> None:
    """Refuse a target that this very run has written: two names, one file on this file system."""
    if target.exists():
        facts = target.stat()
        if (facts.st_dev, facts.st_ino) in written:
            raise FileSystemError(
                printable(target),
                expected="an output of its own",
                got="that of another checkpoint of the tree",
                fix="convert it by itself",
            )
