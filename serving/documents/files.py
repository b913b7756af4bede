"""Opens an uploaded file of any supported type as pages."""

from __future__ import annotations

from pathlib import Path

from serving.documents.archives import check_file_size
from serving.documents.images import decode_image, list_frames
from serving.documents.page import Page, PageFile
from serving.documents.parser_pool import Parse
from serving.documents.pdf import open_pdf
from serving.errors import UnreadableError
from serving.settings import Settings


def open_file(source: Path, settings: Settings, parse: Parse) -> PageFile:
    """Open an uploaded file as the type that its content shows, whatever its name says.

    Raises TooLargeError, NotAnImageError or UnreadableError; NotReadyError if `parse` does.
    """
    size = source.stat().st_size
    check_file_size(size, settings.max_file_bytes)
    if size == 0:
        raise UnreadableError("the file is empty")
    with source.open("rb") as stream:
        head = stream.read(1024)
    if b"%PDF-" in head:
        return open_pdf(source, settings, parse)
    check_file_size(size, settings.max_image_bytes)
    frames = list_frames(source, settings)
    return PageFile(len(frames), lambda index: Page(decode_image(source, settings, frames[index])))
