"""The library's SQLite file: its tables, opening, reading and changing it, and the lock that one process holds."""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from serving.errors import ServingError
from serving.library.records import CollectionKey
from serving.system.files import lock_file, remove_files

SCHEMA_VERSION = 3
COLLECTIONS = """
CREATE TABLE {name} (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, owner TEXT NOT NULL DEFAULT '', name TEXT NOT NULL,
  created REAL NOT NULL, fingerprint TEXT, model TEXT, dimension INTEGER, UNIQUE (owner, name)
);
"""
JOBS = """
CREATE TABLE jobs (
  id TEXT PRIMARY KEY, collection INTEGER NOT NULL REFERENCES collections(id) ON DELETE CASCADE,
  target TEXT NOT NULL, state TEXT NOT NULL, error TEXT NOT NULL, total INTEGER NOT NULL,
  asked REAL NOT NULL, ended REAL NOT NULL, keep_until REAL NOT NULL
);
CREATE INDEX jobs_of ON jobs (collection);
CREATE TABLE job_files (
  job TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, number INTEGER NOT NULL, path TEXT NOT NULL,
  name TEXT NOT NULL, PRIMARY KEY (job, number)
) WITHOUT ROWID;
CREATE TABLE job_pages (
  job TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, sha256 TEXT NOT NULL, page INTEGER NOT NULL,
  id TEXT NOT NULL, unread INTEGER NOT NULL, seconds REAL NOT NULL, PRIMARY KEY (job, sha256, page)
) WITHOUT ROWID;
CREATE TABLE job_skips (
  job TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE, upload INTEGER NOT NULL, file TEXT NOT NULL,
  page INTEGER NOT NULL, reason TEXT NOT NULL, known INTEGER NOT NULL, again INTEGER NOT NULL
);
CREATE INDEX job_skips_of ON job_skips (job);
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
{JOBS}
"""
MIGRATE_TO_2 = """
INSERT INTO collections_2 (id, key, name, created, fingerprint, model, dimension)
  SELECT id, new_key(), name, created, fingerprint, model, dimension FROM collections;
DROP TABLE collections;
ALTER TABLE collections_2 RENAME TO collections;
"""
MIGRATIONS = {1: COLLECTIONS.format(name="collections_2") + MIGRATE_TO_2, 2: JOBS}
"""SQL that brings a database of each older schema to the next one."""
BUSY_S = 2.0
"""How long a change waits for another program that holds the database; changes behind it wait as well. None of our
processes holds it longer than a moment."""
IN_USE = "library_in_use"
"""Code of the error that another process has the library open."""


class LibraryError(ServingError):
    """The library cannot be opened, or refuses what would break it."""

    code = "library"


@contextmanager
def raise_library_errors() -> Iterator[None]:
    """Raise LibraryError for the database's errors, but not where the caller's row or statement is at fault."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise
    except sqlite3.DatabaseError as error:
        number = getattr(error, "sqlite_errorcode", 0) & 0xFF
        code, message = LibraryError.code, f"the library's database cannot be used: {error}"
        if number in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            code, message = "locked", "another program holds the library's database: close it, and try again"
        elif number == sqlite3.SQLITE_FULL:
            code, message = "disk_full", "the disk is full: delete something, and try again"
        elif number in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            message = f"the library's database is damaged ({error}): stop the page and restore it from a backup"
        raise LibraryError(message, code=code) from error


class Database:
    """The library's database. One connection reads and writes, under one lock."""

    def __init__(self, path: Path, copies: Path) -> None:
        """Open nothing yet. `copies`: the folder that gets a copy of a database of an older schema."""
        self.path = path
        self.lock = threading.RLock()
        """Held from before a change until all state in memory agrees with it."""
        self._copies = copies
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open the file, and migrate it where it is older. Raises LibraryError."""
        self._connection = open_database(self.path, self._copies)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    @property
    def connection(self) -> sqlite3.Connection:
        """Return the open connection. Raises LibraryError before `open`."""
        if self._connection is None:
            raise LibraryError("the library is not open")
        return self._connection

    def fetch_all(self, select: str, values: Sequence[object] = ()) -> list[Any]:
        """Return all rows of a query. Raises LibraryError."""
        with self.lock, raise_library_errors():
            return self.connection.execute(select, values).fetchall()

    def fetch_one(self, select: str, values: Sequence[object] = ()) -> Any:
        """Return the first row of a query, None where there is none. Raises LibraryError."""
        with self.lock, raise_library_errors():
            return self.connection.execute(select, values).fetchone()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit all that is done inside, or nothing. Raises LibraryError."""
        with self.lock, raise_library_errors():
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
        """Yield another connection, without locks, on the database as it was at the start. Raises LibraryError."""
        address = f"{self.path.resolve().as_uri()}?mode=ro"
        with raise_library_errors(), closing(sqlite3.connect(address, uri=True, timeout=BUSY_S)) as db:
            db.execute("BEGIN")
            db.execute("SELECT 1 FROM collections LIMIT 1").fetchone()  # the first read fixes what it sees
            yield db


def lock_library(path: Path) -> int:
    """Return a descriptor that holds the lock until it is closed or the process ends. Raises LibraryError."""
    try:
        return lock_file(path)
    except BlockingIOError:
        raise LibraryError(
            f"another process is using the library in {path.parent}: stop it, or choose another --data folder",
            code=IN_USE,
        ) from None
    except OSError as error:
        raise LibraryError(f"cannot write to the folder {path.parent}: {error.strerror}") from None


def make_key() -> CollectionKey:
    """Return 128 random bits in a form that no name may have."""
    return CollectionKey(f"c-{secrets.token_hex(16)}")


def open_database(path: Path, copies: Path) -> sqlite3.Connection:
    """Open or create a database; migrate one of an older schema, and leave a copy of it in the folder `copies`.

    Raises LibraryError, and leaves the file as it is.
    """
    try:
        # Autocommit: transactions are written out where they begin and end.
        db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=BUSY_S)
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            db.close()
            raise LibraryError(f"{path.name} was written by a newer release (schema {version}): update Dormouse")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        if version == 0:
            db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        elif version < SCHEMA_VERSION:
            write_copy(path, copies / f"library-schema-{version}.db")
            migrate(db, version)
        db.execute("PRAGMA foreign_keys = ON")
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
    """Take all steps to the current schema, or none. Foreign keys are off: a table that others refer to is replaced."""
    db.create_function("new_key", 0, make_key)
    steps = " ".join(MIGRATIONS[number] for number in range(version, SCHEMA_VERSION))
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


def write_copy(database: Path, path: Path) -> None:
    """Write a copy of a database to `path`, whole or not at all. Raises OSError or sqlite3.Error."""
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
    """Copy a database as of one moment, even while it is written to. The copy is one file without a log beside it."""
    remove_files([copy])
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")
