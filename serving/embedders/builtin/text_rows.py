"""Joins pieces of text on a page into lines that mean something.

An OCR and a PDF's text layer return table cells one by one, in any order. "Total due" answers nothing, "Total due
2,917.43" does.
"""

from __future__ import annotations

import re
import statistics
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from serving.documents.boxes import Box, Direction, bound_boxes, turn_box
from serving.documents.page import Line

PROSE_CHARS = 28
"""Two pieces side by side that are both longer stand in two columns of prose; else they are cells of one row."""
CELL_CHARS = 20
"""The same for pieces that were not drawn one after the other: cells of several lines are drawn whole."""
LEVEL = 0.75
"""Share of the smaller height that such pieces have to share; those drawn one after the other half of it."""
COLUMN_CHARS, COLUMN_WORDS, COLUMN_FILL, COLUMN_GOING_ON, COLUMN_ROWS = 12, 3, 0.75, 0.25, 3
"""In a column of prose, half of the lines have at least so many characters and words and this share of its width, and a
quarter of them goes on with a sentence; rows that show it."""
BAND_GAP = 2.0
"""Heights of a line below a column from which text no longer belongs to it."""
ROW_CHARS = 180
"""Characters of a joined row: more would get no vector."""
TALL = 1.5
"""Height over width of a piece that runs down or up."""
OVERLAP = 0.01
"""Shares of a page by which boxes of neighbours may overlap: detectors draw them a little too large."""
LEADERS = re.compile(r"(?:[.·…_-]\s?){5,}")
"""Dots from a title to its page, lines to write on: e5 would take each for a word."""
PITCH = 5.0
"""Widths of a letter from one box of a form to the next; single figures in the columns of a table stand further
apart."""
SPELLED = 4
"""Letters one by one that make a word set in boxes."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of text where it would be if all text ran to the right: shares of the page, v from top to bottom."""

    place: int
    text: str
    box: Box
    u0: float
    v0: float
    u1: float
    v1: float


Row = list[Piece]


def join_rows(pieces: Sequence[Line], directions: Sequence[Direction] = ()) -> tuple[Line, ...]:
    """Return the pieces with those of a row joined, each row where its first piece was, columns one after the other.

    Without directions, text that is higher than wide is taken to run down or up.
    """
    directions = directions or guess_directions(pieces)
    lines = [((place, 0), piece) for place, piece in enumerate(pieces) if piece.box is None]
    for direction in dict.fromkeys(directions):
        turned = [
            Piece(place, piece.text, piece.box, *turn_box(piece.box, direction))
            for place, (piece, runs) in enumerate(zip(pieces, directions, strict=True))
            if piece.box is not None and runs == direction
        ]
        for band in find_bands(split_columns(find_rows(turned))):
            first = min(piece.place for row in band for piece in row)
            parts = [part for row in band for part in split_long_row(row)]
            lines += [((first, number), join_row(part)) for number, part in enumerate(parts)]
    return tuple(line for _, line in sorted(lines, key=lambda entry: entry[0]))


def guess_directions(pieces: Sequence[Line]) -> list[Direction]:
    """Return a direction for each piece of a text layer.

    The order of pieces tells whether those that stand on their side run up: the next word follows in that direction,
    and the next line to the right.
    """
    tall = [
        piece.box is not None
        and len(piece.text) > 2
        and piece.box[3] - piece.box[1] > TALL * (piece.box[2] - piece.box[0])
        for piece in pieces
    ]
    votes = 0
    for before, after in pairwise([piece.box for piece, is_tall in zip(pieces, tall, strict=True) if is_tall]):
        assert before is not None and after is not None
        if min(before[2], after[2]) > max(before[0], after[0]):
            votes += 1 if after[1] < before[1] else -1
        else:
            votes += 1 if after[0] > before[0] else -1
    sideways: Direction = "up" if votes >= 0 else "down"
    letters = sum(len(piece.text) for piece in pieces)
    if sum(len(piece.text) for piece, is_tall in zip(pieces, tall, strict=True) if is_tall) > 0.8 * letters:
        return [sideways] * len(pieces)
    return [sideways if is_tall else "right" for is_tall in tall]


def find_rows(pieces: Sequence[Piece]) -> list[Row]:
    """Return rows of pieces side by side, from left to right, from top to bottom."""
    rows: list[Row] = []
    for piece in sorted(pieces, key=lambda piece: (piece.v0 + piece.v1, piece.u0)):
        row = next((row for row in reversed(rows[-8:]) if belongs_to_row(piece, row)), None)
        if row is None:
            rows.append([piece])
        else:
            row.append(piece)
    return [sorted(row, key=lambda piece: piece.u0) for row in rows]


def belongs_to_row(piece: Piece, row: Row) -> bool:
    if any(min(piece.u1, other.u1) - max(piece.u0, other.u0) > OVERLAP for other in row):
        return False
    # The nearest one decides, because rows of a scan are seldom level.
    nearest = min(row, key=lambda other: max(piece.u0 - other.u1, other.u0 - piece.u1))
    height = min(piece.v1 - piece.v0, nearest.v1 - nearest.v0)
    needed = 0.5 if abs(piece.place - nearest.place) == 1 else LEVEL
    return min(piece.v1, nearest.v1) - max(piece.v0, nearest.v0) > needed * height


