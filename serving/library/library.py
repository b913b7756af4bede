"""Collections of pages: what changes them, and where they are kept.

SQLite is the truth; a page's pictures are files beside it. A library owns its `catalogue` (what is there), its
`ranking` (search, over the vectors that `vectors` holds in memory) and its `pictures`. One process writes a library: a
lock file holds that. Knows nothing of uploads, and nothing of embedders but their fingerprint and which were shown to
be equal.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from serving.errors import BadValueError, ReadOnlyError
from serving.library.backup import Backup
from serving.library.catalogue import Catalogue, CollectionGoneError, new_name
from serving.library.database import Database, LibraryError, locked, new_key
from serving.library.fingerprints import Equivalence
from serving.library.pictures import Pictures
from serving.library.records import ABSENT, Collection, CollectionKey, NewPage, Storage, StoredPage
from serving.library.search import Ranking
from serving.library.vector_index import VectorIndex
from serving.library.vectors import Half
from serving.settings import VECTOR_BYTES

ARRIVING = "!"
"""Owner of a collection that is not whole yet; what a kill leaves of it goes when the library is opened."""
EMPTY_S = 30 * 24 * 3600.0
"""An empty collection that was made on an open page stays so long: whoever made it may be gone."""
FILE_CHARS = 255
MADE_WITH = "UPDATE collections SET fingerprint = ?, model = ?, dimension = ? WHERE id = ?"


class Library:
    def __init__(
        self, folder: Path, backup: Backup | None = None, *, later: bool = False, vector_bytes: int = VECTOR_BYTES
    ) -> None:
        """Open or make it. Raises LibraryError: in use, damaged, or written by a newer release.

        `backup`: where it is kept, if `folder` does not outlive this process. `later`: `open` is called by the caller.
        `vector_bytes`: of vectors in memory.
        """
        self.folder = folder
        self.kept = folder if backup is None else backup.folder
        """What outlives this process is here."""
        self.database = Database(folder / "library.db", self.kept)
        self.pictures = Pictures(self.kept / "pages")
        self.catalogue = Catalogue(self.database, Equivalence(self.kept))
        self.vectors = VectorIndex(self.database, vector_bytes)
        self.ranking = Ranking(self.catalogue, self.vectors)
        self.read_only = False
        self._backup = backup
        self._unkept: set[str] = set()
        """Pages that are in the database, and not yet known to be in the backup."""
        self._lock_file = -1
        if not later:
            self.open()

    def open(self) -> None:
        """Raises LibraryError."""
        made(self.folder)
        self._lock_file = locked(self.folder / "library.lock")
        try:
            if self._backup is not None:
                self._backup.bring_back(self.database.path)
            made(self.pictures.folder)
            self.database.open()
            self._sweep()
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

    def changeable(self) -> None:
        """Raises ReadOnlyError."""
        if self.read_only:
            raise ReadOnlyError("this page can be searched only: nothing is added, changed or deleted here")

    def storage(self, key: CollectionKey) -> Storage:
        """Return what a collection takes on disk."""
        ids = self.catalogue.ids(key)
        return Storage(len(ids), self.pictures.total_bytes(ids), self.catalogue.data_bytes(key))

    # Pages

    def add(self, key: CollectionKey, new: NewPage, *, fingerprint: str, model: str) -> StoredPage:
        """Keep one page; when this returns, the page survives a power cut.

        A page that is here already (same content, same number) is returned as it is. Raises CollectionGoneError,
        FingerprintError or LibraryError.
        """
        stored, fresh = self._put(key, new, fingerprint, model, to_keep=True)
        self._keep_page(key, stored.id, fresh)
        return stored

    def put(self, key: CollectionKey, new: NewPage, *, fingerprint: str, model: str) -> StoredPage:
        """Put a page into the library on this disk. It may be in no backup before a later change was kept, so that it
        must not be acknowledged before. Raises as `add`."""
        return self._put(key, new, fingerprint, model, to_keep=False)[0]

    def _put(
        self, key: CollectionKey, new: NewPage, fingerprint: str, model: str, *, to_keep: bool
    ) -> tuple[StoredPage, bool]:
        """Return the page, and whether it is new here."""
        self.changeable()
        page_id, vector = secrets.token_hex(8), new.vector.astype(np.float16)
        fresh = False
        try:
            self.pictures.write(page_id, new.picture, new.thumbnail)
            with self.database.lock:
                stored = self._insert(key, page_id, new, vector, fingerprint, model)
                if fresh := stored.id == page_id:
                    self.vectors.append(key, page_id, vector, new.line_vectors is not None)
                    self._unkept |= {page_id} if to_keep else set()
        except OSError as error:
            raise LibraryError(f"the page could not be kept: {error.strerror or error}") from error
        finally:
            if not fresh:
                self.pictures.remove([page_id])
        return stored, fresh

    def _insert(
        self, key: CollectionKey, page_id: str, new: NewPage, vector: Half, fingerprint: str, model: str
    ) -> StoredPage:
        """Return the page of this content, which is another one where it is here already."""
        with self._transaction() as db:
            number, name, known, *_ = existing(db, key)
            if known is None:
                db.execute(MADE_WITH, [fingerprint, model, len(vector), number])
            else:
                self.catalogue.check_same(name, known, fingerprint)
            twin = db.execute(
                "SELECT id FROM pages WHERE collection = ? AND sha256 = ? AND page = ?", [number, new.sha256, new.page]
            ).fetchone()
            if twin is None:
                insert_rows(db, number, page_id, new, vector)
            return self.catalogue.page(page_id if twin is None else twin[0])

    def _keep_page(self, key: CollectionKey, page_id: str, fresh: bool) -> None:
        """Return when the page is kept. Raises LibraryError; then it is not in the library either, unless somebody
        else who added it too has been told that it is."""
        try:
            self._keep()
        except LibraryError:
            with self.database.lock:
                if fresh and page_id in self._unkept:
                    self._unkept.discard(page_id)
                    # The pictures stay until the next start sweeps them: the backup may name them after all.
                    self._delete_rows(key, [page_id])
                    raise
                if not fresh:
                    raise
        with self.database.lock:
            self._unkept.discard(page_id)
            if not fresh and not self.catalogue.pages([page_id]):
                existing(self.database.connection, key)
                raise LibraryError("the page could not be kept: add it again")

    def _keep(self) -> None:
        """Return when every change so far outlives this process. Raises LibraryError."""
        if self._backup is not None:
            self._backup.keep(self.database.path)

    def move(self, key: CollectionKey, ids: Sequence[str], to: CollectionKey) -> list[str]:
        """Return the ids that are in `to` now; a page that is there already, by its content, stays where it was.

        Raises CollectionGoneError, FingerprintError or LibraryError.
        """
        with self._transaction() as db:
            source, _, fingerprint, *rest = existing(db, key)
            target, name, known, *_ = existing(db, to)
            if known is not None and fingerprint is not None:
                self.catalogue.check_same(name, known, fingerprint)
            update = "UPDATE OR IGNORE pages SET collection = ? WHERE id = ? AND collection = ?"
            moved = [
                page
                for page in dict.fromkeys(ids)
                if source != target and db.execute(update, [target, page, source]).rowcount
            ]
            if known is None and moved:
                db.execute(MADE_WITH, [fingerprint, *rest, target])
            self.vectors.forget(key)
            self.vectors.forget(to)
        self._keep()
        return moved

    def delete(self, key: CollectionKey, ids: Sequence[str]) -> list[str]:
        """Return the ids that were there and are gone now; those of other collections are left alone.

        Raises LibraryError where the deletion could not be kept: the pages may be back after the next start, and the
        same call tries again.
        """
        with self.database.lock:
            gone = self._delete_rows(key, ids)
        self._keep()
        self.pictures.remove(gone)
        return gone

    def _delete_rows(self, key: CollectionKey, ids: Sequence[str]) -> list[str]:
        with self._transaction() as db:
            number = -1 if key == ABSENT else existing(db, key)[0]
            gone = [
                page_id
                for page_id in dict.fromkeys(ids)
                if db.execute("DELETE FROM pages WHERE id = ? AND collection = ?", [page_id, number]).rowcount
            ]
        self.vectors.remove(key, set(gone))
        return gone

    def delete_file(self, key: CollectionKey, sha256: str) -> list[str]:
        """Delete the pages of one file. Raises LibraryError, as `delete` does."""
        return self.delete(key, self.catalogue.pages_of(key, [sha256]))

    # Collections

    def create(self, name: str, owner: str = "") -> Collection:
        """Raises BadValueError for a name that is none, or that there is already; LibraryError."""
        with self._transaction() as db:
            wanted = new_name(name)
            if self.catalogue.named(wanted, owner).key:
                raise taken(name)
            key = insert_collection(db, wanted, owner)
        self._keep()
        return self.catalogue.collection(key)

    def begin_arrival(self) -> CollectionKey:
        """Return the key of a new collection that nobody sees before `rename` gives it to its owner.

        Raises LibraryError.
        """
        with self._transaction() as db:
            return insert_collection(db, secrets.token_hex(16), ARRIVING)

    def rename(self, key: CollectionKey, name: str, owner: str | None = None) -> Collection:
        """Give a collection another name; its key stays. `owner` is a new one.

        Raises BadValueError, as `create`; CollectionGoneError.
        """
        with self._transaction() as db:
            wanted = [new_name(name), owner, existing(db, key)[0]]
            try:
                db.execute("UPDATE collections SET name = ?, owner = coalesce(?, owner) WHERE id = ?", wanted)
            except sqlite3.IntegrityError:
                raise taken(name) from None
        self._keep()
        return self.catalogue.collection(key)

    def delete_collection(self, key: CollectionKey) -> int:
        """Return how many pages it had. Raises LibraryError, as `delete` does."""
        with self.database.lock:
            ids = self.catalogue.ids(key)
            with self._transaction() as db:
                db.execute("DELETE FROM collections WHERE key = ?", [key])
            self.vectors.forget(key)
        self._keep()
        self.pictures.remove(ids)
        return len(ids)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Raises ReadOnlyError or LibraryError."""
        self.changeable()
        with self.database.transaction() as db:
            yield db

    def _sweep(self) -> None:
        """Remove what a kill leaves behind."""
        db = self.database.connection
        db.execute("DELETE FROM collections WHERE owner = ?", [ARRIVING])
        empty = "DELETE FROM collections WHERE owner != '' AND created < ? AND id NOT IN (SELECT collection FROM pages)"
        db.execute(empty, [time.time() - EMPTY_S])
        known = {row[0] for row in db.execute("SELECT id FROM pages")}
        if known:  # a database without a page may be one that was lost and made anew: the pictures are all that is left
            self.pictures.sweep(known)


