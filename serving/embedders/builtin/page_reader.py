"""Reads a page: its text layer as far as the picture shows the same, and by OCR what no text layer covers."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from serving.documents.boxes import Box, Direction, turn_box
from serving.documents.images import BLOCK, cut_blocks
from serving.documents.page import Line, Page, keep_letters
from serving.embedders.builtin.ocr import MIN_SCORE, MIN_SIDE, Area, Ocr, Reading
from serving.embedders.builtin.tesseract import find_tesseract
from serving.embedders.builtin.text_rows import guess_directions, join_rows

CHECKED = 4
"""Lines of a text layer that are read from the picture as well: a font may map its letters to any others."""
MOST_CHECKED = 300
"""Lines that are read if one of those is wrong, 20 ms each."""
CHECK_CHARS = 40
"""Letters of a line that are enough to compare."""
MOST_CHARS = 10 * CHECK_CHARS
LEAST_CHECKED = 6
"""Letters without which a comparison says nothing."""
LEAST_COMPARED = 4
"""The same for its letters and its digits alone."""
SURE = 0.8
"""OCR scores below say nothing about a text layer."""
SAME = 0.65
"""Share of letters that agree: above 0.88 in 203 lines of right layers, below 0.46 in 24 of odd fonts."""
LOOSE = 3.0
"""Widths of a letter, by the length of the text, that a box may be high."""
POOR = 0.3
"""Share of a page's text, by its room, that is worth another reading if it was not read."""
FOREIGN = 0.3
"""Share of a line's letters: Tesseract takes some Latin ones for Cyrillic."""
LOOKED_AT = 1_000
"""Pixels of the longer side in which text beside a text layer is looked for."""
EDGE = 24
"""A step of grey that is an edge."""
UPRIGHT, LEVEL, LEAST_BLOCKS = 5, 3, 4
"""Columns and rows of a block of letters that have an upright or a level edge (rules that cross have two of each); so
many blocks are a word."""
AROUND = 2
"""Blocks around such ones that are read with them."""

Placed = tuple[Line, Direction]
"""A piece of text, and where it runs to."""


class PageReader:
    """Reads pages with an OCR."""

    def __init__(self, ocr: Ocr) -> None:
        self._ocr = ocr

    def read_page(self, page: Page) -> tuple[Line, ...]:
        """Return the lines of a page in reading order, cells of a row joined."""
        layer = page.lines or ()
        if page.image is None or min(page.image.size) < MIN_SIDE or any(line.box is None for line in layer):
            return join_rows(layer)
        layer = self._check_layer(page.image, layer)
        image = hide_lines(page.image, layer) if layer else page.image
        areas = find_text_areas(image) if layer else None
        if areas == []:
            return join_rows(layer)
        pieces = merge_pieces(layer, self._read_picture(image, areas))
        return join_rows([line for line, _ in pieces], [direction for _, direction in pieces])

    def _read_picture(self, image: Image.Image, areas: Sequence[Area] | None) -> list[Placed]:
        """Return the pieces of text on an image.

        `areas`: what is left beside a text layer. It may be bullets and icons: a sign alone is no text there.
        """
        readings = self._ocr.read_pieces(image, areas)
        found = [reading for reading in readings if reading.score >= MIN_SCORE]
        pieces = [(reading.make_line(image.size), reading.direction) for reading in found]
        pieces = sort_turned([piece for piece in pieces if len(piece[0].text) > (1 if areas else 0)])
        if is_poorly_read(readings) and (tesseract := find_tesseract()) is not None:
            return self._add_foreign_lines(pieces, tesseract.read_lines(image))
        return pieces

    def _add_foreign_lines(self, pieces: list[Placed], lines: Sequence[Line]) -> list[Placed]:
        """Return the pieces of both readings: Tesseract's where it found letters that the OCR does not know."""
        foreign = [line for line in lines if is_foreign(line.text, self._ocr.letters)]
        ours = [piece for piece in pieces if not any(overlap(piece[0], line) for line in foreign)]
        theirs = [line for line in lines if line in foreign or not any(overlap(line, piece[0]) for piece in ours)]
        return merge_pieces(theirs, ours, is_upside_down(theirs)) if foreign else pieces

    def _check_layer(self, image: Image.Image, layer: Sequence[Line]) -> tuple[Line, ...]:
        """Return the text layer without lines that the picture shows differently; nothing if most of them do."""
        judged = self._compare_lines(image, choose_lines(layer, CHECKED))
        wrong = [line for line, agrees in judged if not agrees]
        if not wrong:
            return tuple(layer)
        if len(wrong) > max(1, len(judged) / 2):
            return ()
        wrong = [line for line, agrees in self._compare_lines(image, layer[:MOST_CHECKED]) if not agrees]
        return tuple(line for line in layer if line not in wrong)

    def _compare_lines(self, image: Image.Image, lines: Sequence[Line]) -> list[tuple[Line, bool]]:
        """Return the lines about which the OCR is sure, and whether it reads what they say."""
        boxes = [line.box for line in lines if line.box is not None]
        found = self._ocr.read_boxes(
            image, [shorten_box(box, line.text) for box, line in zip(boxes, lines, strict=True)]
        )
        judged = []
        for line, (text, score) in zip(lines, found, strict=True):
            expected, seen = keep_letters(line.text[:MOST_CHARS])[:CHECK_CHARS], keep_letters(text)
            if score < SURE or min(len(expected), len(seen)) < LEAST_CHECKED or any(map(is_greek, expected)):
                continue  # Greek capitals are read as the Latin ones that they look like
            if sum(char in self._ocr.letters for char in expected) > 0.8 * len(expected):
                judged.append((line, agree(expected, seen)))
            elif score > 0.95 and len(seen) > 0.7 * len(expected):
                judged.append((line, False))  # another script, where plain letters are seen
        return judged


