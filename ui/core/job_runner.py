"""Works on jobs: opens their files, and adds their pages one by one, in turn, in threads that all jobs share.

```
run ──> opened, a few jobs at once ──> turns, page by page: drawn ──> embedded and kept, a few at once ──> ended
```
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from serving.client import Answer, PagePayload
from serving.documents.parser_pool import ParserPool
from serving.errors import ServingError
from serving.library.catalogue import CollectionGoneError
from serving.library.database import LibraryError, StoreUnavailableError
from serving.library.jobs import AddedPage, JobPage
from serving.library.library import Library
from serving.library.records import NewPage
from serving.settings import Settings
from ui.core.job_queue import JobQueue
from ui.core.jobs import UNEXPECTED, IngestJob, JobState, SkippedFile, as_skip_row
from ui.core.kept_uploads import KeptUploads
from ui.core.page_source import EncodedPage, PageClaims, PageSource, PageToAdd, encode_page
from ui.core.send_gate import SendGates
from ui.core.time_left import Laps, PageCosts, WorkLeft, estimate_seconds_left

DELETED = "the collection was deleted"
FILES_GONE = "its files are gone: add them again"
log = logging.getLogger(__name__)


class FilesGoneError(ServingError):
    """All files of a job that goes on are gone, as with the disk of the page that began it."""


class JobRun:
    """The work on a job by this process: who is at it, and what ended it."""

    def __init__(self, job: IngestJob, source: PageSource) -> None:
        self.job = job
        self.source = source
        self.fault: Exception | None = None
        self.lost = False
        """Another process goes on with it."""
        self.opened = False
        self._entered = 0
        self._closed = False
        self._lock = threading.Lock()

    def enter(self) -> bool:
        """Return whether the caller may work on it; then it calls `leave`."""
        with self._lock:
            self._entered += not self._closed
            return not self._closed

    def leave(self) -> bool:
        """Return whether the caller is the last, who ends the job."""
        with self._lock:
            self._entered -= 1
            return self._closed and not self._entered

    def close(self) -> bool:
        """Let nobody enter any more. Returns whether nobody is at it, so that the caller ends the job."""
        with self._lock:
            was, self._closed = self._closed, True
            return not was and not self._entered


class JobRunner:
    """The threads of a page's jobs, and the order in which these get them."""

    def __init__(self, library: Library, settings: Settings, parsers: ParserPool, kept: KeptUploads) -> None:
        """Start nothing: threads start with the first job."""
        self._library = library
        self._settings = settings
        self._parsers = parsers
        self._kept = kept
        self._claims = PageClaims()
        self._runs: dict[str, JobRun] = {}
        """Those of jobs that have not ended."""
        self._stopping = False
        self._to_open = JobQueue(1)
        # Those of its pages that are slow to draw must not keep another job's from being drawn.
        self._gates = SendGates(settings)
        self._to_add = JobQueue(settings.pages_ahead, lambda job: self._gates.find(job.target).claim())
        self._threads: list[threading.Thread] = []
        self._starting = threading.Lock()
        self._laps = Laps()
        self._costs = PageCosts()
        """Of the pages of all jobs."""
        self._measuring = threading.Lock()
        shutil.rmtree(settings.data / "unpacked", ignore_errors=True)  # of a job that was killed

    def run(self, job: IngestJob, added: Sequence[AddedPage] = ()) -> None:
        """Let a job take turns. `added`: its pages from before a restart."""
        source = PageSource(job, self._library, self._settings, self._parsers, self._claims, added)
        self._runs[job.id] = JobRun(job, source)
        self._gates.find(job.target)
        self._start_threads()
        self._to_open.add(job)

    def _start_threads(self) -> None:
        """Start those that are missing: one for each page that can be drawn or with a server at the same time."""
        with self._starting:
            loops = [self._open_jobs] * self._settings.max_jobs + [self._add_pages] * self._gates.count_places()
            for number in range(len(self._threads), 0 if self._stopping else len(loops)):
                thread = threading.Thread(target=loops[number], name=f"ingest-{number}", daemon=True)
                self._threads.append(thread)
                thread.start()

    def resume(self, job: IngestJob) -> None:
        """Let a paused job take turns again."""
        run = self._runs.get(job.id)
        with job.lock:
            if run is None or job.state != "paused":
                return
            job.state = "running" if run.opened else "waiting"
            if run.opened:
                job.start_clock()
        self._restart_laps()
        self._to_open.wake()
        self._to_add.wake()

    def cancel(self, job: IngestJob) -> None:
        """End a job; pages that are with the worker already are still kept."""
        job.cancelled.set()
        job.ending.set()
        if (run := self._runs.get(job.id)) is not None:
            self._close_run(run)

    def lose(self, job: str) -> None:
        """Let go of a job without an end: another process has it."""
        if (run := self._runs.get(job)) is not None:
            run.lost = True
            run.job.cancelled.set()
            run.job.ending.set()
            self._close_run(run)

    def is_paused(self, job: str) -> bool:
        """Return whether a job that this process works on is paused."""
        run = self._runs.get(job)
        return run is not None and run.job.state == "paused"

    def list_running(self) -> set[str]:
        """Return the ids of the jobs that this process works on."""
        return set(self._runs)

    def stop(self) -> None:
        """Begin no further page. Jobs end as they are, to go on with the next start."""
        self._stopping = True
        self._to_open.close()
        self._to_add.close()
        for run in list(self._runs.values()):
            run.job.ending.set()
            self._close_run(run)

    def close(self) -> None:
        """Wait, once stopped, for the pages that are with the worker."""
        for thread in self._threads:
            thread.join()

    # Turns

    def _open_jobs(self) -> None:
        while (job := self._to_open.take()) is not None:
            self._to_open.remove(job)
            self._to_open.release(job)
            if (run := self._runs.get(job.id)) is not None:
                self._work(run, self._open)

    def _add_pages(self) -> None:
        while (job := self._to_add.take()) is not None:
            run = self._runs.get(job.id)
            if run is None or not self._work(run, self._add_next):
                self._to_add.remove(job)  # it ended while its files were opened
                self._to_add.release(job)
            self._gates.find(job.target).free()
            self._to_add.wake()

    def _work(self, run: JobRun, step: Callable[[JobRun], None]) -> bool:
        """Take a step of a job, and end the job if it was the last one. Returns False where none may be taken."""
        if not run.enter():
            return False
        try:
            step(run)
        except Exception as error:
            self._fail(run, error)
        if run.leave():
            self._end(run)
        return True

    def _fail(self, run: JobRun, error: Exception) -> None:
        """Let a fault of all pages end a job, unless it was cancelled before."""
        if not run.job.cancelled.is_set():
            run.fault = error
        run.job.cancelled.set()
        self._close_run(run)

    def _close_run(self, run: JobRun) -> None:
        """Let a job take no further turn, and end it if nobody is at one."""
        self._to_open.remove(run.job)
        self._to_add.remove(run.job)
        if run.close():
            self._end(run)

    # Steps

    def _open(self, run: JobRun) -> None:
        job = run.job
        with job.lock:
            run.opened = True
            if job.state == "waiting":
                job.state = "running"
                job.start_clock()
        if job.continued and self._library.jobs.leases is not None:
            places = [upload.path for upload in job.uploads]
            job.reach_store(partial(self._library.jobs.leases.write_files, job.id, places))
        if job.continued and job.uploads and not any(upload.path.exists() for upload in job.uploads):
            raise FilesGoneError(FILES_GONE)
        job.reach_store(lambda: job.target.check_fingerprint(self._library, job.collection))
        run.source.open()
        self._gates.ask(job.target)
        self._start_threads()
        job.reach_store(lambda: self._library.jobs.set_total(job.id, job.total))
        self._library.note_change(job.collection)
        self._restart_laps()
        self._to_add.add(job)

    def _add_next(self, run: JobRun) -> None:
        """Take the next page of a job, draw it, and have it embedded and kept."""
        page = self._take_page(run)
        if page is None:
            return
        try:
            drawn = self._draw(run.job, page)
            if drawn is not None:
                self._send(run.job, page, drawn)
        finally:
            self._claims.release(run.job.collection, page)

    def _take_page(self, run: JobRun) -> PageToAdd | None:
        page = None
        try:
            page = run.source.take()
        finally:
            if page is None:
                self._to_add.release(run.job)
        if page is None:
            self._close_run(run)
        return page

    def _draw(self, job: IngestJob, page: PageToAdd) -> EncodedPage | None:
        """Return the page as it is sent; None where it was skipped. Its turn ends here."""
        drawn = None
        try:
            with job.skip_on_error(page.name, upload=page.source.number, page=page.number) as skipped:
                drawn = encode_page(page)
        finally:
            self._to_add.release(job)
        if skipped:
            self._count_page(job, page, skipped)
        return drawn

    def _send(self, job: IngestJob, page: PageToAdd, drawn: EncodedPage) -> None:
        gate = self._gates.ask(job.target)
        with job.skip_on_error(page.name, upload=page.source.number, page=page.number) as skipped:
            with gate.hold() as passage:
                if job.cancelled.is_set() or self._stopping:
                    return
                picture, lines, _, _ = drawn
                answer = job.target.client.embed_pages([PagePayload(picture, lines)], explain=True)
                passage.boot_id = answer.boot_id
            self._keep(job, page, drawn, answer)
        self._count_page(job, page, skipped)

    def _keep(self, job: IngestJob, page: PageToAdd, drawn: EncodedPage, answer: Answer) -> None:
        picture, layer, thumbnail, (width, height) = drawn
        text = answer.pages[0]
        new = NewPage(
            file=page.source.upload.name,
            sha256=page.source.digest,
            page=page.number,
            pages=page.source.file.count,
            width=width,
            height=height,
            picture=picture,
            thumbnail=thumbnail,
            vector=answer.vectors[0],
            lines=text.or_layer(layer),
            line_vectors=text.vectors,
            original=page.source.upload.path if self._settings.keep_originals else None,
        )
        add = partial(self._library.add_page, fingerprint=answer.fingerprint, model=answer.model)
        by = JobPage(job.id, job.seconds)
        stored = job.reach_store(lambda: add(job.collection, new, job=by))
        with job.lock:
            job.added.append(stored)
            if text.lines == ():
                job.unread.append(stored)

    # Progress

    def _count_page(self, job: IngestJob, page: PageToAdd, skipped: Sequence[SkippedFile]) -> None:
        """Note that a page was added or skipped, and what that means for the time that is left."""
        for row in map(as_skip_row, skipped):
            job.reach_store(partial(self._library.jobs.add_skip, job.id, row))
        kind = page.source.kind
        job.count_page(kind)
        self._library.note_change(job.collection)
        with self._measuring:
            lap = self._laps.lap(time.monotonic())
            if lap is not None:
                job.costs.record(kind, lap)
                self._costs.record(kind, lap)
            self._update_estimates()

    def _update_estimates(self) -> None:
        shares = self._to_add.list_shares()
        work = {job: self._measure_work(job, share) for job, share in shares.items()}
        for job, own in work.items():
            if job.costs.has_enough:
                others = [other for owner, other in work.items() if owner is not job]
                job.seconds_left = estimate_seconds_left(own, others)

    def _measure_work(self, job: IngestJob, share: float) -> WorkLeft:
        with job.lock:
            left = {kind: pages for kind, pages in job.left.items() if pages > 0}
        return WorkLeft(sum(left.values()), job.costs.estimate(left, self._costs), share)

    def _restart_laps(self) -> None:
        """Measure anew where no job was running: the worker may have to start."""
        if not self._to_add.list_shares():
            with self._measuring:
                self._laps.restart()

    # The end

    def _end(self, run: JobRun) -> None:
        job = run.job
        run.source.close()
        job.stop_clock()
        job.seconds_left = None
        if self._stopping and (run.lost or run.fault is not None or not job.cancelled.is_set()):
            job.state = "stopped"
        elif run.lost:
            job.state, job.cancelled, job.ending = "waiting", threading.Event(), threading.Event()
            self._runs.pop(job.id, None)
            return
        else:
            job.state, job.error = self._judge(run)
            self._settle(run)
        job.ended = time.time()
        self._runs.pop(job.id, None)
        job.finished.set()

    def _judge(self, run: JobRun) -> tuple[JobState, str]:
        """Return how a job ended, and why it failed if it did."""
        job = run.job
        try:
            if run.fault is not None:
                raise run.fault
            job.reach_store(lambda: self._library.catalogue.read_collection(job.collection))
        except CollectionGoneError:
            with job.lock:
                job.added, job.unread = [], []
            return "failed", DELETED
        except ServingError as error:
            if job.cancelled.is_set() and isinstance(error, StoreUnavailableError):
                return "cancelled", ""
            return "failed", error.message
        except OSError as error:
            log.exception("an upload failed")
            return "failed", f"the data folder cannot be used: {error.strerror or error}"
        except Exception:
            log.exception("an upload failed")
            return "failed", UNEXPECTED
        return ("cancelled" if job.cancelled.is_set() else "done"), ""

    def _settle(self, run: JobRun) -> None:
        """Write down how a job ended, and remove its files but those that may be tried again."""
        job = run.job
        numbers = self._find_retried(run)
        keep_until = time.time() + self._settings.retry_s if numbers and self._settings.retry_s else 0.0
        with job.lock:
            skips = [as_skip_row(item) for item in job.skipped]
        try:
            kept = numbers if keep_until else ()
            job.reach_store(lambda: self._library.jobs.end(job.id, job.state, job.error, keep_until, skips, kept))
        except LibraryError as error:  # the next start goes on with it, and needs its files
            log.error("the end of an upload could not be written down: %s", error.message)
        else:
            # Where other machines can try them again, they are in the database.
            self._kept.remove_all_but(job.id, numbers if keep_until and self._library.jobs.leases is None else ())
        job.keep_until = keep_until
        self._library.note_change(job.collection)

    def _find_retried(self, run: JobRun) -> set[int]:
        """Return the numbers of the uploads that can be tried again."""
        job = run.job
        if job.state == "failed":
            gone = isinstance(run.fault, FilesGoneError) or job.error == DELETED
            return set() if gone else set(range(len(job.uploads)))
        return {item.upload for item in job.failures} if job.state == "done" else set()


@contextmanager
def log_library_errors() -> Iterator[None]:
    """Go on where a job's row could not be changed: the next start finds it as it was."""
    try:
        yield
    except LibraryError as error:
        log.error("a job could not be written down: %s", error.message)
