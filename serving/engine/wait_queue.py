"""Who waits for the engine: requests for a worker, in order of arrival, and listeners for a change."""

from __future__ import annotations

import asyncio

from serving.engine.starter import RunningWorker
from serving.errors import NotReadyError


class WaitQueue:
    """A queue of futures; the result of each is the worker that its request may use. The engine decides when."""

    def __init__(self) -> None:
        self._waiters: dict[asyncio.Future[RunningWorker], float] = {}

    def __len__(self) -> int:
        return len(self._waiters)

    @property
    def waiting_since(self) -> float | None:
        """Return when the first of them came, in monotonic seconds; None if it is empty."""
        return next(iter(self._waiters.values()), None)

    def join(self, began: float) -> asyncio.Future[RunningWorker]:
        waiter: asyncio.Future[RunningWorker] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = began
        return waiter

    def leave(self, waiter: asyncio.Future[RunningWorker]) -> None:
        """Remove a request that was admitted or has given up."""
        self._waiters.pop(waiter, None)

    def admit(self, worker: RunningWorker, most: int) -> None:
        """Admit waiting requests until the worker has `most` at once."""
        while self._waiters and worker.in_flight < most:
            waiter = next(iter(self._waiters))
            self.leave(waiter)
            if not waiter.done():  # it may have been cancelled, and not yet have left
                worker.in_flight += 1
                waiter.set_result(worker)

    def refuse_all(self, error: NotReadyError) -> None:
        for waiter in list(self._waiters):
            self.leave(waiter)
            if not waiter.done():
                waiter.set_exception(error)


class ChangeNotifier:
    """Wakes listeners, who read the new state themselves; `version` counts changes, so that none is missed."""

    def __init__(self) -> None:
        self.version = 0
        self._next = asyncio.Event()

    def notify(self) -> None:
        self.version += 1
        self._next.set()
        self._next = asyncio.Event()

    async def wait_after(self, seen: int) -> int:
        """Return the version as soon as it differs from `seen`."""
        while self.version == seen:
            await self._next.wait()
        return self.version
