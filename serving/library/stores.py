"""Chooses where a library keeps its rows, vectors and pictures: in its folder, or on a server for many machines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from serving.errors import BadValueError
from serving.library.backup import Backup
from serving.library.database import Address, Database, LibraryError
from serving.library.fingerprints import Equivalence, ProvenPairs
from serving.library.pictures import PictureFiles, PictureRows, Pictures, SharedPictureFiles
from serving.library.records import DEFAULT_INDEX, IndexChoice
from serving.library.search import PageIndex
from serving.library.shared_proofs import SharedProofs
from serving.library.sqlite_database import SqliteDatabase
from serving.library.vector_index import VectorIndex
from serving.library.word_index import PostgresWords, SqliteWords, WordIndex
from serving.settings import Settings

FILE = "library.db"
"""The embedded database, in the library's folder."""


@dataclass(frozen=True, eq=False)
class Store:
    """The parts of a library that differ by its database."""

    database: Database
    pictures: Pictures
    vectors: PageIndex
    words: WordIndex
    equivalence: ProvenPairs


def make_store(
    address: Address,
    pictures: Path | None,
    folder: Path,
    backup: Backup | None,
    vector_bytes: int,
    index: IndexChoice = DEFAULT_INDEX,
) -> Store:
    """Return the parts of a library; nothing is opened yet. `address`: of a server, "" for the folder.

    `pictures`: a folder that all machines of a server see, for the pictures; `index`: of its vectors. Raises
    BadValueError or LibraryError.
    """
    if address:
        return make_shared_store(address, pictures, index)
    if pictures is not None:  # of somebody else, these would be swept
        raise BadValueError("DORMOUSE_PICTURES is for a store: without one, the pictures are in the data folder")
    durable = folder if backup is None else backup.folder
    database = SqliteDatabase(folder / FILE, durable, None if backup is None else backup.restore_database)
    pages, vectors = PictureFiles(durable / "pages"), VectorIndex(database, vector_bytes)
    return Store(database, pages, vectors, SqliteWords(database), Equivalence(durable))


def make_shared_store(address: Address, pictures: Path | None, index: IndexChoice) -> Store:
    database = import_postgres().PostgresDatabase(address)
    from serving.library.postgres_search import PostgresIndex

    kept = PictureRows(database) if pictures is None else SharedPictureFiles(database, pictures)
    return Store(database, kept, PostgresIndex(database, index), PostgresWords(database), SharedProofs(database))


def read_index_choice(settings: Settings) -> IndexChoice:
    return IndexChoice(settings.store_index, settings.store_index_pages)


def import_postgres() -> ModuleType:
    """Return `postgres_database`, which only who names a store needs. Raises LibraryError."""
    try:
        from serving.library import postgres_database
    except ImportError:
        raise LibraryError(
            "a store on a server needs the client of PostgreSQL: pip install 'dormouse-search[postgres]'"
        ) from None
    return postgres_database
