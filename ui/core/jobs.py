"""An ingest job as its owner sees it: what it adds, how far it is, what it left out and why."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from serving.errors import GONE, BusyError, NotFoundError, NotReadyError, ServingError, UnauthorizedError
from serving.library.catalogue import FingerprintError
from serving.library.database import LibraryError, StoreUnavailableError
from serving.library.jobs import SkipRow
from serving.library.records import CollectionKey, StoredPage
from ui.access.uploads import Upload
from ui.core.time_left import PageCosts
from ui.servers.target import Target

ENDS_A_JOB = (UnauthorizedError, NotFoundError, BusyError, NotReadyError, LibraryError, FingerprintError)
"""Faults of the worker, the disk or the collection: every further page would meet them. Others are this page's own."""
UNEXPECTED = "something went wrong here that was not foreseen; the log of this page says more"
STORE_PAUSE_S = 1.0
"""Between two tries to reach the database that several machines share."""
WHOLE_FILE = 0
"""The page number of a file that was left out as a whole."""
log = logging.getLogger(__name__)
T = TypeVar("T")
JobState = Literal["waiting", "running", "paused", "done", "cancelled", "failed", "stopped"]
"""`stopped`: the page stops in the middle of it, and its next start goes on."""


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file or page that was not added."""

    file: str
    reason: str
    known: bool = False
    """Whether it is in the collection already: nothing is wrong with it."""
    upload: int = -1
    """The number of its file among the job's uploads."""
    page: int = WHOLE_FILE


@dataclass(eq=False)
class IngestJob:
    """One upload of files into a collection. The page's threads change it, under `lock`."""

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
    seconds_left: float | None = None
    """None as long as nobody can tell."""
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    """Cannot be guessed: whoever has it may pause, resume and cancel the job."""
    owner: str = ""
    """Takes turns with the other owners."""
    only: frozenset[tuple[int, str]] = frozenset()
    """Takes nothing but these files and pages, each with its upload's number; all, if there are none."""
    continued: bool = False
    """Whether it was begun by a page that has ended since."""
    keep_until: float = 0.0
    """When the files that are kept to be tried again go; 0: there are none."""
    asked: float = field(default_factory=time.time)
    ended: float = 0.0
    left: Counter[str] = field(default_factory=Counter)
    """Pages to come, by kind."""
    costs: PageCosts = field(default_factory=PageCosts)
    worked: float = 0.0
    """Seconds until it was paused last, or until the restart."""
    began: float = 0.0
    """The monotonic clock when it went on; 0 while it does not."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    cancelled: threading.Event = field(default_factory=threading.Event)
    ending: threading.Event = field(default_factory=threading.Event)
    """It was cancelled, or the page stops: nothing is waited for any more."""
    finished: threading.Event = field(default_factory=threading.Event)

    @property
    def seconds(self) -> float:
        return self.worked + (time.monotonic() - self.began if self.began else 0.0)

    @property
    def pages_per_minute(self) -> float:
        return 60 * len(self.added) / self.seconds if self.seconds > 0 else 0.0

    @property
    def failures(self) -> list[SkippedFile]:
        """What was left out though it is not in the collection."""
        with self.lock:
            return [item for item in self.skipped if not item.known]

    @property
    def can_retry(self) -> bool:
        return bool(self.keep_until) and self.finished.is_set()

    def start_clock(self) -> None:
        self.began = self.began or time.monotonic()

    def stop_clock(self) -> None:
        self.worked, self.began = self.seconds, 0.0

    def count_page(self, kind: str) -> None:
        """Note that a page needs no further work."""
        with self.lock:
            self.done += 1
            self.left[kind] -= 1

    def skip(self, item: SkippedFile) -> None:
        with self.lock:
            self.skipped.append(item)

    def reach_store(self, call: Callable[[], T]) -> T:
        """Return what a call of the library returns; while the store does not answer, try again until the job ends."""
        while True:
            try:
                return call()
            except StoreUnavailableError:
                if self.ending.wait(STORE_PAUSE_S):
                    raise

    @contextmanager
    def skip_on_error(
        self, file: str, verb: str = "read", upload: int = -1, page: int = WHOLE_FILE
    ) -> Iterator[list[SkippedFile]]:
        """Skip a file or page with its error as the reason, unless every other one would meet that error.

        Yields a list that holds what was skipped, if it was.
        """
        skipped: list[SkippedFile] = []
        try:
            yield skipped
        except ENDS_A_JOB:
            raise
        except Exception as error:
            skipped.append(SkippedFile(file, explain_skip(error, verb), upload=upload, page=page))
            self.skip(skipped[0])


def explain_skip(error: Exception, verb: str) -> str:
    """Return why a file or page was skipped. `verb`: what could not be done with it."""
    if isinstance(error, ServingError):
        return error.message
    if isinstance(error, FileNotFoundError):
        return GONE
    if isinstance(error, OSError):
        log.error("a file or page could not be %s", verb, exc_info=error)
        return f"it could not be {verb}: {error.strerror or error}"
    log.error("a file or page could not be added", exc_info=error)
    return UNEXPECTED


def as_skip_row(item: SkippedFile) -> SkipRow:
    return SkipRow(item.upload, item.file, item.page, item.reason, item.known)
