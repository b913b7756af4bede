"""One worker that scales to zero and comes back from a snapshot. `serving.engine.pool` has how many there are.

One task owns the state and is the only one to change it; all others read. A request takes a `lease` on the worker; at
zero that wakes the owner, and any number of requests causes one start. This module knows neither HTTP nor how a worker
starts.

    zero -> starting -> snapshotting -> restoring -> serving      the first start: `created`
    zero -> restoring -> serving                                  `restored`
    zero -> (restoring ->) starting -> serving                    no backend, or one that failed: `plain`
    starting -> failed -> zero                                    after a pause that grows
    serving -> scaling_down -> zero                               idle, asked to, or the worker ended

A new snapshot is proven by the start that made it: its worker is a restored one already.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any, Literal

from serving.engine.metrics import StartMetrics
from serving.engine.start_history import StartHistory, StartRecord
from serving.engine.starter import RunningWorker, Starter
from serving.engine.wait_queue import ChangeNotifier, WaitQueue
from serving.errors import NotReadyError
from serving.settings import LAST_BATCH_S
from serving.snapshots.base import SnapshotFailed, StartFailed
from serving.system.timeouts import GrowingPause

State = Literal["zero", "starting", "snapshotting", "restoring", "serving", "scaling_down", "failed"]
PAUSES_S = (1.0, 2.0, 5.0, 15.0, 60.0)
"""After the first, second, ... failed start in a row; also before a worker that died is replaced without a request."""
RETRY_S = 5.0
STOPPING = "the server is stopping"
log = logging.getLogger(__name__)


class Clock:
    """The system clock. Idle time is in monotonic seconds, so that setting the date starts and ends nothing."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)
    """Unix seconds, for display only."""
    sleep = staticmethod(asyncio.sleep)


@dataclass(frozen=True)
class Lease:
    """The worker that serves one request; `wait_ms`: how long the request waited for it."""

    worker: RunningWorker
    wait_ms: float
    engine: Engine

    def record_first_answer(self) -> None:
        self.engine.record_first_answer(self.worker)


