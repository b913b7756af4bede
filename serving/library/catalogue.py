"""Reads a library's collections, files and pages from SQLite. Writes nothing.

A collection is opened by its key. A key that does not exist (any more) is an error; ABSENT stands for a collection that
does not exist yet, in which nothing is found. A name is unique among the collections of one owner; the owner "" is the
user of this machine.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np

from serving.documents.page import Line
from serving.embedders.base import Vectors
from serving.errors import BadValueError, NotFoundError
from serving.library.database import Database
from serving.library.fingerprints import Equivalence
from serving.library.records import ABSENT, ALL_PAGES, Collection, CollectionKey, Selection, StoredFile, StoredPage
from serving.system.display_names import compose_name

COLLECTION = (
    "SELECT c.name, (SELECT count(*) FROM pages p WHERE p.collection = c.id), c.fingerprint, c.model, c.dimension,"
    " c.key FROM collections c"
)
PAGE = (
    "SELECT p.id, c.name, p.file, p.page, p.pages, p.width, p.height, p.read FROM pages p"
    " JOIN collections c ON c.id = p.collection"
)
PAGES = "FROM pages p JOIN collections c ON c.id = p.collection WHERE c.key = ?"
LINE = "SELECT text, x0, y0, x1, y1 FROM lines WHERE page = ?"
LINES = "SELECT page, lines FROM vectors WHERE lines IS NOT NULL"
IDS_PER_QUERY = 500
"""Pages per statement. Line vectors of so many pages, 50 lines of 384 numbers each, take 20 MB."""
NAME_CHARS = 80
KEY = re.compile(r"c-[0-9a-f]{32}")


class FingerprintError(BadValueError):
    """Vectors of two embedders, or of two versions of one, cannot be compared."""

    code = "fingerprint_mismatch"


class CollectionGoneError(NotFoundError):
    """The collection was deleted, or never existed."""

    def __init__(self) -> None:
        super().__init__("there is no such collection (any more)", param="collection")


class Catalogue:
    """What a library has."""

    def __init__(self, database: Database, equivalence: Equivalence) -> None:
        self._database = database
        self._equivalence = equivalence

    # Collections

    def list_collections(self, owner: str = "") -> list[Collection]:
        """Return all collections of an owner, by name."""
        rows = self._database.fetch_all(f"{COLLECTION} WHERE c.owner = ? ORDER BY c.name", [owner])
        return [Collection(*row) for row in rows]

    def read_collection(self, key: CollectionKey) -> Collection:
        """Return a collection's record; ABSENT has no name and no page. Raises CollectionGoneError."""
        if key == ABSENT:
            return Collection("", 0, None, None, None)
        row = self._database.fetch_one(f"{COLLECTION} WHERE c.key = ?", [key])
        if row is None:
            raise CollectionGoneError
        return Collection(*row)

    def find_collection(self, name: str, owner: str = "") -> Collection:
        """Return the owner's collection of this name; its key is ABSENT where there is none. Raises BadValueError."""
        cleaned = clean_name(name)
        row = self._database.fetch_one(f"{COLLECTION} WHERE c.owner = ? AND c.name = ?", [owner, cleaned])
        return Collection(cleaned, 0, None, None, None) if row is None else Collection(*row)

    def has_collection(self, key: CollectionKey) -> bool:
        return self._database.fetch_one("SELECT 1 FROM collections WHERE key = ?", [key]) is not None

    def read_owner(self, key: CollectionKey) -> str:
        """Return a collection's owner. Raises CollectionGoneError, also for ABSENT."""
        row = self._database.fetch_one("SELECT owner FROM collections WHERE key = ?", [key])
        if row is None:
            raise CollectionGoneError
        return str(row[0])

    def find_latest_name(self, owner: str = "") -> str | None:
        """Return the name of the collection that the newest page was added to."""
        row = self._database.fetch_one(
            "SELECT c.name FROM pages p JOIN collections c ON c.id = p.collection WHERE c.owner = ?"
            " ORDER BY p.rowid DESC LIMIT 1",
            [owner],
        )
        return None if row is None else str(row[0])

    # Fingerprints

    def are_comparable(self, one: str, other: str) -> bool:
        """Return whether vectors of these fingerprints may be compared."""
        with self._database.lock:
            return self._equivalence.are_equal(one, other)

    def check_fingerprint(self, key: CollectionKey, fingerprint: str) -> None:
        """Raise FingerprintError if the collection has vectors that these cannot be compared with."""
        known = self.read_collection(key)
        if known.fingerprint is not None:
            self.check_comparable(known.name, known.fingerprint, fingerprint)

    def check_comparable(self, name: str, known: str, given: str) -> None:
        """Raise FingerprintError unless both are comparable. `name` is the collection's, `known` its fingerprint."""
        if not self.are_comparable(known, given):
            raise FingerprintError(
                f"the collection {name!r} was made with another embedder ({known}, now {given}): take a new collection,"
                " or the server it was made with. If both serve the same model, python -m bench parity --a URL --b URL"
                " can show that they agree; then they may share it",
                param="collection",
            )

    # Files and pages of a collection

    def list_files(self, key: CollectionKey) -> list[StoredFile]:
        """Return a collection's files in the order they were added."""
        # A max of the pages would take another row's name.
        columns = "p.file, p.sha256, count(*), sum(p.pages) / count(*), min(p.added)"
        select = f"SELECT {columns} {PAGES} GROUP BY p.sha256 ORDER BY min(p.rowid)"
        return [StoredFile(*row) for row in self._query(key, select)]

    def list_file_names(self, key: CollectionKey) -> list[tuple[str, int]]:
        """Return the names of its files in the order they were added, each with its number of pages."""
        select = f"SELECT p.file, count(*) {PAGES} GROUP BY p.file ORDER BY min(p.rowid)"
        return [(str(name), int(count)) for name, count in self._query(key, select)]

    def list_file_pages(self, key: CollectionKey, files: Sequence[str]) -> list[str]:
        """Return ids of the pages of these files, which are given by their sha256."""
        return [page_id for page_id, sha256 in self._query(key, f"SELECT p.id, p.sha256 {PAGES}") if sha256 in files]

    def find_pages(self, key: CollectionKey, sha256: str) -> dict[int, str]:
        """Return the pages of this file content that are here already: page number to the file name they have."""
        return dict(self._query(key, f"SELECT p.page, p.file {PAGES} AND p.sha256 = ?", sha256))

    def has_page(self, key: CollectionKey, sha256: str, page: int) -> bool:
        """Return whether this page of this file content is in the collection."""
        return bool(self._query(key, f"SELECT 1 {PAGES} AND p.sha256 = ? AND p.page = ?", sha256, page))

    def list_page_ids(self, key: CollectionKey) -> list[str]:
        return [page_id for (page_id,) in self._query(key, f"SELECT p.id {PAGES}")]

    def select_pages(self, key: CollectionKey, selection: Selection) -> frozenset[str] | None:
        """Return ids of the selected pages, None for all.

        Raises BadValueError for a file or a folder that is not there.
        """
        if selection == ALL_PAGES:
            return None
        known = [file for file, _ in self.list_file_names(key)]
        wanted = {file for file in known if selection.includes(file)}
        composed = {compose_name(file) for file in known}
        missing = [f"file {file!r}" for file in selection.files if file not in composed]
        if selection.folder and not any(Selection(folder=selection.folder).includes(file) for file in known):
            missing.append(f"folder {selection.folder!r}")
        if missing and known:
            raise BadValueError(
                f"there is no {missing[0]} in the collection {self.read_collection(key).name!r} (any more): take it out"
                " of the filter",
                param="folder" if missing[0].startswith("folder") else "files",
            )
        since = 0.0 if selection.added_after is None else selection.added_after
        select = f"SELECT p.id, p.file {PAGES} AND p.added >= ?"
        return frozenset(page_id for page_id, file in self._query(key, select, since) if file in wanted)

    def count_data_bytes(self, key: CollectionKey) -> int:
        joined = "FROM {} d JOIN pages p ON p.id = d.page JOIN collections c ON c.id = p.collection WHERE c.key = ?"
        vectors = "SELECT sum(length(d.vector) + coalesce(length(d.lines), 0)) " + joined.format("vectors")
        text = "SELECT sum(length(CAST(d.text AS BLOB)) + 48) " + joined.format("lines")
        return sum(self._query(key, select)[0][0] or 0 for select in (vectors, text))

    def read_vector(self, key: CollectionKey, page_id: str) -> tuple[Vectors, str]:
        """Return a page's vector, float32[dimension], and its fingerprint. Raises NotFoundError."""
        select = (
            "SELECT v.vector, c.fingerprint FROM vectors v JOIN pages p ON p.id = v.page JOIN collections c"
            " ON c.id = p.collection WHERE c.key = ? AND p.id = ?"
        )
        rows = self._query(key, select, page_id)
        if not rows:
            raise NotFoundError("this page is not in the collection (any more)", param="like")
        return np.frombuffer(rows[0][0], np.float16).astype(np.float32), str(rows[0][1])

    def _query(self, key: CollectionKey, select: str, *values: object) -> list[Any]:
        """Return rows of a query whose first value is the key. Raises CollectionGoneError."""
        with self._database.lock:
            exists = key == ABSENT or self._database.fetch_one("SELECT 1 FROM collections WHERE key = ?", [key])
            if not exists:
                raise CollectionGoneError
            return self._database.fetch_all(select, [key, *values])

    # Pages by their ids

    def read_page(self, page_id: str) -> StoredPage:
        """Return a page's record. Raises NotFoundError."""
        found = self.read_pages([page_id])
        if page_id not in found:
            raise NotFoundError("this page is not in the library (any more)", param="id")
        return found[page_id]

    def read_pages(self, ids: Sequence[str]) -> dict[str, StoredPage]:
        """Return those of the pages that are there, by id."""
        found: dict[str, StoredPage] = {}
        for start in range(0, len(ids), IDS_PER_QUERY):
            part = ids[start : start + IDS_PER_QUERY]
            for row in self._database.fetch_all(f"{PAGE} WHERE p.id IN ({sql_placeholders(part)})", part):
                page_id, name, file, page, pages, width, height, read = row
                found[page_id] = StoredPage(page_id, name, file, page, pages, width, height, bool(read))
        return found

    def read_lines(self, page_id: str) -> tuple[Line, ...]:
        return tuple(make_line(*row) for row in self._database.fetch_all(f"{LINE} ORDER BY number", [page_id]))

    def read_line(self, page_id: str, number: int) -> Line | None:
        row = self._database.fetch_one(f"{LINE} AND number = ?", [page_id, number])
        return None if row is None else make_line(*row)

    def read_line_vectors(self, ids: Sequence[str]) -> list[tuple[str, bytes]]:
        """Return (page id, fp16 rows) of those pages whose lines have vectors."""
        return self._database.fetch_all(f"{LINES} AND page IN ({sql_placeholders(ids)})", ids)


def is_key(collection: object) -> TypeGuard[CollectionKey]:
    """Return whether this has the form of a key, which no name may have."""
    return isinstance(collection, str) and KEY.fullmatch(collection) is not None


def sql_placeholders(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def make_line(text: str, x0: float | None, y0: float, x1: float, y1: float) -> Line:
    return Line(text, None if x0 is None else (x0, y0, x1, y1))


def clean_name(name: str) -> str:
    """Return a collection's name without superfluous spaces. Raises BadValueError for an invalid one."""
    cleaned = " ".join(name.split()) if isinstance(name, str) else ""
    if not cleaned or len(cleaned) > NAME_CHARS or not cleaned.isprintable():
        raise BadValueError(f"a collection's name has 1 to {NAME_CHARS} printable characters", param="collection")
    return cleaned


def check_new_name(name: str) -> str:
    """Return `clean_name` of a name for a collection. Raises BadValueError, also for one in the form of a key."""
    if not isinstance(name, str) or is_key(name):
        raise BadValueError(f"a collection's name has 1 to {NAME_CHARS} printable characters", param="name")
    return clean_name(name)
