"""Uploads to pages in the library: jobs that take turns, can be paused, and go on after a restart.

A job lives on the server: closing or reloading the page does not end it, and every browser shows the same state. Its
row and its files outlive the process. The pages it has added stay, however it ends. Independent of Gradio.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Container, Iterable, Sequence
from pathlib import Path

from serving.documents.parser_pool import ParserPool
from serving.errors import BusyError, NotFoundError, NotReadyError
from serving.library.database import LibraryError
from serving.library.jobs import JobRow, SkipRow
from serving.library.library import Library
from serving.library.records import CollectionKey
from serving.settings import Settings
from ui.access.uploads import Upload
from ui.core.job_runner import DELETED, JobRunner, log_library_errors
from ui.core.job_sharing import JobSharing
from ui.core.jobs import IngestJob, JobState, SkippedFile, as_skip_row
from ui.core.kept_uploads import KeptUploads
from ui.servers.target import Target, Targets

ENDED_S = 600.0
"""A page that is opened so long after an upload shows how it ended."""
ENDED_KEPT = 100
"""The latest jobs that have ended and are still shown, or have files to be tried again."""
WRITTEN_STATES: tuple[JobState, ...] = ("done", "cancelled", "failed", "paused")
"""Those that a job's row tells; another one means that it goes on."""


