"""Uploads to pages in the library: jobs that take turns, can be paused, and go on after a restart.

A job lives on the server: closing or reloading the page does not end it, and every browser shows the same state. Its
row and its files outlive the process. The pages it has added stay, however it ends. Independent of Gradio.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from serving.documents.parser_pool import ParserPool
from serving.errors import BusyError, NotFoundError, NotReadyError
from serving.library.jobs import JobRow, SkipRow
from serving.library.library import Library
from serving.library.records import CollectionKey
from serving.settings import Settings
from ui.access.uploads import Upload
from ui.core.job_runner import JobRunner, log_library_errors
from ui.core.jobs import IngestJob, SkippedFile
from ui.core.kept_uploads import KeptUploads
from ui.servers.target import Target, Targets

ENDED_S = 600.0
"""A page that is opened so long after an upload shows how it ended."""
ENDED_KEPT = 100
"""The latest jobs that have ended and are still shown, or have files to be tried again."""


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
        self._stopping = False

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
            try:
                self._library.jobs.create(self._describe(job))
            except BaseException:
                self._kept.remove(job.id)
                raise
            self._jobs = [*self._jobs, job]
            self._runner.run(job)
        return job

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
        with self._lock:
            rows = self._library.jobs.list_all()
            self._kept.remove_unknown({row.id for row in rows if row.keep_until or not row.ended})
            for row in rows:
                job = self._restore(row)
                self._jobs = [*self._jobs, job]
                if not job.finished.is_set():
                    self._runner.run(job, row.pages)
            self.forget_old()

    def _restore(self, row: JobRow) -> IngestJob:
        pages = self._library.catalogue.read_pages([page.id for page in row.pages])
        skips = [skip for skip in row.skips if not skip.again]
        job = IngestJob(row.collection, self._kept.locate(row.files), self._targets.get_or_first(row.target))
        job.id, job.owner, job.continued = row.id, row.owner or row.collection, True
        job.only = frozenset((skip.upload, skip.file) for skip in row.skips if skip.again)
        job.added = [pages[page.id] for page in row.pages if page.id in pages]
        job.unread = [pages[page.id] for page in row.pages if page.unread and page.id in pages]
        job.skipped = [SkippedFile(skip.file, skip.reason, skip.known, skip.upload, skip.page) for skip in skips]
        job.total, job.done = row.total, row.total if row.ended else len(row.pages) + len(skips)
        job.worked = max((page.seconds for page in row.pages), default=0.0)
        job.asked, job.ended, job.error, job.keep_until = row.asked, row.ended, row.error, row.keep_until
        for state in ("done", "cancelled", "failed", "paused"):
            if row.state == state:
                job.state = state
        if job.ended:
            job.finished.set()
        return job

    # What a person may do with a job

    def pause(self, job: IngestJob) -> None:
        """Begin no further page of the job until `resume`, also after a restart. Raises LibraryError."""
        if job.finished.is_set() or job.cancelled.is_set() or job.state == "paused":
            return
        self._library.jobs.set_state(job.id, "paused")
        with job.lock:
            if not job.finished.is_set():
                job.state, job.seconds_left = "paused", None
                job.stop_clock()

    def resume(self, job: IngestJob) -> None:
        """Raises LibraryError."""
        if job.state == "paused":
            self._library.jobs.set_state(job.id, "running")
            self._runner.resume(job)

    def cancel(self, collection: CollectionKey) -> None:
        """End the collection's jobs; pages that are with the worker already are still kept."""
        for job in self._list_jobs(collection):
            if not job.finished.is_set():
                self.cancel_job(job)

    def cancel_job(self, job: IngestJob) -> None:
        """End one job, as `cancel`; of one that has ended, remove the files that were kept to try them again."""
        if job.finished.is_set():
            self._drop_kept(job)
        else:
            self._runner.cancel(job)

    def retry(self, job: IngestJob) -> IngestJob:
        """Return a job that adds what this one has skipped, or what it had left when it failed. Raises as `start`.

        Raises NotFoundError where the files are gone.
        """
        with self._lock:
            if not job.can_retry:
                raise NotFoundError("there is nothing to try again: add the files again", param="job")
            again = IngestJob(job.collection, job.uploads, job.target)
            again.only = job.only
            if job.state != "failed":
                again.only = frozenset((item.upload, item.file) for item in job.failures)
            self._begin(again)
            self._drop_kept(job)
            return again

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
            size = 0
            for number, job in enumerate(ended):
                size += self._kept.measure(job.id) if job.keep_until else 0
                late = number >= ENDED_KEPT or now > job.keep_until or size > self._settings.retry_bytes
                if job.keep_until and late:
                    self._drop_kept(job)
            old = [job for job in ended if not job.keep_until and now - job.ended > ENDED_S]
            self._forget([*old, *ended[ENDED_KEPT:]])

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
