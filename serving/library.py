"""Collections of pages: their pictures, text and vectors, exact search, delete.

SQLite is the truth; a page's pictures are files beside it, written before the row that names them and removed after it
is gone. Vectors are fp16 rows, searched in memory by usearch. One process writes a library: a lock file holds that.
Knows nothing of embedders but their fingerprint (and which were shown to be equal), and nothing of uploads.
"""

from __future__ import annotations

import os
import re
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from serving.backup import Backup
from serving.catalogue import NAME_CHARS as NAME_CHARS
from serving.catalogue import FingerprintError as FingerprintError
from serving.catalogue import as_name, checked_name
from serving.database import LibraryError, locked, new_key, opened
from serving.disk import remove, sync_folder, write_file
from serving.equivalence import Equivalence
from serving.errors import BadValueError, NotFoundError, ReadOnlyError, ServingError
from serving.matrix import Half, Matrix
from serving.ranking import LINE_WEIGHT as LINE_WEIGHT
from serving.ranking import Ranking
from serving.records import Collection, NewPage, StoredPage

ARRIVING = "!"
"""Owner of a collection that is not whole yet; what a kill leaves of it goes when the library is opened."""
EMPTY_S = 30 * 24 * 3600.0
"""A browser that only looked has left an empty collection, which stays so long."""
PICTURE = re.compile(r"[0-9a-f]{16}\.(jpg|webp)(\.[0-9a-f]+\.part)?")
FILE_CHARS = 255


