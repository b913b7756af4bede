"""Calls PDFium: counts the pages of a PDF, draws a page and reads its text layer.

For `parser_process` only: a small file can keep PDFium busy for hours, fill memory or end the process.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pypdfium2 as pdfium
import pypdfium2.raw as raw

from serving.documents.boxes import Box, clip_box
from serving.documents.page_size import measure_kept_side
from serving.documents.text_layer import Rectangle, clean_text, read_pieces
from serving.errors import GONE, ServingError, UnreadableError
from serving.system.files import file_stamp

TextLine = tuple[str, Box]
Note = tuple[str, Rectangle]
"""A text and where its mark is."""
SCALE = 150 / 72
"""150 dpi: enough to read, and close to what every embedder keeps."""
WRONG_PASSWORD = 4
"""FPDF_ERR_PASSWORD of PDFium's fpdfview.h."""
MAX_ANNOTATIONS = 5_000
"""How many of a page are looked at."""
NOTES = {
    raw.FPDF_ANNOT_TEXT, raw.FPDF_ANNOT_HIGHLIGHT, raw.FPDF_ANNOT_UNDERLINE, raw.FPDF_ANNOT_SQUIGGLY,
    raw.FPDF_ANNOT_STRIKEOUT, raw.FPDF_ANNOT_CARET, raw.FPDF_ANNOT_SQUARE, raw.FPDF_ANNOT_CIRCLE, raw.FPDF_ANNOT_INK,
    raw.FPDF_ANNOT_FILEATTACHMENT,
}  # fmt: skip
"""Annotations that are drawn as an icon or a mark. The text of all others is drawn itself."""
EDGE = 2.0
"""Points of a mark, at its upper left, that are the place of its note."""
NOT_SHOWN = raw.FPDF_ANNOT_FLAG_HIDDEN | raw.FPDF_ANNOT_FLAG_NOVIEW


def count_pages(path: str) -> tuple[dict[str, Any], bytes]:
    """Return the number of pages. Raises UnreadableError (damaged, encrypted)."""
    try:
        return {"count": len(open_document(path, file_stamp(Path(path))).document)}, b""
    except (pdfium.PdfiumError, OSError) as error:
        raise make_unreadable_error(error) from None


def draw_page(
    path: str, index: int, max_side: int, max_page_pixels: int, max_lines: int, max_line_chars: int
) -> tuple[dict[str, Any], memoryview]:
    """Return size, text lines (None without any) and RGB pixels of a page. Raises UnreadableError."""
    try:
        page, notes = open_document(path, file_stamp(Path(path))).load_page(index)
        try:
            width, height = page.get_size()
            if min(width, height) <= 0:
                raise UnreadableError("the PDF page has no size")
            side = measure_kept_side(width * SCALE, height * SCALE, max_side, max_page_pixels)
            scale = min(SCALE, side / max(width, height))
            bitmap = page.render(scale=scale, rev_byteorder=True)
            lines = read_text_layer(page, bitmap, notes, max_lines, max_line_chars)
        finally:
            page.close()
    except (pdfium.PdfiumError, OSError) as error:
        raise make_unreadable_error(error) from None
    except ValueError as error:
        raise UnreadableError(f"page {index + 1} cannot be drawn: {str(error)[:120]}") from None
    facts = {"width": bitmap.width, "height": bitmap.height, "lines": lines or None}
    return facts, memoryview(bitmap.buffer).cast("B")


class OpenDocument:
    """A document whose fields, comments and stamps become part of each page that is loaded.

    A PDF keeps them beside the page: drawn and read as they come, a filled form has neither its values nor its boxes.
    """

    def __init__(self, path: str) -> None:
        """Raises PdfiumError, OSError."""
        self.document = pdfium.PdfDocument(path)
        self.document.init_forms()  # makes the appearance of fields and comments that come without one
        self._notes: dict[int, list[Note]] = {}

    def load_page(self, index: int) -> tuple[pdfium.PdfPage, list[Note]]:
        """Return a page, and the notes behind marks on it. Raises PdfiumError."""
        page = self.document[index]
        count = min(raw.FPDFPage_GetAnnotCount(page), MAX_ANNOTATIONS)
        if count and index not in self._notes:
            notes = [read_annotation(page, number) for number in reversed(range(count))]
            self._notes[index] = [note for note in reversed(notes) if note]
            if raw.FPDFPage_Flatten(page, raw.FLAT_NORMALDISPLAY) == raw.FLATTEN_SUCCESS:
                page.close()
                page = self.document[index]
        return page, self._notes.get(index, [])


