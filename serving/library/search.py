"""Ranks the pages of a collection by exact search, by their own vector and that of their best line.

Reads only. Vectors of pages are searched in memory; those of lines stay in SQLite.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serving.embedders.base import Vectors
from serving.errors import BadValueError
from serving.library.catalogue import IDS_PER_QUERY, Catalogue
from serving.library.records import ALL_PAGES, CollectionKey, Hit, Selection, StoredPage
from serving.library.vector_index import PageVectors, VectorIndex
from serving.library.vectors import HalfVectors, compute_cosines, truncate_vectors

CANDIDATES = 200
"""Pages, nearest by their own vectors, whose lines are compared too; in a smaller collection all pages are."""
LINE_WEIGHT = 0.4
"""Share of the best line in a page's score. docs/quality.md has what it gains."""
TITLE_SHARE = 0.5
"""How much does not count, of what query and line have in common with the page's title, when a line is marked."""

Ranked = list[tuple[str, float, int | None]]
"""Page id, score, number of the line to mark."""


class Ranking:
    """The search over a library's collections."""

    def __init__(self, catalogue: Catalogue, index: VectorIndex) -> None:
        self._catalogue = catalogue
        self._index = index

    def search(
        self,
        collection: CollectionKey,
        vector: Vectors,
        top_k: int,
        fingerprint: str,
        selection: Selection = ALL_PAGES,
        dimension: int | None = None,
    ) -> list[Hit]:
        """Return the nearest pages by cosine, best first.

        `vector` is float32[n], of which the first `dimension` numbers are compared. Raises FingerprintError;
        BadValueError for an invalid selection.
        """
        if top_k < 1:
            raise BadValueError("top_k is at least 1", param="top_k")
        found, chosen = self._select_vectors(collection, fingerprint, selection)
        if found is None:
            return []
        vector = truncate_vectors(vector, dimension)
        nearest = found.matrix.search(vector, max(top_k, CANDIDATES) if found.has_lines else top_k, chosen)
        ranked: Ranked = [(page_id, score, None) for page_id, score in nearest]
        if found.has_lines:
            ranked = self._rank_with_lines(ranked, vector, found.matrix.dimension, top_k)
        return self._make_hits(ranked)

    def score_pages(
        self,
        collection: CollectionKey,
        vectors: Vectors,
        fingerprint: str,
        selection: Selection = ALL_PAGES,
        dimension: int | None = None,
    ) -> tuple[list[StoredPage], Vectors]:
        """Return the pages in the order they were added, and float32[vectors, pages], the scores that `search` gives.

        `vectors` is float32[n, numbers]. Raises as `search` does.
        """
        found, chosen = self._select_vectors(collection, fingerprint, selection)
        if found is None:
            return [], np.empty((len(vectors), 0), np.float32)
        queries = truncate_vectors(vectors, dimension)
        ids, scores = found.matrix.score_rows(queries, chosen)
        if found.has_lines:
            for start in range(0, len(ids), IDS_PER_QUERY):
                part = slice(start, start + IDS_PER_QUERY)
                lines = self._read_lines(ids[part], found.matrix.dimension)
                for column, page_id in enumerate(ids[part], start):
                    if page_id in lines:
                        nearest = compute_cosines(lines[page_id], queries).max(axis=1)
                        scores[:, column] = blend_scores(scores[:, column], nearest)
        pages = self._catalogue.read_pages(ids)
        there = [n for n, page_id in enumerate(ids) if page_id in pages]
        return [pages[ids[n]] for n in there], scores[:, there]

    def count_pages(self, collection: CollectionKey, selection: Selection) -> int:
        """Return how many pages are selected. Raises BadValueError."""
        chosen = self._catalogue.select_pages(collection, selection)
        return self._catalogue.read_collection(collection).pages if chosen is None else len(chosen)

    def _select_vectors(
        self, collection: CollectionKey, fingerprint: str, selection: Selection
    ) -> tuple[PageVectors | None, frozenset[str] | None]:
        """Return the vectors to search, None for a collection without pages; and the selected pages, None for all."""
        found = self._catalogue.read_collection(collection)
        if found.fingerprint is None:
            return None, None
        self._catalogue.check_comparable(found.name, found.fingerprint, fingerprint)
        chosen = self._catalogue.select_pages(collection, selection)
        return self._index.load_vectors(found), chosen

    def _rank_with_lines(self, ranked: Ranked, vector: Vectors, dimension: int, top_k: int) -> Ranked:
        """Return the `top_k` best of the pages by page and nearest line together, each with the line to mark."""
        lines = self._read_lines([page_id for page_id, _, _ in ranked], dimension)
        for place, (page_id, score, _) in enumerate(ranked):
            if page_id in lines:
                nearest = compute_cosines(lines[page_id], vector[None]).max()
                ranked[place] = page_id, float(blend_scores(score, float(nearest))), None
        best = sorted(ranked, key=lambda entry: -entry[1])[:top_k]
        return [(key, score, choose_line(lines[key], vector) if key in lines else None) for key, score, _ in best]

    def _read_lines(self, ids: Sequence[str], dimension: int) -> dict[str, HalfVectors]:
        """Return fp16[lines, dimension] for each page whose lines have vectors."""
        rows = self._catalogue.read_line_vectors(ids)
        return {key: np.frombuffer(lines, dtype=np.float16).reshape(-1, dimension) for key, lines in rows if lines}

    def _make_hits(self, ranked: Ranked) -> list[Hit]:
        pages = self._catalogue.read_pages([page_id for page_id, _, _ in ranked])
        # A page may have been deleted since its vector was compared.
        there = [entry for entry in ranked if entry[0] in pages]
        return [
            Hit(rank, score, pages[page_id], None if number is None else self._catalogue.read_line(page_id, number))
            for rank, (page_id, score, number) in enumerate(there, 1)
        ]


def choose_line(rows: HalfVectors, query: Vectors) -> int:
    """Return the number of the line to mark on a page."""
    lines = truncate_vectors(rows.astype(np.float32), len(query))
    return int(score_answers(lines @ query, lines).argmax())


def score_answers(cosines: Vectors, lines: Vectors) -> Vectors:
    """Return the `cosines` of lines and query less what both have in common with the page's title, float32[lines].

    A query's words for the page's subject find the page; which line answers is in its other words. The title is the
    first of the `lines`, float32[lines, n], that has a vector.
    """
    title = lines.any(axis=1).argmax()
    return np.asarray(cosines - TITLE_SHARE * cosines[title] * (lines @ lines[title]), dtype=np.float32)


def blend_scores(page: Vectors | float, line: Vectors | float) -> Vectors | float:
    return (1 - LINE_WEIGHT) * page + LINE_WEIGHT * line
