"""Reads the pages of one file in processes that can be killed (`parser_pool`), whose answers are checked."""

from __future__ import annotations

from collections.abc import Mapping

from PIL import Image
from pydantic import BaseModel, Field

from serving.documents.boxes import Box
from serving.documents.page import Line, Page
from serving.documents.parser_pool import Parse, ParserFailed
from serving.errors import UnreadableError


class ParsedPage(BaseModel):
    """The answer of `pdfium.draw_page` and `image_frames.decode_frame`, as far as it is no picture."""

    width: int = Field(ge=1)
    height: int = Field(ge=1)
    lines: list[tuple[str, Box]] | None


class ParsedPages:
    """Reads the pages of one file, until too many of them have failed."""

    def __init__(self, task: str, parse: Parse, max_failed: int, failure: str) -> None:
        """`failure` begins the error of a page that cannot be read; `{}` in it is the page's number."""
        self._task = task
        self._parse = parse
        self._limit = max_failed
        self._failure = failure
        self._failed: list[int] = []

    def read(self, index: int, arguments: Mapping[str, object]) -> Page:
        """Return a page; may be called by several threads at once. Raises ServingError."""
        if len(self._failed) >= self._limit:
            raise UnreadableError(f"page {index + 1} was not tried: {self._limit} others of the file could not be read")
        try:
            facts, pixels = self._parse(self._task, arguments)
            found = ParsedPage.model_validate_json(facts)
            if len(pixels) != 3 * found.width * found.height:
                raise ValueError("the size is wrong")
            image = Image.frombytes("RGB", (found.width, found.height), pixels)
        except (ParserFailed, ValueError) as error:
            self._failed.append(index)
            raise UnreadableError(f"{self._failure.format(index + 1)}: {describe_parser_error(error)}") from None
        return Page(image, None if found.lines is None else tuple(Line(text, box) for text, box in found.lines))


def describe_parser_error(error: Exception) -> str:
    return str(error) if isinstance(error, ParserFailed) else "its reader sent an invalid answer"
