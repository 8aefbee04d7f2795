"""All comparisons of a test run on one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lstm_bridge.equivalence.html.elements import Markup, element, number
from lstm_bridge.equivalence.html.page import badge, document, scrolled, versions

_HEAD = ("test", "verdict", "ratio", "max abs", "first divergence")


def collection_page(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return the page.

    Args:
        entries: per comparison ``test``, ``number`` within the test, ``passed``, ``wrong``,
            ``ported``, ``source``, ``ratio``, ``max_abs``, ``first_divergence`` and ``body``, which
            ``report_body`` made.
    """
    failed = sum(not entry["passed"] for entry in entries)
    count = f"{len(entries)} comparison{'' if len(entries) == 1 else 's'}"
    verdict = badge(not failed, f"{count}, all equivalent", f"{failed} of {count} NOT equivalent")
    header = element(
        "header", element("h1", "Numerical equivalence"), element("p", verdict, " ", versions())
    )
    rows = [_row(k, entry) for k, entry in enumerate(entries)]
    sections = (_section(k, entry) for k, entry in enumerate(entries))
    main = element("main", scrolled(_HEAD, rows), *sections)
    return document("Numerical equivalence", header, main)


def _name(entry: Mapping[str, Any]) -> str:
    again = f" ({entry['number']})" if entry["number"] > 1 else ""
    return f"{entry['test']}{again}"


def _row(k: int, entry: Mapping[str, Any]) -> Markup:
    cells = (
        element("a", _name(entry), href=f"#c{k}"),
        badge(entry["passed"]),
        number(entry["ratio"]),
        number(entry["max_abs"]),
        entry["first_divergence"],
    )
    return element("tr", *(element("td", cell) for cell in cells))


def _section(k: int, entry: Mapping[str, Any]) -> Markup:
    told = f"{entry['ported']} against {entry['source'] or 'nothing'}"
    wrong = element("p", entry["wrong"], class_="notice") if entry["wrong"] else Markup("")
    body = Markup(entry["body"])
    return element(
        "section",
        element("h2", _name(entry), " ", badge(entry["passed"])),
        element("p", told, class_="soft"),
        wrong,
        element("details", element("summary", "charts and tables"), body),
        id=f"c{k}",
    )
