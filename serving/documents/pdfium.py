"""Calls PDFium: counts the pages of a PDF, draws a page and reads its text layer.

For `parser_process` only: a small file can keep PDFium busy for hours, fill memory or end the process.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium

from serving.errors import GONE, ServingError, UnreadableError
from serving.system.files import file_stamp

Box = tuple[float, float, float, float]
TextLine = tuple[str, Box]
SCALE = 150 / 72
"""150 dpi: enough to read, and close to what every embedder keeps."""
MIN_LETTERS = 20
"""A page with fewer letters in its text layer counts as scanned (a stamp or a page number is no text)."""
WRONG_PASSWORD = 4
"""FPDF_ERR_PASSWORD of PDFium's fpdfview.h."""
UNMAPPED = ("Co", "Cn", "Cs")
"""Unicode categories of glyphs whose font has no mapping to letters."""


def count_pages(path: str) -> tuple[dict[str, Any], bytes]:
    """Return the number of pages. Raises UnreadableError (damaged, encrypted)."""
    try:
        return {"count": len(open_document(path, file_stamp(Path(path))))}, b""
    except (pdfium.PdfiumError, OSError) as error:
        raise make_unreadable_error(error) from None


def draw_page(
    path: str, index: int, max_side: int, max_lines: int, max_line_chars: int
) -> tuple[dict[str, Any], memoryview]:
    """Return size, text lines (None for a scan) and RGB pixels of a page. Raises UnreadableError."""
    try:
        page = open_document(path, file_stamp(Path(path)))[index]
        try:
            width, height = page.get_size()
            if min(width, height) <= 0:
                raise UnreadableError("the PDF page has no size")
            scale = min(SCALE, max_side / max(width, height))
            bitmap = page.render(scale=scale, rev_byteorder=True)
            lines = read_text_layer(page, bitmap, max_lines, max_line_chars)
        finally:
            page.close()
    except (pdfium.PdfiumError, OSError) as error:
        raise make_unreadable_error(error) from None
    except ValueError as error:
        raise UnreadableError(f"page {index + 1} cannot be drawn: {str(error)[:120]}") from None
    letters = sum(char.isalnum() for text, _ in lines for char in text)
    facts = {"width": bitmap.width, "height": bitmap.height, "lines": lines if letters >= MIN_LETTERS else None}
    return facts, memoryview(bitmap.buffer).cast("B")


@lru_cache(maxsize=1)
def open_document(path: str, _stamp: str) -> pdfium.PdfDocument:
    """Return the document, opened anew if the file changed. Raises PdfiumError, OSError.

    The last one stays open: in one just opened, PDFium walks all pages before it on the way to page 5,000.
    """
    return pdfium.PdfDocument(path)


def make_unreadable_error(error: pdfium.PdfiumError | OSError) -> ServingError:
    if isinstance(error, OSError):
        return UnreadableError(GONE)
    if error.err_code == WRONG_PASSWORD:
        return UnreadableError("the PDF is encrypted: remove its password and add it again", code="encrypted")
    return UnreadableError(f"the PDF is damaged: {str(error).split('(PDFium:')[-1].strip(' ).')[:120]}")


def read_text_layer(
    page: pdfium.PdfPage, bitmap: pdfium.PdfBitmap, max_lines: int, max_line_chars: int
) -> list[TextLine]:
    """Return the text of the page with its boxes, one entry for each run of text that PDFium sees as a rectangle."""
    position = bitmap.get_posconv(page)
    text_page = page.get_textpage()
    try:
        lines = []
        for index in range(min(text_page.count_rects(), max_lines)):
            left, bottom, right, top = text_page.get_rect(index)
            text = clean_text(text_page.get_text_bounded(left, bottom, right, top))[:max_line_chars]
            corners = position.to_bitmap(left, top), position.to_bitmap(right, bottom)
            if text:
                lines.append((text, make_box(corners, bitmap.width, bitmap.height)))
        return lines
    finally:
        text_page.close()


def clean_text(text: str) -> str:
    """Return the text without unmapped glyphs, control characters and doubled spaces."""
    kept = (char for char in text if char != "\ufffd" and unicodedata.category(char) not in UNMAPPED)
    return " ".join("".join(" " if unicodedata.category(char) == "Cc" else char for char in kept).split())


def make_box(corners: Sequence[tuple[int, int]], width: int, height: int) -> Box:
    """Return the box between two corners in pixels, as shares of the page's size."""
    (left, right), (top, bottom) = (sorted(values) for values in zip(*corners, strict=True))
    shares = left / width, top / height, right / width, bottom / height
    x0, y0, x1, y1 = (round(min(1.0, max(0.0, share)), 5) for share in shares)
    return x0, y0, x1, y1
