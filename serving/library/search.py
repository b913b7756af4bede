"""Exact search over the pages of a collection: which of them, by how many numbers, ranked by page and best line.

Reads only. Vectors of pages are searched in memory; those of lines stay in SQLite.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from serving.embedders.base import Vectors
from serving.errors import BadValueError
from serving.library.catalogue import AT_ONCE, Catalogue
from serving.library.records import EVERY, CollectionKey, Hit, Selection, StoredPage
from serving.library.vector_index import PageVectors, VectorIndex
from serving.library.vectors import best_rows, cut

CANDIDATES = 200
"""Pages, nearest by their own vectors, whose lines are looked at too. In a smaller collection that is every page."""
LINE_WEIGHT = 0.4
"""Share of the best line in a page's score. docs/quality.md has what it brings."""

Ranked = list[tuple[str, float, int | None]]
"""Page id, score, number of the line that answers."""


class Ranking:
    def __init__(self, catalogue: Catalogue, index: VectorIndex) -> None:
        self._catalogue = catalogue
        self._index = index

    def search(
        self,
        collection: CollectionKey,
        vector: Vectors,
        top_k: int,
        fingerprint: str,
        of: Selection = EVERY,
        dimension: int | None = None,
    ) -> list[Hit]:
        """Return the nearest pages by cosine, best first. `vector` is float32[n], of which the first `dimension`
        numbers are compared. Raises FingerprintError; BadValueError for a selection that cannot be."""
        if top_k < 1:
            raise BadValueError("top_k is at least 1", param="top_k")
        found = self._searched(collection, fingerprint, of)
        if found is None:
            return []
        held, chosen = found
        vector = cut(vector, dimension)
        nearest = held.matrix.search(vector, max(top_k, CANDIDATES) if held.lined else top_k, chosen)
        ranked: Ranked = [(page_id, score, None) for page_id, score in nearest]
        return self._hits(self._with_lines(ranked, vector, held.matrix.width)[:top_k] if held.lined else ranked)

    def scores(
        self,
        collection: CollectionKey,
        vectors: Vectors,
        fingerprint: str,
        of: Selection = EVERY,
        dimension: int | None = None,
    ) -> tuple[list[StoredPage], Vectors]:
        """Return the pages in the order they were added, and float32[vectors, pages], the scores that `search` gives.

        `vectors` is float32[n, numbers]. Raises as `search` does."""
        found = self._searched(collection, fingerprint, of)
        if found is None:
            return [], np.empty((len(vectors), 0), np.float32)
        held, chosen = found
        queries = cut(vectors, dimension)
        ids, scores = held.matrix.scores(queries, chosen)
        if held.lined:
            for start in range(0, len(ids), AT_ONCE):
                part = slice(start, start + AT_ONCE)
                best = self._best_lines(ids[part], queries, held.matrix.width)
                for column, page_id in enumerate(ids[part], start):
                    if page_id in best:
                        scores[:, column] = blended(scores[:, column], best[page_id][1])
        pages = self._catalogue.pages(ids)
        there = [n for n, page_id in enumerate(ids) if page_id in pages]
        return [pages[ids[n]] for n in there], scores[:, there]

    def count(self, collection: CollectionKey, of: Selection) -> int:
        """Return how many of its pages are selected. Raises BadValueError."""
        chosen = self._catalogue.select(collection, of)
        return self._catalogue.collection(collection).pages if chosen is None else len(chosen)

    def _searched(
        self, collection: CollectionKey, fingerprint: str, of: Selection
    ) -> tuple[PageVectors, frozenset[str] | None] | None:
        """Return the vectors to search, and the pages that count (None: all of them).

        None for a collection without pages. Raises FingerprintError, BadValueError."""
        found = self._catalogue.collection(collection)
        if found.fingerprint is None:
            return None
        self._catalogue.check_same(found.name, found.fingerprint, fingerprint)
        chosen = self._catalogue.select(collection, of)
        return self._index.vectors(found), chosen

    def _with_lines(self, ranked: Ranked, vector: Vectors, width: int) -> Ranked:
        """Return the same pages, ranked by page and best line together."""
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
        """Return, for each page whose lines have vectors, the number of the one nearest to each query, and its cosine.

        `width`: numbers of a stored vector."""
        rows = self._catalogue.line_vectors(ids)
        return {page_id: best_rows(lines, width, queries) for page_id, lines in rows if lines}

    def _hits(self, ranked: Ranked) -> list[Hit]:
        pages = self._catalogue.pages([page_id for page_id, _, _ in ranked])
        # A page may have been deleted since its vector was compared.
        there = [entry for entry in ranked if entry[0] in pages]
        return [
            Hit(rank, score, pages[page_id], None if number is None else self._catalogue.line(page_id, number))
            for rank, (page_id, score, number) in enumerate(there, 1)
        ]


def blended(page: Vectors | float, line: Vectors | float) -> Vectors | float:
    return (1 - LINE_WEIGHT) * page + LINE_WEIGHT * line
