"""Stores the pictures of a library's pages.

In a folder they are two files each, written before their page's row and removed after it. In a database that several
machines share they are a row, which comes and goes with that of the page.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Protocol

from serving.library.catalogue import sql_placeholders
from serving.library.data_folder import make_folder
from serving.library.database import Connection, Database, LibraryError
from serving.library.records import NewPage
from serving.system.files import remove_files, sync_folder, write_file

SAMPLED = 500
SHARED_SPARED_S = 24 * 3600.0
"""How long files in a folder of several machines stay without a row."""
OTHER_STORE = "the folder of DORMOUSE_PICTURES has the pictures of another store: name another one"
IN_FOLDER = "this store has its pictures in a folder: name it by DORMOUSE_PICTURES, as elsewhere"
IN_DATABASE = "this store has its pictures in the database: start without DORMOUSE_PICTURES"
NAME = re.compile(r"[0-9a-f]{16}\.(jpg|webp)(\.[0-9a-f]+\.part)?")


class Pictures(Protocol):
    """A JPEG and a thumbnail in WebP for each page."""

    has_files: bool
    """Whether they are files, so that a kill may leave some that no page has."""

    def open(self) -> None:
        """Make the place for them. Raises LibraryError."""

    def open_to_read(self) -> None:
        """Check that this is their place, and change nothing. Raises LibraryError."""

    def write_page(self, page_id: str, picture: bytes, thumbnail: bytes) -> None:
        """Write both before the page's row, where they are files. Raises OSError."""

    def insert_page(self, db: Connection, page_id: str, new: NewPage) -> None:
        """Insert both in the page's transaction, where they are rows."""

    def read_picture(self, page_id: str) -> bytes | None:
        """Return a page's JPEG, None where it is not there (any more)."""

    def read_thumbnail(self, page_id: str) -> bytes | None:
        """Return a page's thumbnail, None where it is not there (any more)."""

    def has_picture(self, page_id: str) -> bool: ...

    def read_pages(self, ids: Sequence[str]) -> dict[str, tuple[bytes, bytes]]:
        """Return JPEG and thumbnail of those of these pages that have both."""

    def remove_pages(self, ids: Iterable[str]) -> None:
        """Remove those of pages whose rows are gone."""

    def remove_unknown(self, known: Collection[str]) -> None:
        """Remove those of other pages."""

    def estimate_bytes(self, ids: Sequence[str]) -> int:
        """Return how many bytes those of these pages take; of many pages only a sample is measured."""


class PictureFiles:
    """A folder of pictures."""

    has_files = True

    def __init__(self, folder: Path, spared_s: float = 0.0) -> None:
        """`spared_s`: younger files may be of a page that another machine is about to add."""
        self.folder = folder
        self._spared_s = spared_s

    def open(self) -> None:
        make_folder(self.folder)

    def open_to_read(self) -> None:
        """Do nothing: the folder is that of the library."""

    def insert_page(self, db: Connection, page_id: str, new: NewPage) -> None:
        """Do nothing: the files are there already."""

    def read_picture(self, page_id: str) -> bytes | None:
        return read_file(self.locate_picture(page_id))

    def read_thumbnail(self, page_id: str) -> bytes | None:
        return read_file(self.locate_thumbnail(page_id))

    def has_picture(self, page_id: str) -> bool:
        return self.locate_picture(page_id).is_file()

    def read_pages(self, ids: Sequence[str]) -> dict[str, tuple[bytes, bytes]]:
        read = {page_id: (self.read_picture(page_id), self.read_thumbnail(page_id)) for page_id in ids}
        return {
            page_id: (one, other) for page_id, (one, other) in read.items() if one is not None and other is not None
        }

    def locate_picture(self, page_id: str) -> Path:
        return self.folder / f"{page_id}.jpg"

    def locate_thumbnail(self, page_id: str) -> Path:
        return self.folder / f"{page_id}.webp"

    def locate_files(self, ids: Iterable[str]) -> list[Path]:
        return [path for page_id in ids for path in (self.locate_picture(page_id), self.locate_thumbnail(page_id))]

    def write_page(self, page_id: str, picture: bytes, thumbnail: bytes) -> None:
        """Write both, so that they survive a power cut, or none. Raises OSError."""
        try:
            write_file(self.locate_picture(page_id), picture)
            write_file(self.locate_thumbnail(page_id), thumbnail)
            sync_folder(self.folder)
        except OSError:
            self.remove_pages([page_id])
            raise

    def remove_pages(self, ids: Iterable[str]) -> None:
        remove_files(self.locate_files(ids))

    def estimate_bytes(self, ids: Sequence[str]) -> int:
        return estimate_total(ids, lambda some: count_file_bytes(self.locate_files(some)))

    def remove_unknown(self, known: Collection[str]) -> None:
        """Remove pictures of other than the `known` pages. Files of other names stay: they may be the user's own."""
        with os.scandir(self.folder) as entries:  # stat of each file would be a call each, over a network
            ours = [entry.name for entry in entries if NAME.fullmatch(entry.name) and entry.is_file()]
        unknown = [self.folder / name for name in ours if name.partition(".")[0] not in known]
        if self._spared_s:
            unknown = [
                path for path in unknown if path.exists() and time.time() - path.stat().st_mtime > self._spared_s
            ]
        remove_files(unknown)


