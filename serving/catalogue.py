"""What a library has: its collections, files and pages, read from SQLite. Writes nothing.

A collection is named in two ways. Its key cannot be guessed, and whoever has it may use the collection; one that does
not exist (any more) is an error. A name reaches only what its owner has, and one that does not exist is an empty one,
that comes to be with its first page. Where `collection` is a parameter it is either; names are those of the owner "",
who has this machine.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from serving.embedders import Vectors
from serving.equivalence import Equivalence
from serving.errors import BadValueError, NotFoundError
from serving.pages import Line
from serving.records import Collection, Storage, StoredFile, StoredPage

COLLECTION = (
    "SELECT c.name, (SELECT count(*) FROM pages p WHERE p.collection = c.id), c.fingerprint, c.model, c.dimension,"
    " c.key FROM collections c"
)
PAGE = (
    "SELECT p.id, c.name, p.file, p.page, p.pages, p.width, p.height, p.read FROM pages p"
    " JOIN collections c ON c.id = p.collection"
)
LINE = "SELECT text, x0, y0, x1, y1 FROM lines WHERE page = ?"
NAME_CHARS = 80
SAMPLED = 500
"""Pages whose pictures are looked at for a collection's size: two calls to the disk each."""
KEY = re.compile(r"c-[0-9a-f]{32}")


class FingerprintError(BadValueError):
    """Vectors of two embedders, or of two versions of one, cannot be compared."""

    code = "fingerprint_mismatch"


