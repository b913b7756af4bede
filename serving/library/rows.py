"""Reads and writes the rows of collections and pages, inside a transaction of its caller."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence

import numpy as np

from serving.documents.page import Line
from serving.embedders.base import Vectors
from serving.library.catalogue import CollectionGoneError
from serving.library.database import Connection, make_key
from serving.library.records import CollectionKey, CopiedPage, NewPage, OriginalKind
from serving.library.vectors import HalfVectors

IMPORTING = "!"
"""Owner of a collection while it is imported or removed, then with 0 as its time; what a kill leaves of it goes when a
library is opened."""
FILE_CHARS = 255
INSERT_PAGE = (
    "INSERT INTO pages (id, collection, file, sha256, page, pages, width, height, added, read, original)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
INSERT_VECTORS = "INSERT INTO vectors (page, vector, lines) VALUES (?, ?, ?)"
INSERT_LINES = "INSERT INTO lines (page, number, text, x0, y0, x1, y1) VALUES (?, ?, ?, ?, ?, ?, ?)"
SET_EMBEDDER = "UPDATE collections SET fingerprint = ?, model = ?, dimension = ? WHERE id = ? AND fingerprint IS NULL"
CollectionRow = tuple[int, str, str | None, str | None, int | None]
"""Row number, name, fingerprint, model and dimension."""


def read_collection_row(db: Connection, key: CollectionKey) -> CollectionRow:
    """Return a collection's row. Raises CollectionGoneError, also for ABSENT.

    In a transaction, the collection stays until its end.
    """
    select = "SELECT id, name, fingerprint, model, dimension FROM collections WHERE key = ?"
    row = db.hold(select, [key]).fetchone()
    if row is None:
        raise CollectionGoneError
    found: CollectionRow = row
    return found


def insert_collection(db: Connection, name: str, owner: str) -> CollectionKey:
    """Insert a collection. Raises the database's `conflict` where the owner has one of this name."""
    key = make_key()
    row = [key, owner, name, time.time()]
    db.execute("INSERT INTO collections (key, owner, name, created) VALUES (?, ?, ?, ?)", row)
    return key


def halve(vector: Vectors) -> HalfVectors:
    return vector.astype(np.float16, order="C")


def claim_collection_row(db: Connection, key: CollectionKey) -> CollectionRow:
    """Return what `read_collection_row` does, of one whose name or key is about to change.

    Two that only hold a row wait for each other when both want to change it.
    """
    db.claim("SELECT id FROM collections WHERE key = ?", [key])
    return read_collection_row(db, key)


def hide_collection(db: Connection, number: int) -> CollectionKey:
    """Take a collection and its jobs away from everybody, and return the key that only its removal has."""
    key = make_key()
    hidden = [key, IMPORTING, secrets.token_hex(16), number]
    db.execute("UPDATE collections SET key = ?, owner = ?, name = ?, created = 0 WHERE id = ?", hidden)
    db.execute("DELETE FROM jobs WHERE collection = ?", [number])
    return key


def insert_rows(
    db: Connection, number: int, page_id: str, new: NewPage, added: float, original: OriginalKind = ""
) -> bool:
    """Insert a page, and return whether it was not there: in a collection, each page of a content is once."""
    inserted = db.execute(
        f"{INSERT_PAGE} ON CONFLICT (collection, sha256, page) DO NOTHING",
        make_page_row(number, page_id, new, added, original),
    )
    if not inserted.rowcount:
        return False
    db.execute(INSERT_VECTORS, make_vectors_row(page_id, new))
    db.executemany(INSERT_LINES, make_line_rows(page_id, new.lines))
    return True


def insert_copies(db: Connection, number: int, pages: Sequence[CopiedPage], kinds: Mapping[str, OriginalKind]) -> None:
    """Insert pages that keep their ids; `kinds` of their files that are kept, by sha256.

    Raises the database's `conflict` where one is there already. A server takes them all at a time.
    """
    rows = [
        make_page_row(
            number, page.id, page.new, page.added, "" if page.new.original is None else kinds.get(page.new.sha256, "")
        )
        for page in pages
    ]
    db.executemany(INSERT_PAGE, rows)
    db.executemany(INSERT_VECTORS, [make_vectors_row(page.id, page.new) for page in pages])
    db.executemany(INSERT_LINES, [row for page in pages for row in make_line_rows(page.id, page.new.lines)])


def make_page_row(number: int, page_id: str, new: NewPage, added: float, original: OriginalKind) -> list[object]:
    row = [page_id, number, new.file[:FILE_CHARS], new.sha256, new.page, new.pages, new.width, new.height]
    return [*row, added, new.lines is not None, original]


def make_vectors_row(page_id: str, new: NewPage) -> list[object]:
    line_vectors = None if new.line_vectors is None else halve(new.line_vectors).tobytes()
    return [page_id, halve(new.vector), line_vectors]


def make_line_rows(page_id: str, lines: Sequence[Line] | None) -> list[tuple[object, ...]]:
    return [(page_id, n, line.text, *(line.box or (None,) * 4)) for n, line in enumerate(lines or ())]
