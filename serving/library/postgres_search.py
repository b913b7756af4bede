"""Searches the vectors of pages in PostgreSQL. Nothing is held in memory: each search sees what is there.

It is exact, but where a collection is so large that it has an index, and what is selected of it is large too.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np

from serving.embedders.base import Vectors
from serving.library.catalogue import CollectionGoneError
from serving.library.file_names import select_names
from serving.library.postgres_database import PostgresDatabase
from serving.library.postgres_indexing import KINDS, IndexBuilder, IndexKind
from serving.library.records import ABSENT, CollectionKey, IndexChoice, PageChoice, Selection
from serving.library.rows import halve
from serving.library.vectors import HalfVectors, compute_cosines

VECTORS = "FROM vectors v WHERE v.collection = ?"
SELECTED = "FROM vectors v JOIN pages p ON p.id = v.page AND p.collection = v.collection WHERE v.collection = ?"
COUNT = "SELECT count(*) FROM pages p WHERE p.collection = ?"
COUNT_SOME = "SELECT count(*) FROM (SELECT 1 FROM pages p WHERE p.collection = ?{} LIMIT ?) counted"
FIND = (
    "SELECT c.id, coalesce(c.dimension, 0),"
    " EXISTS (SELECT 1 FROM vectors v WHERE v.collection = c.id AND v.lines IS NOT NULL),"
    " (SELECT n.reltuples FROM pg_index i JOIN pg_class n ON n.oid = i.indexrelid"
    " WHERE i.indrelid = 'vectors'::regclass AND n.relname = ? || c.id AND i.indisvalid)"
    " FROM collections c WHERE c.key = ?"
)
"""Number and dimension of a collection, whether it has lines with vectors, and how many pages its index has, where that
can be searched."""
ROWS_AT_ONCE = 2_000
"""Vectors that a score with every page takes at a time: of 2560 numbers each, 10 MB, and 20 in float32."""
LEAST_CANDIDATES = 200
"""Pages that a search in an index looks at: fewer take less time and find less."""
LOOKED_TIMES = 3
"""An index that looks at no more pages than are wanted misses one in ten: 200 are wanted where lines are ranked."""
VERY_LARGE_PAGES = 500_000
"""An index of so many has to look at twice as many."""
FILTERED_TIMES = 5
"""So many times as many where only some are selected: the nearest of these are further away, where an index finds
less."""
EXACT_TIMES = 5
"""So many times the pages from which there is an index are compared exactly where only some are selected: an index
takes half the time for half of 100,000 pages, and misses a fifth of the nearest."""
MOST_CANDIDATES = 1_000
"""pgvector looks at no more before it goes on; a search for more pages is exact."""
PLAN = (
    "SET LOCAL hnsw.ef_search = {}; SET LOCAL hnsw.iterative_scan = relaxed_order;"
    " SET LOCAL hnsw.max_scan_tuples = 40000; SET LOCAL hnsw.scan_mem_multiplier = 8;"
    " SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; SET LOCAL jit = off"
)
"""Makes the server take the index, whatever it expects of it, and go on in it until enough pages are selected."""


@dataclass(frozen=True)
class Condition:
    """What follows WHERE, and its values."""

    sql: str = ""
    values: tuple[object, ...] = ()


class PostgresPages:
    """The pages of one collection."""

    def __init__(
        self,
        database: PostgresDatabase,
        collection: int,
        dimension: int,
        has_lines: bool,
        index: IndexKind | None,
        least_candidates: int,
        least_pages: int,
    ) -> None:
        """`index`: the one that it has, what it looks at, and of how many pages collections have one."""
        self._database = database
        self._collection = collection
        self.dimension = dimension
        self.has_lines = has_lines
        self._index = index
        self._least_candidates = least_candidates
        self._least_pages = least_pages

    @property
    def is_indexed(self) -> bool:
        return self._index is not None

    def search(self, vector: Vectors, count: int, of: PageChoice) -> list[tuple[str, float]]:
        where = self._select_pages(of)
        rows: list[Any] = []
        index = None if len(vector) < self.dimension or count > MOST_CANDIDATES else self._index
        if index is not None and self._has_many(where):
            rows = self._search_index(index, vector, count, where)
        if len(rows) < count:  # an index has gone through so much that it gives up, or there are no more pages
            rows = self._search_exactly(vector, count, where)
        if not rows:
            return []
        # The server's sums are of fp16 queries: the few best are compared again in float32, as in memory.
        scores = compute_cosines(join_vectors([row[1] for row in rows]), np.asarray(vector, dtype=np.float32)[None])[0]
        order = np.lexsort(([row[2] for row in rows], -scores))
        return [(str(rows[n][0]), float(scores[n])) for n in order]

    def _has_many(self, where: Condition) -> bool:
        """Return whether so many pages are selected that going through them takes much longer than an index."""
        if not where.sql:
            return True
        most = self._least_pages * EXACT_TIMES
        values = [self._collection, *where.values, most]
        return bool(self._database.fetch_one(COUNT_SOME.format(where.sql), values)[0] == most)

    def _search_exactly(self, vector: Vectors, count: int, where: Condition) -> list[Any]:
        """Return ids, vectors and row numbers of the nearest pages, the nearest first."""
        # Rows have length 1, truncated ones do not.
        cut = len(vector) < self.dimension
        distance = "subvector(v.vector, 1, ?) <=> ?" if cut else "v.vector <#> ?"
        values = [self._collection, *where.values, *([len(vector)] if cut else []), halve(vector), count]
        return self._database.fetch_all(
            f"SELECT v.page, v.vector, v.rowid {SELECTED if where.sql else VECTORS}{where.sql}"
            f" ORDER BY {distance}, v.rowid LIMIT ?",
            values,
        )

    def _search_index(self, index: IndexKind, vector: Vectors, count: int, where: Condition) -> list[Any]:
        """Return what `_search_exactly` does, but for what the index does not find, or fewer where it gives up."""
        is_filtered, query = bool(where.sql), halve(vector)
        ranked, looked_at = count_candidates(index, self._least_candidates, count, is_filtered)
        # The number is written out: an index of some rows is taken only for what is known when the server plans.
        source = (SELECTED if is_filtered else VECTORS).replace("?", str(self._collection))
        near = (
            f"SELECT v.page, v.vector, v.rowid {source}{where.sql}"
            f" ORDER BY {index.write_distance('v.vector', '?', self.dimension)} LIMIT ?"
        )
        return self._database.fetch_planned(
            PLAN.format(looked_at),
            f"SELECT * FROM ({near}) near ORDER BY vector <#> ? LIMIT ?",  # noqa: S608 - names of ours
            [*where.values, query, ranked, query, count],
        )

    def score_pages(self, queries: Vectors, of: PageChoice) -> tuple[list[str], Vectors]:
        where, last = self._select_pages(of), 0
        ids: list[str] = []
        scores = [np.empty((len(queries), 0), np.float32)]
        select = f"SELECT v.page, v.vector, v.rowid {SELECTED}{where.sql} AND p.rowid > ? ORDER BY p.rowid LIMIT ?"
        while rows := self._database.fetch_all(select, [self._collection, *where.values, last, ROWS_AT_ONCE]):
            ids += [row[0] for row in rows]
            scores.append(compute_cosines(join_vectors([row[1] for row in rows]), queries))
            last = rows[-1][2]
        return ids, np.concatenate(scores, axis=1)

    def count_pages(self, of: PageChoice) -> int:
        where = self._select_pages(of)
        select = f"{COUNT}{where.sql}"
        return int(self._database.fetch_one(select, [self._collection, *where.values])[0])

    def _select_pages(self, of: PageChoice) -> Condition:
        """Return what selects the pages. Raises BadValueError for a file or folder that is not there."""
        if isinstance(of, frozenset):
            return Condition(" AND p.id = ANY(?)", (sorted(of),))
        named, since = self._select_files(of), Condition()
        if of.added_after is not None:
            since = Condition(" AND p.added >= ?", (of.added_after,))
        return Condition(named.sql + since.sql, named.values + since.values)

    def _select_files(self, of: Selection) -> Condition:
        if not (of.files or of.types or of.folder):
            return Condition()
        select = "SELECT file FROM pages WHERE collection = ? GROUP BY file"
        names = [str(name) for (name,) in self._database.fetch_all(select, [self._collection])]
        return Condition(" AND p.file = ANY(?)", (select_names(names, of),))


class PostgresIndex:
    """The pages of all collections. The server has their vectors, so that a change is nothing to be told here."""

    bytes = 0

    def __init__(self, database: PostgresDatabase, choice: IndexChoice) -> None:
        self._database = database
        self._choice = choice
        self._builder: IndexBuilder | None = None

    def load_vectors(self, key: CollectionKey) -> PostgresPages:
        kind = KINDS.get(self._choice.kind) if self._database.has_iterative_scans else None
        row = self._database.fetch_one(FIND, ["" if kind is None else kind.prefix, key])
        if row is None or key == ABSENT:
            raise CollectionGoneError
        number, dimension, has_lines, indexed = row
        index = None if indexed is None else kind
        looked_at = LEAST_CANDIDATES * (2 if indexed is not None and indexed >= VERY_LARGE_PAGES else 1)
        return PostgresPages(self._database, number, dimension, has_lines, index, looked_at, self._choice.least_pages)

    def begin_loading(self, key: CollectionKey) -> None: ...

    def append_page(
        self, key: CollectionKey, page_id: str, vector: HalfVectors, file: str, added: float, has_lines: bool
    ) -> None: ...

    def remove_pages(self, key: CollectionKey, ids: AbstractSet[str]) -> None: ...

    def drop_collection(self, key: CollectionKey) -> None: ...

    def begin_indexing(self) -> None:
        if self._builder is None and self._database.has_iterative_scans:
            self._builder = IndexBuilder(self._database.conninfo, self._choice)
            self._builder.start()

    def clear(self) -> None:
        if self._builder is not None:
            self._builder.close()
            self._builder = None


def count_candidates(index: IndexKind, least: int, count: int, is_filtered: bool) -> tuple[int, int]:
    """Return how many of the selected pages that an index finds are ranked by all numbers, and how many it looks at.

    `least`: of the latter.
    """
    looked_at = min(least * (FILTERED_TIMES if is_filtered else 1), MOST_CANDIDATES)
    if not is_filtered and index.oversampling == 1:
        return count, min(max(LOOKED_TIMES * count, looked_at), MOST_CANDIDATES)
    ranked = max(count, looked_at if is_filtered else 0) * index.oversampling
    ranked = min(max(ranked, least), MOST_CANDIDATES)
    return ranked, max(ranked, looked_at)


def join_vectors(vectors: list[bytes]) -> HalfVectors:
    return np.frombuffer(b"".join(vectors), np.float16).reshape(len(vectors), -1)
