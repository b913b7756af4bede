"""Works on the jobs of a database together with other machines: each job at one, and all of them shown at each.

A turn does what somebody has chosen on another page, and reads what other machines have done. Every few seconds it also
renews the leases of this process, takes jobs of machines that died, and lets go of those that others have taken. The
`state` of a job that has not ended is what was chosen last, on whichever page; who holds its lease does that.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Container, Iterable
from typing import Protocol

from serving.library.database import LibraryError
from serving.library.job_leases import JobHead, JobLeases
from serving.library.jobs import JobRow
from serving.library.library import Library
from ui.core.job_runner import JobRunner

TURN_S = 5.0
"""A quarter of a lease, and how long it takes at most to see what nobody has told of."""
PACE_S = 0.5
CLAIMED = 4
"""Jobs that are taken in one turn: others take the rest meanwhile."""
GRACE_S = 20.0
"""After the database was gone, so long nobody takes jobs: who held them has as long to come back."""
log = logging.getLogger(__name__)


class SharedJobs(Protocol):
    """The jobs that a page knows."""

    def find_idle(self, jobs: Iterable[str]) -> list[str]:
        """Return those of the jobs that nobody works on here."""

    def go_on(self, row: JobRow) -> None:
        """Work on a job from now on."""

    def show(self, row: JobRow) -> None:
        """Note what another machine has done with a job."""

    def drop(self, there: Container[str]) -> None:
        """Forget all jobs that are no longer there, unless this process works on them."""

    def obey(self, job_id: str) -> None:
        """Pause, resume or cancel a job as it was chosen. Raises LibraryError."""


class JobSharing:
    """A thread that takes turns until it is closed, sooner where something has changed."""

    def __init__(self, library: Library, leases: JobLeases, runner: JobRunner, jobs: SharedJobs) -> None:
        self._library = library
        self._leases = leases
        self._runner = runner
        self._jobs = jobs
        self._seen: dict[str, JobHead] = {}
        self._claims = False
        self._claims_from = 0.0
        self._due = 0.0
        """The monotonic clock when leases are renewed next."""
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """From now on, go on with jobs of machines that died, the first of them before this returns.

        Raises LibraryError.
        """
        self._claims = True
        try:
            self.take_turn()
        finally:
            self.start()

    def start(self) -> None:
        """Start the thread, if it does not run yet."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="shared-jobs", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the thread, and let others go on with what this process has not finished."""
        self._closing.set()
        self._wake.set()
        if self._thread is None:
            return
        self._thread.join()
        try:
            self._leases.release()
        except LibraryError as error:  # they find out when the leases end
            log.warning("jobs could not be given back: %s", error.message)

    def _run(self) -> None:
        with self._library.changes.follow(None, self._wake.set):
            while not self._closing.is_set():
                self._wake.clear()
                try:
                    self.take_turn()
                except LibraryError as error:
                    self._due = 0.0
                    self._claims_from = time.monotonic() + GRACE_S
                    log.warning("jobs are not shared at the moment: %s", error.message)
                except Exception:
                    log.exception("a turn of shared jobs failed")
                self._closing.wait(PACE_S)
                self._wake.wait(max(0.0, self._due - time.monotonic()))

    def take_turn(self) -> None:
        """Raises LibraryError."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + TURN_S
            self._renew()
        self._look_around()

    def _renew(self) -> None:
        """Hold leases for longer, take those that have ended, and work on what is held and nothing else."""
        if self._claims and time.monotonic() >= self._claims_from and self._leases.claim(CLAIMED) == CLAIMED:
            self._due = 0.0  # there may be more
        before = self._runner.list_running()
        held = self._leases.renew()
        for job in before - held.keys():
            self._runner.lose(job)
        for job in self._jobs.find_idle(held):
            row = self._library.jobs.read(job)
            if row is not None and not row.ended:
                self._jobs.go_on(row)

    def _look_around(self) -> None:
        """Do what was chosen elsewhere, and note what others have done."""
        heads = {head.id: head for head in self._leases.list_heads()}
        idle = set(self._jobs.find_idle(heads))
        for job, head in heads.items():
            if job not in idle:
                if head.state == "cancelled" or (head.state == "paused") != self._runner.is_paused(job):
                    self._jobs.obey(job)
            elif self._seen.get(job) != head and (row := self._library.jobs.read(job)) is not None:
                self._jobs.show(row)
        self._jobs.drop(heads)
        self._seen = heads
