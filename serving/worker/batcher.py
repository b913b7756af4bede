"""Micro-batches across requests: one lane for queries, one for pages, each with a bounded queue.

A lane does not look into its items. A batch takes the items that wait, up to a count and, where their sizes differ, up
to a budget; one that is not full waits a moment for more.

All state is changed on the event loop; only `run` leaves it, in a thread of the lane's own, which stays the same: an
OpenMP runtime makes a new pool for each calling thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, field
from typing import Generic, TypeVar

from serving.errors import BusyError, NotReadyError

T = TypeVar("T")
R = TypeVar("R")
STOPPING = "the worker is stopping"


@dataclass(eq=False, slots=True)  # compared by identity: comparing items would compare the pixels of pages
class QueuedItem(Generic[T, R]):
    """An item, its result, and its times."""

    item: T
    result: asyncio.Future[R]
    queued_at: float = field(default_factory=time.perf_counter)
    started_at: float = 0.0
    ended_at: float = 0.0

    def fail(self, error: Exception) -> None:
        """Raise the error in the request, unless that has given up."""
        if not self.result.done():
            self.ended_at = time.perf_counter()
            self.result.set_exception(error)


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of a request. `queue`: until its last item was taken; `embed`: from there to its last result."""

    queue: float = 0.0
    embed: float = 0.0


@dataclass(eq=False)
class Lane(Generic[T, R]):
    """Calls `run` with 1..`batch` items, from `workers` threads; `run` returns one result for each, or raises.

    A batch that raises is run again one item at a time, so that only the request at fault fails.
    """

    name: str
    run: Callable[[Sequence[T]], Sequence[R]]
    _: KW_ONLY
    batch: int
    workers: int
    queue: Callable[[], int]
    """Returns how many items may wait; called each time, since a restored worker gets other settings."""
    wait_s: float = 0.0
    weigh: Callable[[T], int] = lambda _: 1
    budget: float = math.inf
    """Limit of the sum of `weigh` over a batch; an item above it alone is a batch of its own."""

    def __post_init__(self) -> None:
        self.counts = Counter[str]()
        """Batches run, their items, items cancelled and requests rejected."""
        self._waiting: deque[QueuedItem[T, R]] = deque()
        self._more = asyncio.Event()
        self._seconds_per_item = 0.5
        self._threads = [ThreadPoolExecutor(1, thread_name_prefix=f"{self.name}-{n}") for n in range(self.workers)]
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        name = f"lane {self.name}"
        self._tasks = [asyncio.create_task(self._run_batches(thread), name=name) for thread in self._threads]

    async def stop(self) -> None:
        """Refuse all waiting items and wait for the batch that runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.refuse_waiting()
        for thread in self._threads:
            await asyncio.to_thread(thread.shutdown)

    async def run_in_lane(self, work: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._threads[0], work)

    def refuse_waiting(self) -> None:
        """Refuse items that have not been started: near the end of a shutdown, an error is better than no answer."""
        while self._waiting:
            self._waiting.popleft().fail(NotReadyError(STOPPING, retry_after=1))

    @property
    def depth(self) -> int:
        return sum(not entry.result.done() for entry in self._waiting)

    def check_room(self, count: int) -> None:
        """Raise BusyError, with a time to wait, if that many more would not fit into the queue."""
        depth, most = self.depth, self.queue()
        if depth + count > most:
            self.counts["rejected"] += 1
            wait = min(60.0, max(1.0, depth * self._seconds_per_item / self.workers))
            message = f"{depth} {self.name} are waiting and at most {most} may: try again later"
            raise BusyError(message, retry_after=wait)

    async def submit(self, items: Sequence[T]) -> tuple[list[R], Timing]:
        """Return the results in the order of `items`. Raises BusyError at once if they do not all fit into the queue.

        Cancelling the call drops the items that have not been started.
        """
        if not items:
            return [], Timing()
        self.check_room(len(items))
        loop = asyncio.get_running_loop()
        entries: list[QueuedItem[T, R]] = [QueuedItem(item, loop.create_future()) for item in items]
        self._waiting.extend(entries)
        self._more.set()
        try:
            results = await asyncio.gather(*(entry.result for entry in entries))
        except BaseException:
            self._drop_items(entries)
            raise
        taken = max(entry.started_at for entry in entries)
        return list(results), Timing(
            queue=taken - entries[0].queued_at, embed=max(entry.ended_at for entry in entries) - taken
        )

    def _drop_items(self, entries: list[QueuedItem[T, R]]) -> None:
        for entry in entries:
            if not entry.started_at:
                self.counts["cancelled"] += 1
            if entry.result.done() and not entry.result.cancelled():
                entry.result.exception()  # marks it as seen
            else:
                entry.result.cancel()
        self._waiting = deque(entry for entry in self._waiting if not entry.result.done())

    def _is_full(self) -> bool:
        return len(self._waiting) >= self.batch or sum(self.weigh(e.item) for e in self._waiting) >= self.budget

    async def _wait_until_full(self) -> None:
        """Wait until the batch is full or its oldest entry is `wait_s` old: one that met a busy lane is so already."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._waiting[0].queued_at + self.wait_s - time.perf_counter()):
                while self._waiting and not self._is_full():
                    self._more.clear()
                    await self._more.wait()

    def _pop_batch(self) -> list[QueuedItem[T, R]]:
        """Return the next batch, in the order of arrival; empty if everything that waited was cancelled."""
        taken: list[QueuedItem[T, R]] = []
        weight = 0
        while self._waiting and len(taken) < self.batch:
            entry = self._waiting[0]
            if not entry.result.done():
                weight += self.weigh(entry.item)
                if taken and weight > self.budget:
                    break
                taken.append(entry)
            self._waiting.popleft()
        return taken

    async def _run_batches(self, thread: ThreadPoolExecutor) -> None:
        while True:
            while not self._waiting:
                self._more.clear()
                await self._more.wait()
            if self.wait_s:
                await self._wait_until_full()
            if entries := self._pop_batch():
                await self._run_batch(thread, entries)

    async def _run_batch(self, thread: ThreadPoolExecutor, entries: list[QueuedItem[T, R]]) -> None:
        started = time.perf_counter()
        for entry in entries:
            entry.started_at = started
        items = [entry.item for entry in entries]
        try:
            results = await asyncio.get_running_loop().run_in_executor(thread, self.run, items)
        except asyncio.CancelledError:
            for entry in entries:
                entry.fail(NotReadyError(STOPPING, retry_after=1))
            raise
        except Exception as error:
            if len(entries) == 1:
                return entries[0].fail(error)
            for entry in entries:
                await self._run_batch(thread, [entry])
            return None
        ended = time.perf_counter()
        self.counts["batches"] += 1
        self.counts["items"] += len(entries)
        self._seconds_per_item += 0.2 * ((ended - started) / len(entries) - self._seconds_per_item)
        for entry, result in zip(entries, results, strict=True):
            entry.ended_at = ended
            if not entry.result.done():
                entry.result.set_result(result)
        return None
