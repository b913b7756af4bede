"""Collections of pages: their pictures, text and vectors, exact search, delete.

SQLite is the truth; a page's pictures are files beside it, written before the row that names them and removed after it
is gone. Vectors are fp16 rows, searched in memory by usearch. One process writes a library: a lock file holds that.
Knows nothing of embedders but their fingerprint, and nothing of uploads.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serving.disk import remove, sync_folder, write_file
from serving.embedders import Vectors
from serving.errors import BadValueError, NotFoundError, ServingError
from serving.matrix import Matrix
from serving.pages import Line

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE collections (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created REAL NOT NULL,
  fingerprint TEXT, model TEXT, dimension INTEGER
);
CREATE TABLE pages (
  id TEXT PRIMARY KEY, collection INTEGER NOT NULL REFERENCES collections(id) ON DELETE CASCADE,
  file TEXT NOT NULL, sha256 TEXT NOT NULL, page INTEGER NOT NULL, pages INTEGER NOT NULL,
  width INTEGER NOT NULL, height INTEGER NOT NULL, added REAL NOT NULL, read INTEGER NOT NULL,
  UNIQUE (collection, sha256, page)
);
CREATE TABLE lines (
  page TEXT NOT NULL REFERENCES pages(id) ON DELETE CASCADE, number INTEGER NOT NULL, text TEXT NOT NULL,
  x0 REAL, y0 REAL, x1 REAL, y1 REAL, PRIMARY KEY (page, number)
) WITHOUT ROWID;
CREATE TABLE vectors (page TEXT PRIMARY KEY REFERENCES pages(id) ON DELETE CASCADE, vector BLOB NOT NULL);
"""
COLLECTION = (
    "SELECT c.name, (SELECT count(*) FROM pages p WHERE p.collection = c.id), c.fingerprint, c.model, c.dimension"
    " FROM collections c"
)
PAGE = (
    "SELECT p.id, c.name, p.file, p.page, p.pages, p.width, p.height, p.read FROM pages p"
    " JOIN collections c ON c.id = p.collection"
)
NAME_CHARS = 80
FILE_CHARS = 255


class LibraryError(ServingError):
    """The library cannot be opened, or refuses what would break it."""

    code = "library"


class FingerprintError(BadValueError):
    """Vectors of two embedders, or of two versions of one, cannot be compared."""

    code = "fingerprint_mismatch"


@dataclass(frozen=True, slots=True)
class NewPage:
    """What `add` keeps: `picture` and `thumbnail` are encoded images, `vector` is float32[dimension]."""

    file: str
    sha256: str
    page: int
    pages: int
    width: int
    height: int
    picture: bytes
    thumbnail: bytes
    vector: Vectors
    lines: tuple[Line, ...] | None


@dataclass(frozen=True, slots=True)
class StoredPage:
    id: str
    collection: str
    file: str
    page: int
    pages: int
    width: int
    height: int
    read: bool
    """False if no text was looked for; a page that was read and has no lines has no readable text."""


@dataclass(frozen=True, slots=True)
class Hit:
    rank: int
    score: float
    page: StoredPage


@dataclass(frozen=True, slots=True)
class StoredFile:
    name: str
    sha256: str
    pages: int


@dataclass(frozen=True, slots=True)
class Collection:
    name: str
    pages: int
    fingerprint: str | None
    model: str | None
    dimension: int | None


