"""Work that takes a while and tells how far it is: in a thread, looked at and stopped by whoever asked for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextvars import copy_context
from typing import Generic, TypeVar

from serving.errors import ServingError
from serving.library.exporting import Progress

T = TypeVar("T")
LOOK_S = 0.2


class StoppedError(ServingError):
    """By whoever asked for the work."""

    status, type, code = 409, "stopped", "stopped"


class Task(Generic[T]):
    def __init__(self, work: Callable[[Progress], T]) -> None:
        self._stopping = threading.Event()
        self._at = (0, 0)
        self._future: Future[T] = Future()
        context = copy_context()  # who asks is known by it
        threading.Thread(target=context.run, args=(self._run, work), daemon=True, name="task").start()

    def _run(self, work: Callable[[Progress], T]) -> None:
        try:
            self._future.set_result(work(self._step))
        except BaseException as error:
            self._future.set_exception(error)

    def _step(self, done: int, total: int) -> None:
        if self._stopping.is_set():
            raise StoppedError("it was stopped")
        self._at = done, total

    def stop(self) -> None:
        self._stopping.set()

    def watch(self) -> Iterator[tuple[int, int]]:
        """(done, total), each time that changes, until the end; (0, 0) at first."""
        shown: tuple[int, int] | None = None
        while True:
            ended = bool(wait([self._future], 0 if shown is None else LOOK_S).done)
            if self._at != shown:
                shown = self._at
                yield shown
            if ended:
                return

    def result(self) -> T:
        """Once it has ended. Raises what the work raised."""
        return self._future.result()
