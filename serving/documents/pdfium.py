"""Calls PDFium: counts the pages of a PDF, draws a page and reads its text layer.

For `parser_process` only: a small file can keep PDFium busy for hours, fill memory or end the process.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pypdfium2 as pdfium
import pypdfium2.raw as raw

from serving.documents.page_size import measure_kept_side
from serving.errors import GONE, ServingError, UnreadableError
from serving.system.files import file_stamp

Box = tuple[float, float, float, float]
TextLine = tuple[str, Box]
Note = tuple[str, tuple[float, float, float, float]]
"""A text and where its mark is: left, bottom, right, top in points."""


class Annotations(NamedTuple):
    """The notes on a page, and the number of letters that it has without any annotation."""

    notes: list[Note]
    letters: int


NO_ANNOTATIONS = Annotations([], 0)
SCALE = 150 / 72
"""150 dpi: enough to read, and close to what every embedder keeps."""
MIN_LETTERS = 20
"""A page with fewer letters in its text layer counts as scanned (a stamp or a page number is no text)."""
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
NOT_SHOWN = raw.FPDF_ANNOT_FLAG_HIDDEN | raw.FPDF_ANNOT_FLAG_NOVIEW
UNMAPPED = ("Co", "Cn", "Cs")
"""Unicode categories of glyphs whose font has no mapping to letters."""


def count_pages(path: str) -> tuple[dict[str, Any], bytes]:
    """Return the number of pages. Raises UnreadableError (damaged, encrypted)."""
    try:
        return {"count": len(open_document(path, file_stamp(Path(path))).document)}, b""
    except (pdfium.PdfiumError, OSError) as error:
        raise make_unreadable_error(error) from None


def draw_page(
    path: str, index: int, max_side: int, max_page_pixels: int, max_lines: int, max_line_chars: int
) -> tuple[dict[str, Any], memoryview]:
    """Return size, text lines (None for a scan) and RGB pixels of a page. Raises UnreadableError."""
    try:
        page, annotations = open_document(path, file_stamp(Path(path))).load_page(index)
        try:
            width, height = page.get_size()
            if min(width, height) <= 0:
                raise UnreadableError("the PDF page has no size")
            side = measure_kept_side(width * SCALE, height * SCALE, max_side, max_page_pixels)
            scale = min(SCALE, side / max(width, height))
            bitmap = page.render(scale=scale, rev_byteorder=True)
            lines = read_text_layer(page, bitmap, annotations.notes, max_lines, max_line_chars)
        finally:
            page.close()
    except (pdfium.PdfiumError, OSError) as error:
        raise make_unreadable_error(error) from None
    except ValueError as error:
        raise UnreadableError(f"page {index + 1} cannot be drawn: {str(error)[:120]}") from None
    # A comment makes no text layer of a scan: its own words still have to be read from the picture.
    letters = count_letters(text for text, _ in lines) if annotations is NO_ANNOTATIONS else annotations.letters
    facts = {"width": bitmap.width, "height": bitmap.height, "lines": lines if letters >= MIN_LETTERS else None}
    return facts, memoryview(bitmap.buffer).cast("B")


class OpenDocument:
    """A document whose fields, comments and stamps become part of each page that is loaded.

    A PDF keeps them beside the page: drawn and read as they come, a filled form has neither its values nor its boxes.
    """

    def __init__(self, path: str) -> None:
        """Raises PdfiumError, OSError."""
        self.document = pdfium.PdfDocument(path)
        self.document.init_forms()  # makes the appearance of fields and comments that come without one
        self._annotations: dict[int, Annotations] = {}

    def load_page(self, index: int) -> tuple[pdfium.PdfPage, Annotations]:
        """Return a page, and what it had beside it. Raises PdfiumError."""
        page = self.document[index]
        count = min(raw.FPDFPage_GetAnnotCount(page), MAX_ANNOTATIONS)
        if count and index not in self._annotations:
            with closing(page.get_textpage()) as text_page:
                letters = count_letters([text_page.get_text_range()])
            notes = [read_annotation(page, number) for number in reversed(range(count))]
            self._annotations[index] = Annotations([note for note in reversed(notes) if note], letters)
            if raw.FPDFPage_Flatten(page, raw.FLAT_NORMALDISPLAY) == raw.FLATTEN_SUCCESS:
                page.close()
                page = self.document[index]
        return page, self._annotations.get(index, NO_ANNOTATIONS)


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
        text = bytes(buffer)[: max(0, size - 2)].decode("utf-16-le", "replace")
        return (text, (rectangle.left, rectangle.bottom, rectangle.right, rectangle.top)) if text else None
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
    """Return the text of the page with its boxes: each run that PDFium sees as a rectangle, then the notes."""
    position = bitmap.get_posconv(page)
    text_page = page.get_textpage()
    try:
        found = [text_page.get_rect(index) for index in range(min(text_page.count_rects(), max_lines))]
        texts = [(text_page.get_text_bounded(*rectangle), rectangle) for rectangle in found]
    finally:
        text_page.close()
    lines = []
    for number, (text, (left, bottom, right, top)) in enumerate([*texts, *notes][:max_lines]):
        corners = position.to_bitmap(left, top), position.to_bitmap(right, bottom)
        is_note = number >= len(texts)
        if (cleaned := clean_text(text)[:max_line_chars]) and (is_note or shows_ink(bitmap, corners)):
            lines.append((cleaned, make_box(corners, bitmap.width, bitmap.height)))
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


def count_letters(texts: Iterable[str]) -> int:
    return sum(char.isalnum() for text in texts for char in text)


def clean_text(text: str) -> str:
    """Return the text without unmapped glyphs, control characters and doubled spaces."""
    kept = (
        char
        for char in unicodedata.normalize("NFC", text)
        if char != "\ufffd" and unicodedata.category(char) not in UNMAPPED
    )
    return " ".join("".join(" " if unicodedata.category(char) == "Cc" else char for char in kept).split())


def make_box(corners: Sequence[tuple[int, int]], width: int, height: int) -> Box:
    """Return the box between two corners in pixels, as shares of the page's size."""
    (left, right), (top, bottom) = (sorted(values) for values in zip(*corners, strict=True))
    shares = left / width, top / height, right / width, bottom / height
    x0, y0, x1, y1 = (round(min(1.0, max(0.0, share)), 5) for share in shares)
    return x0, y0, x1, y1
