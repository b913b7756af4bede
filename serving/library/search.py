"""Ranks the pages of a collection by exact search, by their own vector and those of their lines.

Reads only. Vectors of pages are searched in memory or by the database; those of lines stay in the database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serving.embedders.base import Vectors
from serving.errors import BadValueError
from serving.library.catalogue import IDS_PER_QUERY, Catalogue
from serving.library.records import ALL_PAGES, CollectionKey, Hit, PageChoice, Selection, StoredPage
from serving.library.vectors import HalfVectors, truncate_vectors
from serving.library.word_index import WordIndex
from serving.library.words import WeighedWords, choose_line_with_words, find_identifier

CANDIDATES = 200
"""Pages, nearest by their own vectors, whose lines are compared too; in a smaller collection all pages are."""
MOST_EXACT = 20
"""Pages that may have the number that was asked for: one that is on more of them is no page's own."""
LINE_WEIGHT = 0.5
"""Share of the lines in a page's score, see `score_lines`. docs/quality.md has what it gains."""
TITLE_SHARE = 0.5
"""How much does not count, of what query and line have in common with the page's title, when a line is marked."""

SHORT = 0.1
"""Two lines whose vectors nearly cancel each other have no direction: their sum counts as if it had this length."""

Ranked = list[tuple[str, float, int | None]]
"""Page id, score, number of the line to mark."""


class SearchedPages(Protocol):
    """The pages of a collection by their own vectors. All methods raise BadValueError for an invalid selection."""

    @property
    def dimension(self) -> int: ...

    @property
    def has_lines(self) -> bool:
        """Whether pages may have lines with vectors of their own."""

    @property
    def is_indexed(self) -> bool:
        """Whether a search of all pages goes through an index, which may miss some."""

    def search(self, vector: Vectors, count: int, of: PageChoice) -> list[tuple[str, float]]:
        """Return the best `count` (id, cosine), best first; of a shorter `vector` as many numbers are compared."""

    def score_pages(self, queries: Vectors, of: PageChoice) -> tuple[list[str], Vectors]:
        """Return the ids in the order they were added, and float32[queries, ids], the cosine of each pair."""

    def count_pages(self, of: PageChoice) -> int: ...


class PageIndex(Protocol):
    """The pages of all collections by their own vectors, as they are now, or were when they were loaded and changed."""

    @property
    def bytes(self) -> int:
        """Memory that it takes."""

    def load_vectors(self, key: CollectionKey) -> SearchedPages:
        """Return what searches a collection. Raises CollectionGoneError or LibraryError."""

    def begin_loading(self, key: CollectionKey) -> None:
        """Load a collection in a thread, so that its first search finds it."""

    def append_page(
        self, key: CollectionKey, page_id: str, vector: HalfVectors, file: str, added: float, has_lines: bool
    ) -> None:
        """Add a page that is in the database now."""

    def remove_pages(self, key: CollectionKey, ids: AbstractSet[str]) -> None:
        """Remove pages that are no longer in the database."""

    def drop_collection(self, key: CollectionKey) -> None:
        """Forget a collection that was deleted, or changed in another way."""

    def begin_indexing(self) -> None:
        """Index large collections in a thread, until `clear`, where a search needs that to be fast."""

    def clear(self) -> None:
        """Forget all collections."""


