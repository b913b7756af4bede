"""Opens an uploaded file as pages, whatever kind of file it is."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from serving.documents.images import frames_of, megabytes, read_image_page
from serving.documents.page import PageFile
from serving.documents.parser_pool import Parse
from serving.documents.pdf import open_pdf
from serving.errors import TooLargeError, UnreadableError
from serving.settings import Settings


def open_file(source: Path, limits: Settings, parse: Parse) -> PageFile:
    """Open an uploaded file by its content, never by its name.

    Raises TooLargeError, NotAnImageError or UnreadableError; NotReadyError if `parse` does.
    """
    size = source.stat().st_size
    if size > limits.max_file_bytes:
        raise TooLargeError(f"the file has {megabytes(size)}; the limit is {megabytes(limits.max_file_bytes)}")
    if size == 0:
        raise UnreadableError("the file is empty")
    with source.open("rb") as stream:
        head = stream.read(1024)
    if b"%PDF-" in head:
        return open_pdf(source, limits, parse)
    return PageFile(frames_of(source.read_bytes(), limits), partial(read_image_page, source, limits))
