"""Runs commands one after the other under an audit hook and tells what each did, as JSON lines.

A process of its own, so that the hook sees nothing of pytest, and so that its peak memory is that
of the conversions alone. Not a test: ``conftest.py`` starts it.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

SEEN: list[tuple[str, str]] = []
_NEVER = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "pickle.")


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        path, mode = arguments[0], arguments[1]
        if not isinstance(path, int):
            SEEN.append(("write" if _writes(mode, arguments[2]) else "read", os.fsdecode(path)))
    elif event.startswith(_NEVER):
        SEEN.append(("never", f"{event}{arguments!r}"))
    elif event == "import":
        SEEN.append(("import", str(arguments[0])))


def _writes(mode: str | None, flags: int) -> bool:
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) or any(
        c in (mode or "") for c in "wxa+"
    )


def _peak() -> int:
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> None:
    """Read ``{"arguments": [...], "folder": ...}`` lines from standard input until it closes."""
    from click.testing import CliRunner

    from lstm_bridge.cli import main as command

    sys.addaudithook(_hook)
    for line in sys.stdin:
        task = json.loads(line)
        os.chdir(task["folder"])
        arguments = [os.fsdecode(bytes.fromhex(one)) for one in task["arguments"]]
        before = _peak()
        SEEN.clear()
        result = CliRunner().invoke(command, arguments)
        seen, error = list(SEEN), result.exception
        crash = None
        if error is not None and not isinstance(error, SystemExit):
            crash = "".join(traceback.format_exception(error))
        answer = {
            "status": result.exit_code,
            "stdout": result.stdout,
            "stderr": result.stderr,
            "crash": crash,
            "seen": seen,
            "grown": _peak() - before,
        }
        sys.__stdout__.write(json.dumps(answer) + "\n")
        sys.__stdout__.flush()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main()
