"""The library's SQLite file: its tables, opening it safely, reading and changing it, and the lock that one process
holds."""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from serving.errors import ServingError
from serving.library.records import CollectionKey
from serving.system.files import lock_file, remove_files

SCHEMA_VERSION = 2
COLLECTIONS = """
CREATE TABLE {name} (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, owner TEXT NOT NULL DEFAULT '', name TEXT NOT NULL,
  created REAL NOT NULL, fingerprint TEXT, model TEXT, dimension INTEGER, UNIQUE (owner, name)
);
"""
SCHEMA = f"""
{COLLECTIONS.format(name="collections")}
CREATE TABLE pages (
  id TEXT PRIMARY KEY, collection INTEGER NOT NULL REFERENCES collections(id) ON DELETE CASCADE,
  file TEXT NOT NULL, sha256 TEXT NOT NULL, page INTEGER NOT NULL, pages INTEGER NOT NULL,
  width INTEGER NOT NULL, height INTEGER NOT NULL, added REAL NOT NULL, read INTEGER NOT NULL,
  UNIQUE (collection, sha256, page)
);
CREATE TABLE lines (
  page TEXT NOT NULL REFERENCES pages(id) ON DELETE CASCADE, number INTEGER NOT NULL, text TEXT NOT NULL,
  x0 REAL, y0 REAL, x1 REAL, y1 REAL, PRIMARY KEY (page, number)
) WITHOUT ROWID;
CREATE TABLE vectors (
  page TEXT PRIMARY KEY REFERENCES pages(id) ON DELETE CASCADE, vector BLOB NOT NULL, lines BLOB
);
"""


TO_2 = """
INSERT INTO collections_2 (id, key, name, created, fingerprint, model, dimension)
  SELECT id, new_key(), name, created, fingerprint, model, dimension FROM collections;
DROP TABLE collections;
ALTER TABLE collections_2 RENAME TO collections;
"""
STEPS = {1: COLLECTIONS.format(name="collections_2") + TO_2}
"""From each older schema to the next one."""


P = ParamSpec("P")
T = TypeVar("T")
BUSY_S = 2.0
"""How long a change waits for another program that holds the database; those behind it wait as well. None of ours holds
it longer than a moment."""


class LibraryError(ServingError):
    """The library cannot be opened, or refuses what would break it."""

    code = "library"


def telling(method: Callable[P, T]) -> Callable[P, T]:
    """Whatever is wrong with the database, as LibraryError."""

    @wraps(method)
    def call(*given: P.args, **named: P.kwargs) -> T:
        try:
            return method(*given, **named)
        except sqlite3.DatabaseError as error:
            raise told(error) from error

    return call


class Cursor(sqlite3.Cursor):
    execute = telling(sqlite3.Cursor.execute)
    executemany = telling(sqlite3.Cursor.executemany)
    fetchone = telling(sqlite3.Cursor.fetchone)
    fetchall = telling(sqlite3.Cursor.fetchall)

    @telling
    def __next__(self) -> Any:
        return super().__next__()


class Connection(sqlite3.Connection):
    """Its errors are LibraryErrors, whoever asks it for what."""

    def execute(self, *given: Any) -> sqlite3.Cursor:
        return Cursor(self).execute(*given)

    def executemany(self, *given: Any) -> sqlite3.Cursor:
        return Cursor(self).executemany(*given)


def told(error: sqlite3.DatabaseError) -> Exception:
    """What to raise for it. A row that may not be, and a statement that is wrong, are for whoever asked."""
    if isinstance(error, (sqlite3.IntegrityError, sqlite3.ProgrammingError)):
        return error
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LibraryError("another program holds the library's database: close it, and try again", code="locked")
    if code == sqlite3.SQLITE_FULL:
        return LibraryError("the disk is full: delete something, and try again", code="disk_full")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return LibraryError(f"the library's database is damaged ({error}): stop the page and restore it from a backup")
    return LibraryError(f"the library's database cannot be used: {error}")


