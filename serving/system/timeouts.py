"""Deadlines, measured times, and pauses between starts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
LASTING_S = 60.0
"""A process that ran for so long did not end because of its start."""


class DeadlineExceeded(TimeoutError):
    """`run_with_deadline` had no result in time; a TimeoutError raised by the work is a different error."""


@contextmanager
def time_phase(phases: dict[str, float], name: str) -> Iterator[None]:
    began = time.perf_counter()
    try:
        yield
    finally:
        phases[name] = ms_since(began)


def ms_since(began: float) -> float:
    return (time.perf_counter() - began) * 1000


def run_with_deadline(seconds: float, work: Callable[[], T]) -> T:
    """Run `work` in a thread, left behind if it hangs. Raises DeadlineExceeded, and any error of `work`."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="run with deadline", daemon=True).start()
    try:
        return done.result(seconds)
    except TimeoutError:
        if done.done():
            raise
        raise DeadlineExceeded from None


def run_in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="stop", daemon=True).start()


@dataclass
class GrowingPause:
    """The pause before a process that keeps ending is started again; it grows with each early end in a row.

    `seconds`: the pauses after the first, second, ... early end; the last one from then on.
    """

    seconds: Sequence[float]
    ends: int = 0

    def reset(self) -> None:
        self.ends = 0

    def next_after(self, lived_s: float) -> float:
        """Return the seconds to wait after an end; `lived_s`: how long the process ran."""
        self.ends = 1 if lived_s >= LASTING_S else self.ends + 1
        return self.seconds[min(self.ends, len(self.seconds)) - 1]
