"""The state of a server on Modal as far as Modal counts it from outside. Reading the counts wakes no container.

They are read each second while a question waits, every 15 s while somebody has the page open, and not at all otherwise.
How a start went is known with its answer; until then its phases are: queued, a container starts, it answers.
"""

from __future__ import annotations

import logging
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from serving.cloud.modal_account import AccountError
from ui.servers.state import EngineState, NextStart, ServerState, StartInProgress, StartRecord, StateName, UnknownState
from ui.servers.state_feed import StateFeed

PENDING_S = 1.0
"""Between two readings while a question waits."""
OPEN_S = 15.0
"""Between two readings while somebody has the page open."""
FRESH_S = 3.0
"""Counts are not read again for another tab that opens so soon."""
WAITING = UnknownState(title="On Modal", why="waiting for Modal's container counts")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ContainerCounts:
    """`runners`: containers that start, serve or idle. `running`: requests that they work on; `backlog`: that wait."""

    backlog: int
    runners: int
    running: int


@dataclass
class PendingRequests:
    """The questions that wait now. `phases`: milliseconds of those that the longest wait has behind it."""

    began: float
    phase_began: float
    count: int = 1
    phase: str = "queue"
    counted: bool = False
    """Whether counts were read since it began."""
    starts: bool = False
    """Whether no container was ready then: a ready one takes a question at once."""
    phases: dict[str, float] = field(default_factory=dict)

    def apply_counts(self, counts: ContainerCounts, now: float) -> None:
        phase = "answer" if counts.running else "container" if counts.runners else "queue"
        if not self.counted:
            self.counted, self.starts = True, phase != "answer"
        if phase != self.phase:
            self.phases[self.phase] = 1000 * (now - self.phase_began)
            self.phase, self.phase_began = phase, now


class ModalStateFeed(StateFeed):
    """The states of a server on Modal, composed of counts and pending requests. Thread-safe."""

    def __init__(
        self, read_counts: Callable[[], ContainerCounts], read_starts: Callable[[], Sequence[StartRecord]]
    ) -> None:
        """`read_counts` raises AccountError. `read_starts` returns the starts that are remembered, the newest last."""
        super().__init__(WAITING)
        self._read_counts = read_counts
        self._read_starts = read_starts
        self._counts: ContainerCounts | None = None
        self._counted_at = 0.0
        self._failure = ""
        self._pending: PendingRequests | None = None
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="modal counts", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        super().close()
        self._wake.set()

    @contextmanager
    def track_request(self) -> Iterator[None]:
        now = time.monotonic()
        with self._lock:
            if self._pending is None:
                self._pending = PendingRequests(now, now)
            else:
                self._pending.count += 1
        self._wake.set()
        answered = False
        try:
            yield
            answered = True
        finally:
            with self._lock:
                assert self._pending is not None
                self._pending.count -= 1
                if self._pending.count == 0:
                    self._pending = None
                if answered:
                    runners = self._counts.runners if self._counts else 1
                    self._counts, self._failure = ContainerCounts(0, max(1, runners), 0), ""
            self._compose()
            self._wake.set()

    @property
    def state(self) -> ServerState:
        """The newest state; a call without a stream finds a newer one the next time."""
        self._on_viewer()
        return super().state

    def _on_viewer(self) -> None:
        if time.monotonic() - self._counted_at > FRESH_S:
            self._wake.set()

    def _run(self) -> None:
        while not self._closing.is_set():
            asked = self._wake.wait(PENDING_S if self._pending else OPEN_S if self._listeners else None)
            self._wake.clear()
            if not self._closing.is_set() and (asked or self._pending or self._listeners):
                self._count()
                self._compose()

    def _count(self) -> None:
        counts, failure = None, ""
        try:
            counts = self._read_counts()
        except AccountError as error:
            failure = str(error)
        except Exception as error:  # the client's own: a feed that ends would show an old state for ever
            log.exception("Modal's counts could not be read")
            failure = f"{type(error).__name__}: {error}"
        now = self._counted_at = time.monotonic()
        with self._lock:
            self._counts, self._failure = counts, failure
            if self._pending is not None and counts is not None:
                self._pending.apply_counts(counts, now)

    def _compose(self) -> None:
        starts = list(self._read_starts())
        expected = predict_start(starts)
        start = None
        with self._lock:
            counts, failure, pending = self._counts, self._failure, self._pending
            count = pending.count if pending else 0
            if pending is not None and pending.starts:
                elapsed = 1000 * (time.monotonic() - pending.began)
                start = StartInProgress(
                    **vars(expected), phases=dict(pending.phases), phase=pending.phase, elapsed_ms=elapsed
                )
        if counts is None and start is None:
            self._publish(UnknownState(title="State not known", why=failure) if failure else WAITING)
            return
        state: StateName = "serving" if counts and counts.runners else "zero"
        if start is not None:
            state = "restoring" if expected.kind == "restored" else "starting"
        self._publish(
            EngineState(
                state=state,
                now=time.time(),
                in_flight=count,
                waiting=counts.backlog if counts else 0,
                backend="modal",
                tier="none",
                start=start,
                next=expected,
                last_start=starts[-1] if starts else None,
                history=starts[::-1],
            )
        )


def predict_start(starts: Sequence[StartRecord]) -> NextStart:
    """Return the start that a question at zero would meet: a restore once there is a snapshot, in its usual time."""
    kind = "created" if not starts else "plain" if starts[-1].kind == "plain" else "restored"
    took = [start.first_answer_ms for start in starts if start.kind == kind and start.first_answer_ms is not None]
    return NextStart(kind=kind, expected_ms=statistics.median(took) if took else None)