class Engine:
    """Runs one worker: `open`, then `acquire` and `release` any number of times, then `close`, on one event loop."""

    def __init__(self, starter: Starter, clock: Clock | None = None, beside: Engine | None = None) -> None:
        """`beside`: the engine of the first worker, with whom further ones share records, counters and listeners."""
        self.starter = starter
        self.settings = starter.spec.settings
        self.clock = clock or Clock()
        history = StartHistory(self.settings.data / "starts.jsonl")
        self.start_history: StartHistory = beside.start_history if beside else history
        self.metrics: StartMetrics = beside.metrics if beside else StartMetrics()
        self.changes: ChangeNotifier = beside.changes if beside else ChangeNotifier()
        self._is_first = beside is None
        self.is_kept_up = bool(self.settings.min_containers) and self._is_first
        self.wait_queue = WaitQueue()
        self.state: State = "zero"
        self.since = self.clock.time()
        self.worker: RunningWorker | None = None
        self.current_start: StartRecord | None = None
        """The start in progress."""
        self.phase: str | None = None
        self.reason = ""
        """Why the state is `failed`; may contain paths."""
        self._public_reason = ""
        """The reason in words for any client."""
        self.stopping = False
        self._start_began = self._idle_since = self._zero_since = self.clock.monotonic()
        self._retry_at = self._restart_at = 0.0
        self._start_pause, self._restart_pause = GrowingPause(PAUSES_S), GrowingPause(PAUSES_S)
        self._changed = asyncio.Event()
        self._scaledown_wanted = self._start_wanted = self._rebuild_wanted = self._closing = False
        self._scaledowns: list[asyncio.Future[None]] = []
        """Resolved once the current or starting worker has stopped and queued commands have run."""
        self._owner: asyncio.Task[None] | None = None

    # Lifecycle

    async def open(self) -> None:
        if self._is_first:
            self.start_history.load()
        self._owner = asyncio.create_task(self._run_owner(), name="engine")

    async def close(self) -> None:
        """Refuse all waiting requests, let the worker finish its own, and leave nothing running."""
        self._closing = True
        self.refuse_waiting()
        if self._owner is not None:
            self._owner.cancel()
            await asyncio.gather(self._owner, return_exceptions=True)
        if self.worker is not None:
            self.worker.handle.park = None  # it will not be used again
            await self._stop_worker(self.worker)
        self._resolve_scaledowns()
        if self.starter.choice.backend is not None:
            await self.starter.choice.backend.close()

    # Requests

    async def acquire(self, began: float) -> RunningWorker:
        """Return the worker for a request that came then, in monotonic seconds; `release` it.

        It is started if there is none. Raises NotReadyError if it is not ready in time.
        """
        return self._take_free_worker() or await self._wait_for_worker(began)

    def release(self, worker: RunningWorker) -> None:
        worker.in_flight -= 1
        self._idle_since = self.clock.monotonic()
        self._admit_waiting()
        if not worker.in_flight:
            self._complete_start(worker)
        self._changed.set()
        self.changes.notify()

    @property
    def in_flight(self) -> int:
        return 0 if self.worker is None else self.worker.in_flight

    @property
    def load(self) -> int:
        """Return how many requests the worker has, or will have."""
        return self.in_flight + len(self.wait_queue)

    @property
    def is_coming_up(self) -> bool:
        """Return whether a worker starts, or is about to: the state stays zero while a snapshot is looked for."""
        if self.state == "serving":
            return False
        return self.current_start is not None or bool(self.wait_queue) or self._start_wanted

    @property
    def seconds_left(self) -> float | None:
        """Return the seconds until the worker is stopped; None while no countdown runs."""
        if self.state != "serving" or self.load or self.is_kept_up:
            return None
        return max(0.0, self._idle_since + self.settings.scaledown_window - self.clock.monotonic())

    @property
    def elapsed_ms(self) -> float:
        """Return the time since the request that caused the start in progress."""
        return round((self.clock.monotonic() - self._start_began) * 1000, 2)

    def record_first_answer(self, worker: RunningWorker) -> None:
        """Record that the worker has begun to answer: the first answer completes a start that a request waited for."""
        if not worker.complete:
            took = worker.start.first_answer_ms = self.elapsed_ms
            self._complete_start(worker)
            self.metrics.observe_first_answer(worker.start.kind, took)
            self.changes.notify()

    def _complete_start(self, worker: RunningWorker) -> None:
        """Close the record of the start, for which no request waits any more: what comes later is idle time."""
        if not worker.complete:
            worker.complete = True
            self.start_history.write(worker.start)

    def refuse_waiting(self) -> None:
        self.wait_queue.refuse_all(NotReadyError(STOPPING, retry_after=1))

    def announce_stop(self) -> None:
        """End streams of events; near the end of the grace, refuse requests that wait, so that clients get an error."""
        self.stopping = True
        self.changes.notify()
        asyncio.get_running_loop().call_later(max(0.0, self.settings.drain_s - LAST_BATCH_S), self.refuse_waiting)

    @property
    def has_usable_worker(self) -> bool:
        return self._find_usable_worker() is not None

    def _find_usable_worker(self) -> RunningWorker | None:
        worker = self.worker
        return worker if worker is not None and self.state == "serving" and worker.handle.is_usable else None

    def _take_free_worker(self) -> RunningWorker | None:
        worker = self._find_usable_worker()
        if worker is None or self.wait_queue or worker.in_flight >= self.settings.max_in_flight:
            return None
        worker.in_flight += 1
        return worker

    async def _wait_for_worker(self, began: float) -> RunningWorker:
        if self._closing:
            raise NotReadyError(STOPPING, retry_after=1)
        if self.state == "failed":
            raise self._make_start_error()
        if len(self.wait_queue) >= self.settings.max_waiting:
            message = f"{len(self.wait_queue)} requests wait for the worker already: try again later"
            raise NotReadyError(message, code="too_many_waiting", retry_after=RETRY_S)
        waiter = self.wait_queue.join(began)
        self._changed.set()
        self.changes.notify()
        limit = self.settings.hold_timeout_s
        try:
            async with asyncio.timeout(limit):
                try:
                    return await waiter
                except BaseException:
                    if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                        self.release(waiter.result())  # admitted at the moment in which the request gave up
                    raise
        except TimeoutError:
            raise NotReadyError(f"no worker came up within {limit:g} s: try again", retry_after=RETRY_S) from None
        finally:
            self.wait_queue.leave(waiter)
            self.changes.notify()

    def _admit_waiting(self) -> None:
        if (worker := self._find_usable_worker()) is not None:
            self.wait_queue.admit(worker, self.settings.max_in_flight)

    # Commands, which the owner carries out

    def wake(self) -> None:
        """Start a worker without a request; the idle timer runs from then on."""
        if self._scaledown_wanted or self.state in ("zero", "scaling_down"):
            self._start_wanted = True
            self._changed.set()

    def scale_down(self, *, rebuild: bool = False) -> asyncio.Future[None]:
        """Stop the worker as soon as nothing is in flight; requests that arrive meanwhile wait for the next worker.

        `rebuild` also deletes the snapshot at zero, and a disabled backend is tried again. Returns a future that is
        resolved when all that has happened; another worker may be serving by then.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._scaledowns.append(done)
        self._rebuild_wanted |= rebuild
        self._start_wanted = False
        # The state is still zero while a start looks for a snapshot, and until the owner sees waiting requests.
        if self.current_start is not None or self.wait_queue or self.state not in ("zero", "failed"):
            self._scaledown_wanted = True
            if self.state == "serving":
                self._enter_state("scaling_down")
        self._changed.set()
        return done

    # The owner

    async def _run_owner(self) -> None:
        await self.starter.adopt_snapshot()
        self._start_wanted |= self._is_first and self.settings.start_ahead and self.starter.snapshot is None
        self.changes.notify()
        while True:
            try:
                await self._run_commands_at_zero()
                if not self._is_worker_wanted:
                    left = self._restart_at - self.clock.monotonic()
                    waits = [left] if self.is_kept_up and left > 0 else []
                    step = await self.starter.step_down(self.clock.monotonic() - self._zero_since)
                    self.changes.notify()
                    if not self._is_worker_wanted:  # a step down takes a second
                        await self._wait_for_event(min(waits + ([] if step is None else [step]), default=None))
                    continue
                worker = await self._start_worker()
                await self._watch_worker(worker)
                await self._stop_worker(worker)
            except StartFailed as error:
                await self._pause_starts(str(error), public=error.public)
            except (Exception, asyncio.CancelledError) as error:
                task = asyncio.current_task()
                if self._closing or (task is not None and task.cancelling()):
                    raise
                # A bug in the engine must not leave requests waiting for an owner that has ended.
                log.exception("the engine failed and continues")
                lost, self.worker, self.current_start, self.phase = self.worker, None, None, None
                if lost is not None:
                    await lost.handle.kill()
                await self._pause_starts(f"{type(error).__name__}: {error}")

    @property
    def _is_worker_wanted(self) -> bool:
        kept_up = self.is_kept_up and self.clock.monotonic() >= self._restart_at
        return bool(self.wait_queue) or self._start_wanted or kept_up

    async def _run_commands_at_zero(self) -> None:
        """Run the commands that need a time without a worker."""
        if self._rebuild_wanted:
            self._rebuild_wanted = False
            try:
                await self.starter.discard_snapshot()
            except Exception:  # the next start may find it again; requests must not wait for an owner that has ended
                log.exception("the snapshot could not be removed")
            self.changes.notify()
        self._scaledown_wanted = self._scaledown_wanted and bool(self.wait_queue)
        if not self._scaledown_wanted:
            self._resolve_scaledowns()

    def _resolve_scaledowns(self) -> None:
        for done in self._scaledowns:
            if not done.done():
                done.set_result(None)
        self._scaledowns.clear()

    async def _start_worker(self) -> RunningWorker:
        """Raises StartFailed."""
        now = self.clock.monotonic()
        asked = self._start_began = now if self.wait_queue.waiting_since is None else self.wait_queue.waiting_since
        record = self.current_start = StartRecord(self.clock.time(), self.starter.choice.name, self.starter.next_kind)
        record.worker = self.starter.number
        record.phases["queue"] = round((now - asked) * 1000, 2)
        try:
            worker = await self.starter.start(record, self._enter_state, self._report_phase)
        except StartFailed as error:
            record.outcome, record.reason = "failed", str(error)
            self._record_start(record)
            raise
        self._record_start(record)
        self._start_pause.reset()
        self._start_wanted = self._start_wanted and self._scaledown_wanted
        self.worker = worker
        self._idle_since = self.clock.monotonic()
        self._enter_state("serving")
        self._admit_waiting()
        if not worker.in_flight:
            self._complete_start(worker)
        return worker

    def _record_start(self, record: StartRecord) -> None:
        record.ready_ms = self.elapsed_ms
        self.current_start = self.phase = None
        self.start_history.add(record)
        self.metrics.count_start(record)
        if record.outcome == "failed":
            self.start_history.write(record)

    def _report_phase(self, phase: str, milliseconds: float | None) -> None:
        assert self.current_start is not None
        if milliseconds is None:
            self.phase = phase
            if phase == "snapshot":
                self._enter_state("snapshotting")
        else:
            self.current_start.phases[phase] = round(milliseconds, 2)
            self.phase = None
        self.changes.notify()

    async def _watch_worker(self, worker: RunningWorker) -> None:
        """Return when the worker is no longer needed, or has ended."""
        began = self.clock.monotonic()
        if self._scaledown_wanted:
            self._enter_state("scaling_down")
        while not worker.handle.ended.is_set():
            idle = worker.in_flight == 0 and not self.wait_queue
            if self.state == "scaling_down" and worker.in_flight == 0:
                return
            left = None
            if idle and self.state == "serving" and not self.is_kept_up:
                left = self._idle_since + self.settings.scaledown_window - self.clock.monotonic()
                if left <= 0:
                    return
            await self._wait_for_event(left, worker.handle.ended)
        log.warning("the worker ended by itself")
        # With min_containers the next one starts without a request: that must not become a loop.
        now = self.clock.monotonic()
        self._restart_at = now + self._restart_pause.next_after(now - began)

    async def _stop_worker(self, worker: RunningWorker) -> None:
        self._enter_state("scaling_down")
        try:
            await worker.handle.stop(self.settings.stop_timeout_s)
        except SnapshotFailed as error:
            self.starter.drop_lost_snapshot(str(error))
        if worker.handle.socket is not None:
            worker.handle.socket.unlink(missing_ok=True)
        self._complete_start(worker)
        self.worker = None
        self._scaledown_wanted = False
        self._zero_since = self.clock.monotonic()
        self._enter_state("zero")

    async def _pause_starts(self, reason: str, *, public: bool = False) -> None:
        """Refuse requests with the reason until the pause is over; the next one after it may try again."""
        pause = self._start_pause.next_after(0.0)
        self._scaledown_wanted = self._start_wanted = False
        self._public_reason = reason if public else "its log has the reason"
        self._retry_at = self.clock.monotonic() + pause
        self.reason = reason
        log.error("the worker did not start: %s; not tried again for %g s", reason, pause)
        self._enter_state("failed")
        self.wait_queue.refuse_all(self._make_start_error())
        while (left := self._retry_at - self.clock.monotonic()) > 0:
            await self._run_commands_at_zero()
            await self._wait_for_event(left)
        self.reason = ""
        self._enter_state("zero")

    def _make_start_error(self) -> NotReadyError:
        left = max(1.0, self._retry_at - self.clock.monotonic())
        return NotReadyError(f"the worker did not start: {self._public_reason}", code="start_failed", retry_after=left)

    async def _wait_for_event(self, seconds: float | None = None, *events: asyncio.Event) -> None:
        """Return when something has changed, one of `events` is set or the time is over."""
        waits: list[asyncio.Task[Any]] = [asyncio.create_task(event.wait()) for event in (self._changed, *events)]
        if seconds is not None:
            waits.append(asyncio.create_task(self.clock.sleep(seconds)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self._changed.clear()

    def _enter_state(self, state: State) -> None:
        if state != self.state:
            self.state = state
            self.since = self.clock.time()
            self.changes.notify()

    async def wait_for_state(self, *states: State) -> None:
        seen = self.changes.version
        while self.state not in states:
            seen = await self.changes.wait_after(seen)
