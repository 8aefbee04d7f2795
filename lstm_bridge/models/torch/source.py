"""Where in a user's own code something happened, in one short phrase."""

from __future__ import annotations

import inspect
import linecache
import re
from pathlib import Path
from types import TracebackType

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<name>\S+)')
_HERE = str(Path(__file__).resolve().parents[1])


def line_of_trace(stack_trace: str | None, package: str) -> str:
    """Return the innermost user line of a recorded stack, e.g. ``net.py:12 'y = f(x)'``.

    Args:
        stack_trace: text in Python's form.
        package: folder of the framework, whose lines do not count.
    """
    found = [(m["file"], int(m["line"])) for m in _FRAME.finditer(stack_trace or "")]
    return _last_own(found, package)


def line_of_error(error: BaseException, package: str) -> str:
    """Return the innermost user line that an error passed through."""
    found = []
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        found.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    return _last_own(found, package)


def _last_own(frames: list[tuple[str, int]], package: str) -> str:
    own = [(f, n) for f, n in frames if is_users(f, package)]
    if not own:
        return "an unknown line"
    file, number = own[-1]
    code = linecache.getline(file, number).strip()
    return f"{Path(file).name}:{number} {code!r}"


def current_line(package: str) -> str:
    """Return the innermost user line that is running now.

    Args:
        package: folder of the framework, whose lines do not count.
    """
    found = [(f.filename, f.lineno) for f in reversed(inspect.stack(0))]
    return _last_own(found, package or _HERE)


def is_users(file: str, package: str) -> bool:
    """Whether a file is neither the framework's, nor this package's, nor Python's own machinery."""
    return not file.startswith((package, _HERE, "<"))
