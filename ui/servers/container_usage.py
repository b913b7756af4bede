"""How long the containers of a server on Modal ran for a job: two bounds, each from facts that were seen.

At least: from the first to the last answer of each container, known by its boot id, without starts and idle times. At
most: the containers that Modal counts, read every other second, the larger of two neighbouring counts for the time
between them, and a whole window for those that are left. That has starts, and whatever others do on the same app.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from serving.client import Answer
from serving.cloud.modal_account import AccountError

COUNT_S = 2.0
"""Between two counts."""


@dataclass(frozen=True)
class Usage:
    """Container-seconds of a job."""

    containers: int
    """That have answered."""
    least_s: float
    most_s: float | None
    """None where Modal's counts could not be read."""


class UsageMeter:
    """Measures from `start` to `stop`. Thread-safe."""

    def __init__(self, read_runners: Callable[[], int], window_s: float) -> None:
        """`read_runners` asks Modal, and raises AccountError."""
        self._read_runners = read_runners
        self._window_s = window_s
        self._lives: dict[str, tuple[float, float]] = {}
        self._counts: list[tuple[float, int]] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="container counts", daemon=True)

    def note_answer(self, answer: Answer) -> None:
        now = time.monotonic()
        with self._lock:
            first, _ = self._lives.get(answer.boot_id, (now, now))
            self._lives[answer.boot_id] = first, now

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()
        self._count()

    def _run(self) -> None:
        self._count()
        while not self._ended.wait(COUNT_S):
            self._count()

    def _count(self) -> None:
        try:
            runners = self._read_runners()
        except AccountError:  # the next count stands for this one too
            return
        self._counts.append((time.monotonic(), runners))

    def read(self) -> Usage:
        with self._lock:
            lives = list(self._lives.values())
        least = sum(last - first for first, last in lives)
        return Usage(len(lives), least, sum_counts(self._counts, self._window_s))


def sum_counts(counts: list[tuple[float, int]], window_s: float) -> float | None:
    """Return the container-seconds of counts, given as (second, containers); None where there are fewer than two."""
    if len(counts) < 2:
        return None
    between = (max(one, other) * (end - begin) for (begin, one), (end, other) in pairwise(counts))
    return sum(between) + counts[-1][1] * window_s
