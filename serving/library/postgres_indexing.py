"""Indexes over the vectors of large collections in PostgreSQL, and the thread that makes and removes them.

Each large collection has one of its own, so that a search finds the nearest pages of this collection, and not those of
all collections that happen to be in it. An index is made while pages come and go, by one process at a time; until it is
whole, search is exact.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

import psycopg
from psycopg import errors

from serving.library.postgres_database import Link
from serving.library.records import IndexChoice
from serving.library.rows import IMPORTING

LOOK_S = 60.0
"""So often the thread looks for collections that have become large: a look takes milliseconds."""
FAILED_S = 900.0
"""How long it waits after a build that failed, which takes long and may fail again: a disk is full."""
JOIN_S = 1.0
INDEX_LOCK = 0x696E6478
"""First number of the advisory lock that who makes indexes has, "indx" in ASCII; the second one is the table's."""
TAKE_LOCK = "SELECT pg_try_advisory_lock(%s, ('vectors'::regclass::oid::bigint - 2147483648)::integer)"
SELECT_USELESS = """
SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class n ON n.oid = i.indexrelid
WHERE i.indrelid = 'vectors'::regclass AND n.relname ~ %s AND (NOT i.indisvalid
  OR NOT EXISTS (SELECT 1 FROM collections c WHERE c.id = substring(n.relname FROM '[0-9]+$')::integer))
"""
"""Those of a pattern of names that a killed build has left, or whose collections were deleted."""
SELECT_LARGE = """
SELECT c.id, c.dimension FROM collections c
WHERE c.dimension BETWEEN 1 AND %s AND c.owner <> %s AND NOT EXISTS (SELECT 1 FROM pg_index i
    JOIN pg_class n ON n.oid = i.indexrelid WHERE i.indrelid = 'vectors'::regclass AND n.relname = %s || c.id)
  AND (SELECT count(*) FROM (SELECT 1 FROM vectors v WHERE v.collection = c.id LIMIT %s) counted) >= %s
ORDER BY c.id
"""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IndexKind:
    """A way to index vectors. `{n}` stands for how many numbers they have."""

    name: str
    key: str
    """What is compared, of a vector `{v}`."""
    distance: str
    operators: str
    most_numbers: int
    """pgvector indexes no longer ones."""
    oversampling: int
    """So many times the pages that are wanted are found by it, and ranked by all of their numbers."""

    @property
    def prefix(self) -> str:
        """What the names of such indexes begin with, before the number of their collection."""
        return f"{self.name}_"

    def name_index(self, collection: int) -> str:
        return f"{self.prefix}{collection}"

    def make_key(self, vector: str, dimension: int) -> str:
        return self.key.format(v=vector, n=dimension)

    def write_distance(self, one: str, other: str, dimension: int) -> str:
        return f"{self.make_key(one, dimension)} {self.distance} {self.make_key(other, dimension)}"

    def write_create(self, collection: int, dimension: int) -> str:
        return (
            f"CREATE INDEX CONCURRENTLY {self.name_index(collection)} ON vectors"
            f" USING hnsw (({self.make_key('vector', dimension)}) {self.operators}) WHERE collection = {collection}"
        )


KINDS = {
    "hnsw": IndexKind("hnsw", "{v}::halfvec({n})", "<#>", "halfvec_ip_ops", 4_000, 1),
    "binary": IndexKind("binary", "binary_quantize({v}::halfvec)::bit({n})", "<~>", "bit_hamming_ops", 64_000, 4),
}
"""By the values of `IndexChoice.kind`; where none is meant, search is exact."""
NAMES = f"^({'|'.join(kind.prefix for kind in KINDS.values())})[0-9]+$"
"""The indexes that are made and removed here, of any kind."""


class IndexBuilder:
    """A thread that makes the indexes of large collections until it is closed."""

    def __init__(self, conninfo: str, choice: IndexChoice) -> None:
        self._conninfo = conninfo
        self._choice = choice
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vector indexes", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Make no further index. One that is being made is finished by the server, which needs nobody for that."""
        self._closing.set()
        self._thread.join(JOIN_S)

    def _run(self) -> None:
        pause = 0.0
        while not self._closing.wait(pause):
            pause = LOOK_S
            try:
                with psycopg.connect(self._conninfo, autocommit=True) as link:
                    self.tend(link)
            except errors.InsufficientPrivilege:
                log.warning("this user of the database may make no index: its owner's pages do, else search is exact")
                return
            except psycopg.Error as error:
                is_gone = error.sqlstate is None or error.sqlstate.startswith("57")  # or stops
                if not (is_gone or self._closing.is_set()):
                    log.warning("an index of vectors failed, search is exact: %s", error.diag.message_primary)
                    pause = FAILED_S

    def tend(self, link: Link) -> None:
        """Remove useless indexes and make those that are missing, unless another process does."""
        (taken,) = link.execute(TAKE_LOCK, [INDEX_LOCK]).fetchone() or (False,)
        if not taken:
            return
        link.execute("SET statement_timeout = 0")
        link.execute("SET lock_timeout = 0")
        link.add_notice_handler(lambda notice: log.warning("an index of vectors: %s", notice.message_primary))
        for (name,) in link.execute(SELECT_USELESS, [NAMES]).fetchall():
            log.info("the index %s is useless and goes", name)
            link.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}".encode())
        kind, least = KINDS.get(self._choice.kind), self._choice.least_pages
        if kind is None:
            return
        wanted = [kind.most_numbers, IMPORTING, kind.prefix, least, least]
        for collection, dimension in link.execute(SELECT_LARGE, wanted).fetchall():
            if not self._closing.is_set():
                make_index(link, kind, collection, dimension)


def make_index(link: Link, kind: IndexKind, collection: int, dimension: int) -> None:
    began, name = time.monotonic(), kind.name_index(collection)
    log.info("making the index %s; pg_stat_progress_create_index tells how far it is", name)
    link.execute(kind.write_create(collection, dimension).encode())
    log.info("the index %s was made in %.0f s", name, time.monotonic() - began)