class Database:
    """The library's database while it is open. One connection reads and writes, under one lock."""

    def __init__(self, path: Path, kept: Path) -> None:
        """Opens nothing. `kept`: the folder that gets a copy of a database of an older schema."""
        self.path = path
        self.lock = threading.RLock()
        """Held from before a change until everything in memory agrees with it."""
        self._kept = kept
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Raises LibraryError."""
        self._connection = opened(self.path, self._kept)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    @property
    def connection(self) -> sqlite3.Connection:
        """Raises LibraryError before it was opened."""
        if self._connection is None:
            raise LibraryError("the library is not open")
        return self._connection

    def rows(self, select: str, values: Sequence[object] = ()) -> list[Any]:
        """Return all rows of a query. Raises LibraryError."""
        with self.lock:
            return self.connection.execute(select, values).fetchall()

    def row(self, select: str, values: Sequence[object] = ()) -> Any:
        """Return the first row of a query, None where there is none. Raises LibraryError."""
        with self.lock:
            return self.connection.execute(select, values).fetchone()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Keep all that is done in it, or nothing. Raises LibraryError."""
        with self.lock:
            db = self.connection
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:  # SQLite ends it by itself where the disk is full
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Give a connection of its own, which sees the database as it was when this began, without the lock.

        Raises LibraryError.
        """
        address, connect = f"{self.path.resolve().as_uri()}?mode=ro", telling(sqlite3.connect)
        with closing(connect(address, uri=True, timeout=BUSY_S, factory=Connection)) as db:
            db.execute("BEGIN")
            db.execute("SELECT 1 FROM collections LIMIT 1").fetchone()  # what is seen is decided by the first read
            yield db


def locked(path: Path) -> int:
    """A descriptor that holds the lock until it is closed or its process ends. Raises LibraryError."""
    try:
        return lock_file(path)
    except BlockingIOError:
        raise LibraryError(
            f"another process is using the library in {path.parent}: stop it, or choose another --data folder"
        ) from None
    except OSError as error:
        raise LibraryError(f"cannot write to the folder {path.parent}: {error.strerror}") from None


def new_key() -> CollectionKey:
    """Return 128 bits that nobody can guess, in a form that no name is taken for."""
    return CollectionKey(f"c-{secrets.token_hex(16)}")


def opened(path: Path, kept: Path) -> sqlite3.Connection:
    """One of an older schema is brought up to this one, and a copy of it is left in the folder `kept`.

    Raises LibraryError and leaves the file as it is.
    """
    try:
        # Autocommit: transactions are written out where they begin and end.
        db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=BUSY_S, factory=Connection)
        plain = sqlite3.Cursor(db)  # whose errors are told apart below
        version = int(plain.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            db.close()
            raise LibraryError(f"{path.name} was written by a newer release (schema {version}): update Dormouse")
        plain.execute("PRAGMA journal_mode = WAL")
        plain.execute("PRAGMA synchronous = FULL")
        if version == 0:
            db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        elif version < SCHEMA_VERSION:
            keep_copy(path, kept / f"library-schema-{version}.db")
            migrate(db, version)
        plain.execute("PRAGMA foreign_keys = ON")
        path.chmod(0o600)
    except sqlite3.OperationalError as error:
        raise LibraryError(f"{path} cannot be opened: {error}") from None
    except sqlite3.DatabaseError as error:
        raise LibraryError(f"{path} is damaged ({error}): restore it from a backup, or move it away") from None
    except OSError as error:
        raise LibraryError(
            f"{path.name} is of an older release, and no copy of it could be kept: {error.strerror}"
        ) from None
    return db


def migrate(db: sqlite3.Connection, version: int) -> None:
    """All steps, or none. Foreign keys are not held meanwhile: a table that others name takes another's place."""
    db.create_function("new_key", 0, new_key)
    steps = " ".join(STEPS[number] for number in range(version, SCHEMA_VERSION))
    try:
        db.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {SCHEMA_VERSION};")
        if broken := db.execute("PRAGMA foreign_key_check").fetchone():
            raise sqlite3.DatabaseError(f"a row of {broken[0]} belongs to nothing")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        db.close()
        raise


def keep_copy(database: Path, path: Path) -> None:
    """Whole or not at all. Raises OSError or sqlite3.Error."""
    part = path.with_name(f"{path.name}.part")
    try:
        copy_database(database, part)
        part.chmod(0o600)
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.replace(path)
    finally:
        remove_files([part])


def copy_database(database: Path, copy: Path) -> None:
    """As of one moment, while it is written to; one file, without a log beside it."""
    remove_files([copy])
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")
