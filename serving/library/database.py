"""What a library asks of its database. There are two: `sqlite_database`, a file, and `postgres_database`, a server.

Statements are written once, for both: with `?` for values, `ON CONFLICT` and no function that only one has. Rows have
the order in which they came by `rowid`, which SQLite gives to each and the server's tables have as a column.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar

from serving.errors import ServingError
from serving.library.records import CollectionKey

P = ParamSpec("P")
T = TypeVar("T")
TRIES = 5
"""Two transactions that wait for each other meet again only by chance."""
PAUSE_S = 0.05
Address = str | Callable[[], str]
"""Of a server, or who is asked for it with each opening: a process that is saved before does not keep it."""
IN_USE = "library_in_use"
"""Code of the error that another process has the library open."""


class LibraryError(ServingError):
    """The library cannot be opened, or refuses what would break it."""

    code = "library"


class StoreUnavailableError(LibraryError, status=503, type="service_unavailable", code="store_unavailable"):
    """The database's server cannot be reached now, or all connections to it are in use."""


class RolledBackError(LibraryError, code="locked"):
    """The server undid a transaction so that another one could go on: it can be done again."""


def redo_rolled_back(change: Callable[P, T]) -> Callable[P, T]:
    """Return a change, which is one transaction, that is done again a few times where the server undid it.

    It raises LibraryError in the end.
    """

    @wraps(change)
    def redo(*given: P.args, **named: P.kwargs) -> T:
        for number in range(1, TRIES):
            with suppress(RolledBackError):
                return change(*given, **named)
            time.sleep(random.uniform(0, PAUSE_S * number))
        try:
            return change(*given, **named)
        except RolledBackError as error:
            raise LibraryError(error.message, code=error.code) from error

    return redo


class Cursor(Protocol):
    """The rows of a statement."""

    @property
    def rowcount(self) -> int:
        """Rows that were changed."""

    def fetchone(self) -> Any: ...
    def fetchall(self) -> list[Any]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """Runs statements, all in one transaction or snapshot."""

    def execute(self, statement: str, values: Sequence[object] = (), /) -> Cursor: ...
    def executemany(self, statement: str, rows: Iterable[Sequence[object]], /) -> object: ...

    def hold(self, select: str, values: Sequence[object]) -> Cursor:
        """Select rows that nobody deletes, and whose keys nobody changes, before the transaction ends."""

    def claim(self, select: str, values: Sequence[object]) -> Cursor:
        """Select rows that nobody changes, deletes or holds before the transaction ends; wait for who does now."""


class Database(Protocol):
    """A library's database. Threads may share it."""

    @property
    def lock(self) -> AbstractContextManager[object]:
        """Held from before a change until all state in memory agrees with it; free where there is no such state."""

    @property
    def conflict(self) -> type[Exception]:
        """Raised by a statement that would make a second row of what must be unique."""

    @property
    def is_shared(self) -> bool:
        """Whether other machines change it at the same time."""

    def open(self) -> None:
        """Open it, and migrate it where it is older. Raises LibraryError, and leaves it as it is."""

    def open_to_read(self) -> None:
        """Open it and change nothing. Raises LibraryError, also where its tables are not those of this release."""

    def close(self) -> None:
        """Close it. `open` opens it again."""

    def is_writable(self) -> bool:
        """Return whether this user may change it."""

    def fetch_all(self, select: str, values: Sequence[object] = ()) -> list[Any]:
        """Return all rows of a query, as the thread's transaction sees them, if it has one. Raises LibraryError."""

    def fetch_one(self, select: str, values: Sequence[object] = ()) -> Any:
        """Return the first row of a query, None where there is none. Raises LibraryError."""

    def follow(self, tell: Callable[[str], None]) -> None:
        """From now on, `tell` the key of each collection that a process has changed; "" where it may be any.

        A new collection is told as "" too. Where no other process makes changes, nothing is told.
        """

    def transaction(self) -> AbstractContextManager[Connection]:
        """Commit all that is done inside, or nothing. Raises ReadOnlyError or LibraryError."""

    def snapshot(self) -> AbstractContextManager[Connection]:
        """Yield a connection on the database as it was at the start, for reading only. Raises LibraryError."""


def make_key() -> CollectionKey:
    """Return 128 random bits in a form that no name may have."""
    return CollectionKey(f"c-{secrets.token_hex(16)}")