class Ingestor:
    """The jobs of a page, and the threads that they share."""

    def __init__(self, targets: Targets, library: Library, settings: Settings, parsers: ParserPool) -> None:
        """Start nothing. The first of `targets` embeds the pages of jobs that name none."""
        self._targets = targets
        self._library = library
        self._settings = settings
        self._kept = KeptUploads(settings)
        self._runner = JobRunner(library, settings, parsers, self._kept)
        self._jobs: list[IngestJob] = []
        self._lock = threading.RLock()
        self._listing = threading.Lock()
        """Held for a moment, to change the list."""
        self._choosing = threading.Lock()
        """Held while somebody's choice is written down and made."""
        self._beginning: set[str] = set()
        """Jobs whose rows may be there, and which do not take turns yet."""
        self._stopping = False
        leases = library.jobs.leases
        self._sharing = None if leases is None else JobSharing(library, leases, self._runner, self)

    # What there is

    def active_job(self, collection: CollectionKey) -> IngestJob | None:
        """Return the collection's oldest job that has not ended."""
        return next((job for job in self._list_jobs(collection) if not job.finished.is_set()), None)

    def recent_jobs(self, collection: CollectionKey) -> list[IngestJob]:
        """Return the collection's jobs that have not ended, ended lately, or have files that can be tried again."""
        jobs, now = self._list_jobs(collection), time.time()
        newest = max((job.asked for job in jobs), default=0.0)
        return [
            job
            for job in jobs
            if not job.finished.is_set() or job.can_retry or (job.ended >= newest and now - job.ended <= ENDED_S)
        ]

    def find_job(self, job_id: str) -> IngestJob:
        """Raises NotFoundError."""
        for job in self._jobs:
            if job.id == job_id:
                return job
        raise NotFoundError("there is no such job (any more)", param="job")

    def _list_jobs(self, collection: CollectionKey) -> list[IngestJob]:
        return [job for job in self._jobs if job.collection == collection]

    def needed_files(self) -> set[Path]:
        """Return the uploads that jobs have still to read."""
        return {upload.path for job in self._jobs if not job.finished.is_set() for upload in job.uploads}

    # Beginning

    def start(self, collection: CollectionKey, uploads: Sequence[Upload], target: Target | None = None) -> IngestJob:
        """Return a job that adds the uploads, kept until it ends: a restart goes on with it.

        Raises BusyError where too many are waiting, NotReadyError, ReadOnlyError, CollectionGoneError, LibraryError.
        """
        return self._begin(IngestJob(collection, list(uploads), target or self._targets.first))

    def _begin(self, job: IngestJob) -> IngestJob:
        with self._lock:
            if self._stopping:
                raise NotReadyError("the page is stopping", retry_after=5)
            self._library.check_writable()
            job.owner = self._library.catalogue.read_owner(job.collection) or job.collection
            self.forget_old()
            self._check_bounds(job.owner)
            job.uploads = self._kept.keep(job.id, job.uploads)
            self._beginning.add(job.id)
            try:
                self._create(job)
                self._list(job)
                self._runner.run(job)
            finally:
                self._beginning.discard(job.id)
            if self._sharing is not None:
                self._sharing.start()
        self._library.note_change(job.collection)
        return job

    def _create(self, job: IngestJob) -> None:
        try:
            self._library.jobs.create(self._describe(job), [upload.path for upload in job.uploads])
        except OSError as error:
            self._kept.remove(job.id)
            raise LibraryError(f"the upload could not be kept: {error.strerror or error}") from error
        except BaseException:
            self._kept.remove(job.id)
            raise

    def _list(self, job: IngestJob) -> None:
        with self._listing:
            self._jobs = [*self._jobs, job]

    def _check_bounds(self, owner: str) -> None:
        """Raises BusyError."""
        waiting = [job for job in self._jobs if not job.finished.is_set()]
        own = sum(job.owner == owner for job in waiting)
        if own >= self._settings.max_owner_jobs:
            raise BusyError(f"{own} uploads are waiting already: wait for one of them, or cancel it", retry_after=30)
        if len(waiting) >= self._settings.max_waiting_jobs:
            raise BusyError(f"{len(waiting)} uploads of all visitors are waiting: try again later", retry_after=60)

    def _describe(self, job: IngestJob) -> JobRow:
        files, target = self._kept.describe(job.uploads), job.target.name
        again = tuple(SkipRow(upload, file, 0, "", False, True) for upload, file in sorted(job.only))
        return JobRow(job.id, job.collection, job.owner, target, "waiting", "", 0, job.asked, 0, 0, files, again)

    def continue_jobs(self) -> None:
        """Go on with the jobs of a page that has ended, and remove files that no job has. Raises LibraryError."""
        if self._library.read_only:
            return
        if self._sharing is not None:
            self._kept.remove_unknown(())
            self._sharing.begin()
            return
        with self._lock:
            rows = self._library.jobs.list_all()
            self._kept.remove_unknown({row.id for row in rows if row.keep_until or not row.ended})
            for row in rows:
                job = self._restore(row)
                self._list(job)
                if not job.finished.is_set():
                    self._runner.run(job, row.pages)
            self.forget_old()

    def _restore(self, row: JobRow) -> IngestJob:
        job = IngestJob(row.collection, self._kept.locate(row.files), self._targets.get_or_first(row.target))
        job.id, job.continued = row.id, True
        self._fill(job, row, job.state)
        return job

    def _fill(self, job: IngestJob, row: JobRow, going: JobState) -> None:
        """Let a job be as it was written down; `going`: its state where that says only that it goes on.

        Others read it meanwhile, so its state changes once, and a job that counts as finished has a state that says so.
        """
        pages = self._library.catalogue.read_pages([page.id for page in row.pages])
        skips = [skip for skip in row.skips if not skip.again]
        job.owner = row.owner or row.collection
        job.only = frozenset((skip.upload, skip.file) for skip in row.skips if skip.again)
        job.added = [pages[page.id] for page in row.pages if page.id in pages]
        job.unread = [pages[page.id] for page in row.pages if page.unread and page.id in pages]
        job.skipped = [SkippedFile(skip.file, skip.reason, skip.known, skip.upload, skip.page) for skip in skips]
        job.total, job.done = row.total, row.total if row.ended else len(row.pages) + len(skips)
        job.worked = max((page.seconds for page in row.pages), default=0.0)
        job.asked, job.ended, job.error, job.keep_until = row.asked, row.ended, row.error, row.keep_until
        if not row.ended:  # also where this process has ended it, and could not write that down
            job.finished.clear()
        job.state = next((state for state in WRITTEN_STATES if row.state == state), going)
        if row.ended:
            job.finished.set()

    # Jobs that other machines know as well

    def find_idle(self, jobs: Iterable[str]) -> list[str]:
        beginning = set(self._beginning)  # before it is asked which take turns: a job goes from the one to the other
        running = self._runner.list_running()
        return [job for job in jobs if job not in beginning and job not in running]

    def go_on(self, row: JobRow) -> None:
        if self._stopping:
            return
        known = next((job for job in self._jobs if job.id == row.id and job.finished.is_set()), None)
        if known is not None:  # it ended while the database was gone
            self._library.jobs.end(row.id, known.state, known.error, 0.0, [as_skip_row(one) for one in known.skipped])
            return
        job = self._mirror(row)
        job.continued = True
        job.left.clear()
        if job.state == "running":
            job.state = "waiting"
        self._runner.run(job, row.pages)
        if row.state == "cancelled":
            self._runner.cancel(job)

    def show(self, row: JobRow) -> None:
        if self.find_idle([row.id]):
            self._mirror(row)
            self._library.changes.note(row.collection)

    def _mirror(self, row: JobRow) -> IngestJob:
        """Return the job of a row, as it was written down."""
        known = next((job for job in self._jobs if job.id == row.id), None)
        job = known or IngestJob(
            row.collection, self._kept.make_places(row.id, row.files), self._targets.get_or_first(row.target), id=row.id
        )
        job.collection = row.collection
        self._fill(job, row, "running" if row.total else "waiting")
        if known is None:
            self._list(job)
        return job

    def drop(self, there: Container[str]) -> None:
        gone = [job for job in self._jobs if job.id not in there and self.find_idle([job.id])]
        with self._listing:
            self._jobs = [job for job in self._jobs if job not in gone]
        for job in gone:
            self._kept.remove(job.id)
            if not job.finished.is_set():
                job.added, job.unread = [], []
                job.state, job.error, job.ended = "failed", DELETED, time.time()
                job.finished.set()

    def obey(self, job_id: str) -> None:
        with self._choosing:
            row = self._library.jobs.read(job_id)
            job = next((job for job in self._jobs if job.id == job_id), None)
            if job is None or row is None or row.ended or job.finished.is_set():
                return
            if row.state == "cancelled":
                self._runner.cancel(job)
            elif row.state == "paused":
                self._hold(job)
            else:
                self._runner.resume(job)

    # What a person may do with a job

    def pause(self, job: IngestJob) -> None:
        """Begin no further page of the job until `resume`, also after a restart. Raises LibraryError."""
        if job.finished.is_set() or job.cancelled.is_set() or job.state == "paused":
            return
        with self._choosing:
            self._library.jobs.set_state(job.id, "paused")
            self._hold(job)
        self._library.note_change(job.collection)

    def _hold(self, job: IngestJob) -> None:
        with job.lock:
            if not job.finished.is_set() and job.state != "paused":
                job.state, job.seconds_left = "paused", None
                job.stop_clock()

    def resume(self, job: IngestJob) -> None:
        """Raises LibraryError."""
        with self._choosing:
            if job.state == "paused":
                self._library.jobs.set_state(job.id, "running")
                self._runner.resume(job)
        self._library.note_change(job.collection)

    def cancel(self, collection: CollectionKey) -> None:
        """End the collection's jobs; pages that are with the worker already are still kept. Raises LibraryError."""
        for job in self._list_jobs(collection):
            if not job.finished.is_set():
                self.cancel_job(job)

    def cancel_job(self, job: IngestJob) -> None:
        """End one job, as `cancel`; of one that has ended, remove the files that were kept to try them again.

        Raises LibraryError where other machines could not be told: one of them would go on with it.
        """
        if job.finished.is_set():
            self._drop_kept(job)
            return
        if self._sharing is not None:
            with self._choosing:
                self._library.jobs.set_state(job.id, "cancelled")
        self._runner.cancel(job)

    def retry(self, job: IngestJob) -> IngestJob:
        """Return a job that adds what this one has skipped, or what it had left when it failed. Raises as `start`.

        Raises NotFoundError where the files are gone.
        """
        with self._lock:
            if not job.can_retry:
                raise NotFoundError("there is nothing to try again: add the files again", param="job")
            if self._library.jobs.leases is not None:
                self._fetch_files(job)
            again = IngestJob(job.collection, job.uploads, job.target)
            again.only = job.only
            if job.state != "failed":
                again.only = frozenset((item.upload, item.file) for item in job.failures)
            self._begin(again)
            self._drop_kept(job)
            return again

    def _fetch_files(self, job: IngestJob) -> None:
        """Bring the files of a job here that are in the database. Raises LibraryError."""
        assert self._library.jobs.leases is not None
        try:
            self._library.jobs.leases.write_files(job.id, [upload.path for upload in job.uploads])
        except OSError as error:
            raise LibraryError(f"the files could not be kept: {error.strerror or error}") from error

    def forget_ended(self, collection: CollectionKey) -> None:
        """Forget jobs that have ended, whose counts a deletion has made untrue; correct those that can be retried.

        In a collection that was deleted, none can be.
        """
        with self._lock:
            mine = [job for job in self._list_jobs(collection) if job.finished.is_set()]
            if not self._library.catalogue.has_collection(collection):
                for job in mine:
                    self._drop_kept(job)
            self._forget([job for job in mine if not job.can_retry])
            for job in mine:
                there = self._library.catalogue.read_pages([page.id for page in job.added])
                job.added = [page for page in job.added if page.id in there]
                job.unread = [page for page in job.unread if page.id in there]

    def forget_old(self) -> None:
        """Forget jobs that have ended a while ago, and remove files that are kept too long or are too many."""
        now = time.time()
        with self._lock:
            ended = sorted(
                (job for job in self._jobs if job.finished.is_set()), key=lambda job: job.ended, reverse=True
            )
            size, kept = 0, self._measure_kept([job.id for job in ended if job.keep_until])
            for number, job in enumerate(ended):
                size += kept.get(job.id, 0)
                late = number >= ENDED_KEPT or now > job.keep_until or size > self._settings.retry_bytes
                if job.keep_until and late:
                    self._drop_kept(job)
            old = [job for job in ended if not job.keep_until and now - job.ended > ENDED_S]
            self._forget([*old, *ended[ENDED_KEPT:]])

    def _measure_kept(self, jobs: Sequence[str]) -> dict[str, int]:
        """Return the bytes of the files that are kept to be tried again."""
        if jobs and self._library.jobs.leases is not None:
            with log_library_errors():
                return self._library.jobs.leases.measure_files()
        return {job: self._kept.measure(job) for job in jobs}

    def _drop_kept(self, job: IngestJob) -> None:
        if not job.keep_until:
            return
        job.keep_until = 0.0
        with log_library_errors():
            self._library.jobs.stop_keeping(job.id)
        self._kept.remove(job.id)

    def _forget(self, jobs: Sequence[IngestJob]) -> None:
        if not jobs:
            return
        with self._lock:
            with self._listing:
                self._jobs = [job for job in self._jobs if job not in jobs]
            with log_library_errors():
                self._library.jobs.delete([job.id for job in jobs if job.state != "stopped"])

    # Stopping

    def stop(self) -> None:
        """Begin no further page, as for a shutdown: the jobs go on with the next start."""
        with self._lock:
            self._stopping = True
        self._runner.stop()

    def close(self) -> None:
        """Stop, and wait for the pages that are with the worker."""
        self.stop()
        self._runner.close()
        if self._sharing is not None:
            self._sharing.close()
