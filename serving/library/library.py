"""Opens a library of page collections, and makes all changes to it.

The database is the truth: an SQLite file, which only this process has, or one that many machines share (`stores`). A
library owns its `catalogue` (what is there), its `ranking` (search, over what `vectors` knows) and its `pictures`.
Knows nothing of uploads, and nothing of embedders but their fingerprints and which of these were shown to be equal.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path

from serving.errors import ReadOnlyError
from serving.library.backup import Backup
from serving.library.catalogue import Catalogue, check_new_name, make_name_error
from serving.library.changes import Changes
from serving.library.data_folder import lock_folder, make_folder
from serving.library.database import (
    Address,
    Connection,
    LibraryError,
    RolledBackError,
    StoreUnavailableError,
    redo_rolled_back,
)
from serving.library.jobs import JobPage, JobRows, insert_job_page
from serving.library.originals import Originals
from serving.library.pictures import estimate_total
from serving.library.records import (
    ABSENT,
    DEFAULT_INDEX,
    Collection,
    CollectionKey,
    IndexChoice,
    NewPage,
    OriginalKind,
    Storage,
    StoredPage,
)
from serving.library.removal import CollectionRemover
from serving.library.rows import (
    FILE_CHARS,
    IMPORTING,
    SET_EMBEDDER,
    claim_collection_row,
    halve,
    hide_collection,
    insert_collection,
    insert_rows,
    read_collection_row,
)
from serving.library.search import Ranking
from serving.library.stores import FILE, make_store, read_index_choice
from serving.library.unread_pages import UnreadPages
from serving.settings import VECTOR_BYTES, Settings


class Library:
    """The pages of one data folder, in collections. Threads may share it."""

    def __init__(
        self,
        folder: Path,
        backup: Backup | None = None,
        *,
        address: Address = "",
        pictures: Path | None = None,
        open_now: bool = True,
        vector_bytes: int = VECTOR_BYTES,
        index: IndexChoice = DEFAULT_INDEX,
    ) -> None:
        """Open or create a library. Raises LibraryError: in use, damaged, or written by a newer release.

        `backup`: for a `folder` that does not outlive this process. `address`: of a database that several machines
        share, instead of one in the folder; `pictures`: a folder that all of them see, instead of rows. Without
        `open_now` the caller calls `open`. `vector_bytes`: memory for vectors; `index`: of those on a server.
        """
        self.folder = folder
        self.durable_folder = folder if backup is None else backup.folder
        """The folder that outlives this process."""
        store = make_store(address, pictures, folder, backup, vector_bytes, index)
        self.database, self.pictures = store.database, store.pictures
        self.vectors, self.words = store.vectors, store.words
        self.catalogue = Catalogue(self.database, store.equivalence)
        self.originals = Originals(self.durable_folder / "originals", folder, self.catalogue.uses_original)
        self.ranking = Ranking(self.catalogue, self.vectors, self.words)
        self.unread = UnreadPages(self.database, self.words)
        self.jobs = JobRows(self.database, self._back_up)
        self.changes = Changes()
        self.read_only = False
        self._backup = backup
        self._pending: set[str] = set()
        """Pages that are in the database, and not yet known to be in the backup."""
        self._lock_file = -1
        self._remover = CollectionRemover(self.database, self.catalogue, self.pictures, self.originals)
        if open_now:
            self.open()

    def open(self) -> None:
        """Lock the folder, restore the backup and open the database. Raises LibraryError."""
        self._remover.open()
        make_folder(self.folder)
        self._lock_file = lock_folder(self.folder)
        try:
            self.database.open()
            self.jobs.open()
            self.changes.open()
            self.pictures.open()
            if self.database.is_writable():
                self._remover.remove_leftovers()
            else:
                self.read_only = True
        except BaseException:
            self.database.close()
            os.close(self._lock_file)
            self._lock_file = -1
            raise

    def close(self) -> None:
        self._remover.close()
        self.words.close()
        with self.database.lock:
            if self._lock_file < 0:
                return
            self.database.close()
            self.vectors.clear()
            os.close(self._lock_file)
            self._lock_file = -1

    def follow_others(self) -> None:
        """Note in `changes` what other machines change as well."""
        self.database.follow(self.changes.note)

    def begin_indexing(self) -> None:
        """Keep indexes of large collections in a thread, where there are any, and until the library is closed."""
        if not self.read_only:
            self.vectors.begin_indexing()
            self.words.begin_indexing()

    def is_indexed(self, key: CollectionKey) -> bool:
        """Return whether a search of all pages goes through an index, which may miss some. Raises LibraryError."""
        return self.vectors.load_vectors(key).is_indexed

    def note_change(self, *keys: CollectionKey) -> None:
        """Note collections that this process has changed, where the database does not tell that itself."""
        if not self.database.is_shared:
            for key in keys:
                self.changes.note(key)

    def check_writable(self) -> None:
        """Raise ReadOnlyError where the library must not be changed."""
        if self.read_only:
            raise ReadOnlyError("this page can be searched only: nothing is added, changed or deleted here")

    def measure_storage(self, key: CollectionKey) -> Storage:
        """Return what a collection takes. Of many pages only some are measured, and all estimated from these."""
        ids = self.catalogue.list_page_ids(key)
        originals = self.originals.estimate_bytes(self.catalogue.find_originals(ids))
        dimension = self.catalogue.read_collection(key).dimension or 0
        data = 2 * dimension * len(ids) + estimate_total(ids, self.catalogue.count_line_bytes)
        return Storage(len(ids), self.pictures.estimate_bytes(ids), data, originals)

    def find_original(self, page_id: str) -> tuple[StoredPage, Path] | None:
        """Return a page and the file that it is of; None where there is no such page or its file was not kept."""
        page = self.catalogue.read_pages([page_id]).get(page_id)
        (sha256,) = self.catalogue.find_originals([page_id]) or ("",)
        path = self.originals.locate(sha256)
        return (page, path) if page is not None and sha256 and path.is_file() else None

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
        """Add one page, as `add_pages` does. `job`: the one that has added it by then."""
        return self.add_pages(key, [new], fingerprint=fingerprint, model=model, staged=staged, job=job)[0]

    @redo_rolled_back
    def add_pages(
        self,
        key: CollectionKey,
        pages: Sequence[NewPage],
        *,
        fingerprint: str,
        model: str,
        staged: bool = False,
        job: JobPage | None = None,
    ) -> list[StoredPage]:
        """Add pages, all of them or none; when this returns, they survive a power cut.

        If `staged`, they are on this disk only: the next change that is backed up includes them, and they must not be
        acknowledged before. A page that is here already (same content, same number) is returned as it is. Raises
        CollectionGoneError, FingerprintError or LibraryError.
        """
        self.check_writable()
        made = {secrets.token_hex(8): new for new in pages}
        fresh: set[str] = set()
        kept = () if self.database.is_shared else pages  # nobody else would find a file of this machine
        originals = {new.sha256: new.original for new in kept if new.original is not None}
        try:
            for page_id, new in made.items():
                self.pictures.write_page(page_id, new.picture, new.thumbnail)
            with self.originals.keep(originals) as kinds, self.database.lock:
                added = time.time()
                stored = self._insert(key, made, added, fingerprint, model, job, kinds)
                fresh = {page.id for page in stored} & made.keys()
                for page in (page for page in stored if page.id in fresh):
                    new = made[page.id]
                    has_lines = new.line_vectors is not None
                    self.vectors.append_page(key, page.id, halve(new.vector), page.file, added, has_lines)
                self._pending |= set() if staged else fresh
            self.words.note_pages(fresh)
        except StoreUnavailableError:
            fresh = set(made)  # they may be there after all: if not, a start sweeps their pictures
            raise
        except OSError as error:
            raise LibraryError(f"the page could not be saved: {error.strerror or error}") from error
        finally:
            self.pictures.remove_pages(made.keys() - fresh)
        if not staged:
            self._back_up_pages(key, [page.id for page in stored], fresh)
        self.note_change(key)
        return stored

    def _insert(
        self,
        key: CollectionKey,
        made: Mapping[str, NewPage],
        added: float,
        fingerprint: str,
        model: str,
        job: JobPage | None,
        kinds: Mapping[str, OriginalKind],
    ) -> list[StoredPage]:
        """Return the pages of these contents: the new ones, by their ids, or those that are here already."""
        with self._transaction() as db:
            number, name, known, *_ = read_collection_row(db, key)
            if known is None and made:
                size = len(next(iter(made.values())).vector)
                if not db.execute(SET_EMBEDDER, [fingerprint, model, size, number]).rowcount:
                    known = read_collection_row(db, key)[2]  # another machine was first
            if known is not None:
                self.catalogue.check_comparable(name, known, fingerprint)
            stored = [
                self._insert_page(db, number, page_id, new, added, kinds.get(new.sha256, ""))
                for page_id, new in made.items()
            ]
            if job is not None:
                for page, new in zip(stored, made.values(), strict=True):
                    insert_job_page(db, job, page.id, new)
            return stored

    def _insert_page(
        self, db: Connection, number: int, page_id: str, new: NewPage, added: float, original: OriginalKind
    ) -> StoredPage:
        same = "SELECT id FROM pages WHERE collection = ? AND sha256 = ? AND page = ?"
        while not insert_rows(db, number, page_id, new, added, original):
            if (row := db.hold(same, [number, new.sha256, new.page]).fetchone()) is not None:
                return self.catalogue.read_page(row[0])
        self.pictures.insert_page(db, page_id, new)
        return self.catalogue.read_page(page_id)

    def _back_up_pages(self, key: CollectionKey, ids: Sequence[str], fresh: Set[str]) -> None:
        """Return once backed up. Raises LibraryError and removes those that no other call has acknowledged."""
        if self._backup is None:
            with self.database.lock:
                self._pending -= fresh
            return
        try:
            self._back_up()
        except LibraryError:
            with self.database.lock:
                lost = sorted(fresh & self._pending)
                if lost:
                    self._pending.difference_update(lost)
                    # The next start removes their pictures, not this call: the backup may name them after all.
                    self._delete_rows(key, lost)
                    for page_id in lost:
                        self.jobs.forget_page(page_id)
                if lost or not fresh >= set(ids):
                    raise
        with self.database.lock:
            self._pending -= fresh
            known = [page_id for page_id in ids if page_id not in fresh]
            if len(self.catalogue.read_pages(known)) < len(set(known)):
                self.catalogue.read_collection(key)
                raise LibraryError("the page could not be saved: add it again")

    def _back_up(self) -> None:
        """Return when all changes so far outlive this process. Raises LibraryError."""
        if self._backup is not None:
            self._backup.back_up(self.folder / FILE)

    @redo_rolled_back
    def move_pages(self, key: CollectionKey, ids: Sequence[str], to: CollectionKey) -> list[str]:
        """Move pages, and return the ids that are in `to` now; a page whose content `to` has already stays where it is.

        Raises CollectionGoneError, FingerprintError or LibraryError.
        """
        try:
            moved = self._move_rows(key, ids, to)
        except self.database.conflict:  # another machine has added the same to `to`
            raise RolledBackError("somebody else adds the same pages: try again") from None
        self._back_up()
        self.note_change(key, to)
        return moved

    def _move_rows(self, key: CollectionKey, ids: Sequence[str], to: CollectionKey) -> list[str]:
        with self._transaction() as db:
            source, _, fingerprint, *rest = read_collection_row(db, key)
            target, name, known, *_ = read_collection_row(db, to)
            if known is not None and fingerprint is not None:
                self.catalogue.check_comparable(name, known, fingerprint)
            update = (
                "UPDATE pages SET collection = ? WHERE id = ? AND collection = ? AND NOT EXISTS (SELECT 1 FROM pages t"
                " WHERE t.collection = ? AND t.sha256 = pages.sha256 AND t.page = pages.page)"
            )
            moved = [
                page
                for page in dict.fromkeys(ids)
                if source != target and db.execute(update, [target, page, source, target]).rowcount
            ]
            if known is None and moved and not db.execute(SET_EMBEDDER, [fingerprint, *rest, target]).rowcount:
                self.catalogue.check_comparable(name, read_collection_row(db, to)[2] or "", fingerprint or "")
            self.vectors.drop_collection(key)
            self.vectors.drop_collection(to)
        return moved

    @redo_rolled_back
    def delete_pages(self, key: CollectionKey, ids: Sequence[str]) -> list[str]:
        """Delete pages of this collection, and return the ids of those that it had.

        Raises LibraryError where the deletion could not be backed up: the pages may be back after the next start, and
        the same call tries again.
        """
        with self.database.lock:
            originals = self.catalogue.find_originals(ids)
            gone = self._delete_rows(key, ids)
        self._back_up()
        self.note_change(key)
        self.pictures.remove_pages(gone)
        self.originals.remove_unused(originals)
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

    @redo_rolled_back
    def rename_files(self, key: CollectionKey, names: Mapping[str, str]) -> int:
        """Give files, known by their sha256, other names, and return how many pages they have. Raises LibraryError."""
        renamed = 0
        with self._transaction() as db:
            number = -1 if key == ABSENT else read_collection_row(db, key)[0]
            for sha256, name in names.items():
                row = [name[:FILE_CHARS], number, sha256]
                renamed += db.execute("UPDATE pages SET file = ? WHERE collection = ? AND sha256 = ?", row).rowcount
            self.vectors.drop_collection(key)  # it has the names, by which pages are selected
        self._back_up()
        self.note_change(key)
        return renamed

    def delete_file(self, key: CollectionKey, sha256: str) -> list[str]:
        """Delete the pages of one file. Returns and raises as `delete_pages`."""
        return self.delete_pages(key, self.catalogue.list_file_pages(key, [sha256]))

    # Collections

    @redo_rolled_back
    def create_collection(self, name: str, owner: str = "") -> Collection:
        """Create an empty collection. Raises BadValueError for a name that is invalid or in use; LibraryError."""
        with self._transaction() as db:
            wanted = check_new_name(name)
            if self.catalogue.find_collection(wanted, owner).key:
                raise make_name_error(name)
            try:
                key = insert_collection(db, wanted, owner)
            except self.database.conflict:  # another machine was first
                raise make_name_error(name) from None
        self._back_up()
        self.note_change(ABSENT)
        return self.catalogue.read_collection(key)

    @redo_rolled_back
    def begin_import(self) -> CollectionKey:
        """Return a collection's key, hidden until `rename_collection` gives it to its owner. Raises LibraryError."""
        with self._transaction() as db:
            return insert_collection(db, secrets.token_hex(16), IMPORTING)

    @redo_rolled_back
    def rename_collection(self, key: CollectionKey, name: str, owner: str | None = None) -> Collection:
        """Give a collection another name, and to `owner` if there is one. Its key stays.

        Raises BadValueError, as `create_collection`; CollectionGoneError.
        """
        with self._transaction() as db:
            wanted = [check_new_name(name), owner, claim_collection_row(db, key)[0]]
            try:
                db.execute("UPDATE collections SET name = ?, owner = coalesce(?, owner) WHERE id = ?", wanted)
            except self.database.conflict:
                raise make_name_error(name) from None
        self._back_up()
        self.note_change(key)
        return self.catalogue.read_collection(key)

    @redo_rolled_back
    def delete_collection(self, key: CollectionKey) -> int:
        """Delete a collection, and return how many pages it had. Raises LibraryError, as `delete_pages`.

        It is gone at once. Rows and pictures of many pages go in the background, or with the next start.
        """
        if key == ABSENT:
            return 0
        with self._transaction() as db:
            number = claim_collection_row(db, key)[0]
            hidden = hide_collection(db, number)
            pages = int(db.execute("SELECT count(*) FROM pages WHERE collection = ?", [number]).fetchone()[0])
            self.vectors.drop_collection(key)
        self._back_up()
        self.note_change(key)
        self._remover.remove(hidden, pages)
        return pages

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """Yield a connection in a transaction. Raises ReadOnlyError or LibraryError."""
        self.check_writable()
        with self.database.transaction() as db:
            yield db


def open_library(settings: Settings) -> Library:
    """Return the library of a data folder or a store, open. Raises LibraryError."""
    library = Library(
        settings.data,
        address=settings.store.get_secret_value(),
        pictures=settings.pictures_folder,
        vector_bytes=settings.vector_bytes,
        index=read_index_choice(settings),
    )
    library.read_only |= settings.read_only
    return library