@lru_cache(maxsize=1)
def open_document(path: str, _stamp: str) -> OpenDocument:
    """Return the document, opened anew if the file changed. Raises PdfiumError, OSError.

    The last one stays open: in one just opened, PDFium walks all pages before it on the way to page 5,000.
    """
    return OpenDocument(path)


def read_annotation(page: pdfium.PdfPage, number: int) -> Note | None:
    """Return what was typed behind a mark or an icon on the page. Removes an annotation that is not shown."""
    annotation = raw.FPDFPage_GetAnnot(page, number)
    try:
        hidden = raw.FPDFAnnot_GetFlags(annotation) & NOT_SHOWN
        if hidden or raw.FPDFAnnot_GetSubtype(annotation) not in NOTES:
            return None
        rectangle = raw.FS_RECTF()
        raw.FPDFAnnot_GetRect(annotation, rectangle)
        size = raw.FPDFAnnot_GetStringValue(annotation, b"Contents", None, 0)
        buffer = (raw.FPDF_WCHAR * (size // 2 + 1))()
        raw.FPDFAnnot_GetStringValue(annotation, b"Contents", buffer, size)
        text = clean_text(bytes(buffer)[: max(0, size - 2)].decode("utf-16-le", "replace"))
        # One corner alone: the words under a highlight are others, which have a box of their own.
        corner = rectangle.left, rectangle.top - EDGE, rectangle.left + EDGE, rectangle.top
        return (text, corner) if text else None
    finally:
        raw.FPDFPage_CloseAnnot(annotation)
        if hidden:
            raw.FPDFPage_RemoveAnnot(page, number)


def make_unreadable_error(error: pdfium.PdfiumError | OSError) -> ServingError:
    if isinstance(error, OSError):
        return UnreadableError(GONE)
    if error.err_code == WRONG_PASSWORD:
        return UnreadableError("the PDF is encrypted: remove its password and add it again", code="encrypted")
    return UnreadableError(f"the PDF is damaged: {str(error).split('(PDFium:')[-1].strip(' ).')[:120]}")


def read_text_layer(
    page: pdfium.PdfPage, bitmap: pdfium.PdfBitmap, notes: Sequence[Note], max_lines: int, max_line_chars: int
) -> list[TextLine]:
    """Return the pieces of text that are seen on the page with their boxes, then the notes."""
    position = bitmap.get_posconv(page)
    texts = read_pieces(page, max_lines)
    lines = []
    for number, (text, (left, bottom, right, top)) in enumerate([*texts, *notes][:max_lines]):
        corners = position.to_bitmap(left, top), position.to_bitmap(right, bottom)
        is_note = number >= len(texts)
        if text and (is_note or shows_ink(bitmap, corners)):
            lines.append((text[:max_line_chars], make_box(corners, bitmap.width, bitmap.height)))
    return lines


def shows_ink(bitmap: pdfium.PdfBitmap, corners: Sequence[tuple[int, int]]) -> bool:
    """Return whether anything is seen between two corners.

    Nothing is where text is white on white, in a layer that is off, or outside of the visible part of the page.
    """
    (left, right), (top, bottom) = (sorted(values) for values in zip(*corners, strict=True))
    pixels = memoryview(bitmap.buffer)
    first, last = 3 * max(0, left - 1), 3 * min(bitmap.width, right + 1)
    background: bytes | None = None
    for row in range(max(0, top - 1), min(bitmap.height, bottom + 1)):
        colours = bytes(pixels[row * bitmap.stride + first : row * bitmap.stride + last])
        background = background or colours[:3]
        if colours != background * (len(colours) // 3):
            return True
    return False


def make_box(corners: Sequence[tuple[int, int]], width: int, height: int) -> Box:
    """Return the box between two corners in pixels, as shares of the page's size."""
    (left, right), (top, bottom) = (sorted(values) for values in zip(*corners, strict=True))
    return clip_box((left / width, top / height, right / width, bottom / height))