def existing(db: sqlite3.Connection, key: CollectionKey) -> tuple[int, str, str | None, str | None, int | None]:
    """Return row number, name, fingerprint, model and dimension. Raises CollectionGoneError, also for ABSENT."""
    row = db.execute("SELECT id, name, fingerprint, model, dimension FROM collections WHERE key = ?", [key]).fetchone()
    if row is None:
        raise CollectionGoneError
    number, name, fingerprint, model, dimension = row
    return number, name, fingerprint, model, dimension


def insert_collection(db: sqlite3.Connection, name: str, owner: str) -> CollectionKey:
    key = new_key()
    row = [key, owner, name, time.time()]
    db.execute("INSERT INTO collections (key, owner, name, created) VALUES (?, ?, ?, ?)", row)
    return key


def insert_rows(db: sqlite3.Connection, number: int, page_id: str, new: NewPage, vector: Half) -> None:
    """Put a page with its vectors and lines into the collection of this row number."""
    db.execute(
        "INSERT INTO pages (id, collection, file, sha256, page, pages, width, height, added, read)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            page_id, number, new.file[:FILE_CHARS], new.sha256, new.page, new.pages, new.width, new.height,
            time.time(), new.lines is not None,
        ],
    )  # fmt: skip
    line_vectors = None if new.line_vectors is None else new.line_vectors.astype(np.float16).tobytes()
    db.execute("INSERT INTO vectors (page, vector, lines) VALUES (?, ?, ?)", [page_id, vector.tobytes(), line_vectors])
    db.executemany(
        "INSERT INTO lines (page, number, text, x0, y0, x1, y1) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(page_id, n, line.text, *(line.box or (None,) * 4)) for n, line in enumerate(new.lines or ())],
    )


def made(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LibraryError(f"cannot use the folder {folder}: {error.strerror}") from None


def taken(name: str) -> BadValueError:
    return BadValueError(f"there is a collection {name!r} already: take another name", param="name")