def is_poorly_read(readings: Sequence[Reading]) -> bool:
    """Return whether much of what looks like text was not read, as it is with scripts that the OCR does not know."""
    unread = [
        reading.score < MIN_SCORE
        or any(map(is_greek, reading.text))
        or len(keep_letters(reading.text)) < reading.room / 3
        for reading in readings
    ]
    total = sum(reading.room for reading in readings)
    return sum(reading.room for reading, missed in zip(readings, unread, strict=True) if missed) > POOR * max(
        1.0, total
    )


def is_greek(char: str) -> bool:
    return "\u0370" <= char <= "\u03ff"


def is_foreign(text: str, known: frozenset[str]) -> bool:
    """Return whether many letters are none that the OCR knows; of Greek it knows those of formulas."""
    letters = [char for char in text if char.isalpha()]
    return sum(char not in known or is_greek(char) for char in letters) > FOREIGN * max(1, len(letters))


def overlap(one: Line, other: Line) -> bool:
    """Return whether two lines share most of the smaller one's box."""
    assert one.box is not None and other.box is not None
    width = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
    height = min(one.box[3], other.box[3]) - max(one.box[1], other.box[1])
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (one.box, other.box)]
    return width > 0 and height > 0 and width * height > 0.5 * min(areas)


def choose_lines(layer: Sequence[Line], count: int) -> list[Line]:
    """Return long lines from all over a page, and those whose letters are the least like words."""
    long = [line for line in dict.fromkeys(layer) if len(keep_letters(line.text[:MOST_CHARS])) >= LEAST_CHECKED]
    if len(long) <= count:
        return long
    odd = sorted(long, key=lambda line: -measure_oddness(line.text))[: count // 2]
    rest = [line for line in long if line not in odd]
    step = len(rest) / (count - len(odd))
    return [*odd, *(rest[int(step * n)] for n in range(count - len(odd)))]


def measure_oddness(text: str) -> float:
    """Return how far the share of vowels is from that of most languages with Latin letters."""
    letters = [char for char in unicodedata.normalize("NFKD", text[:MOST_CHARS].casefold()) if char.isalpha()]
    return abs(0.4 - sum(char in "aeiouy" for char in letters) / max(1, len(letters)))


def shorten_box(box: Box, text: str) -> Box:
    """Return the part of a line's box that holds the letters to compare."""
    share = min(1.0, 1.2 * CHECK_CHARS / max(1, len(text)))
    x0, y0, x1, y1 = box
    return (x0, y0, x0 + share * (x1 - x0), y1) if x1 - x0 > y1 - y0 else box


def agree(expected: str, seen: str) -> bool:
    """Return whether the letters agree, and the digits, each by themselves; `seen` may go on."""
    texts = expected, seen[: len(expected) + 2]
    digits = ["".join(filter(str.isdigit, text)) for text in texts]
    letters = ["".join(char for char in text if not char.isdigit()) for text in texts]
    return all(
        difflib.SequenceMatcher(None, one, other, autojunk=False).ratio() >= SAME
        for one, other in (letters, digits)
        if min(len(one), len(other)) >= LEAST_COMPARED
    )


def hide_lines(image: Image.Image, lines: Sequence[Line]) -> Image.Image:
    """Return the image with the boxes of lines painted over in the colour around them.

    Boxes that the text cannot fill stay: that of a watermark across the page would hide all that it lies on.
    """
    width, height = image.size
    pixels = np.asarray(image)
    hidden = image.copy()
    draw = ImageDraw.Draw(hidden)
    for line in lines:
        assert line.box is not None
        x0, y0, x1, y1 = (round(share * side) for share, side in zip(line.box, (width, height) * 2, strict=True))
        short, long = sorted((x1 - x0, y1 - y0))
        if short * len(line.text) > LOOSE * long or short > max(image.size) / 5:
            continue
        margin = max(2, short // 4)
        x0, y0, x1, y1 = max(0, x0 - margin), max(0, y0 - margin), min(width, x1 + margin), min(height, y1 + margin)
        if x1 > x0 and y1 > y0:
            rows, columns = pixels[[y0, y1 - 1], x0:x1], pixels[y0:y1, [x0, x1 - 1]]
            edge = np.concatenate([rows.reshape(-1, 3), columns.reshape(-1, 3)])
            red, green, blue = (int(value) for value in np.median(edge, axis=0))
            draw.rectangle((x0, y0, x1 - 1, y1 - 1), fill=(red, green, blue))
    return hidden


def find_text_areas(image: Image.Image) -> list[Area]:
    """Return bands of an image with all that may be words: quick, and not sure. A rule or an even area is none."""
    scale = max(1, max(image.size) // LOOKED_AT)
    grey = np.asarray(image.convert("L").reduce(scale), np.int16)
    upright = cut_blocks(np.abs(np.diff(grey, axis=1, append=grey[:, -1:])) > EDGE).any(axis=1).sum(axis=2)
    level = cut_blocks(np.abs(np.diff(grey, axis=0, append=grey[-1:])) > EDGE).any(axis=3).sum(axis=1)
    rows, columns = np.nonzero((upright >= UPRIGHT) & (level >= LEVEL))
    if len(rows) < LEAST_BLOCKS:
        return []
    areas = []
    for band in np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) > 2 * AROUND) + 1):
        left, right = columns[band].min() - AROUND, columns[band].max() + 1 + AROUND
        top, bottom = rows[band[0]] - AROUND, rows[band[-1]] + 1 + AROUND
        left, top, right, bottom = (int(edge) * BLOCK * scale for edge in (left, top, right, bottom))
        areas.append((max(0, left), max(0, top), min(image.width, right), min(image.height, bottom)))
    return areas