class Library:
    def __init__(self, folder: Path) -> None:
        """Opens or makes it. Raises LibraryError: in use, damaged, or written by a newer release."""
        self.folder = folder
        self.pictures = folder / "pages"
        self.pictures.mkdir(parents=True, exist_ok=True)
        self._lock_file = locked(folder / "library.lock")
        self._lock = threading.RLock()
        self._matrices: dict[int, Matrix] = {}
        database = folder / "library.db"
        existed = database.exists()
        try:
            self._db = opened(database)
        except LibraryError:
            os.close(self._lock_file)
            raise
        if existed:  # with the database lost, the pictures are all that is left
            self._sweep()

    def close(self) -> None:
        with self._lock:
            self._db.close()
            self._matrices.clear()
            os.close(self._lock_file)

    def collections(self) -> list[Collection]:
        with self._lock:
            rows = self._db.execute(f"{COLLECTION} ORDER BY c.name").fetchall()
        return [Collection(*row) for row in rows]

    def collection(self, name: str) -> Collection:
        """An unknown one is an empty one: it comes to be with its first page."""
        name = checked_name(name)
        with self._lock:
            row = self._db.execute(f"{COLLECTION} WHERE c.name = ?", [name]).fetchone()
        return Collection(name, 0, None, None, None) if row is None else Collection(*row)

    def latest(self) -> str | None:
        """The collection that was last added to."""
        with self._lock:
            row = self._db.execute(
                "SELECT c.name FROM pages p JOIN collections c ON c.id = p.collection ORDER BY p.rowid DESC LIMIT 1"
            ).fetchone()
        return None if row is None else str(row[0])

    def files(self, collection: str) -> list[StoredFile]:
        with self._lock:
            rows = self._db.execute(
                "SELECT file, sha256, count(*) FROM pages WHERE collection = ? GROUP BY sha256 ORDER BY min(rowid)",
                [self._id(collection)],
            ).fetchall()
        return [StoredFile(*row) for row in rows]

    def has(self, collection: str, sha256: str) -> dict[int, str]:
        """Pages of this file content that are here already: page number to the name they came under."""
        with self._lock:
            rows = self._db.execute(
                "SELECT page, file FROM pages WHERE collection = ? AND sha256 = ?", [self._id(collection), sha256]
            ).fetchall()
        return dict(rows)

    def add(self, collection: str, new: NewPage, *, fingerprint: str, model: str) -> StoredPage:
        """Keeps one page; when this returns, the page survives a power cut.

        A page that is here already (same content, same number) is returned as it is. Raises FingerprintError.
        """
        name, page_id = checked_name(collection), secrets.token_hex(8)
        vector = new.vector.astype(np.float16)
        written = [self.picture(page_id), self.thumbnail(page_id)]
        try:
            for path, data in zip(written, (new.picture, new.thumbnail), strict=True):
                write_file(path, data)
            sync_folder(self.pictures)
            with self._lock:
                stored, number, fresh = self._insert(name, page_id, new, vector, fingerprint, model)
                if fresh and number in self._matrices:
                    self._matrices[number].append(page_id, vector)
        except (OSError, sqlite3.Error) as error:
            remove(written)
            raise LibraryError(f"the page could not be kept: {error}") from error
        except BaseException:
            remove(written)
            raise
        if not fresh:
            remove(written)
        return stored

    def _insert(
        self,
        name: str,
        page_id: str,
        new: NewPage,
        vector: np.ndarray[tuple[int], np.dtype[np.float16]],
        fingerprint: str,
        model: str,
    ) -> tuple[StoredPage, int, bool]:
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO collections (name, created) VALUES (?, ?)", [name, time.time()])
            number = self._id(name)
            known = db.execute("SELECT fingerprint FROM collections WHERE id = ?", [number]).fetchone()[0]
            if known is None:
                db.execute(
                    "UPDATE collections SET fingerprint = ?, model = ?, dimension = ? WHERE id = ?",
                    [fingerprint, model, len(vector), number],
                )
            else:
                self._same(name, known, fingerprint)
            twin = db.execute(
                "SELECT id FROM pages WHERE collection = ? AND sha256 = ? AND page = ?", [number, new.sha256, new.page]
            ).fetchone()
            if twin is None:
                self._insert_rows(db, number, page_id, new, vector)
            return self.page(page_id if twin is None else twin[0]), number, twin is None

    @staticmethod
    def _insert_rows(
        db: sqlite3.Connection,
        number: int,
        page_id: str,
        new: NewPage,
        vector: np.ndarray[tuple[int], np.dtype[np.float16]],
    ) -> None:
        db.execute(
            "INSERT INTO pages (id, collection, file, sha256, page, pages, width, height, added, read)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                page_id, number, new.file[:FILE_CHARS], new.sha256, new.page, new.pages, new.width, new.height,
                time.time(), new.lines is not None,
            ],
        )  # fmt: skip
        db.execute("INSERT INTO vectors (page, vector) VALUES (?, ?)", [page_id, vector.tobytes()])
        db.executemany(
            "INSERT INTO lines (page, number, text, x0, y0, x1, y1) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(page_id, n, line.text, *(line.box or (None,) * 4)) for n, line in enumerate(new.lines or ())],
        )

    def search(self, collection: str, vector: Vectors, top_k: int, fingerprint: str) -> list[Hit]:
        """The nearest pages by cosine, best first. `vector` is float32[dimension]. Raises FingerprintError."""
        if top_k < 1:
            raise BadValueError("top_k is at least 1", param="top_k")
        name = checked_name(collection)
        with self._lock:
            row = self._db.execute("SELECT fingerprint FROM collections WHERE name = ?", [name]).fetchone()
            if row is None or row[0] is None:
                return []
            self._same(name, row[0], fingerprint)
            matrix = self._matrix(name)
        ranked = matrix.search(vector, top_k)
        pages = self._find([page_id for page_id, _ in ranked])
        # A page may have been deleted since its row was read.
        there = [(pages[page_id], score) for page_id, score in ranked if page_id in pages]
        return [Hit(rank, score, page) for rank, (page, score) in enumerate(there, 1)]

    def page(self, page_id: str) -> StoredPage:
        """Raises NotFoundError."""
        found = self._find([page_id])
        if page_id not in found:
            raise NotFoundError("this page is not in the library (any more)", param="id")
        return found[page_id]

    def lines(self, page_id: str) -> tuple[Line, ...]:
        with self._lock:
            rows = self._db.execute(
                "SELECT text, x0, y0, x1, y1 FROM lines WHERE page = ? ORDER BY number", [page_id]
            ).fetchall()
        return tuple(Line(text, None if box[0] is None else tuple(box)) for text, *box in rows)

    def delete(self, collection: str, ids: Sequence[str]) -> list[str]:
        """The ids that were there and are gone now; those of other collections are left alone."""
        with self._lock:
            number = self._id(collection)
            with self._transaction() as db:
                gone = [
                    page_id
                    for page_id in dict.fromkeys(ids)
                    if db.execute("DELETE FROM pages WHERE id = ? AND collection = ?", [page_id, number]).rowcount
                ]
            if number in self._matrices:
                self._matrices[number].remove(set(gone))
        remove([path for page_id in gone for path in (self.picture(page_id), self.thumbnail(page_id))])
        return gone

    def delete_file(self, collection: str, sha256: str) -> list[str]:
        with self._lock:
            rows = self._db.execute(
                "SELECT id FROM pages WHERE collection = ? AND sha256 = ?", [self._id(collection), sha256]
            ).fetchall()
            return self.delete(collection, [row[0] for row in rows])

    def delete_collection(self, collection: str) -> int:
        """How many pages it had."""
        with self._lock:
            number = self._id(collection)
            rows = self._db.execute("SELECT id FROM pages WHERE collection = ?", [number]).fetchall()
            with self._transaction() as db:
                db.execute("DELETE FROM collections WHERE id = ?", [number])
            self._matrices.pop(number, None)
        remove([path for (page_id,) in rows for path in (self.picture(page_id), self.thumbnail(page_id))])
        return len(rows)

    def picture(self, page_id: str) -> Path:
        return self.pictures / f"{page_id}.jpg"

    def thumbnail(self, page_id: str) -> Path:
        return self.pictures / f"{page_id}.webp"

    def _find(self, ids: Sequence[str]) -> dict[str, StoredPage]:
        marks = ", ".join("?" * len(ids))
        with self._lock:
            rows = self._db.execute(f"{PAGE} WHERE p.id IN ({marks})", list(ids)).fetchall()
        return {
            page_id: StoredPage(page_id, name, file, page, pages, width, height, bool(read))
            for page_id, name, file, page, pages, width, height, read in rows
        }

    def _id(self, collection: str) -> int:
        """The collection's row number; -1, which no row has, for one that does not exist."""
        row = self._db.execute("SELECT id FROM collections WHERE name = ?", [checked_name(collection)]).fetchone()
        return -1 if row is None else int(row[0])

    def _matrix(self, name: str) -> Matrix:
        with self._lock:
            number = self._id(name)
            if number not in self._matrices:
                rows = self._db.execute(
                    "SELECT v.page, v.vector FROM vectors v JOIN pages p ON p.id = v.page WHERE p.collection = ?"
                    " ORDER BY p.rowid",
                    [number],
                )
                self._matrices[number] = Matrix.of(rows)
            return self._matrices[number]

    @staticmethod
    def _same(name: str, known: str, given: str) -> None:
        if known != given:
            raise FingerprintError(
                f"the collection {name!r} was made with another embedder ({known}, now {given}):"
                " add its files to a new collection, or start the embedder it was made with",
                param="collection",
            )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _sweep(self) -> None:
        """Removes pictures whose page never was, or is no more, in the database: what a kill leaves behind."""
        known = {row[0] for row in self._db.execute("SELECT id FROM pages")}
        remove([path for path in self.pictures.iterdir() if path.name.partition(".")[0] not in known])


def checked_name(name: str) -> str:
    cleaned = " ".join(name.split()) if isinstance(name, str) else ""
    if not cleaned or len(cleaned) > NAME_CHARS or not cleaned.isprintable():
        raise BadValueError(f"a collection's name has 1 to {NAME_CHARS} printable characters", param="collection")
    return cleaned


def locked(path: Path) -> int:
    """A descriptor that holds the lock until it is closed or its process ends. Raises LibraryError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise LibraryError(
            f"another process is using the library in {path.parent}: stop it, or choose another --data folder"
        ) from None
    return descriptor


def opened(path: Path) -> sqlite3.Connection:
    """Raises LibraryError and leaves the file as it is."""
    try:
        # Autocommit: transactions are written out where they begin and end.
        db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10.0)
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            db.close()
            raise LibraryError(f"{path.name} was written by a newer release (schema {version}): update Dormouse")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        if version == 0:
            db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        path.chmod(0o600)
    except sqlite3.DatabaseError as error:
        raise LibraryError(f"{path} is damaged ({error}): restore it from a backup, or move it away") from None
    return db
