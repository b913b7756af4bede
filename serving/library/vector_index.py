"""Holds the vectors of searched collections in memory.

They are loaded with the first search; the least recently searched collection is evicted when they take too much. They
are read without the library's lock, as of the moment when reading began; changes that come meanwhile are applied to
what was read before it is searched.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass

from serving.library.catalogue import CollectionGoneError
from serving.library.database import Database, raise_library_errors
from serving.library.records import Collection, CollectionKey
from serving.library.vectors import HalfVectors, VectorMatrix

PAGE_VECTORS = (
    "SELECT v.page, v.vector FROM (SELECT id FROM pages WHERE collection = ? ORDER BY rowid LIMIT -1) p"
    " CROSS JOIN vectors v ON v.page = p.id"
)
"""Selects vectors in the order they were added. Only ids are sorted: sorted together with them, vectors would go
through the disk once more (LIMIT keeps SQLite from merging the two queries, CROSS JOIN from swapping them)."""
HAS_LINE_VECTORS = (
    "SELECT 1 FROM vectors v JOIN pages p ON p.id = v.page WHERE p.collection = ? AND v.lines IS NOT NULL LIMIT 1"
)


@dataclass
class PageVectors:
    """The vectors of a collection's pages."""

    matrix: VectorMatrix
    has_lines: bool
    """Some page has lines with vectors of their own."""


class IndexEntry:
    """One collection's vectors, loaded or being loaded. Changed with the database's lock held."""

    def __init__(self, expected: int) -> None:
        self.bytes = expected
        self.vectors: Future[PageVectors] = Future()
        self._changes: list[Callable[[PageVectors], None]] = []

    def apply_change(self, change: Callable[[PageVectors], None]) -> None:
        """Make a change, now or once the vectors are loaded."""
        if not self.vectors.done():
            self._changes.append(change)
            return
        vectors = self.vectors.result()
        change(vectors)
        self.bytes = vectors.matrix.bytes

    def set_vectors(self, vectors: PageVectors) -> None:
        """Resolve `vectors`, with the changes that came while they were read."""
        for change in self._changes:
            change(vectors)
        self.bytes = vectors.matrix.bytes
        self.vectors.set_result(vectors)


class VectorIndex:
    """The vectors of several collections in memory."""

    def __init__(self, database: Database, max_bytes: int) -> None:
        """`max_bytes`: of all collections together; a larger one is held alone."""
        self._database = database
        self._max_bytes = max_bytes
        self._entries: OrderedDict[CollectionKey, IndexEntry] = OrderedDict()
        """The least recently searched first."""

    @property
    def bytes(self) -> int:
        return sum(self.list_loaded().values())

    def list_loaded(self) -> dict[CollectionKey, int]:
        """Return the bytes of each collection in memory, the least recently searched first."""
        with self._database.lock:
            return {key: entry.bytes for key, entry in self._entries.items()}

    def load_vectors(self, collection: Collection) -> PageVectors:
        """Return the vectors of a collection as of now, or later. Raises CollectionGoneError or LibraryError."""
        with ExitStack() as reading:
            with self._database.lock:
                entry = self._entries.get(collection.key)
                if found := entry:
                    self._entries.move_to_end(collection.key)
                else:
                    # With the lock held, so that each change is either in the snapshot or applied to the entry.
                    snapshot = reading.enter_context(self._database.snapshot())
                    entry = IndexEntry(collection.pages * (collection.dimension or 0) * 2)
                    self._entries[collection.key] = entry
                    self._evict()
            if not found:
                self._load(collection.key, entry, snapshot)
        return entry.vectors.result()

    def _load(self, key: CollectionKey, entry: IndexEntry, snapshot: sqlite3.Connection) -> None:
        try:
            vectors = read_vectors(snapshot, key)
            with self._database.lock:
                entry.set_vectors(vectors)
                self._evict()
        except BaseException as error:
            with self._database.lock:
                if self._entries.get(key) is entry:
                    del self._entries[key]
            entry.vectors.set_exception(error)

    def append_page(self, key: CollectionKey, page_id: str, vector: HalfVectors, has_lines: bool) -> None:
        """Add a page that is in the database now. With the database's lock held since before the change."""

        def change(vectors: PageVectors) -> None:
            vectors.matrix.append_row(page_id, vector)
            vectors.has_lines = vectors.has_lines or has_lines

        if (entry := self._entries.get(key)) is not None:
            entry.apply_change(change)
            self._evict()

    def remove_pages(self, key: CollectionKey, ids: AbstractSet[str]) -> None:
        """Remove pages that are no longer in the database. With its lock held since before the change."""
        if (entry := self._entries.get(key)) is not None:
            entry.apply_change(lambda vectors: vectors.matrix.remove_rows(ids))

    def drop_collection(self, key: CollectionKey) -> None:
        """Remove a collection that was deleted, or changed in another way. With the database's lock held."""
        self._entries.pop(key, None)

    def clear(self) -> None:
        with self._database.lock:
            self._entries.clear()

    def _evict(self) -> None:
        while len(self._entries) > 1 and self.bytes > self._max_bytes:
            self._entries.popitem(last=False)


@raise_library_errors()
def read_vectors(db: sqlite3.Connection, key: CollectionKey) -> PageVectors:
    """Return a collection's vectors. Raises CollectionGoneError or LibraryError."""
    row = db.execute("SELECT id FROM collections WHERE key = ?", [key]).fetchone()
    if row is None:
        raise CollectionGoneError
    has_lines = db.execute(HAS_LINE_VECTORS, row).fetchone() is not None
    return PageVectors(VectorMatrix.from_rows(db.execute(PAGE_VECTORS, row)), has_lines)