def split_columns(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the parts of each row: it is cut where text stands in columns beside each other."""
    gutters = find_gutters(rows)
    cut: list[list[Row]] = []
    for row in rows:
        parts = [row[:1]]
        for left, right in pairwise(row):
            longest = PROSE_CHARS if right.place - left.place == 1 else CELL_CHARS
            if (left.place, right.place) in gutters or min(len(left.text), len(right.text)) > longest:
                parts.append([])
            parts[-1].append(right)
        cut.append(parts)
    return cut


def find_bands(rows: Sequence[Sequence[Row]]) -> list[list[Row]]:
    """Return rows that stand alone, and bands of columns: the parts of their rows, one column after the other."""
    bands: list[list[list[Row]]] = []
    for parts in rows:
        columns = bands[-1] if bands and len(bands[-1]) > 1 else []
        places = [find_column(part, columns) for part in parts]
        if None in places:
            bands.append([[part] for part in parts])
            continue
        for part, place in zip(parts, places, strict=True):
            columns[place or 0].append(part)
    return [[row for column in columns for row in column] for columns in bands]


def find_column(part: Row, columns: Sequence[Sequence[Row]]) -> int | None:
    """Return the number of the only column that the part stands in, close below; None if there is none."""
    over = [
        number
        for number, column in enumerate(columns)
        if any(min(part[-1].u1, row[-1].u1) - max(part[0].u0, row[0].u0) > 0 for row in column)
    ]
    last = max((row[0].v1 for column in columns for row in column), default=0.0)
    is_near = part[0].v0 - last < BAND_GAP * (part[0].v1 - part[0].v0)
    return over[0] if len(over) == 1 and is_near else None


def find_gutters(rows: Sequence[Row]) -> set[tuple[int, int]]:
    """Return the pairs of neighbours, by their places, between which a gap runs down that parts two columns."""
    groups: list[tuple[list[tuple[Piece, Piece]], float, float]] = []
    for left, right in (pair for row in rows for pair in pairwise(row)):
        for number, (pairs, start, end) in enumerate(groups):
            near = left.v0 - pairs[-1][0].v1 < 3 * (left.v1 - left.v0)
            inner = max(start, left.u1), min(end, right.u0)
            if near and inner[1] > inner[0]:
                groups[number] = [*pairs, (left, right)], *inner
                break
        else:
            groups.append(([(left, right)], left.u1, right.u0))
    return {
        (left.place, right.place)
        for pairs, _, _ in groups
        if len(pairs) >= COLUMN_ROWS and all(is_prose(side) for side in zip(*pairs, strict=True))
        for left, right in pairs
    }


def is_prose(column: Sequence[Piece]) -> bool:
    """Return whether the pieces below each other are lines of a text rather than cells of a table."""
    widths = [piece.u1 - piece.u0 for piece in column]
    return (
        statistics.median(len(piece.text) for piece in column) >= COLUMN_CHARS
        and statistics.median(count_words(piece.text) for piece in column) >= COLUMN_WORDS
        and statistics.median(widths) >= COLUMN_FILL * max(widths)
        and sum(goes_on(piece.text) for piece in column) >= COLUMN_GOING_ON * len(column)
    )


def goes_on(text: str) -> bool:
    """Return whether it may continue a sentence; scripts without capitals do not tell."""
    return text[:1].islower() or unicodedata.category(text[:1] or " ") == "Lo"


def count_words(text: str) -> float:
    """Return the number of words; two signs of a script without spaces count as one."""
    return len(text.split()) + sum(unicodedata.category(char) == "Lo" for char in text) / 2


def split_long_row(row: Row) -> list[Row]:
    """Return the row in parts that are short enough to be found as a line each."""
    parts: list[Row] = [[]]
    length = 0
    for piece in row:
        if parts[-1] and length + len(piece.text) > ROW_CHARS:
            parts.append([])
            length = 0
        parts[-1].append(piece)
        length += len(piece.text) + 1
    return parts


def join_row(row: Row) -> Line:
    box = bound_boxes(piece.box for piece in row)
    if is_right_to_left(row):
        row = row[::-1]
    text = row[0].text
    spaces = find_spaces(row)
    for piece, spaced in zip(row[1:], spaces, strict=True):
        text += f" {piece.text}" if spaced else piece.text
    return Line(" ".join(LEADERS.sub(" … ", text).split()), box)


def is_right_to_left(row: Row) -> bool:
    letters = [unicodedata.bidirectional(char) for piece in row for char in piece.text if char.isalpha()]
    return sum(kind in ("R", "AL") for kind in letters) > len(letters) / 2


def find_spaces(row: Row) -> list[bool]:
    """Return, for each gap between neighbours, whether it parts words: not where letters are set in boxes."""
    spaces = [True] * (len(row) - 1)
    start = 0
    for end in range(1, len(row) + 1):
        if end < len(row) and len(row[end].text) == len(row[start].text) == 1:
            continue
        letters = row[start:end]
        if len(letters) >= SPELLED:
            steps = [abs(right.u0 + right.u1 - left.u0 - left.u1) / 2 for left, right in pairwise(letters)]
            pitch = statistics.median(steps)
            if pitch < PITCH * statistics.median(piece.u1 - piece.u0 for piece in letters):
                spaces[start : end - 1] = [step > 1.5 * pitch for step in steps]
        start = end
    return spaces
