"""Holds the vectors of searched collections in memory, for a library that no other machine changes.

They are loaded with the first search; the least recently searched collection is evicted when they take too much. They
are read without the library's lock, as of the moment when reading began; changes that come meanwhile are applied to
what was read before it is searched.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from serving.embedders.base import Vectors
from serving.errors import ServingError
from serving.library.catalogue import CollectionGoneError
from serving.library.database import Connection, LibraryError
from serving.library.file_names import FileNames
from serving.library.records import ABSENT, ALL_PAGES, CollectionKey, PageChoice
from serving.library.sqlite_database import SqliteDatabase, raise_library_errors
from serving.library.vectors import ID_BYTES, ChosenRows, HalfVectors, Row, RowFilter, VectorMatrix
from serving.system.memory import measure_free_memory

PAGE_VECTORS = (
    "SELECT v.page, v.vector, p.file, p.added FROM (SELECT id, file, added FROM pages WHERE collection = ?"
    " ORDER BY rowid LIMIT -1) p CROSS JOIN vectors v ON v.page = p.id"
)
"""Selects vectors in the order they were added. Only the rest is sorted: sorted together with it, vectors would go
through the disk once more (LIMIT keeps SQLite from merging the two queries, CROSS JOIN from swapping them)."""
EXPECTED_SIZE = (
    "SELECT dimension, (SELECT count(*) FROM pages WHERE collection = c.id) FROM collections c WHERE key = ?"
)
AHEAD_S = 1.0
"""Vectors that the system has in memory are loaded by then: 100,000 of 2560 numbers in about a second."""
AHEAD_RATIO = 64
"""A file that is larger than so many times the vectors has mostly other things in it."""
AHEAD_BYTES = 1024 * 1024
HAS_LINE_VECTORS = (
    "SELECT 1 FROM vectors v JOIN pages p ON p.id = v.page WHERE p.collection = ? AND v.lines IS NOT NULL LIMIT 1"
)


@dataclass
class PageVectors:
    """The vectors of a collection's pages."""

    matrix: VectorMatrix
    """Groups are the numbers of files, times those of the additions."""
    files: FileNames
    has_lines: bool
    """Some page has lines with vectors of their own."""
    is_indexed = False

    @property
    def dimension(self) -> int:
        return self.matrix.dimension

    def search(self, vector: Vectors, count: int, of: PageChoice) -> list[tuple[str, float]]:
        return self.matrix.search(vector, count, self._filter_rows(of))

    def score_pages(self, queries: Vectors, of: PageChoice) -> tuple[list[str], Vectors]:
        return self.matrix.score_rows(queries, self._filter_rows(of))

    def count_pages(self, of: PageChoice) -> int:
        chosen = self._filter_rows(of)
        return len(self.matrix) if chosen is None else self.matrix.count_rows(chosen)

    def _filter_rows(self, of: PageChoice) -> RowFilter | None:
        """Return what chooses rows, None for all. Raises BadValueError for a file or folder that is not there."""
        if isinstance(of, frozenset):
            return ChosenRows(of)
        if of == ALL_PAGES:
            return None
        return self.files.select(of, self.matrix.find_groups(len(self.files)))


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

    def __init__(self, database: SqliteDatabase, max_bytes: int) -> None:
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

    def load_vectors(self, key: CollectionKey) -> PageVectors:
        """Return the vectors of a collection as of now, or later. Raises CollectionGoneError or LibraryError.

        Where the memory for them is not there, LibraryError is raised before they are read.
        """
        with ExitStack() as reading:
            with self._database.lock:
                entry = self._entries.get(key)
                if found := entry:
                    self._entries.move_to_end(key)
                else:
                    # With the lock held, so that each change is either in the snapshot or applied to the entry.
                    snapshot = reading.enter_context(self._database.snapshot())
                    entry = IndexEntry(self._estimate_bytes(key))
                    self._entries[key] = entry
                    self._evict()
            if not found:
                self._load(key, entry, snapshot)
        return entry.vectors.result()

    def begin_loading(self, key: CollectionKey) -> None:
        """Load a collection's vectors in a thread, so that its first search finds them, and reports what fails."""
        if key == ABSENT:
            return
        with self._database.lock:
            if key in self._entries:
                return
        threading.Thread(target=self._load_quietly, args=[key], name="load-vectors", daemon=True).start()

    def _load_quietly(self, key: CollectionKey) -> None:
        with suppress(ServingError, MemoryError):
            self.load_vectors(key)

    def _estimate_bytes(self, key: CollectionKey) -> int:
        row = self._database.fetch_one(EXPECTED_SIZE, [key])
        if row is None:
            raise CollectionGoneError
        dimension, pages = row
        return int(pages * (2 * (dimension or 0) + ID_BYTES))

    def _load(self, key: CollectionKey, entry: IndexEntry, snapshot: Connection) -> None:
        try:
            check_memory(entry.bytes)
            with reading_ahead(self._database.path, entry.bytes):
                vectors = read_vectors(snapshot, key)
            with self._database.lock:
                entry.set_vectors(vectors)
                self._evict()
        except BaseException as error:
            with self._database.lock:
                if self._entries.get(key) is entry:
                    del self._entries[key]
            entry.vectors.set_exception(error)

    def append_page(
        self, key: CollectionKey, page_id: str, vector: HalfVectors, file: str, added: float, has_lines: bool
    ) -> None:
        """Add a page that is in the database now. With the database's lock held since before the change."""

        def change(vectors: PageVectors) -> None:
            vectors.matrix.append_row(page_id, vector, vectors.files.number(file), added)
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

    def begin_indexing(self) -> None: ...

    def clear(self) -> None:
        with self._database.lock:
            self._entries.clear()

    def _evict(self) -> None:
        while len(self._entries) > 1 and self.bytes > self._max_bytes:
            self._entries.popitem(last=False)


@contextmanager
def reading_ahead(path: Path, size: int) -> Iterator[None]:
    """Read the database's file from its begin to its end meanwhile, if loading `size` bytes of it takes long.

    Vectors lie all over the file. A disk that has to be asked for each of them needs three times as long.
    """
    stop = threading.Event()
    timer = threading.Timer(AHEAD_S, read_file, [path, stop])
    timer.daemon = True
    if path.stat().st_size <= AHEAD_RATIO * size:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        stop.set()


def read_file(path: Path, stop: threading.Event) -> None:
    """Read a file, or as much of it as there is time for: the system keeps it in memory that nobody else needs."""
    buffer = bytearray(AHEAD_BYTES)
    with suppress(OSError), path.open("rb", buffering=0) as stream:
        while not stop.is_set() and stream.readinto(buffer):
            pass


def check_memory(size: int) -> None:
    """Raise LibraryError where so many bytes are more than this machine or container has left."""
    free = measure_free_memory()
    if free is not None and size > free:
        raise LibraryError(
            f"the vectors of this collection take {size / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free: end"
            " other programs, or move some of its files to another collection",
            code="out_of_memory",
        )


@raise_library_errors()
def read_vectors(db: Connection, key: CollectionKey) -> PageVectors:
    """Return a collection's vectors. Raises CollectionGoneError or LibraryError."""
    row = db.execute("SELECT id FROM collections WHERE key = ?", [key]).fetchone()
    if row is None:
        raise CollectionGoneError
    files = FileNames()
    rows = (Row(page, vector, files.number(file), added) for page, vector, file, added in db.execute(PAGE_VECTORS, row))
    matrix = VectorMatrix.from_rows(rows)
    return PageVectors(matrix, files, db.execute(HAS_LINE_VECTORS, row).fetchone() is not None)
