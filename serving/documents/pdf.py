"""Reads PDF files as pages: pictures of bounded size, and the text layer where there is one.

PDFium itself runs in processes that can be killed (`parser_pool`); their answers are checked.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from pydantic import BaseModel, Field, NonNegativeInt, TypeAdapter

from serving.documents.page import Box, Line, Page, PageFile
from serving.documents.parser_pool import Parse, ParserFailed
from serving.errors import TooLargeError, UnreadableError
from serving.settings import Settings

COUNT = TypeAdapter(dict[str, NonNegativeInt])
"""The answer of `pdfium.count_pages`."""


class DrawnPage(BaseModel):
    """The answer of `pdfium.draw_page`, as far as it is no picture."""

    width: int = Field(ge=1)
    height: int = Field(ge=1)
    lines: list[tuple[str, Box]] | None


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
    return PageFile(count, PdfPages(path, settings, parse).read)


class PdfPages:
    """Draws the pages of one PDF, until too many of them have failed."""

    def __init__(self, path: str, settings: Settings, parse: Parse) -> None:
        self._arguments = {
            "path": path,
            "max_side": settings.max_side,
            "max_lines": settings.max_lines_per_page,
            "max_line_chars": settings.max_line_chars,
        }
        self._parse = parse
        self._limit = settings.max_failed_pages
        self._failed: list[int] = []

    def read(self, index: int) -> Page:
        """Return a page; may be called by several threads at once. Raises UnreadableError."""
        if len(self._failed) >= self._limit:
            raise UnreadableError(f"page {index + 1} was not tried: {self._limit} others of the PDF could not be drawn")
        try:
            facts, pixels = self._parse("serving.documents.pdfium:draw_page", {**self._arguments, "index": index})
            drawn = DrawnPage.model_validate_json(facts)
            if len(pixels) != 3 * drawn.width * drawn.height:
                raise ValueError("the size is wrong")
            image = Image.frombytes("RGB", (drawn.width, drawn.height), pixels)
        except (ParserFailed, ValueError) as error:
            self._failed.append(index)
            raise UnreadableError(f"page {index + 1} cannot be drawn: {describe_parser_error(error)}") from None
        return Page(image, None if drawn.lines is None else tuple(Line(text, box) for text, box in drawn.lines))


def describe_parser_error(error: Exception) -> str:
    return str(error) if isinstance(error, ParserFailed) else "its reader sent an invalid answer"