class Library(Ranking):
    def __init__(self, folder: Path, backup: Backup | None = None, *, later: bool = False) -> None:
        """Opens or makes it. Raises LibraryError: in use, damaged, or written by a newer release.

        `backup`: where it is kept, if `folder` does not outlive this process. `later`: `open` is called by the caller.
        """
        self.folder = folder
        self.kept = folder if backup is None else backup.folder
        """What outlives this process is here."""
        self.pictures = self.kept / "pages"
        self._backup = backup
        self._lock = threading.RLock()
        self._equivalence = Equivalence(self.kept)
        self._matrices: dict[int, Matrix] = {}
        self._lined: set[int] = set()
        self._unkept: set[str] = set()
        """Pages that are in the database, and not yet known to be in the backup."""
        self._lock_file = -1
        self.read_only = False
        if not later:
            self.open()

    def open(self) -> None:
        """Raises LibraryError."""
        made(self.folder)
        self._lock_file = locked(self.folder / "library.lock")
        try:
            if self._backup is not None:
                self._backup.bring_back(self.folder / "library.db")
            made(self.pictures)
            self._db = opened(self.folder / "library.db", self.kept)
            self._sweep()
        except BaseException:
            os.close(self._lock_file)
            self._lock_file = -1
            raise

    def close(self) -> None:
        with self._lock:
            if self._lock_file < 0:
                return
            self._db.close()
            self._matrices.clear()
            os.close(self._lock_file)
            self._lock_file = -1

    def add(self, collection: str, new: NewPage, *, fingerprint: str, model: str) -> StoredPage:
        """Keeps one page; when this returns, the page survives a power cut.

        A page that is here already (same content, same number) is returned as it is. Raises FingerprintError.
        """
        self.changeable()
        page_id = secrets.token_hex(8)
        vector = new.vector.astype(np.float16)
        written = [self.picture(page_id), self.thumbnail(page_id)]
        try:
            for path, data in zip(written, (new.picture, new.thumbnail), strict=True):
                write_file(path, data)
            sync_folder(self.pictures)
            with self._lock:
                stored, number, fresh = self._insert(collection, page_id, new, vector, fingerprint, model)
                if fresh:
                    self._remember(number, page_id, vector, new.line_vectors is not None)
                    self._unkept.add(page_id)
        except OSError as error:
            remove(written)
            raise LibraryError(f"the page could not be kept: {error.strerror or error}") from error
        except ServingError:
            remove(written)
            raise
        if not fresh:
            remove(written)
        self._keep_page(number, stored.id, fresh)
        return stored

    def changeable(self) -> None:
        """Raises ReadOnlyError."""
        if self.read_only:
            raise ReadOnlyError("this page can be searched only: nothing is added, changed or deleted here")

    def _keep_page(self, number: int, page_id: str, fresh: bool) -> None:
        """Returns when the page is kept. Raises LibraryError; then it is not in the library either, unless somebody
        else who added it too has been told that it is."""
        try:
            self._keep()
        except LibraryError:
            with self._lock:
                if fresh and page_id in self._unkept:
                    self._unkept.discard(page_id)
                    # The pictures stay until the next start sweeps them: the backup may name them after all.
                    self._delete_rows(number, [page_id])
                    raise
                if not fresh:
                    raise
        with self._lock:
            self._unkept.discard(page_id)
            if not fresh and not self._find([page_id]):
                raise LibraryError("the page could not be kept: add it again")

    def _keep(self) -> None:
        """Returns when every change so far outlives this process. Raises LibraryError."""
        if self._backup is not None:
            self._backup.keep(self.folder / "library.db")

    def _remember(self, number: int, page_id: str, vector: Half, lined: bool) -> None:
        """Adds a page that is in the database to the vectors in memory, where they are loaded."""
        if number in self._matrices:
            self._matrices[number].append(page_id, vector)
            if lined:
                self._lined.add(number)

    def _insert(
        self,
        collection: str,
        page_id: str,
        new: NewPage,
        vector: Half,
        fingerprint: str,
        model: str,
    ) -> tuple[StoredPage, int, bool]:
        with self._transaction() as db:
            number = self._id(collection)
            if number < 0:
                number = self._make(db, checked_name(collection), "")
            select = "SELECT name, fingerprint FROM collections WHERE id = ?"
            name, known = db.execute(select, [number]).fetchone()
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
        vector: Half,
    ) -> None:
        db.execute(
            "INSERT INTO pages (id, collection, file, sha256, page, pages, width, height, added, read)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                page_id, number, new.file[:FILE_CHARS], new.sha256, new.page, new.pages, new.width, new.height,
                time.time(), new.lines is not None,
            ],
        )  # fmt: skip
        line_vectors = None if new.line_vectors is None else new.line_vectors.astype(np.float16).tobytes()
        db.execute(
            "INSERT INTO vectors (page, vector, lines) VALUES (?, ?, ?)", [page_id, vector.tobytes(), line_vectors]
        )
        db.executemany(
            "INSERT INTO lines (page, number, text, x0, y0, x1, y1) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(page_id, n, line.text, *(line.box or (None,) * 4)) for n, line in enumerate(new.lines or ())],
        )

    def create(self, name: str, owner: str = "") -> Collection:
        """Raises BadValueError for a name that is none, or that there is already; LibraryError."""
        with self._transaction() as db:
            if self._id(as_name(name), owner) >= 0:
                raise taken(name)
            number = self._make(db, checked_name(name), owner)
            key = db.execute("SELECT key FROM collections WHERE id = ?", [number]).fetchone()[0]
        self._keep()
        return self.collection(key)

    @staticmethod
    def _make(db: sqlite3.Connection, name: str, owner: str) -> int:
        row = [new_key(), owner, name, time.time()]
        made = db.execute("INSERT INTO collections (key, owner, name, created) VALUES (?, ?, ?, ?)", row)
        return int(made.lastrowid or -1)

    def rename(self, collection: str, name: str, owner: str | None = None) -> Collection:
        """Its key stays; `owner` is a new one.

        Raises BadValueError, as `create`; NotFoundError for a collection that does not exist.
        """
        with self._transaction() as db:
            number = self._existing(collection)
            wanted = [checked_name(as_name(name)), owner, number]
            try:
                db.execute("UPDATE collections SET name = ?, owner = coalesce(?, owner) WHERE id = ?", wanted)
            except sqlite3.IntegrityError:
                raise taken(name) from None
            key = db.execute("SELECT key FROM collections WHERE id = ?", [number]).fetchone()[0]
        self._keep()
        return self.collection(key)

    def move(self, collection: str, ids: Sequence[str], to: str) -> list[str]:
        """The ids that are in `to` now; a page that is there already, by its content, stays where it was.

        Raises NotFoundError, FingerprintError or LibraryError.
        """
        with self._transaction() as db:
            source, target = self._existing(collection), self._existing(to)
            select = "SELECT name, fingerprint, model, dimension FROM collections WHERE id = ?"
            (_, *made_with), (name, known, _, _) = (db.execute(select, [n]).fetchone() for n in (source, target))
            if known is not None and made_with[0] is not None:
                self._same(name, known, made_with[0])
            update = "UPDATE OR IGNORE pages SET collection = ? WHERE id = ? AND collection = ?"
            moved = [
                page
                for page in dict.fromkeys(ids)
                if source != target and db.execute(update, [target, page, source]).rowcount
            ]
            if known is None and moved:
                fields = "UPDATE collections SET fingerprint = ?, model = ?, dimension = ? WHERE id = ?"
                db.execute(fields, [*made_with, target])
            for number in (source, target):
                self._matrices.pop(number, None)
                self._lined.discard(number)
        self._keep()
        return moved

    def _existing(self, collection: str) -> int:
        """Raises NotFoundError."""
        number = self._id(collection)
        if number < 0:
            raise NotFoundError("there is no such collection (any more)", param="collection")
        return number

    def delete(self, collection: str, ids: Sequence[str]) -> list[str]:
        """The ids that were there and are gone now; those of other collections are left alone.

        Raises LibraryError where the deletion could not be kept: the pages may be back after the next start, and the
        same call tries again.
        """
        with self._lock:
            gone = self._delete_rows(self._id(collection), ids)
        self._keep()
        self._remove_pictures(gone)
        return gone

    def _delete_rows(self, number: int, ids: Sequence[str]) -> list[str]:
        with self._transaction() as db:
            gone = [
                page_id
                for page_id in dict.fromkeys(ids)
                if db.execute("DELETE FROM pages WHERE id = ? AND collection = ?", [page_id, number]).rowcount
            ]
        if number in self._matrices:
            self._matrices[number].remove(set(gone))
        return gone

    def delete_file(self, collection: str, sha256: str) -> list[str]:
        """Raises LibraryError, as `delete` does."""
        with self._lock:
            rows = self._db.execute(
                "SELECT id FROM pages WHERE collection = ? AND sha256 = ?", [self._id(collection), sha256]
            ).fetchall()
        return self.delete(collection, [row[0] for row in rows])

    def delete_collection(self, collection: str) -> int:
        """How many pages it had. Raises LibraryError, as `delete` does."""
        with self._lock:
            number = self._id(collection)
            rows = self._db.execute("SELECT id FROM pages WHERE collection = ?", [number]).fetchall()
            with self._transaction() as db:
                db.execute("DELETE FROM collections WHERE id = ?", [number])
            self._matrices.pop(number, None)
            self._lined.discard(number)
        self._keep()
        self._remove_pictures(page_id for (page_id,) in rows)
        return len(rows)

    def _remove_pictures(self, ids: Iterable[str]) -> None:
        remove([path for page_id in ids for path in (self.picture(page_id), self.thumbnail(page_id))])

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All that is done in it, or nothing. Raises LibraryError."""
        self.changeable()
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite ends it by itself where the disk is full
                    self._db.execute("ROLLBACK")
                raise

    def _sweep(self) -> None:
        """Removes pictures whose page never was, or is no more, in the database: what a kill leaves behind.

        Only files named as ours are: the folder may be one that its owner uses for something else too.
        """
        self._db.execute("DELETE FROM collections WHERE owner = ?", [ARRIVING])
        empty = "DELETE FROM collections WHERE owner != '' AND created < ? AND id NOT IN (SELECT collection FROM pages)"
        self._db.execute(empty, [time.time() - EMPTY_S])
        known = {row[0] for row in self._db.execute("SELECT id FROM pages")}
        if known:  # a database without a page may be one that was lost and made anew: the pictures are all that is left
            with os.scandir(self.pictures) as entries:  # a look at each file would be a call each, over a network
                ours = [entry.name for entry in entries if PICTURE.fullmatch(entry.name) and entry.is_file()]
            remove([self.pictures / name for name in ours if name.partition(".")[0] not in known])


def made(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LibraryError(f"cannot use the folder {folder}: {error.strerror}") from None


def taken(name: str) -> BadValueError:
    return BadValueError(f"there is a collection {name!r} already: take another name", param="name")
