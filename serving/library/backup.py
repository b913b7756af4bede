"""A library on a disk that goes with its process, kept on a shared volume: pictures at once, the database as copies.

A volume of a cloud is no place for a running SQLite: it has no locks, and is durable only when told (`commit`). So the
database works on the local disk. After a change a copy of it is made, checked, written to the volume under a temporary
name, renamed and committed; only then is the change acknowledged. At a start the newest copy is brought back.

Several processes may have the volume for a moment, when a new release takes over from an old one. Each takes a number
(`Claims`) and writes copies of that number only, so an old one never replaces what a new one has kept; and it
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

from serving.library.database import SCHEMA_VERSION, LibraryError, copy_database
from serving.system.files import copy_file, remove_files

COPY = re.compile(r"library-(\d{8})\.db")
HALF = re.compile(r"library-\d{8}\.db\.[0-9a-f]+\.part")
KEPT = 2
"""Copies of so many numbers stay: the one in use, and the last of the process before."""


class Claims(Protocol):
    """Who may write. Calls may raise what they like: whatever it is, nothing is acknowledged."""

    def take(self, above: int) -> int:
        """A number above `above` that nobody else has, higher than all that were taken."""

    def superseded(self, number: int) -> bool:
        """A higher one was taken."""


class Alone:
    """For a volume that only this process can have."""

    def take(self, above: int) -> int:
        return above + 1

    def superseded(self, number: int) -> bool:
        return False


class Backup:
    """`bring_back` once, then `keep` from any thread."""

    def __init__(
        self,
        folder: Path,
        commit: Callable[[], None],
        reload: Callable[[], None] = lambda: None,
        claims: Claims | None = None,
    ) -> None:
        """`folder` is on the volume; `commit` returns when all that was written there is durable, `reload` shows what
        others have committed."""
        self.folder = folder
        self._commit = commit
        self._reload = reload
        self._claims = claims or Alone()
        self._number = 0
        self._turn = threading.Condition()
        self._begun = 0
        self._ended = 0
        self._failure: LibraryError | None = None

    def bring_back(self, database: Path) -> None:
        """Puts the newest copy at `database`; without one, nothing. Raises LibraryError, and leaves all as it is, for a
        copy that is damaged or written by a newer release."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._number = self._claims.take(max(copies(self.folder), default=0))
            self._reload()  # after the claim: whoever had the volume before acknowledges nothing from here on
            remove_files([path for path in self.folder.iterdir() if HALF.fullmatch(path.name)])
            found = copies(self.folder)
            if not found:
                return
            newest = found[max(found)]
            part = database.with_name("library.part")
            copy_file(newest, part)
        except Exception as error:
            raise LibraryError(f"the collections cannot be read from the volume: {sentence(error)}") from error
        try:
            check(part, newest.name)
        except LibraryError:
            remove_files([part])
            raise
        remove_files([database.with_name(f"{database.name}-{log}") for log in ("wal", "shm")])  # of another database
        part.replace(database)

    def keep(self, database: Path) -> None:
        """Returns when all that is in `database` now is durable. Who calls meanwhile shares the next copy.

        Raises LibraryError: it is not known to be kept, so it must not be acknowledged.
        """
        with self._turn:
            mine = self._begun + 1  # the one that runs now may have begun before the caller's change
            while self._ended < mine:
                if self._ended < self._begun:
                    self._turn.wait()
                else:
                    self._round(database)
            if self._failure is not None:
                raise self._failure

    def _round(self, database: Path) -> None:
        """With the lock held, which it gives away while it works."""
        self._begun += 1
        failure: LibraryError | None = None
        self._turn.release()
        try:
            self._write(database)
        except LibraryError as error:
            failure = error
        except Exception as error:
            failure = LibraryError(f"it could not be kept on the volume: {sentence(error)}")
            failure.__cause__ = error
        finally:
            self._turn.acquire()
            self._ended += 1
            self._failure = failure
            self._turn.notify_all()

    def _write(self, database: Path) -> None:
        self._check_claim()
        copied = database.with_name("library.copy")
        try:
            copy_database(database, copied)
            check(copied, "the copy")
            copy_file(copied, self.folder / f"library-{self._number:08d}.db")
        finally:
            remove_files([copied])
        self._commit()
        self._check_claim()  # a copy that was committed after the other's start was not seen by it
        with contextlib.suppress(OSError):
            found = copies(self.folder)
            remove_files([found[number] for number in sorted(found)[:-KEPT]])

    def _check_claim(self) -> None:
        if self._claims.superseded(self._number):
            raise LibraryError("a newer process of this page has taken over: load the page again")


def copies(folder: Path) -> dict[int, Path]:
    """By their number."""
    names = {path: COPY.fullmatch(path.name) for path in folder.iterdir()}
    return {int(found[1]): path for path, found in names.items() if found}


def check(copy: Path, name: str) -> None:
    """Raises LibraryError."""
    try:
        with closing(sqlite3.connect(copy)) as db:
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            found = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        version, found = 0, str(error)
    if version > SCHEMA_VERSION:
        raise LibraryError(f"{name} was written by a newer release (schema {version}): update Dormouse")
    if version < 1 or found != "ok":
        reason = "it is not whole" if found == "ok" else found
        raise LibraryError(
            f"{name} on the volume is damaged ({reason}). Nothing was changed: move it away, and the copy before it is"
            " taken, or a new library begins"
        )


def sentence(error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "it is full. Delete what else is on it, or take another"
    if number in (errno.ENOENT, errno.ESTALE, errno.ENOTCONN):
        return "it is not there any more. Start the page again"
    return f"{error.strerror if isinstance(error, OSError) and error.strerror else error or type(error).__name__}"
