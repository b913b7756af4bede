"""Opens a library of page collections, and makes all changes to it.

SQLite is the truth; a page's pictures are files beside it. A library owns its `catalogue` (what is there), its
`ranking` (search, over the vectors that `vectors` holds in memory) and its `pictures`. Only one process writes a
library: a lock file ensures that. Knows nothing of uploads, and nothing of embedders but their fingerprints and which
of these were shown to be equal.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from serving.errors import BadValueError, ReadOnlyError
from serving.library.backup import Backup
from serving.library.catalogue import Catalogue, CollectionGoneError, check_new_name
from serving.library.database import Database, LibraryError, lock_library, make_key, raise_library_errors
from serving.library.fingerprints import Equivalence
from serving.library.jobs import JobPage, JobRows, insert_job_page
from serving.library.pictures import Pictures
from serving.library.records import ABSENT, Collection, CollectionKey, NewPage, Storage, StoredPage
from serving.library.search import Ranking
from serving.library.vector_index import VectorIndex
from serving.library.vectors import HalfVectors
from serving.settings import VECTOR_BYTES

IMPORTING = "!"
"""Owner of a collection while it is imported; what a kill leaves of it is deleted when the library is opened."""
EMPTY_S = 30 * 24 * 3600.0
"""An empty collection that was made on a page open to everybody is kept so long: its owner may never come back."""
FILE_CHARS = 255
SET_EMBEDDER = "UPDATE collections SET fingerprint = ?, model = ?, dimension = ? WHERE id = ?"


class Library:
    """The pages of one data folder, in collections. Threads may share it."""

    def __init__(
        self, folder: Path, backup: Backup | None = None, *, open_now: bool = True, vector_bytes: int = VECTOR_BYTES
    ) -> None:
        """Open or create a library. Raises LibraryError: in use, damaged, or written by a newer release.

        `backup`: for a `folder` that does not outlive this process. Without `open_now` the caller calls `open`.
        `vector_bytes`: memory for vectors.
        """
        self.folder = folder
        self.durable_folder = folder if backup is None else backup.folder
        """The folder that outlives this process."""
        self.database = Database(folder / "library.db", self.durable_folder)
        self.pictures = Pictures(self.durable_folder / "pages")
        self.catalogue = Catalogue(self.database, Equivalence(self.durable_folder))
        self.vectors = VectorIndex(self.database, vector_bytes)
        self.ranking = Ranking(self.catalogue, self.vectors)
        self.jobs = JobRows(self.database, self._back_up)
        self.read_only = False
        self._backup = backup
        self._pending: set[str] = set()
        """Pages that are in the database, and not yet known to be in the backup."""
        self._lock_file = -1
        if open_now:
            self.open()

    def open(self) -> None:
        """Lock the folder, restore the backup and open the database. Raises LibraryError."""
        make_folder(self.folder)
        self._lock_file = lock_library(self.folder / "library.lock")
        try:
            if self._backup is not None:
                self._backup.restore_database(self.database.path)
            make_folder(self.pictures.folder)
            self.database.open()
            self._remove_leftovers()
        except BaseException:
            os.close(self._lock_file)
            self._lock_file = -1
            raise

    def close(self) -> None:
        with self.database.lock:
            if self._lock_file < 0:
                return
            self.database.close()
            self.vectors.clear()
            os.close(self._lock_file)
            self._lock_file = -1

    def check_writable(self) -> None:
        """Raise ReadOnlyError where the library must not be changed."""
        if self.read_only:
            raise ReadOnlyError("this page can be searched only: nothing is added, changed or deleted here")

    def measure_storage(self, key: CollectionKey) -> Storage:
        ids = self.catalogue.list_page_ids(key)
        return Storage(len(ids), self.pictures.estimate_bytes(ids), self.catalogue.count_data_bytes(key))

    # Pages

    def add_page(
        self,
        key: CollectionKey,
        new: NewPage,
        *,
        fingerprint: str,
        model: str,
        staged: bool = False,
        job: JobPage | None = None,
    ) -> StoredPage:
        """Add one page; when this returns, the page survives a power cut. `job`: the one that has added it by then.

        If `staged`, it is on this disk only: the next change that is backed up includes it, and it must not be
        acknowledged before. A page that is here already (same content, same number) is returned as it is. Raises
        CollectionGoneError, FingerprintError or LibraryError.
        """
        self.check_writable()
        page_id, vector = secrets.token_hex(8), new.vector.astype(np.float16)
        fresh = False
        try:
            self.pictures.write_page(page_id, new.picture, new.thumbnail)
            with self.database.lock:
                stored = self._insert(key, page_id, new, vector, fingerprint, model, job)
                if fresh := stored.id == page_id:
                    self.vectors.append_page(key, page_id, vector, new.line_vectors is not None)
                    self._pending |= set() if staged else {page_id}
        except OSError as error:
            raise LibraryError(f"the page could not be saved: {error.strerror or error}") from error
        finally:
            if not fresh:
                self.pictures.remove_pages([page_id])
        if not staged:
            self._back_up_page(key, stored.id, fresh)
        return stored

    def _insert(
        self,
        key: CollectionKey,
        page_id: str,
        new: NewPage,
        vector: HalfVectors,
        fingerprint: str,
        model: str,
        job: JobPage | None,
    ) -> StoredPage:
        """Return the page of this content: the new one, or the one that is here already."""
        with self._transaction() as db:
            number, name, known, *_ = read_collection_row(db, key)
            if known is None:
                db.execute(SET_EMBEDDER, [fingerprint, model, len(vector), number])
            else:
                self.catalogue.check_comparable(name, known, fingerprint)
            same = db.execute(
                "SELECT id FROM pages WHERE collection = ? AND sha256 = ? AND page = ?", [number, new.sha256, new.page]
            ).fetchone()
            if same is None:
                insert_rows(db, number, page_id, new, vector)
            stored = self.catalogue.read_page(page_id if same is None else same[0])
            if job is not None:
                insert_job_page(db, job, stored.id, new)
            return stored

    def _back_up_page(self, key: CollectionKey, page_id: str, fresh: bool) -> None:
        """Return once backed up. Raises LibraryError and removes it, unless another call has acknowledged it."""
        try:
            self._back_up()
        except LibraryError:
            with self.database.lock:
                if fresh and page_id in self._pending:
                    self._pending.discard(page_id)
                    # The next start removes its pictures, not this call: the backup may name them after all.
                    self._delete_rows(key, [page_id])
                    self.jobs.forget_page(page_id)
                    raise
                if not fresh:
                    raise
        with self.database.lock:
            self._pending.discard(page_id)
            if not fresh and not self.catalogue.read_pages([page_id]):
                self.catalogue.read_collection(key)
                raise LibraryError("the page could not be saved: add it again")

    def _back_up(self) -> None:
        """Return when all changes so far outlive this process. Raises LibraryError."""
        if self._backup is not None:
            self._backup.back_up(self.database.path)

    def move_pages(self, key: CollectionKey, ids: Sequence[str], to: CollectionKey) -> list[str]:
        """Move pages, and return the ids that are in `to` now; a page whose content `to` has already stays where it is.

        Raises CollectionGoneError, FingerprintError or LibraryError.
        """
        with self._transaction() as db:
            source, _, fingerprint, *rest = read_collection_row(db, key)
            target, name, known, *_ = read_collection_row(db, to)
            if known is not None and fingerprint is not None:
                self.catalogue.check_comparable(name, known, fingerprint)
            update = "UPDATE OR IGNORE pages SET collection = ? WHERE id = ? AND collection = ?"
            moved = [
                page
                for page in dict.fromkeys(ids)
                if source != target and db.execute(update, [target, page, source]).rowcount
            ]
            if known is None and moved:
                db.execute(SET_EMBEDDER, [fingerprint, *rest, target])
            self.vectors.drop_collection(key)
            self.vectors.drop_collection(to)
        self._back_up()
        return moved

    def delete_pages(self, key: CollectionKey, ids: Sequence[str]) -> list[str]:
        """Delete pages of this collection, and return the ids of those that it had.

        Raises LibraryError where the deletion could not be backed up: the pages may be back after the next start, and
        the same call tries again.
        """
        with self.database.lock:
            gone = self._delete_rows(key, ids)
        self._back_up()
        self.pictures.remove_pages(gone)
        return gone

    def _delete_rows(self, key: CollectionKey, ids: Sequence[str]) -> list[str]:
        with self._transaction() as db:
            number = -1 if key == ABSENT else read_collection_row(db, key)[0]
            gone = [
                page_id
                for page_id in dict.fromkeys(ids)
                if db.execute("DELETE FROM pages WHERE id = ? AND collection = ?", [page_id, number]).rowcount
            ]
        self.vectors.remove_pages(key, set(gone))
        return gone

    def rename_files(self, key: CollectionKey, names: Mapping[str, str]) -> int:
        """Give files, known by their sha256, other names, and return how many pages they have. Raises LibraryError."""
        renamed = 0
        with self._transaction() as db:
            number = -1 if key == ABSENT else read_collection_row(db, key)[0]
            for sha256, name in names.items():
                row = [name[:FILE_CHARS], number, sha256]
                renamed += db.execute("UPDATE pages SET file = ? WHERE collection = ? AND sha256 = ?", row).rowcount
        self._back_up()
        return renamed

    def delete_file(self, key: CollectionKey, sha256: str) -> list[str]:
        """Delete the pages of one file. Returns and raises as `delete_pages`."""
        return self.delete_pages(key, self.catalogue.list_file_pages(key, [sha256]))

    # Collections

    def create_collection(self, name: str, owner: str = "") -> Collection:
        """Create an empty collection. Raises BadValueError for a name that is invalid or in use; LibraryError."""
        with self._transaction() as db:
            wanted = check_new_name(name)
            if self.catalogue.find_collection(wanted, owner).key:
                raise make_name_error(name)
            key = insert_collection(db, wanted, owner)
        self._back_up()
        return self.catalogue.read_collection(key)

    def begin_import(self) -> CollectionKey:
        """Return a collection's key, hidden until `rename_collection` gives it to its owner. Raises LibraryError."""
        with self._transaction() as db:
            return insert_collection(db, secrets.token_hex(16), IMPORTING)

    def rename_collection(self, key: CollectionKey, name: str, owner: str | None = None) -> Collection:
        """Give a collection another name, and to `owner` if there is one. Its key stays.

        Raises BadValueError, as `create_collection`; CollectionGoneError.
        """
        with self._transaction() as db:
            wanted = [check_new_name(name), owner, read_collection_row(db, key)[0]]
            try:
                db.execute("UPDATE collections SET name = ?, owner = coalesce(?, owner) WHERE id = ?", wanted)
            except sqlite3.IntegrityError:
                raise make_name_error(name) from None
        self._back_up()
        return self.catalogue.read_collection(key)

    def delete_collection(self, key: CollectionKey) -> int:
        """Delete a collection, and return how many pages it had. Raises LibraryError, as `delete_pages`."""
        with self.database.lock:
            ids = self.catalogue.list_page_ids(key)
            with self._transaction() as db:
                db.execute("DELETE FROM collections WHERE key = ?", [key])
            self.vectors.drop_collection(key)
        self._back_up()
        self.pictures.remove_pages(ids)
        return len(ids)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection in a transaction. Raises ReadOnlyError or LibraryError."""
        self.check_writable()
        with self.database.transaction() as db:
            yield db

    @raise_library_errors()
    def _remove_leftovers(self) -> None:
        """Remove half-imported collections, old empty ones of visitors, and pictures that no page has."""
        db = self.database.connection
        db.execute("DELETE FROM collections WHERE owner = ?", [IMPORTING])
        empty = "DELETE FROM collections WHERE owner != '' AND created < ? AND id NOT IN (SELECT collection FROM pages)"
        db.execute(empty, [time.time() - EMPTY_S])
        known = {row[0] for row in db.execute("SELECT id FROM pages")}
        if known:  # a database without pages may have been lost and made anew: then only the pictures are left
            self.pictures.remove_unknown(known)


def read_collection_row(
    db: sqlite3.Connection, key: CollectionKey
) -> tuple[int, str, str | None, str | None, int | None]:
    """Return row number, name, fingerprint, model and dimension. Raises CollectionGoneError, also for ABSENT."""
    row = db.execute("SELECT id, name, fingerprint, model, dimension FROM collections WHERE key = ?", [key]).fetchone()
    if row is None:
        raise CollectionGoneError
    found: tuple[int, str, str | None, str | None, int | None] = row
    return found


def insert_collection(db: sqlite3.Connection, name: str, owner: str) -> CollectionKey:
    key = make_key()
    row = [key, owner, name, time.time()]
    db.execute("INSERT INTO collections (key, owner, name, created) VALUES (?, ?, ?, ?)", row)
    return key


def insert_rows(db: sqlite3.Connection, number: int, page_id: str, new: NewPage, vector: HalfVectors) -> None:
    row = [page_id, number, new.file[:FILE_CHARS], new.sha256, new.page, new.pages, new.width, new.height]
    db.execute(
        "INSERT INTO pages (id, collection, file, sha256, page, pages, width, height, added, read)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [*row, time.time(), new.lines is not None],
    )
    line_vectors = None if new.line_vectors is None else new.line_vectors.astype(np.float16).tobytes()
    db.execute("INSERT INTO vectors (page, vector, lines) VALUES (?, ?, ?)", [page_id, vector.tobytes(), line_vectors])
    db.executemany(
        "INSERT INTO lines (page, number, text, x0, y0, x1, y1) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(page_id, n, line.text, *(line.box or (None,) * 4)) for n, line in enumerate(new.lines or ())],
    )


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LibraryError(f"cannot use the folder {folder}: {error.strerror}") from None


def make_name_error(name: str) -> BadValueError:
    return BadValueError(f"there is a collection {name!r} already: take another name", param="name")
