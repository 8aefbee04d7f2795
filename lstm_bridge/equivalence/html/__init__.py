"""Reports as self-contained web pages: no network, no scripts, no other files."""

from __future__ import annotations

from lstm_bridge.equivalence.html.page import document, report_body, report_page, write_page

__all__ = ["document", "report_body", "report_page", "write_page"]
