"""The local engine: one worker that scales to zero and comes back from a snapshot.

One task owns the state and is the only one to change it; everybody else reads. A request takes a `lease` on the worker;
at zero that wakes the owner, and however many ask, there is one start. Knows nothing of HTTP, nor how a worker starts.

    zero -> starting -> snapshotting -> restoring -> serving      the first start: `created`
    zero -> restoring -> serving                                  `restored`
    zero -> (restoring ->) starting -> serving                    no backend, or one that failed: `plain`
    starting -> failed -> zero                                    after a pause that grows
    serving -> scaling_down -> zero                               idle, asked to, or the worker ended

A new snapshot is proven by the start that made it: its worker is a restored one already.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal

from serving.engine.change_notifier import ChangeNotifier
from serving.engine.clock import Clock
from serving.engine.start_history import StartHistory, StartRecord
from serving.engine.start_metrics import StartMetrics
from serving.engine.starter import RunningWorker, Starter, StartMode
from serving.engine.wait_queue import WaitQueue
from serving.errors import NotReadyError
from serving.snapshots.base import SnapshotFailed, StartFailed
from serving.system.growing_pause import GrowingPause

State = Literal["zero", "starting", "snapshotting", "restoring", "serving", "scaling_down", "failed"]
PAUSES_S = (1.0, 2.0, 5.0, 15.0, 60.0)
"""After the first, second, ... start in a row that failed, and before a worker that died is replaced unasked."""
RETRY_S = 5.0
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lease:
    """The worker, for one request; `held_ms` is what the request waited for it."""

    life: RunningWorker
    held_ms: float


class Engine:
    """`open`, then `lease` as often as you like, `close`; all on one event loop."""

    def __init__(self, starter: Starter, *, scaledown_window: float | None = None, clock: Clock | None = None) -> None:
        """`scaledown_window`: idle seconds; the settings' if left out."""
        self.starter = starter
        self.settings = starter.spec.settings
        self.window = self.settings.scaledown_window if scaledown_window is None else scaledown_window
        self.clock = clock or Clock()
        self.starts = StartHistory(self.settings.data / "starts.jsonl")
        self.metrics = StartMetrics()
        self.news = ChangeNotifier()
        self.waiting = WaitQueue[RunningWorker]()
        self.state: State = "zero"
        self.since = self.clock.time()
        self.life: RunningWorker | None = None
        self.row: StartRecord | None = None
        """Of the start that is going on."""
        self.phase: str | None = None
        self.reason = ""
        """Why the state is failed; may hold paths."""
        self._told = ""
        """The same for any client."""
        self._row_began = self._idle_since = self._zero_since = self.clock.monotonic()
        self._retry_at = 0.0
        self._failing, self._dying = GrowingPause(PAUSES_S), GrowingPause(PAUSES_S)
        self._changed = asyncio.Event()
        self._down = self._wake = self._rebuild = self._closing = False
        self._gone: list[asyncio.Future[None]] = []
        """Done when the worker of now, or the one that is starting, is gone and what was wished for then is done."""
        self._not_before = 0.0
        self._owner: asyncio.Task[None] | None = None

    # Lifecycle

    async def open(self) -> None:
        self.starts.load()
        self._owner = asyncio.create_task(self._own(), name="engine")

    async def close(self) -> None:
        """What still waits is refused; the worker finishes what it has, and nothing of ours is left running."""
        self._closing = True
        self.refuse_waiting()
        if self._owner is not None:
            self._owner.cancel()
            await asyncio.gather(self._owner, return_exceptions=True)
        if self.life is not None:
            self.life.handle.park = None  # nobody will want it again
            await self._take_down(self.life)
        self._done()
        if self.starter.choice.backend is not None:
            await self.starter.choice.backend.close()

    # Requests

    @contextlib.asynccontextmanager
    async def lease(self) -> AsyncIterator[Lease]:
        """The worker, brought up if there is none. Raises NotReadyError if it cannot be had in time."""
        began = self.clock.monotonic()
        life = self._free() or await self._wait(began)
        try:
            yield Lease(life, (self.clock.monotonic() - began) * 1000)
        finally:
            self._release(life)

    @property
    def in_flight(self) -> int:
        return 0 if self.life is None else self.life.in_flight

    @property
    def seconds_left(self) -> float | None:
        """Until the worker goes; None where nothing is counted down."""
        if self.state != "serving" or self.in_flight or self.waiting or self.settings.min_containers:
            return None
        return max(0.0, self._idle_since + self.window - self.clock.monotonic())

    @property
    def elapsed_ms(self) -> float:
        """Of the start that is going on, from the request that asked for it."""
        return round((self.clock.monotonic() - self._row_began) * 1000, 2)

    def answered(self, life: RunningWorker) -> None:
        """A worker has begun to answer: the first answer completes the start, if somebody waited for it."""
        if not life.complete:
            life.start.first_answer_ms = self.elapsed_ms
            self._complete(life)
            self.metrics.first_answer(life.start)
            self.news.publish()

    def _complete(self, life: RunningWorker) -> None:
        """Nobody waits for the start any more: what comes later is idle time."""
        if not life.complete:
            life.complete = True
            self.starts.write(life.start)

    def refuse_waiting(self) -> None:
        self.waiting.refuse(NotReadyError("the server is stopping", retry_after=1))

    def _free(self) -> RunningWorker | None:
        life = self.life
        if self.state != "serving" or life is None or not life.handle.usable or self.waiting:
            return None
        if life.in_flight >= self.settings.max_in_flight:
            return None
        life.in_flight += 1
        return life

    async def _wait(self, began: float) -> RunningWorker:
        if self._closing:
            raise NotReadyError("the server is stopping", retry_after=1)
        if self.state == "failed":
            raise self._failure()
        if len(self.waiting) >= self.settings.max_waiting:
            raise NotReadyError(
                f"{len(self.waiting)} requests wait for the worker already: try again later",
                code="too_many_waiting",
                retry_after=RETRY_S,
            )
        waiter = self.waiting.join(began)
        self._changed.set()
        self.news.publish()
        limit = self.settings.hold_timeout_s
        try:
            async with asyncio.timeout(limit):
                try:
                    return await waiter
                except BaseException:
                    if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                        self._release(waiter.result())  # admitted at the moment in which the request gave up
                    raise
        except TimeoutError:
            raise NotReadyError(f"no worker came up within {limit:g} s: try again", retry_after=RETRY_S) from None
        finally:
            self.waiting.leave(waiter)
            self.news.publish()

    def _release(self, life: RunningWorker) -> None:
        life.in_flight -= 1
        self._idle_since = self.clock.monotonic()
        self._admit()
        if not life.in_flight:
            self._complete(life)
        self._changed.set()
        self.news.publish()

    def _admit(self) -> None:
        life = self.life
        if life is not None and self.state == "serving" and life.handle.usable:
            self.waiting.admit(life, self.settings.max_in_flight)

    # Wishes: the owner hears of them

    def wake(self) -> None:
        """Brings a worker up without a request; the idle timer runs from then on."""
        if self._down or self.state in ("zero", "scaling_down"):
            self._wake = True
            self._changed.set()

    def scale_down(self, *, rebuild: bool = False) -> asyncio.Future[None]:
        """To zero as soon as nothing is in flight; what arrives meanwhile waits for the next worker.

        `rebuild`: there the snapshot is thrown away, and a backend that was disabled is tried again. The future is done
        when all that has happened; a next worker may serve by then.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gone.append(done)
        self._rebuild |= rebuild
        self._wake = False
        # The state is still zero while a start looks for a snapshot, and until the owner hears of who waits.
        if self.row is not None or self.waiting or self.state not in ("zero", "failed"):
            self._down = True
            if self.state == "serving":
                self._enter("scaling_down")
        self._changed.set()
        return done

    # The owner

    async def _own(self) -> None:
        await self.starter.adopt()
        self.news.publish()
        while True:
            try:
                await self._at_zero()
                if not self._wanted:
                    left = self._not_before - self.clock.monotonic()
                    waits = [left] if self.settings.min_containers and left > 0 else []
                    step = await self.starter.rest(self.clock.monotonic() - self._zero_since)
                    self.news.publish()
                    if not self._wanted:  # a step down takes a second
                        await self._hear(min(waits + ([] if step is None else [step]), default=None))
                    continue
                life = await self._bring_up()
                await self._tend(life)
                await self._take_down(life)
            except StartFailed as error:
                await self._pause(str(error), public=error.public)
            except (Exception, asyncio.CancelledError) as error:
                if self._closing:
                    raise
                # A fault of ours must not leave requests waiting for an owner that is gone.
                log.exception("the engine failed and goes on")
                await self._give_up(f"{type(error).__name__}: {error}")

    @property
    def _wanted(self) -> bool:
        kept_up = bool(self.settings.min_containers) and self.clock.monotonic() >= self._not_before
        return bool(self.waiting) or self._wake or kept_up

    async def _at_zero(self) -> None:
        """What was wished for the time when there is no worker."""
        if self._rebuild:
            self._rebuild = False
            try:
                await self.starter.rebuild()
            except Exception:  # the next start may find it again; requests must not wait for an owner that is gone
                log.exception("the snapshot could not be removed")
            self.news.publish()
        self._down = self._down and bool(self.waiting)
        if not self._down:
            self._done()

    def _done(self) -> None:
        for done in self._gone:
            if not done.done():
                done.set_result(None)
        self._gone.clear()

    async def _bring_up(self) -> RunningWorker:
        """Raises StartFailed."""
        now = self.clock.monotonic()
        asked = self._row_began = now if self.waiting.since is None else self.waiting.since
        row = self.row = StartRecord(self.clock.time(), self.starter.choice.name, self.starter.next_kind)
        row.phases["queue"] = round((now - asked) * 1000, 2)
        try:
            life = await self.starter.start(row, self._enter, self._report)
        except StartFailed as error:
            row.outcome, row.reason = "failed", str(error)
            self._settle(row)
            raise
        self._settle(row)
        self._failing.reset()
        self._wake = self._wake and self._down
        self.life = life
        self._idle_since = self.clock.monotonic()
        self._enter("serving")
        self._admit()
        if not life.in_flight:
            self._complete(life)
        return life

    def _settle(self, row: StartRecord) -> None:
        row.ready_ms = self.elapsed_ms
        self.row = self.phase = None
        self.starts.add(row)
        self.metrics.started(row)
        if row.outcome == "failed":
            self.starts.write(row)

    def _report(self, phase: str, milliseconds: float | None) -> None:
        assert self.row is not None
        if milliseconds is None:
            self.phase = phase
            if phase == "snapshot":
                self._enter("snapshotting")
        else:
            self.row.phases[phase] = round(milliseconds, 2)
            self.phase = None
        self.news.publish()

    async def _tend(self, life: RunningWorker) -> None:
        """Returns when the worker is no longer wanted, or gone."""
        began = self.clock.monotonic()
        if self._down:
            self._enter("scaling_down")
        while not life.handle.ended.is_set():
            idle = life.in_flight == 0 and not self.waiting
            if self.state == "scaling_down" and life.in_flight == 0:
                return
            left = None
            if idle and self.state == "serving" and not self.settings.min_containers:
                left = self._idle_since + self.window - self.clock.monotonic()
                if left <= 0:
                    return
            await self._hear(left, life.handle.ended)
        log.warning("the worker ended unasked")
        # With min_containers nobody need ask for the next one: it must not become a loop.
        now = self.clock.monotonic()
        self._not_before = now + self._dying.after(now - began)

    async def _take_down(self, life: RunningWorker) -> None:
        self._enter("scaling_down")
        try:
            await life.handle.stop(self.settings.stop_timeout_s)
        except SnapshotFailed as error:
            self.starter.lost(str(error))
        if life.handle.socket is not None:
            life.handle.socket.unlink(missing_ok=True)
        self._complete(life)
        self.life = None
        self._down = False
        self._zero_since = self.clock.monotonic()
        self._enter("zero")

    async def _give_up(self, reason: str) -> None:
        life, self.life, self.row, self.phase = self.life, None, None, None
        if life is not None:
            await life.handle.kill()
        await self._pause(reason)

    async def _pause(self, reason: str, *, public: bool = False) -> None:
        """Requests are refused with the reason until the pause is over; then the next one may try again."""
        pause = self._failing.after(0.0)
        self._down = self._wake = False
        self._told = reason if public else "its log has the reason"
        self._retry_at = self.clock.monotonic() + pause
        self.reason = reason
        log.error("the worker did not start: %s; not tried again for %g s", reason, pause)
        self._enter("failed")
        self.waiting.refuse(self._failure())
        while (left := self._retry_at - self.clock.monotonic()) > 0:
            await self._at_zero()
            await self._hear(left)
        self.reason = ""
        self._enter("zero")

    def _failure(self) -> NotReadyError:
        left = max(1.0, self._retry_at - self.clock.monotonic())
        return NotReadyError(f"the worker did not start: {self._told}", code="start_failed", retry_after=left)

    async def _hear(self, seconds: float | None = None, *events: asyncio.Event) -> None:
        """Returns when something changed, one of `events` is set or the time is over."""
        waits: list[asyncio.Task[Any]] = [asyncio.create_task(event.wait()) for event in (self._changed, *events)]
        if seconds is not None:
            waits.append(asyncio.create_task(self.clock.sleep(seconds)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self._changed.clear()

    def _enter(self, state: State | StartMode) -> None:
        if state != self.state:
            self.state = state
            self.since = self.clock.time()
            self.news.publish()

    async def until(self, *states: State) -> None:
        seen = self.news.version
        while self.state not in states:
            seen = await self.news.after(seen)