class Ranking:
    """The search over a library's collections."""

    def __init__(self, catalogue: Catalogue, index: PageIndex, words: WordIndex) -> None:
        self._catalogue = catalogue
        self._index = index
        self._words = words

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
        return self._rank(self._load_vectors(collection, fingerprint), vector, top_k, selection, dimension)

    def search_words(
        self, collection: CollectionKey, question: str, top_k: int, selection: Selection = ALL_PAGES
    ) -> list[Hit]:
        """Return the pages with most of a question's words, best first, with the line that has most: needs no vector.

        Raises CollectionGoneError, LibraryError; BadValueError for an invalid selection.
        """
        found = self._words.find_pages(collection, question, top_k, selection)
        pages = self._catalogue.read_pages([page_id for page_id, _ in found.pages])
        there = [(page_id, score) for page_id, score in found.pages if page_id in pages]
        hits = [Hit(rank, score, pages[page_id], by_words=True) for rank, (page_id, score) in enumerate(there, 1)]
        return [self._mark_line(hit, found.words) for hit in hits]

    def search_exact(
        self,
        collection: CollectionKey,
        question: str,
        vector: Vectors,
        fingerprint: str,
        selection: Selection = ALL_PAGES,
        dimension: int | None = None,
    ) -> list[Hit]:
        """Return the pages with the number or name that is all of the question, nearest first.

        None for another question, and where it is on many pages. Raises as `search`.
        """
        word = find_identifier(question)
        ids = self._words.find_exact(collection, word, MOST_EXACT, selection) if word else []
        if not ids:
            return []
        hits = self.search_among(collection, vector, MOST_EXACT, fingerprint, frozenset(ids), dimension)
        return [replace(hit, is_exact=True) for hit in hits]

    def mark_lines(self, collection: CollectionKey, question: str, hits: Sequence[Hit]) -> list[Hit]:
        """Return the hits, those whose lines have no vectors with the line that says most of the question's words.

        Raises CollectionGoneError, LibraryError.
        """
        unmarked = {hit.page.id for hit in hits if hit.line is None and hit.page.read}
        if not question or not unmarked:
            return [*hits]
        words = self._words.weigh_question(collection, question)
        return [self._mark_line(hit, words) if hit.page.id in unmarked else hit for hit in hits]

    def _mark_line(self, hit: Hit, words: WeighedWords) -> Hit:
        line = choose_line_with_words(self._catalogue.read_lines(hit.page.id), words) if words.weights else None
        return replace(hit, line=line, line_by_words=line is not None)

    def search_among(
        self,
        collection: CollectionKey,
        vector: Vectors,
        top_k: int,
        fingerprint: str,
        pages: frozenset[str],
        dimension: int | None = None,
        marked: int | None = None,
    ) -> list[Hit]:
        """Return what `search` does, of the pages with these ids. Raises FingerprintError.

        `marked`: how many of the best have their line, which takes most of the time where many hits are asked for.
        """
        found = self._load_vectors(collection, fingerprint)
        return self._rank(found, vector, top_k, pages, dimension, marked)

    def _rank(
        self,
        found: SearchedPages | None,
        vector: Vectors,
        top_k: int,
        of: PageChoice,
        dimension: int | None,
        marked: int | None = None,
    ) -> list[Hit]:
        if top_k < 1:
            raise BadValueError("top_k is at least 1", param="top_k")
        if found is None:
            return []
        vector = truncate_vectors(vector, dimension)
        nearest = found.search(vector, max(top_k, CANDIDATES) if found.has_lines else top_k, of)
        ranked: Ranked = [(page_id, score, None) for page_id, score in nearest]
        if found.has_lines:
            ranked = self._rank_with_lines(ranked, vector, found.dimension, top_k, marked)
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
        found = self._load_vectors(collection, fingerprint)
        if found is None:
            return [], np.empty((len(vectors), 0), np.float32)
        queries = truncate_vectors(vectors, dimension)
        ids, scores = found.score_pages(queries, selection)
        if found.has_lines:
            for start in range(0, len(ids), IDS_PER_QUERY):
                part = slice(start, start + IDS_PER_QUERY)
                lines = self._read_lines(ids[part], found.dimension)
                for column, page_id in enumerate(ids[part], start):
                    if page_id in lines:
                        rows = truncate_vectors(lines[page_id].astype(np.float32), queries.shape[1])
                        told = score_lines(rows, queries @ rows.T, np.array([0]))
                        scores[:, column] = blend_scores(scores[:, column], told[:, 0])
        pages = self._catalogue.read_pages(ids)
        there = [n for n, page_id in enumerate(ids) if page_id in pages]
        return [pages[ids[n]] for n in there], scores[:, there]

    def count_pages(self, collection: CollectionKey, selection: Selection) -> int:
        """Return how many pages are selected. Raises BadValueError."""
        _, fingerprint = self._catalogue.read_embedder(collection)
        if fingerprint is None:
            return 0
        return self._index.load_vectors(collection).count_pages(selection)

    def _load_vectors(self, collection: CollectionKey, fingerprint: str) -> SearchedPages | None:
        """Return the vectors to search, None for a collection without pages. Raises FingerprintError."""
        name, known = self._catalogue.read_embedder(collection)
        if known is None:
            return None
        self._catalogue.check_comparable(name, known, fingerprint)
        return self._index.load_vectors(collection)

    def _rank_with_lines(
        self, ranked: Ranked, vector: Vectors, dimension: int, top_k: int, marked: int | None
    ) -> Ranked:
        """Return the `top_k` best of the pages by page and lines together, `marked` with the line to mark."""
        lines = self._read_lines([page_id for page_id, _, _ in ranked], dimension)
        told = score_page_lines(lines, vector)
        for place, (page_id, score, _) in enumerate(ranked):
            if page_id in lines:
                ranked[place] = page_id, float(blend_scores(score, told[page_id])), None
        best = sorted(ranked, key=lambda entry: -entry[1])[:top_k]
        for place, (page_id, score, _) in enumerate(best[:marked]):
            if page_id in lines:
                best[place] = page_id, score, choose_line(lines[page_id], vector)
        return best

    def _read_lines(self, ids: Sequence[str], dimension: int) -> dict[str, HalfVectors]:
        """Return fp16[lines, dimension] for each page whose lines have vectors."""
        rows = self._catalogue.read_line_vectors(ids)
        return {key: np.frombuffer(lines, dtype=np.float16).reshape(-1, dimension) for key, lines in rows if lines}

    def _make_hits(self, ranked: Ranked) -> list[Hit]:
        pages = self._catalogue.read_pages([page_id for page_id, _, _ in ranked])
        # A page may have been deleted since its vector was compared.
        there = [entry for entry in ranked if entry[0] in pages]
        marked = {page_id: number for page_id, _, number in there if number is not None}
        lines = self._catalogue.read_marked_lines(marked)
        return [
            Hit(rank, score, pages[page_id], lines.get(page_id)) for rank, (page_id, score, _) in enumerate(there, 1)
        ]


