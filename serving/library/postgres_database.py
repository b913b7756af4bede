"""The database that many machines share: PostgreSQL with pgvector, through a pool of connections.

The server is the only truth: nothing about collections or pages is remembered here. A transaction belongs to the thread
that began it, whose reads see it. Addresses have passwords in them, so none of their text is in an error or a log.
"""

from __future__ import annotations

import ipaddress
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import lru_cache
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import errors, pq
from psycopg.adapt import Dumper, Loader
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types import TypeInfo
from psycopg.types.string import StrDumperUnknown
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from serving.errors import BadValueError, ReadOnlyError
from serving.library.database import Address, LibraryError, RolledBackError, StoreUnavailableError
from serving.library.postgres_follower import PostgresFollower
from serving.library.postgres_schema import MIGRATION_LOCK, MIGRATIONS, SCHEMA_VERSION

OLDEST_SERVER = 15
OLDEST_PGVECTOR = (0, 7)
"""The first with `halfvec`."""
ITERATIVE_PGVECTOR = (0, 8)
"""The first whose indexes are searched on until enough rows are found; before, search is exact."""
CONNECTIONS = 8
"""Of one process: a server has a hundred for all, and its cores limit searches before these do."""
WAIT_S = 10.0
"""How long a call waits for a connection while all are in use."""
GONE_S = 3.0
"""How long it waits for a server that does not answer. A new connection within one building takes milliseconds."""
CONNECT: dict[str, str | int | None] = {
    "connect_timeout": 5,
    "application_name": "dormouse",
    "keepalives_idle": 30,
    "tcp_user_timeout": 20_000,
}
"""Unless the address says otherwise. The last two, in s and ms, end a connection that nobody answers."""
RETRY_S = 5.0
GONE = "the database of the collections does not answer: what was asked works again by itself once it is back"
BUSY = "the database of the collections is busy: try again in a moment"
NOT_VECTOR = "the database has no pgvector: run CREATE EXTENSION vector in it, as a user who may do so"
log = logging.getLogger(__name__)

Link = psycopg.Connection[tuple[Any, ...]]
Rows = psycopg.Cursor[tuple[Any, ...]]


class PostgresConnection:
    """Runs the library's statements on one connection."""

    def __init__(self, link: Link, *, may_hold: bool = True) -> None:
        self._link = link
        self._may_hold = may_hold

    def execute(self, statement: str, values: Sequence[object] = (), /) -> Rows:
        return self._link.execute(translate(statement), values, binary=True)

    def executemany(self, statement: str, rows: Iterable[Sequence[object]], /) -> None:
        with self._link.cursor() as cursor:
            cursor.executemany(translate(statement), rows)

    def hold(self, select: str, values: Sequence[object]) -> Rows:
        return self.execute(f"{select} FOR KEY SHARE" if self._may_hold else select, values)

    def claim(self, select: str, values: Sequence[object]) -> Rows:
        return self.execute(f"{select} FOR UPDATE", values)


@lru_cache(maxsize=1024)
def translate(statement: str) -> bytes:
    """Return a statement of the library as the client takes it."""
    return statement.replace("%", "%%").replace("?", "%s").encode()


