"""Vectors of the collections that are searched, in memory: loaded when they are first needed, the least recently
searched going when they are too many.

Vectors are read without the library's lock, as of the moment when reading began; changes that come meanwhile are made
to what was read before anybody searches it.
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
from serving.library.database import Database
from serving.library.records import Collection, CollectionKey
from serving.library.vectors import Half, Matrix

ROWS = (
    "SELECT v.page, v.vector FROM (SELECT id FROM pages WHERE collection = ? ORDER BY rowid LIMIT -1) p"
    " CROSS JOIN vectors v ON v.page = p.id"
)
"""In the order they were added. Only ids are sorted: sorted together with them, vectors would go through the disk once
more (LIMIT keeps SQLite from making one query of the two, CROSS JOIN from turning them round)."""
LINED = "SELECT 1 FROM vectors v JOIN pages p ON p.id = v.page WHERE p.collection = ? AND v.lines IS NOT NULL LIMIT 1"


@dataclass
class PageVectors:
    matrix: Matrix
    lined: bool
    """Some page has lines with vectors of their own."""


class Entry:
    """One collection's vectors, here or on their way. Changed with the database's lock held."""

    def __init__(self, expected: int) -> None:
        self.bytes = expected
        self.vectors: Future[PageVectors] = Future()
        self._changes: list[Callable[[PageVectors], None]] = []

    def change(self, change: Callable[[PageVectors], None]) -> None:
        """Make a change, now or when the vectors are here."""
        if not self.vectors.done():
            self._changes.append(change)
            return
        vectors = self.vectors.result()
        change(vectors)
        self.bytes = vectors.matrix.bytes

    def arrive(self, vectors: PageVectors) -> None:
        for change in self._changes:
            change(vectors)
        self.bytes = vectors.matrix.bytes
        self.vectors.set_result(vectors)


class VectorIndex:
    def __init__(self, database: Database, max_bytes: int) -> None:
        """`max_bytes`: of all collections together; one that is larger is held alone."""
        self._database = database
        self._max_bytes = max_bytes
        self._entries: OrderedDict[CollectionKey, Entry] = OrderedDict()
        """The least recently searched first."""

    @property
    def bytes(self) -> int:
        return sum(self.held().values())

    def held(self) -> dict[CollectionKey, int]:
        """Return the bytes of each collection that is in memory, the least recently searched first."""
        with self._database.lock:
            return {key: entry.bytes for key, entry in self._entries.items()}

    def vectors(self, of: Collection) -> PageVectors:
        """Return a collection's vectors, at least those that it had when this was called.

        Raises CollectionGoneError or LibraryError.
        """
        with ExitStack() as reading:
            with self._database.lock:
                entry = self._entries.get(of.key)
                if found := entry:
                    self._entries.move_to_end(of.key)
                else:
                    # With the lock held, so that each change is either seen by the snapshot or told to the entry.
                    snapshot = reading.enter_context(self._database.snapshot())
                    entry = self._entries[of.key] = Entry(of.pages * (of.dimension or 0) * 2)
                    self._evict()
            if not found:
                self._load(of.key, entry, snapshot)
        return entry.vectors.result()

    def _load(self, key: CollectionKey, entry: Entry, snapshot: sqlite3.Connection) -> None:
        try:
            vectors = read_vectors(snapshot, key)
        except BaseException as error:
            with self._database.lock:
                if self._entries.get(key) is entry:
                    del self._entries[key]
            entry.vectors.set_exception(error)
            return
        with self._database.lock:
            entry.arrive(vectors)
            self._evict()

    def append(self, key: CollectionKey, page_id: str, vector: Half, lined: bool) -> None:
        """Add a page that is in the database now. With the database's lock held since before the change."""

        def change(vectors: PageVectors) -> None:
            vectors.matrix.append(page_id, vector)
            vectors.lined = vectors.lined or lined

        if (entry := self._entries.get(key)) is not None:
            entry.change(change)
            self._evict()

    def remove(self, key: CollectionKey, ids: AbstractSet[str]) -> None:
        """Take away pages that are no longer in the database. With its lock held since before the change."""
        if (entry := self._entries.get(key)) is not None:
            entry.change(lambda vectors: vectors.matrix.remove(ids))

    def forget(self, key: CollectionKey) -> None:
        """Take away a collection that is gone, or has changed in other ways. With the database's lock held."""
        self._entries.pop(key, None)

    def clear(self) -> None:
        with self._database.lock:
            self._entries.clear()

    def _evict(self) -> None:
        while len(self._entries) > 1 and self.bytes > self._max_bytes:
            self._entries.popitem(last=False)


def read_vectors(db: sqlite3.Connection, key: CollectionKey) -> PageVectors:
    """Raises CollectionGoneError or LibraryError."""
    row = db.execute("SELECT id FROM collections WHERE key = ?", [key]).fetchone()
    if row is None:
        raise CollectionGoneError
    lined = db.execute(LINED, row).fetchone() is not None
    return PageVectors(Matrix.of(db.execute(ROWS, row)), lined)
