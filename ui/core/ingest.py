"""Uploads to pages in the library, with progress and cancel.

A job lives on the server: closing or reloading the page does not end it, and every browser that looks sees the same
state. One job of a collection runs at a time; what it has added stays, however it ends. Knows nothing of Gradio.

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
import uuid
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
TOLD_S = 600.0
"""How long a page that is opened tells how the last upload ended."""
UNEXPECTED = "something went wrong here that was not foreseen; the log of this page says more"
DELETED = "the collection was deleted"
log = logging.getLogger(__name__)
State = Literal["waiting", "running", "done", "cancelled", "failed"]


@dataclass(frozen=True, slots=True)
class Skipped:
    file: str
    reason: str
    known: bool = False
    """Nothing is wrong with it: it is in the collection already."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A page that is not in the collection yet."""

    upload: Upload
    digest: str
    file: PageFile
    number: int

    @property
    def name(self) -> str:
        return self.upload.name if self.file.count == 1 else f"{self.upload.name}, page {self.number}"


@dataclass(frozen=True, eq=False, slots=True)
class Drawn:
    """What is sent and kept of a page: a tenth of its pixels."""

    picture: bytes
    thumbnail: bytes
    width: int
    height: int
    lines: tuple[Line, ...] | None


@dataclass
class Job:
    """Changed by its own thread under `lock`; everybody else reads `snapshot`s."""

    collection: CollectionKey
    uploads: Sequence[Upload]
    target: Target
    """The server that reads these pages; others may be chosen meanwhile."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    state: State = "waiting"
    total: int = 0
    done: int = 0
    added: list[StoredPage] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
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


class Ingestor:
    def __init__(self, first: Target, library: Library, settings: Settings, parsers: ParserPool) -> None:
        """`first` reads the pages of jobs that name no target."""
        self._first = first
        self._library = library
        self._settings = settings
        self._parsers = parsers
        self._jobs: dict[str, Job] = {}
        self._running: dict[str, Job] = {}
        """By collection."""
        self._closing = False
        self._turn = threading.Lock()
        self._unpacked = settings.data / "unpacked"
        shutil.rmtree(self._unpacked, ignore_errors=True)  # of a job that was killed
        self._runner = ThreadPoolExecutor(settings.max_jobs, thread_name_prefix="ingest")
        # Of each job: those that wait for a slow page must not keep another job's from being drawn.
        self._drawing = ThreadPoolExecutor(settings.max_jobs * settings.pages_ahead, thread_name_prefix="draw")
        # The worker reads one page on each core: one more keeps it busy, and a cancel waits for few.
        self._in_flight = settings.pages_ahead + 1
        self._sending = ThreadPoolExecutor(self._in_flight, thread_name_prefix="page")

    def start(self, collection: CollectionKey, uploads: Sequence[Upload], target: Target | None = None) -> Job:
        job = Job(collection, list(uploads), target or self._first)
        if self._closing:
            raise NotReadyError("the page is stopping", retry_after=5)
        self._library.check_writable()
        self._jobs[job.id] = job
        for old in list(self._jobs.values())[:-20]:
            if old.finished.is_set():
                del self._jobs[old.id]
        self._run_waiting()
        return job

    def _run_waiting(self) -> None:
        """Begin the oldest job of each collection that has none running, as many as there may be."""
        with self._turn:
            for job in list(self._jobs.values()):
                if self._closing or len(self._running) >= self._settings.max_jobs:
                    return
                if not job.finished.is_set() and job.collection not in self._running:
                    self._running[job.collection] = job
                    self._runner.submit(self._run, job)

    def active(self, collection: CollectionKey) -> Job | None:
        """The job of this collection that has not ended, oldest first."""
        return next((job for job in self._of(collection) if not job.finished.is_set()), None)

    def recent(self, collection: CollectionKey) -> list[Job]:
        """The collection's newest job and those it had to wait for, until a while after its end."""
        jobs = self._of(collection)
        if not jobs or (jobs[-1].ended and time.monotonic() - jobs[-1].ended > TOLD_S):
            return []
        return [job for job in jobs if not job.finished.is_set() or job.ended >= jobs[-1].asked]

    def forget(self, collection: CollectionKey) -> None:
        """What ended is no longer told, as after a deletion, which makes it untrue."""
        for job in self._of(collection):
            if job.finished.is_set():
                self._jobs.pop(job.id, None)

    def _of(self, collection: CollectionKey) -> list[Job]:
        return [job for job in list(self._jobs.values()) if job.collection == collection]

    def needed(self) -> set[Path]:
        """Uploads that jobs have still to read."""
        return {upload.path for job in list(self._jobs.values()) if not job.finished.is_set() for upload in job.uploads}

    def cancel(self, collection: CollectionKey) -> None:
        """Ends the collection's jobs; pages that are with the worker already are still kept."""
        for job in self._of(collection):
            job.cancelled.set()

    def cancel_all(self) -> None:
        """For a shutdown: no further page is begun, and jobs that wait will not run."""
        with self._turn:
            self._closing = True
        for job in list(self._jobs.values()):
            job.cancelled.set()

    def close(self) -> None:
        self.cancel_all()
        self._runner.shutdown(cancel_futures=True)
        self._drawing.shutdown(cancel_futures=True)
        self._sending.shutdown(cancel_futures=True)
        for job in list(self._jobs.values()):
            if not job.finished.is_set():
                job.state = "cancelled"
                job.finished.set()

    def _run(self, job: Job) -> None:
        job.began = time.monotonic()
        job.state = "running"
        try:
            job.target.check(self._library, job.collection)
            with unpacking(self._unpacked) as folder:
                files = self._open_all(job, folder)
                self._add_all(job, files)
            self._library.catalogue.read_collection(job.collection)  # raises if it was deleted
            job.state = "cancelled" if job.cancelled.is_set() else "done"
        except CollectionGoneError:
            with job.lock:
                job.added, job.unread = [], []
            job.state, job.error = "failed", DELETED
        except ServingError as error:
            job.state, job.error = "failed", error.message
        except Exception:
            log.exception("an upload failed")
            job.state, job.error = "failed", UNEXPECTED
        finally:
            job.ended = time.monotonic()
            with self._turn:
                del self._running[job.collection]
                job.finished.set()
            self._run_waiting()

    def _open_all(self, job: Job, folder: Path) -> list[tuple[Upload, str, PageFile]]:
        """What can be opened, with its content hash, so that the total is known before the first page is embedded."""
        files = []
        parse = partial(self._parsers.run, cancelled=job.cancelled)
        for upload in self._single(job, folder):
            if job.cancelled.is_set():
                break
            try:
                found = open_file(upload.path, self._settings, parse)
                with upload.path.open("rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
            except NotReadyError:
                if job.cancelled.is_set():
                    break
                raise
            except ServingError as error:
                self._skip(job, upload.name, error.message)
            except OSError:
                self._skip(job, upload.name, GONE)
            except Exception:
                log.exception("a file could not be opened")
                self._skip(job, upload.name, UNEXPECTED)
            else:
                files.append((upload, digest, found))
                with job.lock:
                    job.total += found.count
        return files

    def _single(self, job: Job, folder: Path) -> Iterator[Upload]:
        """The uploads, and in place of a zip what is in it."""
        for number, upload in enumerate(job.uploads):
            if is_clutter(upload.name):
                continue
            inside = folder / f"{number}"
            try:
                if not is_zip(upload.path):
                    yield upload
                    continue
                inside.mkdir()
                for member in unpack_members(upload.path, inside, self._settings):
                    name = display_path(f"{upload.name}/{member.name}")
                    if isinstance(member.found, Path):
                        yield Upload(member.found, name)
                    else:
                        self._skip(job, name, member.found.message)
            except FileNotFoundError:
                self._skip(job, upload.name, GONE)
            except OSError as error:
                self._skip(job, upload.name, f"it could not be unpacked: {error.strerror}")
            except ServingError as error:
                self._skip(job, upload.name, error.message)

    def _add_all(self, job: Job, files: Sequence[tuple[Upload, str, PageFile]]) -> None:
        running: set[Future[None]] = set()
        try:
            with closing(self._drawn(job, files)) as pages:
                for page, drawing in pages:
                    running.add(self._sending.submit(self._add_page, job, page, drawing))
                    while len(running) >= self._in_flight:
                        running = settled(running)
            while running:
                running = settled(running)
        finally:
            wait(running)  # what is with the worker already is still kept, also after a failure

    def _drawn(
        self, job: Job, files: Sequence[tuple[Upload, str, PageFile]]
    ) -> Generator[tuple[Wanted, Future[Drawn]], None, None]:
        """Yield pages in their order, each when it has been drawn or could not be, while the next ones are drawn."""
        ahead: deque[tuple[Wanted, Future[Drawn]]] = deque()
        wanted = self._wanted(job, files)
        try:
            while not job.cancelled.is_set():
                for page in islice(wanted, self._settings.pages_ahead - len(ahead)):
                    ahead.append((page, self._drawing.submit(draw, page)))
                if not ahead:
                    return
                wait([ahead[0][1]])
                yield ahead.popleft()
        finally:
            for _, drawing in ahead:
                drawing.cancel()
            wait(drawing for _, drawing in ahead)

    def _wanted(self, job: Job, files: Sequence[tuple[Upload, str, PageFile]]) -> Iterator[Wanted]:
        sent: dict[str, dict[int, str]] = {}
        for upload, digest, file in files:
            # A twin in the same upload is on its way already, though not in the library yet.
            known = sent.setdefault(digest, self._library.catalogue.find_pages(job.collection, digest))
            if known:
                self._skip_known(job, upload, known, file)
            for number in range(1, file.count + 1):
                if number not in known:
                    known[number] = upload.name
                    yield Wanted(upload, digest, file, number)

    def _skip_known(self, job: Job, upload: Upload, known: dict[int, str], file: PageFile) -> None:
        pages = "" if len(known) == file.count else f"{len(known)} of its {file.count} pages are "
        name = next(iter(known.values()))
        self._skip(job, upload.name, f"{pages}already here{'' if name == upload.name else f' as {name}'}", True)
        with job.lock:
            job.done += len(known)

    def _add_page(self, job: Job, page: Wanted, drawing: Future[Drawn]) -> None:
        if job.cancelled.is_set():
            return
        try:
            stored, lines_found = self._embed_and_keep(job, page, drawing.result())
        except ENDS_A_JOB:
            job.cancelled.set()
            raise
        except ServingError as error:
            self._skip(job, page.name, error.message)
        except Exception:
            log.exception("a page could not be added")
            self._skip(job, page.name, UNEXPECTED)
        else:
            with job.lock:
                job.added.append(stored)
                if lines_found == 0:
                    job.unread.append(stored)
        with job.lock:
            job.done += 1

    def _embed_and_keep(self, job: Job, page: Wanted, drawn: Drawn) -> tuple[StoredPage, int | None]:
        answer = job.target.client.embed_pages([PagePayload(drawn.picture, drawn.lines)], explain=True)
        text = answer.pages[0]
        new = NewPage(
            file=page.upload.name,
            sha256=page.digest,
            page=page.number,
            pages=page.file.count,
            width=drawn.width,
            height=drawn.height,
            picture=drawn.picture,
            thumbnail=drawn.thumbnail,
            vector=answer.vectors[0],
            lines=text.lines,
            line_vectors=text.vectors,
        )
        stored = self._library.add_page(job.collection, new, fingerprint=answer.fingerprint, model=answer.model)
        return stored, None if text.lines is None else len(text.lines)

    @staticmethod
    def _skip(job: Job, file: str, reason: str, known: bool = False) -> None:
        with job.lock:
            job.skipped.append(Skipped(file, reason, known))


def draw(wanted: Wanted) -> Drawn:
    """Raises ServingError."""
    page = wanted.file.read(wanted.number - 1)
    assert page.image is not None
    return Drawn(encode_jpeg(page.image), encode_thumbnail(page.image), *page.image.size, page.lines)


@contextmanager
def unpacking(parent: Path) -> Iterator[Path]:
    """A folder for what is in zips, as long as a job runs. Raises LibraryError."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        made = TemporaryDirectory(dir=parent, ignore_cleanup_errors=True)
    except OSError as error:
        raise LibraryError(f"cannot use the folder {parent.name} of the data folder: {error.strerror}") from error
    with made as folder:
        yield Path(folder)


def settled(running: set[Future[None]]) -> set[Future[None]]:
    """Waits for at least one; raises what it raised."""
    done, left = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        future.result()
    return left