class Catalogue:
    """Of an open database, which whoever inherits this opens."""

    pictures: Path
    _db: sqlite3.Connection
    _lock: threading.RLock
    _equivalence: Equivalence

    def collections(self, owner: str = "") -> list[Collection]:
        with self._lock:
            rows = self._db.execute(f"{COLLECTION} WHERE c.owner = ? ORDER BY c.name", [owner]).fetchall()
        return [Collection(*row) for row in rows]

    def collection(self, collection: str, owner: str = "") -> Collection:
        """Raises NotFoundError for a key that is none; an unknown name is an empty collection."""
        with self._lock:
            number = self._id(collection, owner)
            row = self._db.execute(f"{COLLECTION} WHERE c.id = ?", [number]).fetchone()
        return Collection(checked_name(collection), 0, None, None, None) if row is None else Collection(*row)

    def existing(self, collection: str, owner: str = "") -> Collection:
        """Raises NotFoundError for a name that does not exist, too."""
        found = self.collection(collection, owner)
        if not found.key:
            raise NotFoundError("there is no such collection (any more)", param="collection")
        return found

    def storage(self, collection: str) -> Storage:
        """Of a large collection the pictures of some pages stand for all."""
        with self._lock:
            number = self._id(collection)
            ids = [row[0] for row in self._db.execute("SELECT id FROM pages WHERE collection = ?", [number])]
            of = "FROM pages p JOIN {} d ON d.page = p.id WHERE p.collection = ?"
            vectors = "SELECT sum(length(d.vector) + coalesce(length(d.lines), 0)) " + of.format("vectors")
            text = "SELECT sum(length(CAST(d.text AS BLOB)) + 48) " + of.format("lines")
            data = sum(self._db.execute(select, [number]).fetchone()[0] or 0 for select in (vectors, text))
        looked = ids[:: max(1, len(ids) // SAMPLED)]
        files = [path for page_id in looked for path in (self.picture(page_id), self.thumbnail(page_id))]
        pictures = sum(path.stat().st_size for path in files if path.exists())
        return Storage(len(ids), round(pictures / len(looked) * len(ids)) if looked else 0, data)

    def pages_of(self, collection: str, files: Sequence[str]) -> list[str]:
        """Ids of the pages of these files, each given by its sha256."""
        with self._lock:
            rows = self._db.execute("SELECT id, sha256 FROM pages WHERE collection = ?", [self._id(collection)])
            return [page_id for page_id, sha256 in rows if sha256 in files]

    def comparable(self, one: str, other: str) -> bool:
        """Whether vectors of these fingerprints may meet."""
        with self._lock:
            return self._equivalence.equal(one, other)

    def check(self, collection: str, fingerprint: str) -> None:
        """Raises FingerprintError if the collection has vectors that these cannot be compared with."""
        known = self.collection(collection)
        if known.fingerprint is not None:
            self._same(known.name, known.fingerprint, fingerprint)

    def latest(self, owner: str = "") -> str | None:
        """The name of the collection that was last added to."""
        with self._lock:
            row = self._db.execute(
                "SELECT c.name FROM pages p JOIN collections c ON c.id = p.collection WHERE c.owner = ?"
                " ORDER BY p.rowid DESC LIMIT 1",
                [owner],
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

    def page(self, page_id: str) -> StoredPage:
        """Raises NotFoundError."""
        found = self._find([page_id])
        if page_id not in found:
            raise NotFoundError("this page is not in the library (any more)", param="id")
        return found[page_id]

    def vector(self, collection: str, page_id: str) -> tuple[Vectors, str]:
        """What a page is ranked by, float32[dimension], and its fingerprint. Raises NotFoundError."""
        question = (
            "SELECT v.vector, c.fingerprint FROM vectors v JOIN pages p ON p.id = v.page JOIN collections c"
            " ON c.id = p.collection WHERE p.id = ? AND c.id = ?"
        )
        with self._lock:
            row = self._db.execute(question, [page_id, self._id(collection)]).fetchone()
        if row is None:
            raise NotFoundError("this page is not in the collection (any more)", param="like")
        return np.frombuffer(row[0], np.float16).astype(np.float32), str(row[1])

    def lines(self, page_id: str) -> tuple[Line, ...]:
        with self._lock:
            rows = self._db.execute(f"{LINE} ORDER BY number", [page_id]).fetchall()
        return tuple(line_of(*row) for row in rows)

    def picture(self, page_id: str) -> Path:
        return self.pictures / f"{page_id}.jpg"

    def thumbnail(self, page_id: str) -> Path:
        return self.pictures / f"{page_id}.webp"

    def _find(self, ids: Sequence[str]) -> dict[str, StoredPage]:
        with self._lock:
            rows = self._db.execute(f"{PAGE} WHERE p.id IN ({marks(ids)})", list(ids)).fetchall()
        return {
            page_id: StoredPage(page_id, name, file, page, pages, width, height, bool(read))
            for page_id, name, file, page, pages, width, height, read in rows
        }

    def _id(self, collection: str, owner: str = "") -> int:
        """The collection's row number; -1, which no row has, for a name that does not exist. Raises NotFoundError."""
        if isinstance(collection, str) and KEY.fullmatch(collection):
            row = self._db.execute("SELECT id FROM collections WHERE key = ?", [collection]).fetchone()
            if row is None:
                raise NotFoundError("there is no such collection (any more)", param="collection")
        else:
            owned = [owner, checked_name(collection)]
            row = self._db.execute("SELECT id FROM collections WHERE owner = ? AND name = ?", owned).fetchone()
        return -1 if row is None else int(row[0])

    def _same(self, name: str, known: str, given: str) -> None:
        with self._lock:
            if self._equivalence.equal(known, given):
                return
        raise FingerprintError(
            f"the collection {name!r} was made with another embedder ({known}, now {given}): take a new collection, or"
            " the server it was made with. If both serve the same model, python -m bench parity --a URL --b URL can"
            " show that they agree; then they may share it",
            param="collection",
        )


def marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def line_of(text: str, x0: float | None, y0: float, x1: float, y1: float) -> Line:
    return Line(text, None if x0 is None else (x0, y0, x1, y1))


def checked_name(name: str) -> str:
    cleaned = " ".join(name.split()) if isinstance(name, str) else ""
    if not cleaned or len(cleaned) > NAME_CHARS or not cleaned.isprintable():
        raise BadValueError(f"a collection's name has 1 to {NAME_CHARS} printable characters", param="collection")
    return cleaned


def as_name(name: object) -> str:
    """Raises BadValueError for what is a key, or no text."""
    if not isinstance(name, str) or KEY.fullmatch(name):
        raise BadValueError(f"a collection's name has 1 to {NAME_CHARS} printable characters", param="name")
    return name