class SharedPictureFiles(PictureFiles):
    """A folder of the pictures of a store, which all its machines see."""

    def __init__(self, database: Database, folder: Path) -> None:
        super().__init__(folder, SHARED_SPARED_S)
        self._database = database

    def open(self) -> None:
        """Make the folder the store's, for good. Raises LibraryError where either has another one already."""
        super().open()
        store, place, owner = self._read_owners()
        try:
            if owner not in ("", store):
                raise LibraryError(OTHER_STORE)
            if place != "folder":
                self._claim()
            if not owner:
                write_file(self._marker, store.encode())
        except OSError as error:
            raise LibraryError(f"cannot write to the folder of DORMOUSE_PICTURES: {error.strerror}") from None

    def open_to_read(self) -> None:
        store, place, owner = self._read_owners()
        if place != "folder":
            raise LibraryError(IN_DATABASE)
        if owner != store:
            raise LibraryError(OTHER_STORE)

    @property
    def _marker(self) -> Path:
        return self.folder / "store"

    def _read_owners(self) -> tuple[str, str, str]:
        """Return the store, the place of its pictures, and the store whose folder this is. Raises LibraryError."""
        store, place = self._database.fetch_one("SELECT id, pictures FROM library_schema")
        try:
            return str(store), str(place), self._marker.read_text() if self._marker.exists() else ""
        except OSError as error:
            raise LibraryError(f"cannot read the folder of DORMOUSE_PICTURES: {error.strerror}") from None

    def _claim(self) -> None:
        with self._database.transaction() as db:
            db.claim("SELECT id FROM library_schema", [])
            if db.execute("SELECT 1 FROM pages LIMIT 1").fetchone() is not None:
                raise LibraryError(IN_DATABASE)
            db.execute("UPDATE library_schema SET pictures = 'folder'")


class PictureRows:
    """Pictures in the database."""

    has_files = False

    def __init__(self, database: Database) -> None:
        self._database = database

    def open(self) -> None:
        self.open_to_read()

    def open_to_read(self) -> None:
        if self._database.fetch_one("SELECT pictures FROM library_schema")[0] != "rows":
            raise LibraryError(IN_FOLDER)

    def write_page(self, page_id: str, picture: bytes, thumbnail: bytes) -> None:
        """Do nothing: they come with the page's row."""

    def insert_page(self, db: Connection, page_id: str, new: NewPage) -> None:
        """Raise LibraryError where another machine has given the store a folder for them meanwhile."""
        if db.hold("SELECT pictures FROM library_schema", []).fetchone() != ("rows",):
            raise LibraryError(IN_FOLDER)
        row = [page_id, new.picture, new.thumbnail]
        db.execute("INSERT INTO pictures (page, picture, thumbnail) VALUES (?, ?, ?)", row)

    def read_picture(self, page_id: str) -> bytes | None:
        row = self._database.fetch_one("SELECT picture FROM pictures WHERE page = ?", [page_id])
        return None if row is None else bytes(row[0])

    def read_thumbnail(self, page_id: str) -> bytes | None:
        row = self._database.fetch_one("SELECT thumbnail FROM pictures WHERE page = ?", [page_id])
        return None if row is None else bytes(row[0])

    def read_pages(self, ids: Sequence[str]) -> dict[str, tuple[bytes, bytes]]:
        select = "SELECT page, picture, thumbnail FROM pictures"
        rows = self._database.fetch_all(f"{select} WHERE page IN ({sql_placeholders(ids)})", ids)
        return {page_id: (bytes(one), bytes(other)) for page_id, one, other in rows}

    def has_picture(self, page_id: str) -> bool:
        return self._database.fetch_one("SELECT 1 FROM pictures WHERE page = ?", [page_id]) is not None

    def remove_pages(self, ids: Iterable[str]) -> None:
        """Do nothing: they went with the pages' rows."""

    def remove_unknown(self, known: Collection[str]) -> None:
        """Do nothing: there are none."""

    def estimate_bytes(self, ids: Sequence[str]) -> int:
        return estimate_total(ids, self._count_bytes)

    def _count_bytes(self, ids: Sequence[str]) -> int:
        select = "SELECT sum(octet_length(picture) + octet_length(thumbnail)) FROM pictures"
        return int(self._database.fetch_one(f"{select} WHERE page IN ({sql_placeholders(ids)})", ids)[0] or 0)


def read_file(path: Path) -> bytes | None:
    """Return a file's content, None where there is no such file. Raises OSError."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def count_file_bytes(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.exists())


def estimate_total(keys: Sequence[str], count: Callable[[Sequence[str]], int]) -> int:
    """Return what `count` gives for all keys together; of many only a sample is counted."""
    sample = keys[:: max(1, len(keys) // SAMPLED)]
    return round(count(sample) / len(sample) * len(keys)) if sample else 0
