"""The pytest plugin: ``assert_equivalent`` for tests of ports, and one page of all comparisons.

It is loaded with every pytest run where the package is installed, so it imports nothing but pytest
until a test asks for the fixture.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from lstm_bridge.equivalence.report import Report

MARKER = (
    "equivalence(dtype=None, gradients=False, seed=0, max_ratio=4, max_abs=None): how "
    "assert_equivalent judges in this test; limits may be tighter than the rule's, never looser."
)
_OPTION = "--equivalence-report"
_ENDING = ".comparison.json"
_TIGHTER = ("max_ratio", "max_abs")


class AssertEquivalent(Protocol):
    """What the fixture ``assert_equivalent`` is."""

    def __call__(self, source: Any, ported: Any, inputs: Any = None, **options: Any) -> Report:
        """Fail the test unless ``ported`` is equivalent to ``source``; see the fixture."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("lstm_bridge", "numerical equivalence").addoption(
        _OPTION,
        metavar="DIR",
        default=None,
        help="write every comparison of assert_equivalent into DIR/index.html",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", MARKER)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Forget the comparisons of an earlier run, before any worker of this one starts."""
    folder = _folder(session.config)
    if folder is not None and not _is_worker(session.config):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"*{_ENDING}"):
            old.unlink()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Collect the comparisons of all workers into one page."""
    folder = _folder(session.config)
    if folder is None or _is_worker(session.config):
        return
    from lstm_bridge.equivalence.html.collection import collection_page

    entries = [json.loads(f.read_text(encoding="utf-8")) for f in folder.glob(f"*{_ENDING}")]
    entries.sort(key=lambda entry: (entry["test"], entry["number"]))
    (folder / "index.html").write_text(collection_page(entries), encoding="utf-8")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say where the page is."""
    folder = _folder(config)
    if folder is not None:
        count = len(list(folder.glob(f"*{_ENDING}")))
        terminalreporter.write_line(f"{count} comparisons: {folder / 'index.html'}")


@pytest.fixture
def assert_equivalent(request: pytest.FixtureRequest) -> AssertEquivalent:
    """Fail the test unless a port is equivalent to its source.

    ``assert_equivalent(source, ported, inputs=None, **options)`` takes what ``lstm_bridge.compare``
    takes, with the test's ``@pytest.mark.equivalence(...)`` as defaults, and returns the report.
    """
    marker = request.node.get_closest_marker("equivalence")
    policy = dict(marker.kwargs) if marker is not None else {}
    count = 0

    def check(source: Any, ported: Any, inputs: Any = None, **options: Any) -> Report:
        __tracebackhide__ = True
        nonlocal count
        import lstm_bridge

        chosen = policy | options
        limits = {name: chosen.pop(name) for name in _TIGHTER if name in chosen}
        report: Report = lstm_bridge.compare(source, ported, inputs, **chosen)
        wrong = _wrong(report, limits)
        count += 1
        folder = _folder(request.config)
        if folder is not None:
            _keep(folder, request.node.nodeid, count, report, wrong)
        if wrong:
            pytest.fail(f"{wrong}\n{_shown(report)}", pytrace=False)
        return report

    return check


def _wrong(report: Report, limits: dict[str, Any]) -> str:
    """One line of what is not as asked; "" if all is."""
    from lstm_bridge.equivalence.judge import ALLOWED_RATIO
    from lstm_bridge.errors import UsageError

    ratio, largest = limits.get("max_ratio"), limits.get("max_abs")
    if ratio is not None and not 0 < ratio <= ALLOWED_RATIO:
        raise UsageError(
            "max_ratio",
            expected=f"a number up to {ALLOWED_RATIO:g}, since more is not equivalent",
            got=repr(ratio),
        )
    if not report.passed:
        return f"{report.ported} is not equivalent to {report.source or 'its source'}"
    if ratio is not None and report.ratio > ratio:
        return f"the error ratio is {report.ratio:.3g}; this test allows {ratio:g}"
    if largest is not None and report.max_abs > largest:
        return f"the largest error is {report.max_abs:.3g}; this test allows {largest:g}"
    return ""


def _keep(folder: Path, test: str, number: int, report: Report, wrong: str) -> None:
    from lstm_bridge.equivalence.html import report_body

    entry = {
        "test": test,
        "number": number,
        "passed": not wrong,
        "wrong": wrong,
        "ported": report.ported,
        "source": report.source,
        "ratio": report.ratio,
        "max_abs": report.max_abs,
        "first_divergence": str(report.first_divergence or ""),
        "body": str(report_body(report)),
    }
    digest = hashlib.sha256(test.encode()).hexdigest()[:20]
    target = folder / f"{digest}-{number}{_ENDING}"
    target.write_text(json.dumps(entry), encoding="utf-8")


def _shown(report: Report) -> str:
    from rich.console import Console

    console = Console(width=120, no_color=True)
    with console.capture() as captured:
        console.print(report.to_table())
    return captured.get()


def _folder(config: pytest.Config) -> Path | None:
    """The folder of the page, where the run was started, and not where a test stands."""
    given = config.getoption(_OPTION)
    return None if given is None else config.invocation_params.dir / given


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")
