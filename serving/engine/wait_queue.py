"""Requests that wait for a worker, in order of arrival. The engine decides when they are admitted."""

from __future__ import annotations

import asyncio
from typing import Generic, Protocol, TypeVar

from serving.errors import NotReadyError


class AdmittingWorker(Protocol):
    """The part of a worker that the queue needs."""

    in_flight: int


W = TypeVar("W", bound=AdmittingWorker)


class WaitQueue(Generic[W]):
    """A queue of futures; the result of each is the worker that its request may use."""

    def __init__(self) -> None:
        self._waiters: dict[asyncio.Future[W], float] = {}

    def __len__(self) -> int:
        return len(self._waiters)

    @property
    def waiting_since(self) -> float | None:
        """Return when the first of them came, in monotonic seconds; None if it is empty."""
        return next(iter(self._waiters.values()), None)

    def join(self, began: float) -> asyncio.Future[W]:
        waiter: asyncio.Future[W] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = began
        return waiter

    def leave(self, waiter: asyncio.Future[W]) -> None:
        """Remove a request that was admitted or has given up."""
        self._waiters.pop(waiter, None)

    def admit(self, worker: W, most: int) -> None:
        """Admit waiting requests until the worker has `most` at once."""
        while self._waiters and worker.in_flight < most:
            waiter = next(iter(self._waiters))
            self.leave(waiter)
            if not waiter.done():  # it may have been cancelled, and not yet have left
                worker.in_flight += 1
                waiter.set_result(worker)

    def refuse_all(self, error: NotReadyError) -> None:
        """Refuse all waiting requests with this error."""
        for waiter in list(self._waiters):
            self.leave(waiter)
            if not waiter.done():
                waiter.set_exception(error)
