"""Whose turn it is: jobs in turn between their owners, then between the jobs of one owner.

An owner who has put in a thousand pages waits no longer, and lets nobody wait longer, than one who has put in two.
What an owner has put in last goes first among that owner's jobs. It is the one owner of this order; who takes a turn
asks here.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable

from ui.core.jobs import IngestJob


class JobQueue:
    """Jobs that wait for turns, of which each takes many. Thread-safe."""

    def __init__(self, most: int, claim: Callable[[IngestJob], bool] = lambda _: True) -> None:
        """`most`: turns that one job may have at the same time, so that a slow one leaves some to others.

        `claim`: takes a place at the server of a job and returns True, or False where all are taken.
        """
        self._most = most
        self._claim = claim
        self._owners: OrderedDict[str, deque[IngestJob]] = OrderedDict()
        """Owners and their jobs, in the order of their next turns."""
        self._busy: Counter[str] = Counter()
        self._closed = False
        self._changed = threading.Condition()

    def add(self, job: IngestJob) -> None:
        """Let a job take turns: the next of its owner, whose own place among the owners stays."""
        with self._changed:
            self._owners.setdefault(job.owner, deque()).appendleft(job)
            self._changed.notify()

    def remove(self, job: IngestJob) -> None:
        """Let a job take no turn any more. One that is not here is left alone."""
        with self._changed:
            jobs = self._owners.get(job.owner, deque())
            if job in jobs:
                jobs.remove(job)
            if not jobs:
                self._owners.pop(job.owner, None)

    def take(self) -> IngestJob | None:
        """Return the job whose turn it is, once there is one; None when the queue is closed. `release` ends a turn."""
        with self._changed:
            while not self._closed:
                if (job := self._find_next()) is not None:
                    self._changed.notify()  # there may be another turn: one thread looks, not all
                    return job
                self._changed.wait()
            return None

    def _find_next(self) -> IngestJob | None:
        for owner, jobs in self._owners.items():
            for job in jobs:
                if job.state != "paused" and self._busy[job.id] < self._most and self._claim(job):
                    self._owners.move_to_end(owner)
                    jobs.remove(job)
                    jobs.append(job)
                    self._busy[job.id] += 1
                    return job
        return None

    def release(self, job: IngestJob) -> None:
        with self._changed:
            self._busy[job.id] -= 1
            self._busy += Counter()  # forget those that have none
            self._changed.notify()

    def wake(self) -> None:
        """Look again: a job was resumed, or a place has become free."""
        with self._changed:
            self._changed.notify()

    def close(self) -> None:
        """Let nobody take a turn any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def list_shares(self) -> dict[IngestJob, float]:
        """Return the share of turns that each job gets now."""
        with self._changed:
            running = [[job for job in jobs if job.state != "paused"] for jobs in self._owners.values()]
        owners = [jobs for jobs in running if jobs]
        return {job: 1 / len(owners) / len(jobs) for jobs in owners for job in jobs}