class PostgresDatabase:
    """A library's tables on a server."""

    conflict = errors.UniqueViolation
    is_shared = True

    def __init__(self, address: Address) -> None:
        """Open nothing yet."""
        self._address = address
        self.conninfo = ""
        """What `open` connects by."""
        self.has_iterative_scans = False
        """Of indexes over vectors, once it is open."""
        self._pool: ConnectionPool[Link] | None = None
        self._follower: PostgresFollower | None = None
        self._own = threading.local()
        """The connection of the thread's transaction."""
        self._in_use = 0
        self._reached = 0.0
        """The monotonic clock when somebody got a connection that answers."""
        self._counting = threading.Lock()

    @property
    def lock(self) -> nullcontext[None]:
        return nullcontext()

    def open(self) -> None:
        """Check the server, bring the tables to this release's schema, and keep connections ready.

        Raises BadValueError for what is no address.
        """
        with self._connect_first() as link:
            pgvector = check_server(link)
            migrate(link)
        self.has_iterative_scans = pgvector >= ITERATIVE_PGVECTOR
        self._open_pool()

    def open_to_read(self) -> None:
        """Check the server and its tables, change neither, and keep connections ready. Raises as `open`."""
        with self._connect_first() as link:
            version = read_version(link)
            if version == 0:
                raise LibraryError("there are no collections in the database of this address")
            if version < SCHEMA_VERSION:
                raise LibraryError(
                    f"the database is of an older release (schema {version}): `dormouse list` with this --store brings"
                    " it up to date, then try again"
                )
        self._open_pool()

    @contextmanager
    def _connect_first(self) -> Iterator[Link]:
        self.conninfo = read_address(self._address() if callable(self._address) else self._address)
        with raise_opening_errors(), psycopg.connect(self.conninfo, autocommit=True) as link:
            yield link

    def _open_pool(self) -> None:
        self._pool = ConnectionPool(
            self.conninfo,
            min_size=1,
            max_size=CONNECTIONS,
            reconnect_timeout=GONE_S / 2,  # then the next call tries again: no pause grows while the server is gone
            check=ConnectionPool.check_connection,
            configure=configure,
            kwargs={"autocommit": True},
            name="library",
            open=True,
        )

    def close(self) -> None:
        if self._follower is not None:
            self._follower.close()
            self._follower = None
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def is_writable(self) -> bool:
        row = self.fetch_one(
            "SELECT has_table_privilege('pages', 'INSERT') AND current_setting('transaction_read_only') = 'off'"
        )
        return bool(row[0])

    def follow(self, tell: Callable[[str], None]) -> None:
        self._follower = PostgresFollower(self.conninfo, tell)
        self._follower.start()

    def fetch_all(self, select: str, values: Sequence[object] = ()) -> list[Any]:
        with raise_store_errors(), self._connect() as db:
            return db.execute(select, values).fetchall()

    def fetch_one(self, select: str, values: Sequence[object] = ()) -> Any:
        with raise_store_errors(), self._connect() as db:
            return db.execute(select, values).fetchone()

    def fetch_planned(self, settings: str, select: str, values: Sequence[object]) -> list[Any]:
        """Return all rows of a query, which the server plans by `settings`: statements that hold for it alone."""
        with raise_store_errors(), self._take() as link, link.transaction():
            link.execute(settings.encode())
            return PostgresConnection(link).execute(select, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[PostgresConnection]:
        with raise_store_errors(), self._take() as link, link.transaction():
            self._own.db = PostgresConnection(link)
            try:
                yield self._own.db
            finally:
                self._own.db = None

    @contextmanager
    def snapshot(self) -> Iterator[PostgresConnection]:
        with raise_store_errors(), self._take() as link, link.transaction():
            link.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield PostgresConnection(link, may_hold=False)

    @contextmanager
    def _connect(self) -> Iterator[PostgresConnection]:
        """Yield the connection of the thread's transaction, or another one outside of any."""
        own: PostgresConnection | None = getattr(self._own, "db", None)
        if own is not None:
            yield own
            return
        with self._take() as link:
            yield PostgresConnection(link)

    @contextmanager
    def _take(self) -> Iterator[Link]:
        """Yield a connection of the pool. Raises LibraryError where there is none in time."""
        pool = self._pool
        if pool is None:
            raise LibraryError("the library is not open")
        link = self._wait_for_connection(pool)
        try:
            self._count_use(1)
            yield link
        finally:
            self._count_use(-1)
            pool.putconn(link)

    def _wait_for_connection(self, pool: ConnectionPool[Link]) -> Link:
        """Return a connection that answers. Raises StoreUnavailableError."""
        try:
            link = pool.getconn(timeout=GONE_S)
        except PoolTimeout:
            # One that is handed on at this moment is in nobody's use.
            if self._in_use < CONNECTIONS and time.monotonic() - self._reached > GONE_S:
                raise StoreUnavailableError(GONE, retry_after=RETRY_S) from None
            try:
                link = pool.getconn(timeout=max(0.0, WAIT_S - GONE_S))
            except PoolTimeout:
                raise StoreUnavailableError(BUSY, retry_after=RETRY_S) from None
        self._reached = time.monotonic()
        return link

    def _count_use(self, change: int) -> None:
        with self._counting:
            self._in_use += change


def read_address(address: str) -> str:
    """Return the client's form of an address. Raises BadValueError, which has nothing of it."""
    if not address.startswith(("postgresql://", "postgres://")):
        raise BadValueError("a store is an address like postgresql://user@host/database", param="store")
    try:
        given = conninfo_to_dict(address)
        if any("@" in str(given.get(part, "")) for part in ("host", "dbname")):  # it may be of a password
            raise psycopg.ProgrammingError
        return make_conninfo("", **{**CONNECT, **given})
    except psycopg.Error:
        raise BadValueError(
            "the store's address cannot be read: it is postgresql://user:password@host:port/database, with special"
            " characters of user and password as %40 for @ and %2F for /",
            param="store",
        ) from None


def configure(link: Link) -> None:
    """Prepare a new connection."""
    link.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    # A plan for any values looks for each page's file in a list of thousands, from its begin to its end.
    link.execute("SET plan_cache_mode = force_custom_plan")
    info = TypeInfo.fetch(link, "halfvec")
    if info is None:
        raise psycopg.OperationalError("no halfvec")
    link.adapters.register_loader(info.oid, HalfVectorLoader)
    link.adapters.register_dumper(np.ndarray, type("OwnHalfVectorDumper", (HalfVectorDumper,), {"oid": info.oid}))
    link.adapters.register_dumper(str, TextDumper)


class HalfVectorDumper(Dumper):
    """Sends float16[n] as a halfvec: its length and a zero in 16 bits, then the numbers, the high byte first."""

    format = pq.Format.BINARY

    def dump(self, obj: NDArray[np.float16]) -> bytes:
        return len(obj).to_bytes(2, "big") + b"\0\0" + obj.astype(">f2").tobytes()


class HalfVectorLoader(Loader):
    """Reads a halfvec as the bytes of float16[n], as the embedded database keeps it."""

    format = pq.Format.BINARY

    def load(self, data: pq.abc.Buffer) -> bytes:
        return np.frombuffer(data, ">f2", offset=4).astype("<f2").tobytes()


class TextDumper(StrDumperUnknown):
    """Leaves out the character 0, which texts on the server cannot have, and which nobody sees."""

    def dump(self, obj: str) -> pq.abc.Buffer | None:
        return super().dump(obj.replace("\0", ""))


# Opening


def check_server(link: Link) -> tuple[int, ...]:
    """Return pgvector's version. Raises LibraryError for a server that is too old, or has none."""
    version = link.info.server_version // 10_000
    encoding = link.info.parameter_status("server_encoding")
    if not (pgvector := find_pgvector(link)):
        with suppress(psycopg.Error), link.transaction():  # it may not, or another machine was first
            link.execute("CREATE EXTENSION IF NOT EXISTS vector")
        pgvector = find_pgvector(link)
    if not pgvector:
        raise LibraryError(NOT_VECTOR)
    check_versions(version, pgvector, str(encoding))
    if TypeInfo.fetch(link, "halfvec") is None:
        raise LibraryError("pgvector is in a schema that is not on the search_path: name it there, with public")
    return split_version(pgvector)


def describe_server(address: str) -> str:
    """Return which server a store's address leads to, and leave it as it is.

    Raises LibraryError where a library could not be opened there; BadValueError for what is no address.
    """
    conninfo = read_address(address)
    with (
        raise_opening_errors(),
        psycopg.connect(conninfo, autocommit=True) as link,
        link.transaction(force_rollback=True),
    ):
        check_server(link)
        if not read_version(link):
            migrate(link)  # whether this user may make tables
        return f"PostgreSQL {link.info.server_version // 10_000} with pgvector {find_pgvector(link)}"


def is_local_address(address: str) -> bool:
    """Return whether a store's address leads to the machine that uses it. Raises BadValueError for what is none."""
    given = conninfo_to_dict(read_address(address))
    hosts = str(given.get("hostaddr") or given.get("host") or "").split(",")
    return any(map(is_local_host, hosts))


def is_local_host(host: str) -> bool:
    if not host or host.startswith(("/", "@")) or host.lower() == "localhost":  # a Unix socket, or this machine
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def find_pgvector(link: Link) -> str:
    """Return the version of pgvector in this database, "" where there is none."""
    row = link.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
    return "" if row is None else str(row[0])


def split_version(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())


def check_versions(server: int, pgvector: str, encoding: str) -> None:
    """Raise LibraryError where one of them is not enough."""
    if server < OLDEST_SERVER:
        raise LibraryError(f"the server is PostgreSQL {server}: a store needs {OLDEST_SERVER} or newer")
    if split_version(pgvector) < OLDEST_PGVECTOR:
        raise LibraryError(
            f"the database has pgvector {pgvector}, a store needs 0.7 or newer: install it on the server, then run"
            " ALTER EXTENSION vector UPDATE"
        )
    if encoding != "UTF8":
        raise LibraryError(f"the database keeps text as {encoding}: make one with ENCODING 'UTF8'")


def read_version(link: Link) -> int:
    """Return the version of the tables, 0 where there are none. Raises LibraryError for a newer one."""
    # Not to_regclass: who has waited for the lock would be told what it was told before.
    named = "SELECT 1 FROM pg_tables WHERE tablename = 'library_schema' AND schemaname = ANY(current_schemas(false))"
    if link.execute(named).fetchone() is None:
        return 0
    (version,) = link.execute("SELECT version FROM library_schema").fetchone() or (0,)
    if version > SCHEMA_VERSION:
        raise LibraryError(f"the database was written by a newer release (schema {version}): update Dormouse")
    return int(version)


def migrate(link: Link) -> None:
    """Take all steps to the current schema, or none; who comes second waits, and finds it done."""
    if read_version(link) == SCHEMA_VERSION:
        return
    with link.transaction():
        link.execute("SELECT pg_advisory_xact_lock(%s)", [MIGRATION_LOCK])
        for version in range(read_version(link), SCHEMA_VERSION):
            link.execute(MIGRATIONS[version].encode())
        link.execute("UPDATE library_schema SET version = %s", [SCHEMA_VERSION])


# Errors


@contextmanager
def raise_opening_errors() -> Iterator[None]:
    """Raise LibraryError with the reason for what the server refuses: who opens a store may know it."""
    try:
        yield
    except psycopg.OperationalError as error:
        reason = error.diag.message_primary or describe_failure(error)
        raise StoreUnavailableError(f"the database of the collections cannot be opened: {reason}") from None
    except psycopg.Error as error:
        raise LibraryError(
            f"the database of the collections cannot be opened: {error.diag.message_primary or type(error).__name__}"
        ) from None


def describe_failure(error: psycopg.OperationalError) -> str:
    """Return why there was no connection. The client's text has names of host and user, never a password."""
    return " ".join(str(error).splitlines()[0].split()) if str(error) else type(error).__name__


@contextmanager
def raise_store_errors() -> Iterator[None]:
    """Raise LibraryError for the server's errors, but not where the caller's row or statement is at fault."""
    try:
        yield
    except psycopg.Error as error:
        known = as_library_error(error)
        if known is None:
            raise
        log.warning("a statement failed: %s", error.diag.message_primary or type(error).__name__)
        raise known from error


def as_library_error(error: psycopg.Error) -> LibraryError | ReadOnlyError | None:
    """Return the library's error for one of the client, None for those of the caller."""
    if isinstance(error, errors.InsufficientPrivilege | errors.ReadOnlySqlTransaction):
        return ReadOnlyError("the user of this database may only read: nothing is added, changed or deleted")
    if isinstance(error, errors.DiskFull):
        return LibraryError("the disk of the database is full: make room on it, and try again", code="disk_full")
    if isinstance(error, errors.DeadlockDetected | errors.SerializationFailure):
        return RolledBackError("somebody else changes the same pages: try again")
    if isinstance(error, errors.TransactionRollback | errors.LockNotAvailable | errors.ForeignKeyViolation):
        return LibraryError("somebody else changes the same pages: try again", code="locked")
    if isinstance(error, errors.TooManyConnections | errors.QueryCanceled):
        return StoreUnavailableError(BUSY, retry_after=RETRY_S)
    if isinstance(error, PoolClosed):
        return LibraryError("the library is not open")
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return StoreUnavailableError(GONE, retry_after=RETRY_S)
    if isinstance(error, psycopg.InternalError | psycopg.DataError | errors.UndefinedTable):
        reason = error.diag.message_primary or type(error).__name__
        return LibraryError(f"the library's database cannot be used: {reason}")
    return None
