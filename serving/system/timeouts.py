"""Work that must not hold up its caller: with a deadline, or in the background. And how long something took."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class DeadlineExceeded(TimeoutError):
    """Of `run_with_deadline`: no answer came in time. A TimeoutError of the work's own is none."""


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
    """In a thread of its own, which is left behind if it hangs. Raises Late, and whatever `work` raises."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="within", daemon=True).start()
    try:
        return done.result(seconds)
    except TimeoutError:
        if done.done():
            raise
        raise DeadlineExceeded from None


def run_in_background(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="stop", daemon=True).start()
