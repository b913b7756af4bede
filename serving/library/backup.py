"""Backs up a library whose local disk is lost with its process: copies its database to a shared volume.

SQLite cannot run on a cloud's volume, which has no locks and is durable only after a `commit`. So the database is on
the local disk. After a change it is copied; the copy is checked, written to the volume under a temporary name, renamed
and committed; only then is the change acknowledged. A start restores the newest copy. Pictures are written to the
volume at once.

Several processes may have the volume for a moment, when a new release takes over from an old one. Each takes a number
(`Claims`) and writes copies of that number only, so an old process never replaces the copy of a new one; and it
acknowledges nothing once a higher number was taken. Knows nothing of whose volume it is.
"""

from __future__ import annotations

import contextlib
import errno
import re
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Protocol

from serving.library.database import LibraryError
from serving.library.sqlite_database import SCHEMA_VERSION, copy_database
from serving.system.files import copy_file, remove_files

COPY = re.compile(r"library-(\d{8})\.db")
PARTIAL = re.compile(r"library-\d{8}\.db\.[0-9a-f]+\.part")
COPIES_KEPT = 2
"""Copies of so many numbers stay: the current one, and the last of the previous process."""


class Claims(Protocol):
    """Decides which process may write. Calls may raise any exception: then nothing is acknowledged."""

    def take_number(self, above: int) -> int:
        """Return a number above `above` that no other process has, higher than all that were taken."""

    def is_superseded(self, number: int) -> bool:
        """Return whether a higher number was taken."""


class Backup:
    """Copies of a database on a volume. Call `restore_database` once, then `back_up` from any thread."""

    def __init__(self, folder: Path, commit: Callable[[], None], reload: Callable[[], None], claims: Claims) -> None:
        """Do nothing yet. `folder` is on the volume.

        `commit` returns when all that was written there is durable, `reload` makes the commits of others visible.
        """
        self.folder = folder
        self._commit = commit
        self._reload = reload
        self._claims = claims
        self._number = 0
        self._copying = threading.Lock()
        self._begun = 0
        """Copies begun so far."""
        self._failure: LibraryError | None = None
        """Why the last copy failed."""

    def restore_database(self, database: Path) -> None:
        """Put the newest copy at `database`; without one, do nothing.

        Raises LibraryError, and changes nothing, for a copy that is damaged or written by a newer release.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._number = self._claims.take_number(max(list_copies(self.folder), default=0))
            self._reload()  # after the claim: the previous process acknowledges nothing from here on
            remove_files([path for path in self.folder.iterdir() if PARTIAL.fullmatch(path.name)])
            found = list_copies(self.folder)
            if not found:
                return
            newest = found[max(found)]
            part = database.with_name("library.part")
            copy_file(newest, part)
        except Exception as error:
            raise LibraryError(f"the collections cannot be read from the volume: {describe_failure(error)}") from error
        try:
            check_copy(part, newest.name)
        except LibraryError:
            remove_files([part])
            raise
        remove_files([database.with_name(f"{database.name}-{log}") for log in ("wal", "shm")])  # of another database
        part.replace(database)

    def back_up(self, database: Path) -> None:
        """Return when all that is in `database` now is durable. Calls that come meanwhile share the next copy.

        Raises LibraryError: the change may not be durable, so it must not be acknowledged.
        """
        begun = self._begun  # the copy in progress may have begun before the caller's change
        with self._copying:
            if self._begun == begun:
                self._begun += 1
                self._failure = None
                try:
                    self._write_copy(database)
                except LibraryError as error:
                    self._failure = error
                except Exception as error:
                    self._failure = LibraryError(f"it could not be saved on the volume: {describe_failure(error)}")
                    self._failure.__cause__ = error
            if self._failure is not None:
                raise self._failure

    def _write_copy(self, database: Path) -> None:
        self._check_claim()
        copied = database.with_name("library.copy")
        try:
            copy_database(database, copied)
            check_copy(copied, "the copy")
            copy_file(copied, self.folder / f"library-{self._number:08d}.db")
        finally:
            remove_files([copied])
        self._commit()
        self._check_claim()  # a newer process did not see a copy that was committed after its start
        with contextlib.suppress(OSError):
            found = list_copies(self.folder)
            remove_files([found[number] for number in sorted(found)[:-COPIES_KEPT]])

    def _check_claim(self) -> None:
        if self._claims.is_superseded(self._number):
            raise LibraryError("a newer process of this page has taken over: load the page again")


def list_copies(folder: Path) -> dict[int, Path]:
    names = {path: COPY.fullmatch(path.name) for path in folder.iterdir()}
    return {int(found[1]): path for path, found in names.items() if found}


def check_copy(copy: Path, name: str) -> None:
    """Raise LibraryError for a copy that is damaged or of a newer release. `name`: of the copy, for the message."""
    try:
        with closing(sqlite3.connect(copy)) as db:
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            found = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        version, found = 0, str(error)
    if version > SCHEMA_VERSION:
        raise LibraryError(f"{name} was written by a newer release (schema {version}): update Dormouse")
    if version < 1 or found != "ok":
        reason = "it is incomplete" if found == "ok" else found
        raise LibraryError(
            f"{name} on the volume is damaged ({reason}). Nothing was changed: move it away, and the copy before it is"
            " restored, or a new library is created"
        )


def describe_failure(error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "it is full. Delete other files on it, or use another one"
    if number in (errno.ENOENT, errno.ESTALE, errno.ENOTCONN):
        return "it is not there any more. Start the page again"
    return f"{error.strerror if isinstance(error, OSError) and error.strerror else error or type(error).__name__}"
