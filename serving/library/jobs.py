"""The rows of ingest jobs: what is to be added, how far it is and how it ended. They outlive the page's process.

A page's row in `job_pages` comes with the page, in one transaction. It stays when the page is deleted: a job that goes
on does not bring back what somebody has deleted meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.library.database import Connection, Database, redo_rolled_back
from serving.library.job_leases import JobLeases
from serving.library.records import CollectionKey, NewPage
from serving.library.rows import read_collection_row

JOB = (
    "SELECT j.id, c.key, c.owner, j.target, j.state, j.error, j.total, j.asked, j.ended, j.keep_until FROM jobs j"
    " JOIN collections c ON c.id = j.collection"
)


@dataclass(frozen=True, slots=True)
class JobPage:
    """The job that adds a page, and the seconds that it has worked by then."""

    job: str
    seconds: float


@dataclass(frozen=True, slots=True)
class JobFile:
    """A file of a job. `path` is absolute, or below the folder where the page keeps uploads."""

    path: str
    name: str


@dataclass(frozen=True, slots=True)
class SkipRow:
    """What a job has left out, or, where `again` is set, what it is to take and nothing else."""

    upload: int
    """The number of its file among those of the job."""
    file: str
    page: int
    """0 for a whole file."""
    reason: str
    known: bool
    again: bool = False


@dataclass(frozen=True, slots=True)
class AddedPage:
    """A page that a job has added."""

    sha256: str
    page: int
    id: str
    unread: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as it is kept. Times are seconds since 1970, 0 for none."""

    id: str
    collection: CollectionKey
    owner: str
    target: str
    state: str
    error: str
    total: int
    asked: float
    ended: float
    keep_until: float
    files: tuple[JobFile, ...] = ()
    skips: tuple[SkipRow, ...] = ()
    pages: tuple[AddedPage, ...] = ()


