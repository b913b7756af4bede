"""Which line of a page answers: its lines are embedded like small pages and compared with the query.

Only for embedders that read text. Line vectors of the pages looked at last are kept.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from serving.client import EmbeddingClient, PagePayload
from serving.embedders import Vectors
from serving.library import Library
from serving.pages import Box, Line

MIN_LETTERS = 3
"""A price or a page number alone never answers a question."""
PROSE_CHARS = 28
"""Two pieces side by side that are both longer stand in two columns of prose; else they are cells of one row."""
REMEMBERED = 200
"""Pages: 384 floats for each of 60 lines are 90 kB."""


class Answers:
    def __init__(self, client: EmbeddingClient, library: Library, lines_per_request: int) -> None:
        self._client = client
        self._library = library
        self._size = lines_per_request
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[list[Line], Vectors]] = OrderedDict()

    def best(self, page_id: str, query: Vectors) -> Line | None:
        """The line nearest to `query` (float32[dimension]); None if the page has none. Raises ServingError."""
        with self._lock:
            found = self._known.get(page_id)
        if found is None:
            found = self._embed(page_id)
        with self._lock:
            self._known[page_id] = found
            self._known.move_to_end(page_id)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        lines, vectors = found
        return lines[int(np.argmax(vectors @ query))] if lines else None

    def _embed(self, page_id: str) -> tuple[list[Line], Vectors]:
        lines = [row for row in rows(self._library.lines(page_id)) if letters(row) >= MIN_LETTERS]
        parts = [
            self._client.embed_pages([PagePayload(lines=(line,)) for line in lines[n : n + self._size]]).vectors
            for n in range(0, len(lines), self._size)
        ]
        return lines, np.concatenate(parts) if parts else np.empty((0, 0), np.float32)


def letters(line: Line) -> int:
    return sum(char.isalpha() for char in line.text)


def rows(lines: Sequence[Line]) -> list[Line]:
    """Cells of one table row as one line: "Total due" alone answers nothing, "Total due 2,917.43" does."""
    joined: list[Line] = []
    for line in lines:
        if joined and in_one_row(joined[-1], line):
            last = joined[-1]
            assert last.box is not None and line.box is not None
            joined[-1] = Line(f"{last.text} {line.text}", around(last.box, line.box))
        else:
            joined.append(line)
    return joined


def in_one_row(left: Line, right: Line) -> bool:
    if left.box is None or right.box is None or min(len(left.text), len(right.text)) > PROSE_CHARS:
        return False
    height = min(left.box[3] - left.box[1], right.box[3] - right.box[1])
    overlap = min(left.box[3], right.box[3]) - max(left.box[1], right.box[1])
    return overlap > 0.5 * height and right.box[0] >= left.box[2] - 0.01


def around(one: Box, other: Box) -> Box:
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])
