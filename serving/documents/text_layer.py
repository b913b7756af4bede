"""Reads the text layer of a PDF page: pieces of text that stand together, with their boxes.

For `parser_process` only, like `pdfium`. PDFium's own rectangles part words where letters are kerned, and its text of a
rectangle repeats the letters at both ends; so the pieces are built from single letters.
"""

from __future__ import annotations

import ctypes
import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import pypdfium2 as pdfium
import pypdfium2.raw as raw

from serving.documents.boxes import bound_boxes

Rectangle = tuple[float, float, float, float]
"""Left, bottom, right, top in points."""

MAX_CHARS = 100_000
"""Letters of a page that are looked at: an atlas' index has 30,000; 10 microseconds each."""
GAP = 1.5
"""Heights of a letter between two that stand in different pieces: cells of a table, columns."""
ACROSS = 0.5
"""Heights of a letter by which one may stand above or below all others of its line: quotes and underscores do."""
SMALL = 0.6
"""Height of those, as a share of the line's."""
TURN = 0.1
"""Radians by which the letters of a piece may differ."""
HYPHEN = "\x02"
"""PDFium's sign for a hyphen at the end of a line."""
UNMAPPED = ("Co", "Cn", "Cs")
"""Unicode categories of glyphs whose font has no mapping to letters."""


@dataclass(slots=True)
class Letter:
    """A letter, digit or sign. `space` is what is before it: None, " " or "apart", which no space was written for."""

    text: str
    box: Rectangle
    angle: float
    space: Literal[" ", "apart"] | None

    @property
    def is_sign(self) -> bool:
        """Whether it may stand in a column of Chinese or Japanese."""
        return "\u2e80" <= self.text <= "\uffef"


@dataclass(slots=True)
class Run:
    """Letters that stand together."""

    letters: list[Letter]
    box: Rectangle
    size: float
    is_column: bool = False


def read_pieces(page: pdfium.PdfPage, limit: int) -> list[tuple[str, Rectangle]]:
    """Return at most `limit` pieces of text, in the order of the text."""
    pieces: list[tuple[str, Rectangle]] = []
    for run in join_letters(read_letters(page)):
        pieces += split_spelled(run)
        if len(pieces) >= limit:
            break
    return pieces[:limit]


def read_letters(page: pdfium.PdfPage) -> Iterator[Letter]:
    """Yield the letters of a page, those of a line from right to left in the order in which they are read."""
    left, right, bottom, top = (ctypes.c_double() for _ in range(4))
    text_page = page.get_textpage()
    try:
        space: Literal[" ", "apart"] | None = None
        for index in range(min(text_page.count_chars(), MAX_CHARS)):
            char = chr(raw.FPDFText_GetUnicode(text_page, index))
            if char.isspace() or char == "\0":
                space = "apart" if space != " " and raw.FPDFText_IsGenerated(text_page, index) else " "
            elif raw.FPDFText_GetCharBox(text_page, index, left, right, bottom, top):
                angle = raw.FPDFText_GetCharAngle(text_page, index)
                box = left.value, bottom.value, right.value, top.value
                yield Letter("-" if char == HYPHEN else char, box, angle, space)
                space = None
    finally:
        text_page.close()


def join_letters(letters: Iterator[Letter]) -> Iterator[Run]:
    run: Run | None = None
    for letter in letters:
        if run is None or not continue_run(run, letter):
            if run is not None:
                yield run
            run = Run([letter], letter.box, max(measure_sides(letter)))
    if run is not None:
        yield run


def continue_run(run: Run, letter: Letter) -> bool:
    """Return whether the letter stands next to the last one; if so, it is added."""
    before = run.letters[-1]
    if abs(math.remainder(letter.angle - before.angle, math.tau)) > TURN:
        return False
    column = (run.is_column or len(run.letters) == 1) and is_below(before, letter, run.size)
    if not column and (run.is_column or not is_beside(run, before, letter)):
        return False
    run.is_column = column
    run.letters.append(letter)
    run.box = bound_boxes((run.box, letter.box))
    run.size = max(run.size, min(measure_sides(letter)))
    return True


def is_below(before: Letter, letter: Letter, size: float) -> bool:
    if not (before.is_sign and letter.is_sign):
        return False
    shift = abs(before.box[0] + before.box[2] - letter.box[0] - letter.box[2]) / 2
    return shift < 0.6 * size and letter.box[3] < before.box[3] and before.box[1] - letter.box[3] < GAP * size


def is_beside(run: Run, before: Letter, letter: Letter) -> bool:
    quarters = before.angle / (math.pi / 2)
    if abs(quarters - round(quarters)) > TURN:
        # Text askew: its boxes overlap, so the distance of their middles decides.
        return math.dist(find_middle(before.box), find_middle(letter.box)) < (1 + GAP) * run.size
    along = round(quarters) % 2
    shift = measure_gap(run.box, letter.box, 1 - along)
    gap = measure_gap(before.box, letter.box, along)
    if shift >= 0:  # a sign, or the next line below a short one
        low, high = sorted(box[3 - along] - box[1 - along] for box in (run.box, letter.box))
        goes_back = gap > 0 > measure_gap(run.box, letter.box, along)
        if low > SMALL * high or goes_back:
            return False
    return gap < GAP * run.size and shift < ACROSS * run.size


def measure_gap(one: Rectangle, other: Rectangle, axis: int) -> float:
    """Return the space between two boxes along x (0) or y (1); where they overlap, it is less than 0."""
    return max(other[axis] - one[axis + 2], one[axis] - other[axis + 2])


def measure_sides(letter: Letter) -> tuple[float, float]:
    left, bottom, right, top = letter.box
    return right - left, top - bottom


def find_middle(box: Rectangle) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def split_spelled(run: Run) -> list[tuple[str, Rectangle]]:
    """Return the run as one piece; where letters stand apart from each other, each as its own.

    They may be a word set in boxes: what reads rows compares their distances.
    """
    words: list[list[Letter]] = []
    for letter in run.letters:
        if not words or (letter.space and not run.is_column):
            words.append([])
        words[-1].append(letter)
    parts: list[list[list[Letter]]] = []
    for before, word in pairwise([[], *words]):
        is_apart = len(before) == len(word) == 1 and word[0].space == "apart"
        if not parts or is_apart:
            parts.append([])
        parts[-1].append(word)
    return [join_words(part) for part in parts]


def join_words(words: Sequence[Sequence[Letter]]) -> tuple[str, Rectangle]:
    text = " ".join("".join(letter.text for letter in word) for word in words)
    return clean_text(text), bound_boxes(letter.box for word in words for letter in word)


def clean_text(text: str) -> str:
    """Return the text composed (NFC), without unmapped glyphs, control characters and doubled spaces."""
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "ignore")
    kept = (
        char
        for char in unicodedata.normalize("NFC", text)
        if char != "\ufffd" and unicodedata.category(char) not in UNMAPPED
    )
    return " ".join("".join(" " if unicodedata.category(char) == "Cc" else char for char in kept).split())
