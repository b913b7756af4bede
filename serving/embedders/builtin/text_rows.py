"""Joins pieces of text on a page into lines that mean something.

An OCR and a PDF's text layer return table cells one by one. "Total due" answers nothing, "Total due 2,917.43" does.
"""

from __future__ import annotations

from collections.abc import Sequence

from serving.documents.page import Box, Line

PROSE_CHARS = 28
"""Two pieces side by side that are both longer stand in two columns of prose; else they are cells of one row."""


def join_rows(pieces: Sequence[Line]) -> tuple[Line, ...]:
    """Return the pieces in their order, neighbours of one row joined."""
    joined: list[Line] = []
    before: Line | None = None
    for piece in pieces:
        if before is not None and are_in_one_row(before, piece):
            last = joined[-1]
            assert last.box is not None and piece.box is not None
            joined[-1] = Line(f"{last.text} {piece.text}", bounding_box(last.box, piece.box))
        else:
            joined.append(piece)
        before = piece
    return tuple(joined)


def are_in_one_row(left: Line, right: Line) -> bool:
    if left.box is None or right.box is None or min(len(left.text), len(right.text)) > PROSE_CHARS:
        return False
    height = min(left.box[3] - left.box[1], right.box[3] - right.box[1])
    overlap = min(left.box[3], right.box[3]) - max(left.box[1], right.box[1])
    return overlap > 0.5 * height and right.box[0] >= left.box[2] - 0.01


def bounding_box(one: Box, other: Box) -> Box:
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])
