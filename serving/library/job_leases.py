"""Which process works on which ingest job, in a database that several machines share, and the files of the jobs.

A job that has not ended has a lease, from its first transaction on. Who holds it renews it; when it has ended, as that
of a machine that died, another process takes it. Times are the server's: clocks of machines differ. The files are here
in pieces, because a machine that goes on reaches no other machine's disk.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.library.database import Connection, Database, redo_rolled_back

LEASE_S = 20.0
"""Others take a job so long after its machine died. It is renewed four times meanwhile."""
PART_BYTES = 4 * 1024 * 1024
"""Of a file in one row: what client and server have in memory."""
HEADS = (
    "SELECT j.id, j.state, j.total, j.ended, j.keep_until, j.error,"
    " (SELECT count(*) FROM job_pages p WHERE p.job = j.id), (SELECT count(*) FROM job_skips s WHERE s.job = j.id)"
    " FROM jobs j ORDER BY j.asked, j.rowid"
)
CLAIM = (
    "WITH ended AS MATERIALIZED (SELECT job FROM job_leases WHERE ends < clock_timestamp() ORDER BY ends LIMIT ?"
    " FOR UPDATE SKIP LOCKED) UPDATE job_leases l SET holder = ?, ends = clock_timestamp() + make_interval(secs => ?)"
    " FROM ended WHERE ended.job = l.job"
)
RENEW = (
    "WITH held AS MATERIALIZED (SELECT job FROM job_leases WHERE holder = ? FOR UPDATE SKIP LOCKED)"
    " UPDATE job_leases l SET ends = clock_timestamp() + make_interval(secs => ?) FROM held, jobs j"
    " WHERE l.job = held.job AND j.id = l.job RETURNING l.job, j.state"
)
"""Waits for nobody, as a job that is being deleted: so the two never wait for each other."""


@dataclass(frozen=True, slots=True)
class JobHead:
    """What tells whether a job has changed."""

    id: str
    state: str
    total: int
    ended: float
    keep_until: float
    error: str
    pages: int
    skips: int


class JobLeases:
    """The leases that this process holds, and those that have ended. All methods raise LibraryError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._holder = ""

    def open(self) -> None:
        """Become a holder of its own: processes that came from one snapshot have the same memory."""
        self._holder = secrets.token_hex(16)

    def take_new(self, db: Connection, job: str, files: Sequence[Path]) -> None:
        """Hold a job in the transaction that makes it, and keep its files. One that is gone is left out."""
        for number, path in enumerate(files):
            if path.is_file():
                insert_parts(db, job, number, path)
        insert = "INSERT INTO job_leases VALUES (?, ?, clock_timestamp() + make_interval(secs => ?))"
        db.execute(insert, [job, self._holder, LEASE_S])  # last: large files take longer than a lease

    @redo_rolled_back
    def claim(self, most: int) -> int:
        """Take jobs whose leases have ended, and return how many. Those that others are taking now are left to them."""
        with self._database.transaction() as db:
            return db.execute(CLAIM, [most, self._holder, LEASE_S]).rowcount

    @redo_rolled_back
    def renew(self) -> dict[str, str]:
        """Hold what this process holds for longer, and return those jobs with their states."""
        with self._database.transaction() as db:
            return {str(job): str(state) for job, state in db.execute(RENEW, [self._holder, LEASE_S]).fetchall()}

    @redo_rolled_back
    def release(self) -> None:
        """Let others go on with all jobs of this process at once."""
        with self._database.transaction() as db:
            db.execute("UPDATE job_leases SET ends = '-infinity' WHERE holder = ?", [self._holder])

    def give_up(self, db: Connection, job: str, kept: Collection[int]) -> bool:
        """Remove a job's lease and its files but the `kept` ones. Returns False where another process has it."""
        mine = "DELETE FROM job_leases WHERE job = ? AND holder = ?"
        if not db.execute(mine, [job, self._holder]).rowcount:
            return False
        self.remove_files(db, job, kept)
        return True

    def remove_files(self, db: Connection, job: str, kept: Collection[int] = ()) -> None:
        db.execute("DELETE FROM job_parts WHERE job = ? AND file <> ALL(?)", [job, sorted(kept)])

    def write_files(self, job: str, files: Sequence[Path]) -> None:
        """Write a job's files, by their numbers: those that are kept and not there. Raises OSError."""
        select = "SELECT number FROM job_parts WHERE job = ? AND file = ? ORDER BY number"
        for number, path in enumerate(files):
            parts = [] if path.is_file() else self._database.fetch_all(select, [job, number])
            if parts:
                self._write_file(job, number, [part for (part,) in parts], path)

    def _write_file(self, job: str, number: int, parts: Sequence[int], path: Path) -> None:
        select = "SELECT data FROM job_parts WHERE job = ? AND file = ? AND number = ?"
        unfinished = path.with_name(f"{path.name}.part")
        with unfinished.open("wb") as stream:
            for part in parts:
                row = self._database.fetch_one(select, [job, number, part])
                if row is None:  # somebody drops the files meanwhile: none of it is better than a part
                    unfinished.unlink()
                    return
                stream.write(row[0])
        unfinished.replace(path)

    def measure_files(self) -> dict[str, int]:
        """Return the bytes of each job's files."""
        select = "SELECT job, sum(octet_length(data)) FROM job_parts GROUP BY job"
        return {str(job): int(size) for job, size in self._database.fetch_all(select)}

    def list_heads(self) -> list[JobHead]:
        """Return all jobs, in the order in which they were asked for."""
        return [JobHead(*row) for row in self._database.fetch_all(HEADS)]


def insert_parts(db: Connection, job: str, number: int, path: Path) -> None:
    """Insert the content of a file, at least one piece. Raises OSError."""
    insert = "INSERT INTO job_parts (job, file, number, data) VALUES (?, ?, ?, ?)"
    with path.open("rb") as stream:
        part, data = 0, stream.read(PART_BYTES)
        while data or not part:
            db.execute(insert, [job, number, part, data])
            part, data = part + 1, stream.read(PART_BYTES)
