"""What a library has: its collections, files and pages, read from SQLite. Writes nothing.

A collection is opened by its key. A key that does not exist (any more) is an error; ABSENT stands for a collection that
does not exist yet, in which nothing is found. A name is unique among the collections of one owner; the owner "" is
whoever has this machine.
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
from serving.library.records import ABSENT, EVERY, Collection, CollectionKey, Selection, StoredFile, StoredPage

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
AT_ONCE = 500
"""Pages asked about in one statement. Where these are their line vectors, 50 lines of 384 numbers each are 20 MB."""
NAME_CHARS = 80
KEY = re.compile(r"c-[0-9a-f]{32}")


class FingerprintError(BadValueError):
    """Vectors of two embedders, or of two versions of one, cannot be compared."""

    code = "fingerprint_mismatch"


class CollectionGoneError(NotFoundError):
    """A collection that was deleted, or never was."""

    def __init__(self) -> None:
        super().__init__("there is no such collection (any more)", param="collection")


class Catalogue:
    def __init__(self, database: Database, equivalence: Equivalence) -> None:
        self._database = database
        self._equivalence = equivalence

    # Collections

    def collections(self, owner: str = "") -> list[Collection]:
        """Return all collections of an owner, by name."""
        rows = self._database.rows(f"{COLLECTION} WHERE c.owner = ? ORDER BY c.name", [owner])
        return [Collection(*row) for row in rows]

    def collection(self, key: CollectionKey) -> Collection:
        """Return what is known of a collection; ABSENT has no name and no page. Raises CollectionGoneError."""
        if key == ABSENT:
            return Collection("", 0, None, None, None)
        row = self._database.row(f"{COLLECTION} WHERE c.key = ?", [key])
        if row is None:
            raise CollectionGoneError
        return Collection(*row)

    def named(self, name: str, owner: str = "") -> Collection:
        """Return the owner's collection of this name; its key is ABSENT where there is none. Raises BadValueError."""
        cleaned = checked_name(name)
        row = self._database.row(f"{COLLECTION} WHERE c.owner = ? AND c.name = ?", [owner, cleaned])
        return Collection(cleaned, 0, None, None, None) if row is None else Collection(*row)

    def latest(self, owner: str = "") -> str | None:
        """Return the name of the collection that was last added to."""
        row = self._database.row(
            "SELECT c.name FROM pages p JOIN collections c ON c.id = p.collection WHERE c.owner = ?"
            " ORDER BY p.rowid DESC LIMIT 1",
            [owner],
        )
        return None if row is None else str(row[0])

    # Fingerprints

    def comparable(self, one: str, other: str) -> bool:
        """Return whether vectors of these fingerprints may meet."""
        with self._database.lock:
            return self._equivalence.equal(one, other)

    def check(self, key: CollectionKey, fingerprint: str) -> None:
        """Raises FingerprintError if the collection has vectors that these cannot be compared with."""
        known = self.collection(key)
        if known.fingerprint is not None:
            self.check_same(known.name, known.fingerprint, fingerprint)

    def check_same(self, name: str, known: str, given: str) -> None:
        """Raises FingerprintError. `name`: of the collection whose fingerprint is `known`."""
        if not self.comparable(known, given):
            raise FingerprintError(
                f"the collection {name!r} was made with another embedder ({known}, now {given}): take a new collection,"
                " or the server it was made with. If both serve the same model, python -m bench parity --a URL --b URL"
                " can show that they agree; then they may share it",
                param="collection",
            )

    # Files and pages of a collection

    def files(self, key: CollectionKey) -> list[StoredFile]:
        """Return its files in the order they came."""
        select = f"SELECT p.file, p.sha256, count(*) {PAGES} GROUP BY p.sha256 ORDER BY min(p.rowid)"
        return [StoredFile(*row) for row in self._of(key, select)]

    def names(self, key: CollectionKey) -> list[tuple[str, int]]:
        """Return the names of its files in the order they came, each with the pages under that name."""
        select = f"SELECT p.file, count(*) {PAGES} GROUP BY p.file ORDER BY min(p.rowid)"
        return [(str(name), int(count)) for name, count in self._of(key, select)]

    def pages_of(self, key: CollectionKey, files: Sequence[str]) -> list[str]:
        """Return ids of the pages of these files, each given by its sha256."""
        return [page_id for page_id, sha256 in self._of(key, f"SELECT p.id, p.sha256 {PAGES}") if sha256 in files]

    def has(self, key: CollectionKey, sha256: str) -> dict[int, str]:
        """Return pages of this file content that are here already: page number to the name they came under."""
        return dict(self._of(key, f"SELECT p.page, p.file {PAGES} AND p.sha256 = ?", sha256))

    def ids(self, key: CollectionKey) -> list[str]:
        """Return ids of all its pages."""
        return [page_id for (page_id,) in self._of(key, f"SELECT p.id {PAGES}")]

    def select(self, key: CollectionKey, of: Selection) -> frozenset[str] | None:
        """Return ids of the selected pages; None for all of them. Raises BadValueError for a file that is not there."""
        if of == EVERY:
            return None
        known = [file for file, _ in self.names(key)]
        wanted = {file for file in known if of.takes(file)}
        missing = [file for file in of.files if file not in known]
        if missing and known:
            raise BadValueError(
                f"there is no file {missing[0]!r} in the collection {self.collection(key).name!r} (any more): take it"
                " out of the filter",
                param="files",
            )
        return frozenset(page_id for page_id, file in self._of(key, f"SELECT p.id, p.file {PAGES}") if file in wanted)

    def data_bytes(self, key: CollectionKey) -> int:
        """Return how much its text and vectors take."""
        joined = "FROM {} d JOIN pages p ON p.id = d.page JOIN collections c ON c.id = p.collection WHERE c.key = ?"
        vectors = "SELECT sum(length(d.vector) + coalesce(length(d.lines), 0)) " + joined.format("vectors")
        text = "SELECT sum(length(CAST(d.text AS BLOB)) + 48) " + joined.format("lines")
        return sum(self._of(key, select)[0][0] or 0 for select in (vectors, text))

    def vector(self, key: CollectionKey, page_id: str) -> tuple[Vectors, str]:
        """Return what a page is ranked by, float32[dimension], and its fingerprint. Raises NotFoundError."""
        select = (
            "SELECT v.vector, c.fingerprint FROM vectors v JOIN pages p ON p.id = v.page JOIN collections c"
            " ON c.id = p.collection WHERE c.key = ? AND p.id = ?"
        )
        rows = self._of(key, select, page_id)
        if not rows:
            raise NotFoundError("this page is not in the collection (any more)", param="like")
        return np.frombuffer(rows[0][0], np.float16).astype(np.float32), str(rows[0][1])

    def _of(self, key: CollectionKey, select: str, *values: object) -> list[Any]:
        """Return rows of a query whose first value is the key. Raises CollectionGoneError."""
        with self._database.lock:
            exists = key == ABSENT or self._database.row("SELECT 1 FROM collections WHERE key = ?", [key])
            if not exists:
                raise CollectionGoneError
            return self._database.rows(select, [key, *values])

    # Pages by their ids

    def page(self, page_id: str) -> StoredPage:
        """Raises NotFoundError."""
        found = self.pages([page_id])
        if page_id not in found:
            raise NotFoundError("this page is not in the library (any more)", param="id")
        return found[page_id]

    def pages(self, ids: Sequence[str]) -> dict[str, StoredPage]:
        """Return those of the pages that are there, by id."""
        found: dict[str, StoredPage] = {}
        for start in range(0, len(ids), AT_ONCE):
            part = ids[start : start + AT_ONCE]
            for row in self._database.rows(f"{PAGE} WHERE p.id IN ({marks(part)})", part):
                page_id, name, file, page, pages, width, height, read = row
                found[page_id] = StoredPage(page_id, name, file, page, pages, width, height, bool(read))
        return found

    def lines(self, page_id: str) -> tuple[Line, ...]:
        return tuple(line_of(*row) for row in self._database.rows(f"{LINE} ORDER BY number", [page_id]))

    def line(self, page_id: str, number: int) -> Line | None:
        row = self._database.row(f"{LINE} AND number = ?", [page_id, number])
        return None if row is None else line_of(*row)

    def line_vectors(self, ids: Sequence[str]) -> list[tuple[str, bytes]]:
        """Return (page id, fp16 rows) of those pages whose lines have vectors."""
        return self._database.rows(f"{LINES} AND page IN ({marks(ids)})", ids)


def is_key(collection: object) -> TypeGuard[CollectionKey]:
    """Return whether this has the form of a key, which no name has."""
    return isinstance(collection, str) and KEY.fullmatch(collection) is not None


def marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def line_of(text: str, x0: float | None, y0: float, x1: float, y1: float) -> Line:
    return Line(text, None if x0 is None else (x0, y0, x1, y1))


def checked_name(name: str) -> str:
    """Return the name without spaces at its ends. Raises BadValueError for what is none."""
    cleaned = " ".join(name.split()) if isinstance(name, str) else ""
    if not cleaned or len(cleaned) > NAME_CHARS or not cleaned.isprintable():
        raise BadValueError(f"a collection's name has 1 to {NAME_CHARS} printable characters", param="collection")
    return cleaned


def new_name(name: str) -> str:
    """Return the name that a collection may get. Raises BadValueError, also for what has the form of a key."""
    if not isinstance(name, str) or is_key(name):
        raise BadValueError(f"a collection's name has 1 to {NAME_CHARS} printable characters", param="name")
    return checked_name(name)
