"""The types that a file becomes on its way to an embedder: pages, their lines and the boxes of lines."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from PIL import Image

from serving.documents.boxes import Box
from serving.errors import ServingError


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text on a page."""

    text: str
    box: Box | None = None


def keep_letters(text: str) -> str:
    """Return the letters and digits of a text, small and without variants of form: what texts are compared by."""
    return "".join(char for char in unicodedata.normalize("NFKC", text).casefold() if char.isalnum())


@dataclass(frozen=True, eq=False, slots=True)
class Page:
    """A page to embed. `lines` is its text in reading order (a PDF's text layer), None if no text was looked for yet.

    `image` is RGB; it is None only for a page that is sent as text alone.
    """

    image: Image.Image | None
    lines: tuple[Line, ...] | None = None
    explain: bool = False
    """True if the caller wants the lines' own vectors as well."""


@dataclass(frozen=True)
class PageFile:
    """A file with a known number of pages. Each is read on demand, so that a long PDF never fills memory."""

    count: int
    read: Callable[[int], Page]

    def __iter__(self) -> Iterator[Page | ServingError]:
        """Yield all pages in order, and the error in place of a page that cannot be read."""
        for index in range(self.count):
            try:
                yield self.read(index)
            except ServingError as error:
                yield error
