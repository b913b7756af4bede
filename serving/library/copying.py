"""Copies collections from one library to another, each in a data folder or a store. Nothing is embedded again.

Keys, owners, ids, dates and the order of pages stay, so that links and searches do. The source is only read. Each page
comes by one commit with its text, vectors and picture, so that a copy goes on where an earlier one ended in any way.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from serving.embedders.base import Vectors
from serving.errors import NotFoundError, ReadOnlyError
from serving.library.catalogue import FingerprintError, make_line, sql_placeholders
from serving.library.data_folder import lock_folder
from serving.library.database import Connection, Database, LibraryError
from serving.library.fingerprints import FolderProofs, Proof, find_equal
from serving.library.library import Library
from serving.library.records import CollectionKey, CopiedPage, NewPage, OriginalKind
from serving.library.rows import IMPORTING, SET_EMBEDDER, insert_copies, read_collection_row
from serving.library.shared_proofs import SharedProofs
from serving.library.stores import FILE, make_store

BATCH_PAGES = 32
"""Pages of one commit, which are in memory together: with pictures of 300 kB, 10 MB."""
LISTED_PAGES = 500
"""Pages that are compared with the destination at a time."""
REMOVAL_S = 600.0
"""How long a copy waits for what was deleted at the destination before."""
COLLECTIONS = (
    "SELECT c.id, c.key, c.owner, c.name, c.created, c.fingerprint, c.model, c.dimension, count(p.id)"
    " FROM collections c LEFT JOIN pages p ON p.collection = c.id WHERE c.owner <> ? GROUP BY c.id"
    " ORDER BY coalesce(max(p.rowid), 0)"
)
"""The one that the newest page was added to comes last, and is that at the destination as well."""
LISTED = (
    "SELECT p.rowid, p.id, p.file, p.sha256, p.page FROM pages p WHERE p.collection = ? AND p.rowid > ?"
    " ORDER BY p.rowid LIMIT ?"
)
PAGES = (
    "SELECT p.id, p.added, p.original, p.read, v.vector, v.lines, p.file, p.sha256, p.page, p.pages, p.width, p.height"
    " FROM pages p JOIN vectors v ON v.page = p.id WHERE p.id IN"
)
LINES = "SELECT page, text, x0, y0, x1, y1 FROM lines WHERE page IN"
CONTENTS = (
    "SELECT p.id, v.vector, coalesce(length(v.lines), 0), (SELECT count(*) FROM lines l WHERE l.page = p.id)"
    " FROM pages p JOIN vectors v ON v.page = p.id WHERE p.id IN"
)
"""What is compared in the end: of lines only how many there are, and the size of their vectors."""


@dataclass(frozen=True, slots=True)
class SourceCollection:
    """A collection to copy. `number` is that of its row at the source."""

    number: int
    key: CollectionKey
    owner: str
    name: str
    created: float
    fingerprint: str | None
    model: str | None
    dimension: int | None
    pages: int


@dataclass(frozen=True, slots=True)
class ListedPage:
    """A page of the source: `row` numbers pages in the order in which they were added."""

    row: int
    id: str
    file: str
    sha256: str
    page: int


@dataclass(slots=True)
class CopyResult:
    """What became of the pages of one collection, and what is not copied with them."""

    copied: int = 0
    known: int = 0
    """Those that were at the destination already."""
    skipped: int = 0
    jobs: int = 0
    """Unfinished ones."""
    originals: int = 0
    """Files that the destination does not keep."""


class CopyObserver(Protocol):
    """Is told of a copy while it goes on."""

    def advance(self, seen: int, copied: int = 0) -> None:
        """Take that so many more pages are done, and so many of them were copied.

        Called between two commits; what it raises ends the copy.
        """

    def skip_page(self, page: ListedPage, reason: str) -> None: ...


class CopySource:
    """The collections of a data folder or a store, for reading only."""

    def __init__(self, folder: Path, address: str = "", pictures: Path | None = None) -> None:
        """Open nothing yet. Arguments are those of a library; `folder` means nothing where there is an `address`."""
        store = make_store(address, pictures, folder, None, 0)
        self.database, self.pictures = store.database, store.pictures
        self.proofs = open_proofs(self.database, folder)
        self._folder = folder
        self._lock_file = -1

    def open(self) -> None:
        """Raise LibraryError where it is not there, in use, or of another release; nothing is changed then or later."""
        if not self.database.is_shared:
            if not (self._folder / FILE).exists():
                raise LibraryError(f"there are no collections in {self._folder}")
            self._lock_file = lock_folder(self._folder)
        try:
            self.database.open_to_read()
            self.pictures.open_to_read()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.database.close()
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1

    def list_collections(self, names: Sequence[str] = ()) -> list[SourceCollection]:
        """Return the collections of all owners, or those of these names or keys. Raises NotFoundError for others."""
        found = [SourceCollection(*row) for row in self.database.fetch_all(COLLECTIONS, [IMPORTING])]
        for name in names:
            if not any(name in (one.name, one.key) for one in found):
                raise NotFoundError(f"there is no collection {name!r} to copy: `dormouse list` shows those there are")
        return [one for one in found if not names or one.name in names or one.key in names]

    def list_pages(self, collection: SourceCollection, after: int) -> list[ListedPage]:
        """Return the next pages after a row."""
        rows = self.database.fetch_all(LISTED, [collection.number, after, LISTED_PAGES])
        return [ListedPage(*row) for row in rows]

    def read_pages(self, ids: Sequence[str]) -> list[CopiedPage]:
        """Return those of the pages that are there, with their pictures, in this order."""
        with self.database.snapshot() as db:
            rows = {row[0]: row[1:] for row in db.execute(f"{PAGES} ({sql_placeholders(ids)})", ids)}
            lines: dict[str, list[Any]] = {}
            for page_id, *line in db.execute(f"{LINES} ({sql_placeholders(ids)}) ORDER BY page, number", ids):
                lines.setdefault(page_id, []).append(make_line(*line))
        pictures = self.pictures.read_pages(ids)
        return [
            self._make_page(page_id, rows[page_id], lines.get(page_id, []), pictures[page_id])
            for page_id in ids
            if page_id in rows and page_id in pictures
        ]

    def _make_page(
        self, page_id: str, row: Sequence[Any], lines: Sequence[Any], pictures: tuple[bytes, bytes]
    ) -> CopiedPage:
        added, original, read, vector, line_vectors, file, sha256, page, pages, width, height = row
        new = NewPage(
            file, sha256, page, pages, width, height, *pictures, widen(vector),
            lines=tuple(lines) if read else None,
            line_vectors=None if line_vectors is None else widen(line_vectors),
            original=self._folder / "originals" / sha256 if original else None,
        )  # fmt: skip
        return CopiedPage(page_id, added, new)

    def has_collection(self, collection: SourceCollection) -> bool:
        return self.database.fetch_one("SELECT 1 FROM collections WHERE key = ?", [collection.key]) is not None

    def read_embedder(self, collection: SourceCollection) -> SourceCollection:
        """Return the collection with the embedder that it has now: one without pages gets it with its first."""
        select = "SELECT fingerprint, model, dimension FROM collections WHERE key = ?"
        fingerprint, model, dimension = self.database.fetch_one(select, [collection.key]) or (None, None, None)
        return replace(collection, fingerprint=fingerprint, model=model, dimension=dimension)

    def has_page(self, page_id: str) -> bool:
        return self.database.fetch_one("SELECT 1 FROM pages WHERE id = ?", [page_id]) is not None

    def count_jobs(self, collection: SourceCollection) -> int:
        """Return how many jobs of it have not ended."""
        select = "SELECT count(*) FROM jobs WHERE collection = ? AND ended = 0"
        return int(self.database.fetch_one(select, [collection.number])[0])

    def count_originals(self, collection: SourceCollection) -> int:
        select = "SELECT count(DISTINCT sha256) FROM pages WHERE collection = ? AND original <> ''"
        return int(self.database.fetch_one(select, [collection.number])[0])


class CollectionCopy:
    """The copy of one collection."""

    def __init__(
        self, source: CopySource, library: Library, collection: SourceCollection, observer: CopyObserver
    ) -> None:
        self._source, self._library, self._observer = source, library, observer
        self._collection = collection
        self._exists = library.catalogue.has_collection(collection.key)
        self._elsewhere: set[str] = set()
        """Ids of pages that the collection does not have at the destination, or by another id."""
        self.result = CopyResult()

    def run(self) -> CopyResult:
        """Copy what is missing, and compare all where something was. Raises ServingError, or what the observer does."""
        last = 0
        while listed := self._source.list_pages(self._collection, last):
            missing = self._select_missing(listed)
            self.result.known += len(listed) - len(missing)
            self._observer.advance(len(listed) - len(missing))
            for start in range(0, len(missing), BATCH_PAGES):
                self._copy_batch(missing[start : start + BATCH_PAGES])
            last = listed[-1].row
        if self._source.has_collection(self._collection):
            self._write_rest()
        elif self.result.copied:
            raise LibraryError(
                f"{self._collection.name!r} was deleted at the source meanwhile: {self.result.copied:,} pages of it are"
                " at the destination and stay there"
            )
        if self.result.copied:
            self._compare(last)
        self.result.jobs = self._source.count_jobs(self._collection)
        if self._library.database.is_shared:
            self.result.originals = self._source.count_originals(self._collection)
        return self.result

    def _write_rest(self) -> None:
        """Write the collection that has no page, or the embedder that an earlier copy has left out."""
        self._learn_embedder()
        there = "SELECT fingerprint FROM collections WHERE key = ?"
        lacks_it = self._exists and self._library.database.fetch_one(there, [self._collection.key]) == (None,)
        if not self._exists or (lacks_it and self._collection.fingerprint is not None):
            self._write([])

    def _learn_embedder(self) -> None:
        if self._collection.fingerprint is None:
            self._collection = self._source.read_embedder(self._collection)

    # What is missing

    def _select_missing(self, listed: Sequence[ListedPage]) -> list[ListedPage]:
        """Return those that the destination has neither by their ids nor, in this collection, by their contents."""
        database, ids = self._library.database, [page.id for page in listed]
        there = "SELECT p.id, c.key, c.name FROM pages p JOIN collections c ON c.id = p.collection WHERE p.id IN"
        found = {row[0]: row[1:] for row in database.fetch_all(f"{there} ({sql_placeholders(ids)})", ids)}
        others = [page for page in listed if page.id not in found]
        known = self._find_contents({page.sha256 for page in others})
        self._elsewhere |= {page.id for page in others if (page.sha256, page.page) in known}
        missing = [page for page in others if (page.sha256, page.page) not in known]
        for page in listed:
            key, name = found.get(page.id, (self._collection.key, ""))
            if key != self._collection.key:
                self._skip(page, f"it is in the collection {name!r} there")
                self.result.known -= 1
        return missing

    def _find_contents(self, digests: Iterable[str]) -> set[tuple[str, int]]:
        wanted = sorted(digests)
        select = "SELECT p.sha256, p.page FROM pages p JOIN collections c ON c.id = p.collection WHERE c.key = ?"
        within = f"{select} AND p.sha256 IN ({sql_placeholders(wanted)})"
        return {
            (sha256, page) for sha256, page in self._library.database.fetch_all(within, [self._collection.key, *wanted])
        }

    def _skip(self, page: ListedPage, reason: str) -> None:
        self._elsewhere.add(page.id)
        self.result.skipped += 1
        self._observer.skip_page(page, reason)

    # Batches

    def _copy_batch(self, listed: Sequence[ListedPage]) -> None:
        pages = self._source.read_pages([page.id for page in listed])
        read = {page.id for page in pages}
        for page in listed:
            if page.id not in read and self._source.has_page(page.id):  # else it was deleted meanwhile
                self._skip(page, "its picture is missing")
        if pages:
            self._learn_embedder()  # after they were read: by then it has one
            self._write(pages)
        self.result.copied += len(pages)
        self._observer.advance(len(listed), len(pages))

    def _write(self, pages: Sequence[CopiedPage]) -> None:
        """Write pages, and the collection before its first: all of them, or none. Raises ServingError."""
        library = self._library
        try:
            self._write_files_and_rows(pages)
        except library.database.conflict:
            raise LibraryError("somebody else adds the same at the destination: run it again after that") from None
        except OSError as error:
            raise LibraryError(f"the pages could not be saved: {error.strerror or error}") from error
        self._exists = True
        library.note_change(self._collection.key)

    def _write_files_and_rows(self, pages: Sequence[CopiedPage]) -> None:
        library = self._library
        kept = () if library.database.is_shared else pages  # as with pages that are added
        originals = {page.new.sha256: page.new.original for page in kept if page.new.original is not None}
        try:
            for page in pages:
                library.pictures.write_page(page.id, page.new.picture, page.new.thumbnail)
            with library.originals.keep(originals) as kinds, library.database.lock:
                self._insert(pages, kinds)
                library.vectors.drop_collection(self._collection.key)
        except BaseException:
            remove_unsaved_pictures(library, [page.id for page in pages])
            raise

    def _insert(self, pages: Sequence[CopiedPage], kinds: Mapping[str, OriginalKind]) -> None:
        with self._library.database.transaction() as db:
            number = self._prepare_row(db)
            insert_copies(db, number, pages, kinds)
            for page in pages:
                self._library.pictures.insert_page(db, page.id, page.new)

    def _prepare_row(self, db: Connection) -> int:
        """Return the number of the collection at the destination, where it has this embedder from now on."""
        new = self._collection
        embedder = [new.fingerprint, new.model, new.dimension]
        if not self._exists:  # with its first pages: an old one without any would be swept
            db.execute(
                "INSERT INTO collections (key, owner, name, created, fingerprint, model, dimension)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                [new.key, new.owner, new.name, new.created, *embedder],
            )
        number, name, known, *_ = read_collection_row(db, new.key)
        if known is None and new.fingerprint is not None:
            db.execute(SET_EMBEDDER, [*embedder, number])
            known = read_collection_row(db, new.key)[2]
        if known is not None and new.fingerprint is not None:
            self._library.catalogue.check_comparable(name, known, new.fingerprint)
        return number

    # Comparing

    def _compare(self, last: int) -> None:
        """Compare ids, vectors and numbers of lines of all pages up to a row, and some pictures.

        Raises LibraryError.
        """
        wrong: list[str] = []
        row = 0
        while row < last and (listed := self._source.list_pages(self._collection, row)):
            row = listed[-1].row
            ids = [page.id for page in listed if page.row <= last and page.id not in self._elsewhere]
            wrong += self._find_different(ids)
            self._observer.advance(0)
        if wrong:
            raise LibraryError(
                f"{len(wrong):,} of {self._collection.pages:,} pages of {self._collection.name!r} are missing at the"
                f" destination or are others there, the first is {wrong[0]}: run it again. If it says so once more,"
                " delete the collection there and copy it anew"
            )

    def _find_different(self, ids: Sequence[str]) -> list[str]:
        if not ids:
            return []
        here, there = (read_contents(database, ids) for database in (self._source.database, self._library.database))
        pictures = [pictures.read_pages(ids[:1]) for pictures in (self._source.pictures, self._library.pictures)]
        wrong = [page_id for page_id, content in here.items() if there.get(page_id) != content]
        return wrong or [page_id for page_id in pictures[0] if pictures[0] != pictures[1]]


def copy_proofs(source: CopySource, library: Library) -> int:
    """Copy proofs of equal fingerprints that the destination has none of, and return how many. Raises ServingError."""
    proofs = open_proofs(library.database, library.durable_folder)
    known = {frozenset(proof.fingerprints) for proof in proofs.read()}
    new = [proof for proof in source.proofs.read() if frozenset(proof.fingerprints) not in known]
    for proof in new:
        proofs.add(proof)
    return len(new)


def open_proofs(database: Database, folder: Path) -> FolderProofs | SharedProofs:
    return SharedProofs(database) if database.is_shared else FolderProofs(folder)


def check_destination(source: CopySource, library: Library, collections: Sequence[SourceCollection]) -> None:
    """Raise before anything is copied: ReadOnlyError; LibraryError or FingerprintError for what is there already."""
    if library.read_only:
        raise ReadOnlyError("the destination may only be read here: take a user or a setting that may change it")
    proofs = [*open_proofs(library.database, library.durable_folder).read(), *source.proofs.read()]
    for one in collections:
        same = "SELECT key, fingerprint, dimension FROM collections WHERE key = ?"
        row = library.database.fetch_one(same, [one.key])
        if row is not None:
            check_embedder(one, row[1], row[2], proofs)
            continue
        named = "SELECT key FROM collections WHERE owner = ? AND name = ?"
        if (row := library.database.fetch_one(named, [one.owner, one.name])) is not None:
            raise LibraryError(
                f"the destination has another collection of the name {one.name!r}: its id is {row[0]}, here {one.key}."
                " Rename or delete one of the two, or name the ones to copy with --collection",
                code="name_in_use",
            )


def check_embedder(
    one: SourceCollection, fingerprint: str | None, dimension: int | None, proofs: Sequence[Proof]
) -> None:
    """Raise FingerprintError where vectors at the destination cannot be compared with those of the collection."""
    if fingerprint is None or one.fingerprint is None:
        return
    if one.fingerprint not in find_equal(fingerprint, proofs) or dimension != one.dimension:
        raise FingerprintError(
            f"the collection {one.name!r} has vectors of another embedder at the destination ({fingerprint}, here"
            f" {one.fingerprint}): delete it there, or name the ones to copy with --collection"
        )


def wait_for_removals(library: Library, observer: CopyObserver) -> None:
    """Return once nothing that was deleted is still being removed: pages that come back have ids of theirs.

    Raises LibraryError, or what the observer does.
    """
    select = "SELECT 1 FROM collections WHERE owner = ? AND created = 0"
    until = time.monotonic() + REMOVAL_S
    while library.database.fetch_one(select, [IMPORTING]) is not None:
        if time.monotonic() > until:
            raise LibraryError("what was deleted at the destination is still being removed: run it again later")
        observer.advance(0)
        time.sleep(0.1)


def remove_unsaved_pictures(library: Library, ids: Sequence[str]) -> None:
    """Remove files of pages that have no row. Those of several machines stay: another one may be about to add it."""
    if not library.database.is_shared:
        with suppress(LibraryError):  # the next start removes them
            saved = library.catalogue.read_pages(ids)
            library.pictures.remove_pages([page_id for page_id in ids if page_id not in saved])


def read_contents(database: Database, ids: Sequence[str]) -> dict[str, tuple[bytes, int, int]]:
    """Return vector, bytes of line vectors and number of lines of those of the pages that are there."""
    rows = database.fetch_all(f"{CONTENTS} ({sql_placeholders(ids)})", ids)
    return {page_id: (bytes(vector), int(size), int(lines)) for page_id, vector, size, lines in rows}


def widen(data: bytes) -> Vectors:
    """Return fp16 numbers in float32, which become the same fp16 numbers again."""
    return np.frombuffer(data, "<f2").astype(np.float32)