def score_page_lines(lines: Mapping[str, HalfVectors], query: Vectors) -> dict[str, float]:
    """Return `score_lines` of each page. All at once: one after the other, pages take twice as long."""
    if not lines:
        return {}
    starts = np.cumsum([0, *(len(rows) for rows in lines.values())])[:-1]
    rows = truncate_vectors(np.concatenate(list(lines.values())).astype(np.float32), len(query))
    cosines = np.vecdot(rows, query)  # row by row: in a product of matrices, a score depends on the other rows
    return dict(zip(lines, score_lines(rows, cosines, starts).tolist(), strict=True))


def score_lines(rows: Vectors, cosines: Vectors, starts: NDArray[np.intp]) -> Vectors:
    """Return float32[..., pages]: the mean of a page's nearest line and its nearest two lines that follow each other.

    An answer is often broken over two lines, and a line alone may be near by chance. `rows`: float32[lines, n], unit
    vectors or zero; `cosines`: float32[..., lines], theirs to queries; `starts`: each page's first line.
    """
    squares = np.vecdot(rows, rows)
    sums = np.sqrt(np.maximum(squares[:-1] + squares[1:] + 2 * np.vecdot(rows[:-1], rows[1:]), SHORT**2))
    pairs = cosines.copy()
    pairs[..., :-1] = (cosines[..., :-1] + cosines[..., 1:]) / sums
    ends = np.append(starts[1:], len(rows)) - 1
    pairs[..., ends] = cosines[..., ends]  # nothing follows a page's last line
    nearest = [np.maximum.reduceat(scores, starts, axis=-1) for scores in (cosines, pairs)]
    return np.asarray((nearest[0] + nearest[1]) / 2, dtype=np.float32)


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


def blend_scores(page: Vectors | float, lines: Vectors | float) -> Vectors | float:
    return (1 - LINE_WEIGHT) * page + LINE_WEIGHT * lines
