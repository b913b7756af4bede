"""Work that takes a while, in a thread: it reports its progress, and can be stopped by whoever asked for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextvars import copy_context
from typing import Generic, TypeVar

from serving.errors import ServingError
from serving.library.exporting import Progress

T = TypeVar("T")
POLL_S = 0.2


class StoppedError(ServingError):
    """The work was stopped by whoever asked for it."""

    status, type, code = 409, "stopped", "stopped"


class BackgroundTask(Generic[T]):
    """One piece of work, from its start to its result."""

    def __init__(self, work: Callable[[Progress], T]) -> None:
        self._stopping = threading.Event()
        self._progress = (0, 0)
        self._future: Future[T] = Future()
        context = copy_context()  # the owner of the event is known by it
        threading.Thread(target=context.run, args=(self._run, work), daemon=True, name="task").start()

    def _run(self, work: Callable[[Progress], T]) -> None:
        try:
            self._future.set_result(work(self._step))
        except BaseException as error:
            self._future.set_exception(error)

    def _step(self, done: int, total: int) -> None:
        if self._stopping.is_set():
            raise StoppedError("it was stopped")
        self._progress = done, total

    def stop(self) -> None:
        self._stopping.set()

    def follow_progress(self) -> Iterator[tuple[int, int]]:
        """Yield (done, total), each time that changes, until the end; (0, 0) at first."""
        shown, ended = None, False
        while not ended:
            ended = bool(wait([self._future], 0 if shown is None else POLL_S).done)
            if self._progress != shown:
                shown = self._progress
                yield shown

    def result(self) -> T:
        """Return the result once it has ended. Raises as the work did."""
        return self._future.result()