def sort_turned(pieces: Sequence[Placed]) -> list[Placed]:
    """Return the pieces, those that do not run to the right in the order in which they are read."""
    turned = [n for n, (_, direction) in enumerate(pieces) if direction != "right"]

    def place_of(n: int) -> tuple[Direction, float, float]:
        line, direction = pieces[n]
        assert line.box is not None
        left, top, _, bottom = turn_box(line.box, direction)
        return direction, (top + bottom) / 2, left

    ordered = list(pieces)
    for n, source in zip(turned, sorted(turned, key=place_of), strict=True):
        ordered[n] = pieces[source]
    return ordered


def merge_pieces(layer: Sequence[Line], read: Sequence[Placed], turned: bool = False) -> list[Placed]:
    """Return both together, what was read before the first line of the layer that stands below it.

    `turned`: the lines of the layer that seem to run to the right run to the left.
    """
    directions = guess_directions(layer)
    if turned:
        directions = ["left" if direction == "right" else direction for direction in directions]
    merged = list(zip(layer, directions, strict=True))
    for line, direction in read:
        place = next((n for n, (other, _) in enumerate(merged) if find_middle(other) > find_middle(line)), len(merged))
        merged.insert(place if layer else len(merged), (line, direction))
    return merged


def is_upside_down(lines: Sequence[Line]) -> bool:
    """Return whether most lines stand above the one that is read before them."""
    steps = [find_middle(after) - find_middle(before) for before, after in pairwise(lines)]
    return sum(step < 0 for step in steps) > len(steps) / 2


def find_middle(line: Line) -> float:
    assert line.box is not None
    return (line.box[1] + line.box[3]) / 2
