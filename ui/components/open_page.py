"""A page that is shown in full, and its place in its document. Pure functions."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from statistics import median

from serving.documents.page import Line
from serving.library.records import Hit, StoredPage

MOST_BEST = 10
"""Pages of a document that are listed for a question: more are a list to read, not to choose from."""
NEAR = 2 / 3
"""The part of the way from a document's middle page to its best from which on a page is listed."""
TALL = 1.5
"""How many times as high as wide the box of a line is whose letters stand below each other."""


@dataclass(frozen=True)
class OpenPage:
    """A page that is shown in full, and what is known of it for the question."""

    page: StoredPage
    lines: tuple[Line, ...] = ()
    known: Hit | None = None
    """The page as it answers the question, also where it is not among those found."""
    hit: Hit | None = None
    """None for a page that is not among those found."""
    numbers: tuple[int, ...] = ()
    """Of the document's pages that are in the collection, in order."""
    best: tuple[Hit, ...] = ()
    """The pages of the document that answer the question, best first."""
    told: str = ""
    """What to say of the way here, as that pages were stepped over."""
    token: str = ""
    """By which the browser knows what it asked for."""
    was_read: bool = False
    """The server that embedded the page has read it: which line answers is known as well as it can be."""

    @property
    def line(self) -> Line | None:
        """The line that answers."""
        return None if self.known is None else self.known.line

    @property
    def is_in_document(self) -> bool:
        """Whether there are pages to turn."""
        return self.page.pages > 1

    @property
    def has_previous(self) -> bool:
        return bool(self.numbers) and self.page.page > self.numbers[0]

    @property
    def has_next(self) -> bool:
        return bool(self.numbers) and self.page.page < self.numbers[-1]


@dataclass(frozen=True)
class PlacedLine:
    """A line of a page's text layer: its place as CSS."""

    text: str
    style: str
    is_tall: bool


def place_lines(shown: OpenPage) -> list[PlacedLine]:
    """Return the lines that have boxes, in reading order."""
    return [place_line(line, shown.page) for line in shown.lines if line.box is not None and line.text.strip()]


def place_line(line: Line, page: StoredPage) -> PlacedLine:
    """Return where a line with a box stands, by shares of the page that style.css multiplies."""
    assert line.box is not None
    left, top, right, bottom = line.box
    width, height = right - left, bottom - top
    is_tall = len(line.text) > 1 and height * page.height > TALL * width * page.width
    return PlacedLine(line.text, f"--x:{left:.5f};--y:{top:.5f};--w:{width:.5f};--h:{height:.5f}", is_tall)


def turn_pages(numbers: tuple[int, ...], at: int, step: int) -> tuple[int, str]:
    """Return the number of the page `step` pages on or back, and what to say of those that were stepped over.

    `numbers`: those that are there, in order; `at` is one of them.
    """
    place = numbers.index(at) + step
    found = numbers[min(max(place, 0), len(numbers) - 1)]
    first, last = sorted((at, found))
    return found, tell_missing([n for n in range(first, last) if n not in numbers])


def find_number(numbers: tuple[int, ...], wanted: int, pages: int) -> tuple[int, str]:
    """Return the page of a number, or the next one that is there, and why it is not the one that was wanted."""
    place = min(bisect_left(numbers, wanted), len(numbers) - 1)
    if numbers[place] == wanted:
        return wanted, ""
    if not 1 <= wanted <= pages:
        return numbers[place], f"This document has pages 1 to {pages}."
    return numbers[place], tell_missing([wanted])


def tell_missing(numbers: list[int]) -> str:
    """Return which pages of the document are not in the collection; "" where none is missing."""
    if not numbers:
        return ""
    if len(numbers) == 1:
        return f"Page {numbers[0]} is not in the collection."
    if numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"Pages {numbers[0]} to {numbers[-1]} are not in the collection."
    return f"{len(numbers)} pages in between are not in the collection."


def select_best(hits: list[Hit]) -> tuple[Hit, ...]:
    """Return the hits that score near the best.

    Scores of one model lie close together, and how close differs between models: no fixed distance tells an answer from
    what any page of the document scores. That is what the middle page scores. With 30 questions to a manual of 261
    pages, NEAR halves the ten best and loses 2 of the 26 right pages among them.
    """
    if not hits:
        return ()
    middle = median(hit.score for hit in hits)
    near = middle + NEAR * (hits[0].score - middle)
    return tuple(hit for hit in hits[:MOST_BEST] if hit.score >= near)