class JobRows:
    """The jobs of a library. All methods raise LibraryError."""

    def __init__(self, database: Database, back_up: Callable[[], None]) -> None:
        self._database = database
        self._back_up = back_up
        self.leases = JobLeases(database) if database.is_shared else None
        """Where several machines have jobs in one database, which of them works on which."""

    def open(self) -> None:
        """Be told apart from all other processes."""
        if self.leases is not None:
            self.leases.open()

    @redo_rolled_back
    def create(self, row: JobRow, contents: Sequence[Path] = ()) -> None:
        """Keep a new job: when this returns, it survives a power cut on this disk. Raises CollectionGoneError.

        Where other machines may go on with it, its files are kept as well, of these `contents`. Raises OSError for
        one that cannot be read.
        """
        insert = (
            "INSERT INTO jobs (id, collection, target, state, error, total, asked, ended, keep_until)"
            " VALUES (?, ?, ?, ?, '', 0, ?, 0, 0)"
        )
        with self._database.transaction() as db:
            number = read_collection_row(db, row.collection)[0]
            db.execute(insert, [row.id, number, row.target, row.state, row.asked])
            files = [(row.id, number, file.path, file.name) for number, file in enumerate(row.files)]
            db.executemany("INSERT INTO job_files (job, number, path, name) VALUES (?, ?, ?, ?)", files)
            insert_skips(db, row.id, row.skips)
            if self.leases is not None:
                self.leases.take_new(db, row.id, contents)

    def list_all(self) -> list[JobRow]:
        """Return all jobs, in the order in which they were asked for."""
        with self._database.lock:
            return [
                JobRow(*row, **self._read_parts(row[0]))
                for row in self._database.fetch_all(f"{JOB} ORDER BY j.asked, j.rowid")
            ]

    def read(self, job: str) -> JobRow | None:
        """Return a job, None where there is none (any more)."""
        with self._database.lock:
            row = self._database.fetch_one(f"{JOB} WHERE j.id = ?", [job])
            return None if row is None else JobRow(*row, **self._read_parts(job))

    def _read_parts(self, job: str) -> dict[str, Any]:
        """Return the fields of a JobRow that have tables of their own."""

        def fetch(select: str) -> list[Any]:
            return self._database.fetch_all(select, [job])

        files = fetch("SELECT path, name FROM job_files WHERE job = ? ORDER BY number")
        skips = fetch("SELECT upload, file, page, reason, known, again FROM job_skips WHERE job = ? ORDER BY rowid")
        pages = fetch("SELECT sha256, page, id, unread, seconds FROM job_pages WHERE job = ? ORDER BY seconds")
        return {
            "files": tuple(JobFile(*row) for row in files),
            "skips": tuple(
                SkipRow(upload, file, page, reason, bool(known), bool(again))
                for upload, file, page, reason, known, again in skips
            ),
            "pages": tuple(
                AddedPage(sha256, page, page_id, bool(unread), seconds)
                for sha256, page, page_id, unread, seconds in pages
            ),
        }

    @redo_rolled_back
    def set_state(self, job: str, state: str) -> None:
        """Note the state of a job that has not ended."""
        with self._database.transaction() as db:
            db.execute("UPDATE jobs SET state = ? WHERE id = ? AND ended = 0", [state, job])

    @redo_rolled_back
    def set_total(self, job: str, total: int) -> None:
        with self._database.transaction() as db:
            db.execute("UPDATE jobs SET total = ? WHERE id = ?", [total, job])

    @redo_rolled_back
    def add_skip(self, job: str, skip: SkipRow) -> None:
        """Keep that a page was left out, unless the job is gone, as with its collection."""
        with self._database.transaction() as db:
            if db.hold("SELECT 1 FROM jobs WHERE id = ?", [job]).fetchone():
                insert_skips(db, job, [skip])

    @redo_rolled_back
    def end(
        self,
        job: str,
        state: str,
        error: str,
        keep_until: float,
        skips: Sequence[SkipRow],
        kept: Collection[int] = (),
    ) -> None:
        """Keep how a job ended and all that it left out, backed up: it does not begin again.

        `kept`: the numbers of the files that are kept longer. The end of a job that another machine has is its to keep.
        """
        with self._database.transaction() as db:
            db.claim("SELECT 1 FROM jobs WHERE id = ?", [job])
            if self.leases is not None and not self.leases.give_up(db, job, kept):
                return
            values = [state, error, time.time(), keep_until, job]
            if db.execute(
                "UPDATE jobs SET state = ?, error = ?, ended = ?, keep_until = ? WHERE id = ?", values
            ).rowcount:
                db.execute("DELETE FROM job_skips WHERE job = ? AND NOT again", [job])
                insert_skips(db, job, skips)
        self._back_up()

    @redo_rolled_back
    def stop_keeping(self, job: str) -> None:
        """Note that an ended job's files are gone."""
        with self._database.transaction() as db:
            db.execute("UPDATE jobs SET keep_until = 0 WHERE id = ?", [job])
            if self.leases is not None:
                self.leases.remove_files(db, job)

    @redo_rolled_back
    def delete(self, jobs: Sequence[str]) -> None:
        with self._database.transaction() as db:
            db.executemany("DELETE FROM jobs WHERE id = ?", [(job,) for job in jobs])

    @redo_rolled_back
    def forget_page(self, page_id: str) -> None:
        """Note that a page was not added after all."""
        with self._database.transaction() as db:
            db.execute("DELETE FROM job_pages WHERE id = ?", [page_id])


def insert_skips(db: Connection, job: str, skips: Sequence[SkipRow]) -> None:
    db.executemany(
        "INSERT INTO job_skips (job, upload, file, page, reason, known, again) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(job, skip.upload, skip.file, skip.page, skip.reason, skip.known, skip.again) for skip in skips],
    )


def insert_job_page(db: Connection, job: JobPage, page_id: str, new: NewPage) -> None:
    """Note in the transaction that adds a page which job does so, unless the job is gone, as with its collection."""
    db.execute(
        "INSERT INTO job_pages (job, sha256, page, id, unread, seconds) SELECT id, ?, ?, ?, ?, ? FROM jobs WHERE id = ?"
        " ON CONFLICT (job, sha256, page) DO UPDATE"
        " SET id = excluded.id, unread = excluded.unread, seconds = excluded.seconds",
        [new.sha256, new.page, page_id, new.lines == (), job.seconds, job.job],
    )
