"""Exact search over the pages of a collection: which of them, by how many numbers, ranked by page and best line.

Reads only. Vectors are fp16 rows, searched in memory; the vectors of lines stay in SQLite.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serving.catalogue import LINE, Catalogue, line_of, marks
from serving.embedders import Vectors
from serving.errors import BadValueError
from serving.matrix import Matrix, best_rows, cut
from serving.pages import Line
from serving.records import EVERY, Hit, Selection, StoredPage

CANDIDATES = 200
"""Pages, nearest by their own vectors, whose lines are looked at too. In a smaller collection that is every page."""
LINE_WEIGHT = 0.4
"""Share of the best line in a page's score. docs/quality.md has what it brings."""
LINES = "SELECT page, lines FROM vectors WHERE lines IS NOT NULL"
AT_ONCE = 500
"""Pages whose line vectors are in memory at the same time: 50 lines of 384 numbers each are 20 MB."""

Ranked = list[tuple[str, float, int | None]]
"""Page id, score, number of the line that answers."""


class Ranking(Catalogue):
    _matrices: dict[int, Matrix]
    _lined: set[int]
    """Collections in memory that have a page whose lines have vectors."""

    def search(
        self,
        collection: str,
        vector: Vectors,
        top_k: int,
        fingerprint: str,
        of: Selection = EVERY,
        dimension: int | None = None,
    ) -> list[Hit]:
        """The nearest pages by cosine, best first. `vector` is float32[n], of which the first `dimension` numbers are
        compared. Raises FingerprintError; BadValueError for a selection that cannot be."""
        if top_k < 1:
            raise BadValueError("top_k is at least 1", param="top_k")
        found = self._searched(collection, fingerprint, of)
        if found is None:
            return []
        matrix, lined, chosen = found
        vector = cut(vector, dimension)
        nearest = matrix.search(vector, max(top_k, CANDIDATES) if lined else top_k, chosen)
        ranked: Ranked = [(page_id, score, None) for page_id, score in nearest]
        return self._hits(self._with_lines(ranked, vector, matrix.width)[:top_k] if lined else ranked)

    def scores(
        self,
        collection: str,
        vectors: Vectors,
        fingerprint: str,
        of: Selection = EVERY,
        dimension: int | None = None,
    ) -> tuple[list[StoredPage], Vectors]:
        """Every page with every vector: the pages in the order they were added, and float32[vectors, pages], the
        scores that `search` gives. `vectors` is float32[n, numbers]. Raises as `search` does."""
        found = self._searched(collection, fingerprint, of)
        if found is None:
            return [], np.empty((len(vectors), 0), np.float32)
        matrix, lined, chosen = found
        queries = cut(vectors, dimension)
        ids, scores = matrix.scores(queries, chosen)
        if lined:
            for start in range(0, len(ids), AT_ONCE):
                part = slice(start, start + AT_ONCE)
                best = self._best_lines(ids[part], queries, matrix.width)
                for column, page_id in enumerate(ids[part], start):
                    if page_id in best:
                        scores[:, column] = blended(scores[:, column], best[page_id][1])
        pages = self._pages(ids)
        there = [n for n, page_id in enumerate(ids) if page_id in pages]
        return [pages[ids[n]] for n in there], scores[:, there]

    def count(self, collection: str, of: Selection) -> int:
        """How many of its pages are selected. Raises BadValueError."""
        found = self.collection(collection)
        chosen = self._chosen(collection, found.name, of)
        return found.pages if chosen is None else len(chosen)

    def names(self, collection: str) -> list[tuple[str, int]]:
        """Of its files, in the order they came, each with the pages under that name."""
        with self._lock:
            rows = self._db.execute(
                "SELECT file, count(*) FROM pages WHERE collection = ? GROUP BY file ORDER BY min(rowid)",
                [self._id(collection)],
            ).fetchall()
        return [(str(name), int(count)) for name, count in rows]

    def _searched(
        self, collection: str, fingerprint: str, of: Selection
    ) -> tuple[Matrix, bool, frozenset[str] | None] | None:
        """The vectors to search, whether lines have some too, and the pages that count (None: all of them).

        None for a collection without pages. Raises FingerprintError, BadValueError."""
        with self._lock:
            found = self.collection(collection)
            if found.fingerprint is None:
                return None
            self._same(found.name, found.fingerprint, fingerprint)
            chosen = self._chosen(collection, found.name, of)
            matrix, lined = self._matrix(self._id(collection))
        return matrix, lined, chosen

    def _chosen(self, collection: str, name: str, of: Selection) -> frozenset[str] | None:
        """Ids of the selected pages; None for all of them. `name`: as the collection is told. Raises BadValueError."""
        if of == EVERY:
            return None
        known = [file for file, _ in self.names(collection)]
        wanted = {file for file in known if of.takes(file)}
        missing = [file for file in of.files if file not in known]
        if missing and known:
            raise BadValueError(
                f"there is no file {missing[0]!r} in the collection {name!r} (any more): take it out of the filter",
                param="files",
            )
        with self._lock:
            select = "SELECT id, file FROM pages WHERE collection = ?"
            rows = self._db.execute(select, [self._id(collection)]).fetchall()
        return frozenset(page_id for page_id, file in rows if file in wanted)

    def _with_lines(self, ranked: Ranked, vector: Vectors, width: int) -> Ranked:
        """The same pages, ranked by page and best line together."""
        best = self._best_lines([page_id for page_id, _, _ in ranked], vector[None], width)
        found: Ranked = []
        for page_id, score, _ in ranked:
            if page_id in best:
                number, nearest = best[page_id]
                found.append((page_id, float(blended(score, float(nearest[0]))), int(number[0])))
            else:
                found.append((page_id, score, None))
        return sorted(found, key=lambda entry: -entry[1])

    def _best_lines(
        self, ids: Sequence[str], queries: Vectors, width: int
    ) -> dict[str, tuple[NDArray[np.intp], Vectors]]:
        """Of each page whose lines have vectors: the number of the one nearest to each query, and its cosine.

        `width`: numbers of a stored vector."""
        with self._lock:
            rows = self._db.execute(f"{LINES} AND page IN ({marks(ids)})", list(ids)).fetchall()
        return {page_id: best_rows(lines, width, queries) for page_id, lines in rows if lines}

    def _hits(self, ranked: Ranked) -> list[Hit]:
        pages = self._find([page_id for page_id, _, _ in ranked])
        # A page may have been deleted since its vector was compared.
        there = [entry for entry in ranked if entry[0] in pages]
        return [
            Hit(rank, score, pages[page_id], None if number is None else self._line(page_id, number))
            for rank, (page_id, score, number) in enumerate(there, 1)
        ]

    def _pages(self, ids: Sequence[str]) -> dict[str, StoredPage]:
        """As `_find`, for more ids than one statement takes."""
        found: dict[str, StoredPage] = {}
        for start in range(0, len(ids), AT_ONCE):
            found |= self._find(ids[start : start + AT_ONCE])
        return found

    def _line(self, page_id: str, number: int) -> Line | None:
        with self._lock:
            row = self._db.execute(f"{LINE} AND number = ?", [page_id, number]).fetchone()
        return None if row is None else line_of(*row)

    def _matrix(self, number: int) -> tuple[Matrix, bool]:
        """The collection's vectors in memory, and whether its lines have some too."""
        with self._lock:
            if number not in self._matrices:
                of_collection = "FROM vectors v JOIN pages p ON p.id = v.page WHERE p.collection = ?"
                rows = self._db.execute(f"SELECT v.page, v.vector {of_collection} ORDER BY p.rowid", [number])
                self._matrices[number] = Matrix.of(rows)
                lined = self._db.execute(f"SELECT 1 {of_collection} AND v.lines IS NOT NULL LIMIT 1", [number])
                if lined.fetchone() is not None:
                    self._lined.add(number)
            return self._matrices[number], number in self._lined


def blended(page: Vectors | float, line: Vectors | float) -> Vectors | float:
    return (1 - LINE_WEIGHT) * page + LINE_WEIGHT * line
