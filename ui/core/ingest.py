"""Uploads to pages in the library, with progress and cancel.

A job lives on the server: closing or reloading the page does not end it, and every browser shows the same state. One
job of a collection runs at a time; the pages it has added stay, however it ends. Independent of Gradio.

```
a job's thread   files opened, pages in order ──> drawn, a few ahead ──> embedded and kept, a few at once
```
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from serving.client import PagePayload
from serving.documents.archives import is_clutter, is_zip, unpack_members
from serving.documents.files import open_file
from serving.documents.images import encode_jpeg, encode_thumbnail
from serving.documents.page import Line, PageFile
from serving.documents.parser_pool import ParserPool
from serving.errors import GONE, BusyError, NotFoundError, NotReadyError, ServingError, UnauthorizedError
from serving.library.catalogue import CollectionGoneError, FingerprintError
from serving.library.database import LibraryError
from serving.library.library import Library
from serving.library.records import CollectionKey, NewPage, StoredPage
from serving.settings import Settings
from serving.system.display_names import display_path
from ui.access.uploads import Upload
from ui.servers.target import Target

ENDS_A_JOB = (UnauthorizedError, NotFoundError, BusyError, NotReadyError, LibraryError, FingerprintError)
"""Faults of the worker, the disk or the collection: every further page would meet them. Others are this page's own."""
ENDED_S = 600.0
"""A page that is opened so long after an upload shows how it ended."""
UNEXPECTED = "something went wrong here that was not foreseen; the log of this page says more"
DELETED = "the collection was deleted"
log = logging.getLogger(__name__)
JobState = Literal["waiting", "running", "done", "cancelled", "failed"]


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file or page that was not added."""

    file: str
    reason: str
    known: bool = False
    """Whether it is in the collection already: nothing is wrong with it."""


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """An upload that can be read, with its content hash."""

    upload: Upload
    digest: str
    file: PageFile


@dataclass(frozen=True, slots=True)
class PageToAdd:
    """A page that is not in the collection yet."""

    source: OpenedFile
    number: int

    @property
    def name(self) -> str:
        name = self.source.upload.name
        return name if self.source.file.count == 1 else f"{name}, page {self.number}"


EncodedPage = tuple[bytes, tuple[Line, ...] | None, bytes, tuple[int, int]]
"""A page as it is sent and kept, a tenth of the size of its pixels; its text layer, thumbnail, width and height."""


@dataclass
class IngestJob:
    """One upload of files into a collection. Its own threads change it, under `lock`."""

    collection: CollectionKey
    uploads: Sequence[Upload]
    target: Target
    """The server that embeds these pages; others may be chosen meanwhile."""
    state: JobState = "waiting"
    total: int = 0
    done: int = 0
    added: list[StoredPage] = field(default_factory=list)
    skipped: list[SkippedFile] = field(default_factory=list)
    unread: list[StoredPage] = field(default_factory=list)
    """Added, but no text could be read on them."""
    error: str = ""
    began: float = 0.0
    ended: float = 0.0
    asked: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)
    cancelled: threading.Event = field(default_factory=threading.Event)
    finished: threading.Event = field(default_factory=threading.Event)

    @property
    def seconds(self) -> float:
        return 0.0 if not self.began else (self.ended or time.monotonic()) - self.began

    @property
    def pages_per_minute(self) -> float:
        return 60 * len(self.added) / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        return None if not self.done else self.seconds / self.done * (self.total - self.done)

    def skip(self, file: str, reason: str, known: bool = False) -> None:
        with self.lock:
            self.skipped.append(SkippedFile(file, reason, known))

    @contextmanager
    def skip_on_error(self, file: str, verb: str = "read") -> Iterator[None]:
        """Skip a file or page with its error as the reason, unless every other one would meet that error."""
        try:
            yield
        except ENDS_A_JOB:
            raise
        except ServingError as error:
            self.skip(file, error.message)
        except FileNotFoundError:
            self.skip(file, GONE)
        except OSError as error:
            log.exception("a file or page could not be %s", verb)
            self.skip(file, f"it could not be {verb}: {error.strerror or error}")
        except Exception:
            log.exception("a file or page could not be added")
            self.skip(file, UNEXPECTED)


class Ingestor:
    """The jobs of a page, and the threads that they share."""

    def __init__(self, first: Target, library: Library, settings: Settings, parsers: ParserPool) -> None:
        """`first` embeds the pages of jobs that name no target."""
        self._first = first
        self._library = library
        self._settings = settings
        self._parsers = parsers
        self._jobs: list[IngestJob] = []
        self._running: dict[str, IngestJob] = {}
        """The one of each collection."""
        self._closing = False
        self._turn = threading.Lock()
        self._unpacked = settings.data / "unpacked"
        shutil.rmtree(self._unpacked, ignore_errors=True)  # of a job that was killed
        self._runner = ThreadPoolExecutor(settings.max_jobs, thread_name_prefix="ingest")
        # For each job: those that wait for a slow page must not keep another job's from being drawn.
        self._drawing = ThreadPoolExecutor(settings.max_jobs * settings.pages_ahead, thread_name_prefix="draw")
        # The worker reads one page on each core: one more keeps it busy, and a cancel waits for few.
        self._in_flight = settings.pages_ahead + 1
        self._sending = ThreadPoolExecutor(self._in_flight, thread_name_prefix="page")

    def start(self, collection: CollectionKey, uploads: Sequence[Upload], target: Target | None = None) -> IngestJob:
        job = IngestJob(collection, list(uploads), target or self._first)
        if self._closing:
            raise NotReadyError("the page is stopping", retry_after=5)
        self._library.check_writable()
        with self._turn:
            old = [job for job in self._jobs[:-19] if not job.finished.is_set()]
            self._jobs = [*old, *self._jobs[-19:], job]
        self._run_waiting()
        return job

    def _run_waiting(self) -> None:
        """Begin the oldest job of each collection that has none running, as many as there may be."""
        with self._turn:
            for job in self._jobs:
                if self._closing or len(self._running) >= self._settings.max_jobs:
                    return
                if not job.finished.is_set() and job.collection not in self._running:
                    self._running[job.collection] = job
                    self._runner.submit(self._run, job)

    def active_job(self, collection: CollectionKey) -> IngestJob | None:
        """Return the collection's oldest job that has not ended."""
        return next((job for job in self._jobs_of(collection) if not job.finished.is_set()), None)

    def recent_jobs(self, collection: CollectionKey) -> list[IngestJob]:
        """Return the collection's newest job and those it had to wait for, until a while after its end."""
        jobs = self._jobs_of(collection)
        if not jobs or (jobs[-1].ended and time.monotonic() - jobs[-1].ended > ENDED_S):
            return []
        return [job for job in jobs if not job.finished.is_set() or job.ended >= jobs[-1].asked]

    def forget_ended(self, collection: CollectionKey) -> None:
        """Forget jobs that have ended, as after a deletion, which makes their counts untrue."""
        with self._turn:
            self._jobs = [job for job in self._jobs if job.collection != collection or not job.finished.is_set()]

    def _jobs_of(self, collection: CollectionKey) -> list[IngestJob]:
        return [job for job in self._jobs if job.collection == collection]

    def needed_files(self) -> set[Path]:
        """Return the uploads that jobs have still to read."""
        return {upload.path for job in self._jobs if not job.finished.is_set() for upload in job.uploads}

    def cancel(self, collection: CollectionKey) -> None:
        """End the collection's jobs; pages that are with the worker already are still kept."""
        for job in self._jobs_of(collection):
            job.cancelled.set()

    def cancel_all(self) -> None:
        """Begin no further page and no waiting job, as for a shutdown."""
        with self._turn:
            self._closing = True
        for job in self._jobs:
            job.cancelled.set()

    def close(self) -> None:
        self.cancel_all()
        for pool in (self._runner, self._drawing, self._sending):
            pool.shutdown(cancel_futures=True)
        for job in self._jobs:
            if not job.finished.is_set():
                job.state = "cancelled"
                job.finished.set()

    def _run(self, job: IngestJob) -> None:
        job.began = time.monotonic()
        job.state = "running"
        try:
            job.target.check_fingerprint(self._library, job.collection)
            self._unpacked.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=self._unpacked, ignore_cleanup_errors=True) as folder:
                self._add_all(job, self._open_all(job, Path(folder)))
            self._library.catalogue.read_collection(job.collection)  # raises if it was deleted
            job.state = "cancelled" if job.cancelled.is_set() else "done"
        except CollectionGoneError:
            with job.lock:
                job.added, job.unread = [], []
            job.state, job.error = "failed", DELETED
        except ServingError as error:
            job.state, job.error = "failed", error.message
        except OSError as error:
            log.exception("an upload failed")
            job.state, job.error = "failed", f"the data folder cannot be used: {error.strerror or error}"
        except Exception:
            log.exception("an upload failed")
            job.state, job.error = "failed", UNEXPECTED
        finally:
            job.ended = time.monotonic()
            with self._turn:
                del self._running[job.collection]
                job.finished.set()
            self._run_waiting()

    def _open_all(self, job: IngestJob, folder: Path) -> list[OpenedFile]:
        """Return the files that can be opened: the total is known before the first page is embedded."""
        files = []
        parse = partial(self._parsers.run, cancelled=job.cancelled)
        for upload in self._expand_zips(job, folder):
            if job.cancelled.is_set():
                break
            with job.skip_on_error(upload.name):
                try:
                    found = open_file(upload.path, self._settings, parse)
                except NotReadyError:
                    if job.cancelled.is_set():
                        break
                    raise
                with upload.path.open("rb") as stream:
                    files.append(OpenedFile(upload, hashlib.file_digest(stream, "sha256").hexdigest(), found))
                with job.lock:
                    job.total += found.count
        return files

    def _expand_zips(self, job: IngestJob, folder: Path) -> Iterator[Upload]:
        """Yield the uploads, and in place of a zip its members."""
        for number, upload in enumerate(job.uploads):
            if is_clutter(upload.name):
                continue
            with job.skip_on_error(upload.name, "unpacked"):
                if not is_zip(upload.path):
                    yield upload
                    continue
                inside = folder / f"{number}"
                inside.mkdir()
                for member in unpack_members(upload.path, inside, self._settings):
                    name = display_path(f"{upload.name}/{member.name}")
                    if isinstance(member.found, Path):
                        yield Upload(member.found, name)
                    else:
                        job.skip(name, member.found.message)

    def _add_all(self, job: IngestJob, files: Sequence[OpenedFile]) -> None:
        running: set[Future[None]] = set()
        try:
            with closing(self._draw_ahead(job, files)) as pages:
                for page, drawing in pages:
                    running.add(self._sending.submit(self._add_page, job, page, drawing))
                    while len(running) >= self._in_flight:
                        running = wait_for_one(running)
            while running:
                running = wait_for_one(running)
        finally:
            wait(running)  # pages that are with the worker already are still kept, also after a failure

    def _draw_ahead(
        self, job: IngestJob, files: Sequence[OpenedFile]
    ) -> Generator[tuple[PageToAdd, Future[EncodedPage]], None, None]:
        """Yield pages in their order, each when it has been drawn or could not be, while the next ones are drawn."""
        ahead: deque[tuple[PageToAdd, Future[EncodedPage]]] = deque()
        new = self._find_new_pages(job, files)
        try:
            while not job.cancelled.is_set():
                for page in islice(new, self._settings.pages_ahead - len(ahead)):
                    ahead.append((page, self._drawing.submit(encode_page, page)))
                if not ahead:
                    return
                wait([ahead[0][1]])
                yield ahead.popleft()
        finally:
            for _, drawing in ahead:
                drawing.cancel()
            wait(drawing for _, drawing in ahead)

    def _find_new_pages(self, job: IngestJob, files: Sequence[OpenedFile]) -> Iterator[PageToAdd]:
        sent: dict[str, dict[int, str]] = {}
        for one in files:
            name, count = one.upload.name, one.file.count
            # A twin in the same upload is on its way already, though not in the library yet.
            known = sent.setdefault(one.digest, self._library.catalogue.find_pages(job.collection, one.digest))
            if known:
                pages = "" if len(known) == count else f"{len(known)} of its {count} pages are "
                first = next(iter(known.values()))
                job.skip(name, f"{pages}already here{'' if first == name else f' as {first}'}", known=True)
                with job.lock:
                    job.done += len(known)
            for number in range(1, count + 1):
                if number not in known:
                    known[number] = name
                    yield PageToAdd(one, number)

    def _add_page(self, job: IngestJob, page: PageToAdd, drawing: Future[EncodedPage]) -> None:
        if job.cancelled.is_set():
            return
        try:
            with job.skip_on_error(page.name):
                self._embed_and_keep(job, page, drawing.result())
        except ENDS_A_JOB:
            job.cancelled.set()
            raise
        with job.lock:
            job.done += 1

    def _embed_and_keep(self, job: IngestJob, page: PageToAdd, drawn: EncodedPage) -> None:
        picture, lines, thumbnail, (width, height) = drawn
        answer = job.target.client.embed_pages([PagePayload(picture, lines)], explain=True)
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
            lines=text.lines,
            line_vectors=text.vectors,
        )
        stored = self._library.add_page(job.collection, new, fingerprint=answer.fingerprint, model=answer.model)
        with job.lock:
            job.added.append(stored)
            if text.lines == ():
                job.unread.append(stored)


def encode_page(page: PageToAdd) -> EncodedPage:
    """Raises ServingError."""
    drawn = page.source.file.read(page.number - 1)
    assert drawn.image is not None
    return encode_jpeg(drawn.image), drawn.lines, encode_thumbnail(drawn.image), drawn.image.size


def wait_for_one(running: set[Future[None]]) -> set[Future[None]]:
    """Return those that still run once at least one has ended; raises as that one did."""
    done, left = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        future.result()
    return left
