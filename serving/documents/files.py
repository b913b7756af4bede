"""Opens an uploaded file of any supported type as pages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, NonNegativeInt, TypeAdapter

from serving.documents.archives import check_file_size
from serving.documents.page import PageFile
from serving.documents.parsed_pages import ParsedPages, describe_parser_error
from serving.documents.parser_pool import Parse, ParserFailed
from serving.documents.pdf import open_pdf
from serving.errors import UnreadableError
from serving.settings import Settings

FRAMES = TypeAdapter(Annotated[list[NonNegativeInt], Field(min_length=1)])
"""The answer of `image_frames.list_frames`."""


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
    return (open_pdf if b"%PDF-" in head else open_picture)(source, settings, parse)


def open_picture(source: Path, settings: Settings, parse: Parse) -> PageFile:
    """Open an image file. Raises as `open_file` does."""
    limits = settings.max_file_pixels, settings.max_side, settings.max_page_pixels
    arguments = {"path": str(source.resolve()), "limits": limits}
    failure = "this picture cannot be read"
    try:
        asked = {**arguments, "max_pages": settings.max_pdf_pages}
        frames = FRAMES.validate_json(parse("serving.documents.image_frames:list_frames", asked)[1])
    except (ParserFailed, ValueError) as error:
        raise UnreadableError(f"{failure}: {describe_parser_error(error)}") from None
    if len(frames) > 1:
        failure = "page {} cannot be read"
    pages = ParsedPages("serving.documents.image_frames:decode_frame", parse, settings.max_failed_pages, failure)
    return PageFile(len(frames), lambda index: pages.read(index, {**arguments, "frame": frames[index]}))
