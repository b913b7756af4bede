"""PDF files as pages: pictures of bounded size, and the text layer where there is one.

PDFium is not thread-safe: everything here runs under one lock.
"""

from __future__ import annotations

import threading
import unicodedata
from functools import partial
from pathlib import Path

import pypdfium2 as pdfium

from serving.errors import ServingError, TooLargeError, UnreadableError
from serving.pages import Box, Line, Page, PageFile, reason
from serving.settings import Settings

LOCK = threading.Lock()
SCALE = 150 / 72
"""150 dpi: enough to read, and close to what every embedder keeps."""
MIN_LETTERS = 20
"""Fewer letters than this in the text layer and the page counts as scanned (a stamp or a page number is no text)."""
WRONG_PASSWORD = 4
"""FPDF_ERR_PASSWORD of PDFium's fpdfview.h."""


def open_pdf(source: Path, limits: Settings) -> PageFile:
    """Raises UnreadableError (damaged, encrypted, empty) or TooLargeError (too many pages)."""
    with LOCK:
        try:
            document = pdfium.PdfDocument(source)
            count = len(document)
            document.close()
        except pdfium.PdfiumError as error:
            raise unreadable(error) from None
    if count == 0:
        raise UnreadableError("the PDF has no pages")
    if count > limits.max_pdf_pages:
        raise TooLargeError(f"the PDF has {count} pages; the limit is {limits.max_pdf_pages}: split it")
    return PageFile(count, partial(read_page, source, limits))


def unreadable(error: pdfium.PdfiumError) -> ServingError:
    if error.err_code == WRONG_PASSWORD:
        return UnreadableError("the PDF is encrypted: remove its password and add it again", code="encrypted")
    return UnreadableError(f"the PDF is damaged: {reason(error).split('(PDFium:')[-1].strip(' ).')}")


def read_page(source: Path, limits: Settings, index: int) -> Page:
    """Opened anew for each page (under 1 ms): nothing stays open while somebody is slow to take the next one."""
    with LOCK:
        try:
            document = pdfium.PdfDocument(source)
            try:
                return render(document[index], limits)
            finally:
                document.close()
        except pdfium.PdfiumError as error:
            raise unreadable(error) from None
        except (ValueError, MemoryError, OSError) as error:
            raise UnreadableError(f"page {index + 1} of the PDF cannot be drawn: {reason(error)}") from None


def render(page: pdfium.PdfPage, limits: Settings) -> Page:
    width, height = page.get_size()
    if min(width, height) <= 0:
        raise UnreadableError("the PDF page has no size")
    bitmap = page.render(scale=min(SCALE, limits.max_side / max(width, height)))
    image = bitmap.to_pil().convert("RGB")
    lines = text_layer(page, bitmap, limits)
    letters = sum(char.isalnum() for line in lines for char in line.text)
    return Page(image, lines if letters >= MIN_LETTERS else None)


def text_layer(page: pdfium.PdfPage, bitmap: pdfium.PdfBitmap, limits: Settings) -> tuple[Line, ...]:
    """The text of the page with its boxes, one entry for each run of text that PDFium sees as a rectangle."""
    position = bitmap.get_posconv(page)
    text_page = page.get_textpage()
    try:
        lines = []
        for index in range(min(text_page.count_rects(), limits.max_lines_per_page)):
            left, bottom, right, top = text_page.get_rect(index)
            text = readable(text_page.get_text_bounded(left, bottom, right, top))[: limits.max_line_chars]
            corners = position.to_bitmap(left, top), position.to_bitmap(right, bottom)
            if text:
                lines.append(Line(text, relative(corners, bitmap.width, bitmap.height)))
        return tuple(lines)
    finally:
        text_page.close()


UNMAPPED = ("Co", "Cn", "Cs")
"""Unicode categories of glyphs whose font has no mapping to letters."""


def readable(text: str) -> str:
    """Without unmapped glyphs, control characters and doubled spaces."""
    kept = (char for char in text if char != "\ufffd" and unicodedata.category(char) not in UNMAPPED)
    return " ".join("".join(" " if unicodedata.category(char) == "Cc" else char for char in kept).split())


def relative(corners: tuple[tuple[int, int], tuple[int, int]], width: int, height: int) -> Box:
    (x0, y0), (x1, y1) = corners

    def part(value: int, whole: int) -> float:
        return round(min(1.0, max(0.0, value / whole)), 5)

    return (
        part(min(x0, x1), width),
        part(min(y0, y1), height),
        part(max(x0, x1), width),
        part(max(y0, y1), height),
    )
