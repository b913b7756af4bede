"""Opens an uploaded file as pages, whatever kind of file it is."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from serving.documents.images import count_frames, format_megabytes, read_image_page
from serving.documents.page import PageFile
from serving.documents.parser_pool import Parse
from serving.documents.pdf import open_pdf
from serving.errors import TooLargeError, UnreadableError
from serving.settings import Settings


def open_file(source: Path, settings: Settings, parse: Parse) -> PageFile:
    """Open an uploaded file by its content, never by its name.

    Raises TooLargeError, NotAnImageError or UnreadableError; NotReadyError if `parse` does.
    """
    size = source.stat().st_size
    if size > settings.max_file_bytes:
        raise TooLargeError(
            f"the file has {format_megabytes(size)}; the limit is {format_megabytes(settings.max_file_bytes)}"
        )
    if size == 0:
        raise UnreadableError("the file is empty")
    with source.open("rb") as stream:
        head = stream.read(1024)
    if b"%PDF-" in head:
        return open_pdf(source, settings, parse)
    return PageFile(count_frames(source.read_bytes(), settings), partial(read_image_page, source, settings))
