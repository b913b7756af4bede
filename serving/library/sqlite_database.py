"""The embedded database: an SQLite file, its tables and their migrations, and the connection that one process has."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from serving.library.database import Connection, LibraryError, make_key
from serving.system.files import remove_files

SCHEMA_VERSION = 5
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
ORIGINALS = """
ALTER TABLE pages ADD COLUMN original TEXT NOT NULL DEFAULT '';
CREATE INDEX originals_of ON pages (sha256) WHERE original != '';
"""
"""What the file of a page is, where it is kept. A page that came without its file, as with an import, must not lead to
the file that somebody else has added: the sha256 alone is no permission."""
WORD_PAGES = """
CREATE TABLE word_pages (
  number INTEGER PRIMARY KEY AUTOINCREMENT, page TEXT NOT NULL UNIQUE REFERENCES pages(id) ON DELETE CASCADE,
  collection INTEGER NOT NULL, size REAL NOT NULL
);
CREATE TRIGGER words_move AFTER UPDATE OF collection ON pages
  BEGIN UPDATE word_pages SET collection = NEW.collection WHERE page = NEW.id; END;
"""
"""Pages whose words are indexed: `size` is how many different ones a page has. Words of a page that is gone stay until
the index is made again: no other page gets its number."""
WORD_TABLES = (
    "CREATE VIRTUAL TABLE words USING fts5"
    " (parts, content='', detail=none, columnsize=0, tokenize=\"ascii tokenchars '_'\")",
    "CREATE VIRTUAL TABLE word_counts USING fts5vocab (words, 'row')",
)
SHADOWS = ("data", "idx", "config", "docsize", "content")
"""The tables in which FTS5 keeps an index."""
WORDS = f"{WORD_PAGES} {'; '.join(WORD_TABLES)};"
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
{ORIGINALS}
{WORDS}
"""
MIGRATE_TO_2 = """
INSERT INTO collections_2 (id, key, name, created, fingerprint, model, dimension)
  SELECT id, new_key(), name, created, fingerprint, model, dimension FROM collections;
DROP TABLE collections;
ALTER TABLE collections_2 RENAME TO collections;
"""
MIGRATIONS = {1: COLLECTIONS.format(name="collections_2") + MIGRATE_TO_2, 2: JOBS, 3: ORIGINALS, 4: WORDS}
"""SQL that brings a database of each older schema to the next one."""
BUSY_S = 2.0
"""How long a change waits for another program that holds the database; changes behind it wait as well. None of our
processes holds it longer than a moment."""


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


class SqliteConnection(sqlite3.Connection):
    """A connection whose transactions have the whole file to themselves."""

    def hold(self, select: str, values: Sequence[object]) -> sqlite3.Cursor:
        return self.execute(select, values)

    def claim(self, select: str, values: Sequence[object]) -> sqlite3.Cursor:
        return self.execute(select, values)


class SqliteDatabase:
    """A library's file. One connection reads and writes, under one lock; one process has the file."""

    conflict = sqlite3.IntegrityError
    is_shared = False

    def __init__(self, path: Path, copies: Path, restore: Callable[[Path], None] | None = None) -> None:
        """Open nothing yet.

        `copies`: the folder that gets a copy of a database of an older schema. `restore` brings the file to its path
        before it is opened, where it does not outlive a process.
        """
        self.path = path
        self.lock = threading.RLock()
        self._copies = copies
        self._restore = restore
        self._connection: SqliteConnection | None = None

    def open(self) -> None:
        """Restore the file, open it, and migrate it where it is older. Raises LibraryError."""
        if self._restore is not None:
            self._restore(self.path)
        self._connection = open_database(self.path, self._copies)

    def open_to_read(self) -> None:
        """Open the file and change nothing. Raises LibraryError."""
        self._connection = open_unchanged(self.path)

    def close(self) -> None:
        """Close the file; of one that is not open, do nothing."""
        with self.lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def is_writable(self) -> bool:
        return True

    def follow(self, tell: Callable[[str], None]) -> None:
        """Do nothing: no other process changes it."""

    @property
    def connection(self) -> SqliteConnection:
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
    def transaction(self) -> Iterator[SqliteConnection]:
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
    def snapshot(self) -> Iterator[SqliteConnection]:
        """Yield another connection, without locks, on the database as it was at the start. Raises LibraryError."""
        with raise_library_errors(), closing(connect_to_read(self.path)) as db:
            db.execute("BEGIN")
            db.execute("SELECT 1 FROM collections LIMIT 1").fetchone()  # the first read fixes what it sees
            yield db


def connect(address: Path | str, *, uri: bool = False, shared: bool = False) -> SqliteConnection:
    """Return a connection in autocommit: transactions are written out where they begin and end.

    `shared`: threads take turns at it.
    """
    db: SqliteConnection = sqlite3.connect(
        address,
        uri=uri,
        check_same_thread=not shared,
        isolation_level=None,
        timeout=BUSY_S,
        factory=SqliteConnection,
    )
    if sqlite3.sqlite_version_info < (3, 43):
        db.create_function("octet_length", 1, count_bytes, deterministic=True)
    return db


def connect_to_read(path: Path, *, shared: bool = False) -> SqliteConnection:
    return connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, shared=shared)


def count_bytes(text: str) -> int:
    """Return what the function octet_length of newer releases does."""
    return len(text.encode())


def open_unchanged(path: Path) -> SqliteConnection:
    """Open a database of this release's schema for reading. Raises LibraryError."""
    with raise_library_errors():
        db = connect_to_read(path, shared=True)
        try:
            version = read_version(db, path)
            if version < SCHEMA_VERSION:
                raise LibraryError(
                    f"{path.name} is of an older release (schema {version}): `dormouse list` with this folder as --data"
                    " brings it up to date, then try again"
                )
        except BaseException:
            db.close()
            raise
        return db


def read_version(db: SqliteConnection, path: Path) -> int:
    """Return the version of the tables, 0 where there are none. Raises LibraryError for a newer one."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        db.close()
        raise LibraryError(f"{path.name} was written by a newer release (schema {version}): update Dormouse")
    return version


def open_database(path: Path, copies: Path) -> SqliteConnection:
    """Open or create a database; migrate one of an older schema, and leave a copy of it in the folder `copies`.

    Raises LibraryError, and leaves the file as it is.
    """
    try:
        db = connect(path, shared=True)
        version = read_version(db, path)
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


def make_words(db: Connection) -> None:
    """Make the index of words anew, and empty, in the caller's transaction.

    SQLite cannot drop one whose own tables are damaged, so its name is taken out of the schema first.
    """
    db.execute("PRAGMA writable_schema = ON")
    db.execute("DELETE FROM sqlite_master WHERE name IN ('words', 'word_counts')")
    db.execute("PRAGMA writable_schema = RESET")
    for shadow in SHADOWS:
        db.execute(f"DROP TABLE IF EXISTS words_{shadow}")
    for create in WORD_TABLES:
        db.execute(create)
    db.execute("DELETE FROM word_pages")
    db.execute("DELETE FROM sqlite_sequence WHERE name = 'word_pages'")


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
