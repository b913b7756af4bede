"""Reads a library's collections, files and pages from its database. Writes nothing.

A collection is opened by its key. A key that does not exist (any more) is an error; ABSENT stands for a collection that
does not exist yet, in which nothing is found. A name is unique among the collections of one owner; the owner "" is the
user of this machine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

from serving.documents.page import Line
from serving.embedders.base import Vectors
from serving.errors import BadValueError, NotFoundError
from serving.library.database import Database
from serving.library.fingerprints import ProvenPairs
from serving.library.records import ABSENT, Collection, CollectionKey, StoredFile, StoredPage

COLLECTION = (
    "SELECT c.name, (SELECT count(*) FROM pages p WHERE p.collection = c.id), c.fingerprint, c.model, c.dimension,"
    " c.key FROM collections c"
)
PAGE = (
    "SELECT p.id, c.name, p.file, p.page, p.pages, p.width, p.height, p.read, p.original FROM pages p"
    " JOIN collections c ON c.id = p.collection"
)
PAGES = "FROM pages p JOIN collections c ON c.id = p.collection WHERE c.key = ?"
LINE = "SELECT text, x0, y0, x1, y1 FROM lines WHERE page = ?"
MARKED = "SELECT page, number, text, x0, y0, x1, y1 FROM lines WHERE"
ORIGINAL = "SELECT sha256 FROM pages WHERE original != ''"
LINES = "SELECT page, lines FROM vectors WHERE lines IS NOT NULL"
WAS_READ = (
    "SELECT 1 FROM pages p JOIN vectors v ON v.page = p.id WHERE p.id = ? AND CAST(p.read AS INTEGER) = 1"
    " AND (v.lines IS NOT NULL OR NOT EXISTS (SELECT 1 FROM lines l WHERE l.page = p.id))"
)
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

    def __init__(self, database: Database, equivalence: ProvenPairs) -> None:
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

    def read_embedder(self, key: CollectionKey) -> tuple[str, str | None]:
        """Return a collection's name and fingerprint, without counting its pages. Raises CollectionGoneError."""
        if key == ABSENT:
            return "", None
        row = self._database.fetch_one("SELECT name, fingerprint FROM collections WHERE key = ?", [key])
        if row is None:
            raise CollectionGoneError
        return str(row[0]), row[1]

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
        name, known = self.read_embedder(key)
        if known is not None:
            self.check_comparable(name, known, fingerprint)

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
        # A file has the name of its first page.
        columns = "p.sha256, count(*) AS present, sum(p.pages) / count(*) AS whole, min(p.added) AS since"
        files = f"SELECT {columns}, min(p.rowid) AS first {PAGES} GROUP BY p.sha256"
        named = "SELECT n.file, f.sha256, f.present, f.whole, f.since"
        select = f"{named} FROM ({files}) f JOIN pages n ON n.rowid = f.first ORDER BY f.first"
        return [StoredFile(*row) for row in self._query(key, select)]

    def list_file_names(self, key: CollectionKey) -> list[tuple[str, int]]:
        """Return the names of its files in the order they were added, each with its number of pages."""
        select = f"SELECT p.file, count(*) {PAGES} GROUP BY p.file ORDER BY min(p.rowid)"
        return [(str(name), int(count)) for name, count in self._query(key, select)]

    def list_file_pages(self, key: CollectionKey, files: Sequence[str]) -> list[str]:
        """Return ids of the pages of these files, which are given by their sha256."""
        found: list[str] = []
        for part in split_ids(files) or [()]:
            select = f"SELECT p.id {PAGES} AND p.sha256 IN ({sql_placeholders(part)}) ORDER BY p.rowid"
            found += [page_id for (page_id,) in self._query(key, select, *part)]
        return found

    def find_pages(self, key: CollectionKey, sha256: str) -> dict[int, str]:
        """Return the pages of this file content that are here already: page number to the file name they have."""
        return dict(self._query(key, f"SELECT p.page, p.file {PAGES} AND p.sha256 = ?", sha256))

    def has_page(self, key: CollectionKey, sha256: str, page: int) -> bool:
        """Return whether this page of this file content is in the collection."""
        return bool(self._query(key, f"SELECT 1 {PAGES} AND p.sha256 = ? AND p.page = ?", sha256, page))

    def list_pages_beside(self, key: CollectionKey, page_id: str) -> dict[int, str]:
        """Return the pages of the file that this page is of, number to id, in order.

        Raises NotFoundError for a page that is not in the collection.
        """
        same_file = "AND p.sha256 = (SELECT sha256 FROM pages WHERE id = ?) ORDER BY p.page"
        rows = self._query(key, f"SELECT p.page, p.id {PAGES} {same_file}", page_id)
        found = {int(number): str(beside) for number, beside in rows}
        if page_id not in found.values():
            raise NotFoundError("this page is not in the collection (any more)", param="page")
        return found

    def list_page_ids(self, key: CollectionKey) -> list[str]:
        return [page_id for (page_id,) in self._query(key, f"SELECT p.id {PAGES}")]

    def count_line_bytes(self, ids: Sequence[str]) -> int:
        """Return how many bytes the lines of these pages take, with their text and vectors."""
        vectors = "SELECT sum(length(lines)) FROM vectors"
        text = "SELECT sum(octet_length(text) + 48) FROM lines"
        found = [
            self._database.fetch_one(f"{select} WHERE page IN ({sql_placeholders(ids)})", ids)[0]
            for select in (vectors, text)
        ]
        return sum(int(size or 0) for size in found)

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
        for part in split_ids(ids):
            for row in self._database.fetch_all(f"{PAGE} WHERE p.id IN ({sql_placeholders(part)})", part):
                page_id, name, file, page, pages, width, height, read, original = row
                found[page_id] = StoredPage(page_id, name, file, page, pages, width, height, bool(read), original)
        return found

    def find_originals(self, ids: Sequence[str]) -> list[str]:
        """Return the sha256 of the original files that these pages have."""
        found: set[str] = set()
        for part in split_ids(ids):
            select = f"{ORIGINAL} AND id IN ({sql_placeholders(part)})"
            found |= {sha256 for (sha256,) in self._database.fetch_all(select, part)}
        return sorted(found)

    def uses_original(self, sha256: str) -> bool:
        """Return whether a page of any collection has this file as its original."""
        return self._database.fetch_one(f"{ORIGINAL} AND sha256 = ? LIMIT 1", [sha256]) is not None

    def read_lines(self, page_id: str) -> tuple[Line, ...]:
        return tuple(make_line(*row) for row in self._database.fetch_all(f"{LINE} ORDER BY number", [page_id]))

    def read_marked_lines(self, marked: Mapping[str, int]) -> dict[str, Line]:
        """Return a line of each page, by its id. `marked`: the lines' numbers."""
        pages, numbers = list(marked), sorted({*marked.values()})
        # Not by pairs: SQLite would look through all lines.
        within = f"page IN ({sql_placeholders(pages)}) AND number IN ({sql_placeholders(numbers)})"
        rows = self._database.fetch_all(f"{MARKED} {within}", [*pages, *numbers])
        return {page_id: make_line(*line) for page_id, number, *line in rows if marked[page_id] == number}

    def was_read(self, page_id: str) -> bool:
        """Return whether the server that embedded a page has read it: its lines have vectors, or there are none."""
        return bool(self._database.fetch_all(WAS_READ, [page_id]))

    def read_line_vectors(self, ids: Sequence[str]) -> list[tuple[str, bytes]]:
        """Return (page id, fp16 rows) of those pages whose lines have vectors."""
        return self._database.fetch_all(f"{LINES} AND page IN ({sql_placeholders(ids)})", ids)


def is_key(collection: object) -> TypeGuard[CollectionKey]:
    """Return whether this has the form of a key, which no name may have."""
    return isinstance(collection, str) and KEY.fullmatch(collection) is not None


def split_ids(ids: Sequence[str]) -> list[Sequence[str]]:
    """Return the ids in parts that a statement takes."""
    return [ids[start : start + IDS_PER_QUERY] for start in range(0, len(ids), IDS_PER_QUERY)]


def make_name_error(name: str) -> BadValueError:
    return BadValueError(f"there is a collection {name!r} already: take another name", param="name")


def sql_placeholders(values: Sequence[object]) -> str:
    """Return what stands between the brackets of IN."""
    return ", ".join("?" * len(values)) or "NULL"


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
