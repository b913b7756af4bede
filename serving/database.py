"""The library's SQLite file: its tables, opening it safely, and the lock that one process holds."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from serving.disk import exclusive
from serving.errors import ServingError

SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE collections (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created REAL NOT NULL,
  fingerprint TEXT, model TEXT, dimension INTEGER
);
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


class LibraryError(ServingError):
    """The library cannot be opened, or refuses what would break it."""

    code = "library"


def locked(path: Path) -> int:
    """A descriptor that holds the lock until it is closed or its process ends. Raises LibraryError."""
    try:
        return exclusive(path)
    except BlockingIOError:
        raise LibraryError(
            f"another process is using the library in {path.parent}: stop it, or choose another --data folder"
        ) from None
    except OSError as error:
        raise LibraryError(f"cannot write to the folder {path.parent}: {error.strerror}") from None


def opened(path: Path) -> sqlite3.Connection:
    """Raises LibraryError and leaves the file as it is."""
    try:
        # Autocommit: transactions are written out where they begin and end.
        db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10.0)
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:
            db.close()
            raise LibraryError(f"{path.name} was written by a newer release (schema {version}): update Dormouse")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        if version == 0:
            db.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        path.chmod(0o600)
    except sqlite3.OperationalError as error:
        raise LibraryError(f"{path} cannot be opened: {error}") from None
    except sqlite3.DatabaseError as error:
        raise LibraryError(f"{path} is damaged ({error}): restore it from a backup, or move it away") from None
    return db
