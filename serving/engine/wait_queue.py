"""Requests that wait for a worker, in the order in which they came. When they are admitted is decided elsewhere."""

from __future__ import annotations

import asyncio
from typing import Generic, Protocol, TypeVar

from serving.errors import NotReadyError


class AdmittingWorker(Protocol):
    """A worker, as far as those who wait are concerned."""

    in_flight: int


W = TypeVar("W", bound=AdmittingWorker)


class WaitQueue(Generic[W]):
    """A queue of futures; each is done with the worker that its request may go on to."""

    def __init__(self) -> None:
        self._waiters: dict[asyncio.Future[W], float] = {}

    def __len__(self) -> int:
        return len(self._waiters)

    @property
    def waiting_since(self) -> float | None:
        """When the first of them came, in monotonic seconds."""
        return next(iter(self._waiters.values()), None)

    def join(self, began: float) -> asyncio.Future[W]:
        waiter: asyncio.Future[W] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = began
        return waiter

    def leave(self, waiter: asyncio.Future[W]) -> None:
        """Remove a request that goes on, or has given up."""
        self._waiters.pop(waiter, None)

    def admit(self, worker: W, most: int) -> None:
        """Let as many go on as the worker may have at once."""
        while self._waiters and worker.in_flight < most:
            waiter = next(iter(self._waiters))
            self.leave(waiter)
            if not waiter.done():  # it may have been cancelled, and not yet have left
                worker.in_flight += 1
                waiter.set_result(worker)

    def refuse_all(self, error: NotReadyError) -> None:
        """End the wait of all with this error."""
        for waiter in list(self._waiters):
            self.leave(waiter)
            if not waiter.done():
                waiter.set_exception(error)
