"""The engine's workers: which one a request goes to, and when another is woken.

Each has an owner of its own (`serving.engine.engine`). The pool changes nothing of its state: it asks for leases, and
wakes.

1. A request goes to the worker that serves and has least to do; of equals to the first, so that the last ones idle.
2. While none serves, it goes to the one that comes up, at zero to the first one that has not failed: a hundred requests
   at zero cause one start.
3. Another worker is woken when all that serve have had more requests than they can batch for `FULL_S` longer than they
   had not, and none is coming up. Each goes by its own idle window, which is longer: the number does not swing.
4. A request whose worker did not come up goes to another that serves, if there is one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from serving.engine.engine import Engine, Lease, State
from serving.errors import NotReadyError

FULL_S = 2.0
"""A start takes about one second: a burst that is over sooner needs no second worker."""
LOOK_S = 0.25
ORDER: tuple[State, ...] = ("serving", "restoring", "snapshotting", "starting", "scaling_down", "zero", "failed")
"""A pool is in the first of these states in which one of its workers is: it can do what that one can."""


class WorkerPool:
    """One or more workers of one embedder: `open`, then `lease` any number of times, then `close`, on one event loop.

    `batch`: requests that a worker can work on at once; it has more to do when it has more than these.
    """

    def __init__(self, engines: Sequence[Engine], batch: int) -> None:
        self.engines = engines
        self.batch = batch
        first = engines[0]
        self.settings, self.clock = first.settings, first.clock
        self.changes, self.metrics = first.changes, first.metrics
        self._is_full = asyncio.Event()
        self._growing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        for engine in self.engines:
            await engine.open()
        if len(self.engines) > 1:
            self._growing = asyncio.create_task(self._grow_under_load(), name="worker pool")

    async def close(self) -> None:
        """Let the workers finish their requests, and leave nothing running."""
        if self._growing is not None:
            self._growing.cancel()
            await asyncio.gather(self._growing, return_exceptions=True)
        await asyncio.gather(*(engine.close() for engine in self.engines))

    # Requests

    @contextlib.asynccontextmanager
    async def lease(self) -> AsyncIterator[Lease]:
        """Yield a worker, started if there is none. Raises NotReadyError if none is ready in time."""
        began = self.clock.monotonic()
        engine = self._choose_engine()
        try:
            worker = await engine.acquire(began)
        except NotReadyError:
            engine = self._choose_engine()
            if self.stopping or engine.state != "serving":
                raise
            worker = await engine.acquire(began)
        if self._has_more_than_it_can_batch():
            self._is_full.set()
        try:
            yield Lease(worker, (self.clock.monotonic() - began) * 1000, engine)
        finally:
            engine.release(worker)

    def _choose_engine(self) -> Engine:
        if serving := self._list_serving():
            return min(serving, key=lambda engine: engine.load)
        coming_up = (engine for engine in self.engines if engine.is_coming_up)
        not_failed = (engine for engine in self.engines if engine.state != "failed")
        return next(coming_up, None) or next(not_failed, None) or self.engines[0]

    def _list_serving(self) -> list[Engine]:
        return [engine for engine in self.engines if engine.has_usable_worker]

    def list_sockets(self) -> set[Path]:
        """Return those of all workers that there are, also of those that are stopping."""
        workers = (engine.worker for engine in self.engines)
        return {worker.handle.socket for worker in workers if worker is not None and worker.handle.socket is not None}

    # How many

    def _has_more_than_it_can_batch(self) -> bool:
        serving = self._list_serving()
        return bool(serving) and all(engine.load > self.batch for engine in serving)

    async def _grow_under_load(self) -> None:
        """Wake one worker more each time that the load has lasted."""
        while True:
            self._is_full.clear()
            await self._is_full.wait()
            lasted = 0.0
            while lasted >= 0 and not any(engine.is_coming_up for engine in self.engines):
                await self.clock.sleep(LOOK_S)
                # Answers to a whole batch leave a gap until their clients ask again: one look is not enough.
                lasted += LOOK_S if self._has_more_than_it_can_batch() else -LOOK_S
                if lasted >= FULL_S:
                    self._wake_another()
                    break

    def _wake_another(self) -> None:
        asleep = next((engine for engine in self.engines if engine.state == "zero"), None)
        if asleep is not None:
            asleep.wake()

    # The workers together

    @property
    def leader(self) -> Engine:
        """Return the engine of the worker that decides what the pool can do; of several, the one that stays longest."""

        def rank(engine: Engine) -> tuple[int, float]:
            left = engine.seconds_left
            return ORDER.index(engine.state), -(float("inf") if left is None else left)

        return min(self.engines, key=rank)

    @property
    def state(self) -> State:
        return self.leader.state

    def wake(self, workers: int = 1) -> list[Engine]:
        """Have so many workers up without a request, and return their engines."""
        chosen = self._choose_engine()
        others = [engine for engine in self.engines if engine is not chosen]
        others.sort(key=lambda engine: ORDER.index(engine.state))
        woken = [chosen, *others][:workers]
        for engine in woken:
            if engine.state != "serving":
                engine.wake()
        return woken

    def scale_down(self, *, rebuild: bool = False) -> asyncio.Future[list[None]]:
        """Stop all workers as `Engine.scale_down` stops one. Returns a future that is resolved when they have."""
        return asyncio.gather(*(engine.scale_down(rebuild=rebuild) for engine in self.engines))

    @property
    def stopping(self) -> bool:
        return any(engine.stopping for engine in self.engines)

    def announce_stop(self) -> None:
        for engine in self.engines:
            engine.announce_stop()


def share_cores(cores: int, workers: int) -> int:
    """Return the cores of one of so many workers, at least one."""
    return max(1, cores // workers)
