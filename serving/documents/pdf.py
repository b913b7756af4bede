"""Opens PDF files: pictures of bounded size, and the text layer where there is one. PDFium runs in `parser_pool`."""

from __future__ import annotations

from pathlib import Path

from pydantic import NonNegativeInt, TypeAdapter

from serving.documents.page import PageFile
from serving.documents.parsed_pages import ParsedPages, describe_parser_error
from serving.documents.parser_pool import Parse, ParserFailed
from serving.errors import TooLargeError, UnreadableError
from serving.settings import Settings

COUNT = TypeAdapter(dict[str, NonNegativeInt])
"""The answer of `pdfium.count_pages`."""


def open_pdf(source: Path, settings: Settings, parse: Parse) -> PageFile:
    """Open a PDF. Raises UnreadableError (damaged, encrypted, empty, too slow) or TooLargeError (too many pages)."""
    path = str(source.resolve())
    try:
        facts, _ = parse("serving.documents.pdfium:count_pages", {"path": path})
        count = COUNT.validate_json(facts)["count"]
    except (ParserFailed, ValueError) as error:
        raise UnreadableError(f"the PDF cannot be read: {describe_parser_error(error)}") from None
    if count == 0:
        raise UnreadableError("the PDF has no pages")
    if count > settings.max_pdf_pages:
        raise TooLargeError(f"the PDF has {count} pages; the limit is {settings.max_pdf_pages}: split it")
    arguments = {
        "path": path,
        "max_side": settings.max_side,
        "max_page_pixels": settings.max_page_pixels,
        "max_lines": settings.max_lines_per_page,
        "max_line_chars": settings.max_line_chars,
    }
    failure = "page {} cannot be drawn"
    pages = ParsedPages("serving.documents.pdfium:draw_page", parse, settings.max_failed_pages, failure)
    return PageFile(count, lambda index: pages.read(index, {**arguments, "index": index}))
