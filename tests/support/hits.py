"""Hits of a search, and pages in full."""

from __future__ import annotations

from serving.documents.page import Line
from serving.library.records import Hit, StoredPage
from ui.components.open_page import OpenPage

NASTY = '<img src=x onerror=alert(1)>".png'


def hit(rank: int = 1, score: float = 0.5, line: Line | None = None, **values: object) -> Hit:
    fields: dict[str, object] = {
        "id": "0123456789abcdef", "collection": "c", "file": NASTY, "page": 2, "pages": 6, "width": 100, "height": 200,
        "read": True,
    }  # fmt: skip
    return Hit(rank, score, StoredPage(**{**fields, **values}), line)  # type: ignore[arg-type]


def opened(found: Hit | None = None, *lines: Line, **values: object) -> OpenPage:
    """One of the pages found, shown in full."""
    found = found or hit(**values)
    return OpenPage(found.page, lines, found, found, was_read=found.page.read)
